//! Labelled grey images, and their split into training, validation and test.

use std::ops::Range;

use super::columns::{Dataset, Numbers};
use crate::error::{Error, Result};
use crate::rng::{self, Stream, streams};

/// Labelled grey images of one size, as bytes: 0 is the background, 255 full ink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// What the images are, for people: "MNIST", "synthetic digits".
    pub name: String,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// How many classes there are; every label is below.
    pub classes: usize,
    /// The pixels `[N, H, W]`, row after row; one channel.
    pub pixels: Vec<u8>,
    /// The labels `[N]`.
    pub labels: Vec<u8>,
}

impl Images {
    /// Images from `pixels` `[N, H, W]` and `labels` `[N]`.
    ///
    /// # Errors
    /// [`Error::Setting`] if a size is zero, if there are more classes than a byte can
    /// name, or if a label names no class; [`Error::Shape`] if the number of pixels is
    /// not N × H × W.
    pub fn new(
        name: impl Into<String>,
        height: usize,
        width: usize,
        classes: usize,
        pixels: Vec<u8>,
        labels: Vec<u8>,
    ) -> Result<Self> {
        let name = name.into();
        for (what, size) in [
            ("height", height),
            ("width", width),
            ("number of images", labels.len()),
        ] {
            if size == 0 {
                return Err(Error::setting(format!("{name}, {what}"), 0, "at least 1"));
            }
        }
        if !(1..=256).contains(&classes) {
            let place = format!("{name}, number of classes");
            return Err(Error::setting(place, classes, "1 to 256"));
        }
        let wanted = labels
            .len()
            .checked_mul(height)
            .and_then(|v| v.checked_mul(width));
        if wanted != Some(pixels.len()) {
            return Err(Error::shape(
                name,
                format!("{} pixels", pixels.len()),
                format!("{} images of {height} x {width} pixels", labels.len()),
            ));
        }
        if let Some((i, label)) = label_out_of_range(&labels, classes) {
            return Err(Error::setting(
                format!("{name}, label of image {i}"),
                label,
                format!("0 to {}", classes - 1),
            ));
        }
        Ok(Self {
            name,
            height,
            width,
            classes,
            pixels,
            labels,
        })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels `[H, W]` of image `i`.
    ///
    /// # Panics
    /// As a slice does, if `i` is not below [`Images::len`].
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.height * self.width;
        &self.pixels[i * size..][..size]
    }

    /// A copy of the images in `range`.
    ///
    /// # Errors
    /// [`Error::Setting`] if the range is empty or reaches beyond the last image.
    pub fn range(&self, range: Range<usize>) -> Result<Self> {
        let size = self.height * self.width;
        let labels = self.labels.get(range.clone());
        let (start, end) = (range.start, range.end);
        // Where the labels exist the pixels do too, so the products cannot overflow.
        let pixels = labels.and_then(|_| self.pixels.get(start * size..end * size));
        match (pixels, labels) {
            (Some(pixels), Some(labels)) if !labels.is_empty() => Ok(Self {
                name: self.name.clone(),
                pixels: pixels.to_vec(),
                labels: labels.to_vec(),
                ..*self
            }),
            _ => Err(Error::setting(
                format!("{}, range of images", self.name),
                format!("{start}..{end}"),
                format!("a range that is not empty, within 0..{}", self.len()),
            )),
        }
    }

    /// The same as columns: `input` `[1, H, W]`, pixels from 0 to 1, and `target`, the classes.
    ///
    /// # Errors
    /// [`Error::Setting`] for no images.
    pub fn dataset(&self) -> Result<Dataset> {
        let labels: Vec<u32> = self.labels.iter().map(|&label| label.into()).collect();
        let pixels = Numbers::bytes(self.pixels.clone());
        let data = Dataset::new().with("input", [1, self.height, self.width], pixels)?;
        data.with("target", [], labels)
    }

    /// A copy of the first `n` images.
    ///
    /// # Errors
    /// [`Error::Setting`] if `n` is 0 or more than there are.
    pub fn first(&self, n: usize) -> Result<Self> {
        if n == 0 || n > self.len() {
            return Err(Error::setting(
                format!("{}, number of images", self.name),
                n,
                format!("1 to {}", self.len()),
            ));
        }
        self.range(0..n)
    }
}

/// How many classes there are if the largest label is the last one's.
pub(super) fn classes_of(labels: &[u8]) -> usize {
    labels.iter().max().map_or(0, |most| usize::from(*most) + 1)
}

/// The first label that names no class, and its index.
fn label_out_of_range(labels: &[u8], classes: usize) -> Option<(usize, u8)> {
    labels
        .iter()
        .copied()
        .enumerate()
        .find(|(_, label)| usize::from(*label) >= classes)
}

/// Images to learn from, to choose by and to be judged by; all of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What the network learns from.
    pub train: Images,
    /// What hyper-parameters and the moment to stop are chosen by.
    pub validation: Images,
    /// What the finished network is judged by.
    pub test: Images,
    /// Whether the images were made by a program; whoever prints a result says so.
    pub synthetic: bool,
}

impl Split {
    /// The same with the first `n` training images alone.
    ///
    /// # Errors
    /// [`Error::Setting`] if `n` is 0 or more than there are.
    pub fn training_first(mut self, n: usize) -> Result<Self> {
        self.train = self.train.first(n)?;
        Ok(self)
    }

    /// The same with so many classes: files of labels do not say how many there are, and the
    /// last ones may have no image.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is above 256 or a label would name no class.
    pub fn with_classes(mut self, classes: usize) -> Result<Self> {
        let parts = [&mut self.train, &mut self.validation, &mut self.test];
        let used = parts.iter().map(|part| classes_of(&part.labels));
        let used = used.max().unwrap_or(1).max(1);
        if !(used..=256).contains(&classes) {
            let wanted = format!("{used} to 256, the largest label being {}", used - 1);
            return Err(Error::setting("classes", classes, wanted));
        }
        for part in parts {
            part.classes = classes;
        }
        Ok(self)
    }

    /// The same with training and validation images put together and divided anew, by chance:
    /// as many of each as before. For files whose images are sorted, by label for instance,
    /// where the last ones are not like the others.
    ///
    /// The same seed divides the same images in the same way, and each part keeps the order
    /// that its images had.
    pub fn redrawn(mut self, seed: u64) -> Self {
        let (train, held) = (&mut self.train, &mut self.validation);
        let (kept, size) = (train.len(), train.height * train.width);
        let count = kept + held.len();
        let stream = Stream {
            seed: rng::key(seed),
            replica: 0,
            stream: streams::SPLIT,
        };
        // Fisher and Yates, from the end, as far as the validation images go.
        let mut order: Vec<usize> = (0..count).collect();
        for last in (kept..count).rev() {
            let word = stream.words(0, last as u32)[0];
            let at = (u64::from(word) * (last as u64 + 1)) >> 32;
            order.swap(last, at as usize);
        }
        let mut is_held = vec![false; count];
        order[kept..].iter().for_each(|&i| is_held[i] = true);
        let pixels = [
            std::mem::take(&mut train.pixels),
            std::mem::take(&mut held.pixels),
        ];
        let labels = [
            std::mem::take(&mut train.labels),
            std::mem::take(&mut held.labels),
        ];
        let images = pixels.iter().flat_map(|p| p.chunks_exact(size));
        let all = images.zip(labels.iter().flatten()).zip(is_held);
        for ((pixels, &label), is_held) in all {
            let part = if is_held { &mut *held } else { &mut *train };
            part.pixels.extend_from_slice(pixels);
            part.labels.push(label);
        }
        self
    }

    /// Classes that one part has no image of and another has: what a network cannot learn,
    /// or what nobody sees it fail at. Parts are named `training`, `validation` and `test`;
    /// those that lack none are left out.
    pub fn absent_classes(&self) -> Vec<(&'static str, Vec<u8>)> {
        let parts = [
            ("training", &self.train),
            ("validation", &self.validation),
            ("test", &self.test),
        ];
        let there = parts.map(|(_, part)| {
            let mut there = [false; 256];
            (part.labels.iter()).for_each(|&label| there[usize::from(label)] = true);
            there
        });
        let somewhere = |class: &u8| there.iter().any(|part| part[usize::from(*class)]);
        let of = |(part, there): (&'static str, [bool; 256])| {
            let absent = (0..=255).filter(|class| !there[usize::from(*class)]);
            (part, absent.filter(somewhere).collect::<Vec<u8>>())
        };
        let all = parts.map(|(name, _)| name).into_iter().zip(there).map(of);
        all.filter(|(_, absent)| !absent.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Images {
        Images::new("three", 1, 2, 10, vec![0, 1, 2, 3, 4, 5], vec![7, 8, 9]).unwrap()
    }

    #[test]
    fn images_are_taken_apart() {
        let images = three();
        assert_eq!((images.len(), images.is_empty()), (3, false));
        assert_eq!(images.image(1), [2, 3]);
        let part = images.range(1..3).unwrap();
        assert_eq!((part.pixels, part.labels), (vec![2, 3, 4, 5], vec![8, 9]));
        assert_eq!(images.first(3).unwrap(), images);
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges)]
    fn ranges_and_numbers_out_of_bounds_are_refused() {
        let images = three();
        for range in [0..4, 1..1, 2..1, 5..7, usize::MAX - 1..usize::MAX] {
            let found = format!("{range:?}");
            assert_eq!(
                images.range(range).unwrap_err().to_string(),
                format!(
                    "three, range of images: found {found}; \
                     wanted a range that is not empty, within 0..3"
                )
            );
        }
        for n in [0, 4, usize::MAX] {
            assert_eq!(
                images.first(n).unwrap_err().to_string(),
                format!("three, number of images: found {n}; wanted 1 to 3")
            );
        }
    }

    #[test]
    fn wrong_images_are_refused() {
        let make = |height, width, classes, pixels: usize, labels: Vec<u8>| {
            Images::new("x", height, width, classes, vec![0; pixels], labels)
                .unwrap_err()
                .to_string()
        };
        let zero = "found 0; wanted at least 1";
        assert_eq!(make(0, 2, 10, 0, vec![1]), format!("x, height: {zero}"));
        assert_eq!(make(2, 0, 10, 0, vec![1]), format!("x, width: {zero}"));
        assert_eq!(
            make(2, 2, 10, 0, vec![]),
            format!("x, number of images: {zero}")
        );
        for classes in [0, 257] {
            assert_eq!(
                make(1, 1, classes, 1, vec![0]),
                format!("x, number of classes: found {classes}; wanted 1 to 256")
            );
        }
        assert_eq!(
            make(2, 2, 10, 7, vec![0, 0]),
            "x: found 7 pixels; wanted 2 images of 2 x 2 pixels"
        );
        let huge = usize::MAX;
        assert!(make(huge, huge, 10, 7, vec![0, 0]).contains("found 7 pixels"));
        assert_eq!(
            make(1, 1, 3, 3, vec![0, 2, 3]),
            "x, label of image 2: found 3; wanted 0 to 2"
        );
    }

    /// Sixty images that say which they are, sorted by label, the last sixth held back.
    fn sorted() -> Split {
        let images = |from: u8, to: u8| {
            let labels = (from..to).map(|i| i / 6).collect();
            Images::new("sorted", 1, 1, 10, (from..to).collect(), labels).unwrap()
        };
        Split {
            train: images(0, 50),
            validation: images(50, 60),
            test: images(0, 60),
            synthetic: false,
        }
    }

    #[test]
    fn absent_classes_are_named() {
        let split = sorted();
        let absent = vec![("training", vec![9]), ("validation", (0..8).collect())];
        assert_eq!(split.absent_classes(), absent);
        // A class that nobody has is absent from none.
        let even = Split {
            train: split.test.clone(),
            validation: split.test.clone(),
            ..split
        };
        assert_eq!(even.with_classes(12).unwrap().absent_classes(), []);
    }

    #[test]
    fn images_are_divided_anew_by_chance() {
        let old = sorted();
        let new = old.clone().redrawn(7);
        assert_eq!((new.train.len(), new.validation.len()), (50, 10));
        assert_eq!(new.test, old.test);
        for part in [&new.train, &new.validation] {
            // Labels stay with their images, which stay in order.
            let labels: Vec<u8> = part.pixels.iter().map(|i| i / 6).collect();
            assert_eq!(part.labels, labels);
            assert!(part.pixels.is_sorted());
        }
        let mut all = [&new.train.pixels[..], &new.validation.pixels].concat();
        all.sort();
        assert_eq!(all, (0..60).collect::<Vec<u8>>());
        assert_eq!(old.clone().redrawn(7), new);
        assert_ne!(old.clone().redrawn(8), new);
        // Every image is held back about as often as any other: 1,000 draws of 10 in 60, so
        // 167 times with a deviation of 11.8.
        let mut held = [0; 60];
        for seed in 0..1000 {
            let drawn = old.clone().redrawn(seed).validation;
            drawn.pixels.iter().for_each(|i| held[usize::from(*i)] += 1);
        }
        assert!(held.iter().all(|n| (115..=219).contains(n)), "{held:?}");
    }

    #[test]
    fn classes_can_be_more_than_the_labels_and_not_fewer() {
        let split = sorted().with_classes(12).unwrap();
        assert_eq!((split.train.classes, split.test.classes), (12, 12));
        for classes in [0, 9, 257] {
            assert_eq!(
                sorted().with_classes(classes).unwrap_err().to_string(),
                format!("classes: found {classes}; wanted 10 to 256, the largest label being 9")
            );
        }
    }
}
