//! Pictures that are packed into few files: CIFAR's binaries, and IDX as MNIST has it.
//!
//! A row of CIFAR-10's files is a label and 3,072 bytes, the red, green and blue plane of 32 × 32 pixels; one of
//! CIFAR-100's has the number of a coarse class before that of its fine one
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>).

use std::path::{Path, PathBuf};

use super::folder::{Colour, ImageFolder, PictureSchema, Pictures};
use super::images::Images;
use super::{Dataset, Numbers, idx};
use crate::error::{Error, Result};
use crate::files::read_limited;

/// Bytes of a picture: three planes of 32 × 32.
const PIXELS: usize = 3 * SIDE * SIDE;
/// Pixels of a side.
const SIDE: usize = 32;
/// Longest file that is read: more than three times what CIFAR-100's training file has.
const MOST_BYTES: u64 = 512 << 20;
/// What is done about a file that is not as it should be.
const AGAIN: &str = "Fetch the archive again and unpack it.";

/// How one of the sets is packed.
struct Packed {
    /// The folder in its archive.
    folder: &'static str,
    /// Files to train on.
    train: &'static [&'static str],
    test: &'static str,
    /// The file with the names of the classes, one a line.
    names: &'static str,
    classes: usize,
    /// Bytes before the picture; the last one is the label.
    labels: usize,
}

const CIFAR_10: Packed = Packed {
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    classes: 10,
    labels: 1,
};

const CIFAR_100: Packed = Packed {
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    classes: 100,
    labels: 2,
};

impl Packed {
    /// Where the set's files are: in a folder, or in the folder of the archive within.
    fn find(&self, path: &Path) -> Option<PathBuf> {
        let folders = [path.to_path_buf(), path.join(self.folder)];
        folders
            .into_iter()
            .find(|f| f.join(self.train[0]).is_file())
    }

    fn read(&self, folder: &Path) -> Result<Pictures> {
        let schema = PictureSchema {
            classes: self.names(folder)?,
            colour: Colour::Rgb,
            size: [SIDE; 2],
            resize: false,
        };
        // The small part first: what is wrong in it is known before the large one is read.
        let test = self.rows(folder, &[self.test], &schema)?;
        Ok(Pictures {
            train: self.rows(folder, self.train, &schema)?,
            valid: None,
            test: Some(test),
            schema,
        })
    }

    /// The names of the classes; their numbers, where the file of names is not there.
    fn names(&self, folder: &Path) -> Result<Vec<String>> {
        let path = folder.join(self.names);
        if !path.exists() {
            return Ok((0..self.classes).map(|class| class.to_string()).collect());
        }
        let bytes = read_limited(&path, 1 << 16)?;
        let text = String::from_utf8_lossy(&bytes);
        let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let names: Vec<String> = names.map(str::to_string).collect();
        if names.len() != self.classes {
            let found = format!("{} names", names.len());
            let wanted = format!("{}, one for each class", self.classes);
            return Err(Error::file(&path, found, wanted, AGAIN));
        }
        Ok(names)
    }

    fn rows(&self, folder: &Path, files: &[&str], schema: &PictureSchema) -> Result<Dataset> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for name in files {
            let path = folder.join(name);
            let bytes = read_limited(&path, MOST_BYTES)?;
            let row = self.labels + PIXELS;
            if bytes.is_empty() || bytes.len() % row != 0 {
                let found = format!("{} bytes", bytes.len());
                let wanted = format!("whole rows of {row} bytes, one or more");
                return Err(Error::file(&path, found, wanted, AGAIN));
            }
            for (number, bytes) in bytes.chunks_exact(row).enumerate() {
                let label = bytes[self.labels - 1];
                if usize::from(label) >= self.classes {
                    let found = format!("label {label} in row {}", number + 1);
                    let wanted = format!("labels below {}", self.classes);
                    return Err(Error::file(&path, found, wanted, AGAIN));
                }
                labels.push(u32::from(label));
                pixels.extend_from_slice(&bytes[self.labels..]);
            }
        }
        dataset(schema, pixels, labels)
    }
}

fn dataset(schema: &PictureSchema, pixels: Vec<u8>, labels: Vec<u32>) -> Result<Dataset> {
    Dataset::new()
        .with("image", schema.extents(), Numbers::bytes(pixels))?
        .with("label", [], labels)?
        .with_classes("label", schema.classes.clone())
}

impl Pictures {
    /// CIFAR-10 or CIFAR-100 from the folder of its binary files, or the one in which their archive was unpacked.
    /// Of CIFAR-100 the labels are the hundred fine classes. Nothing is for validation: see [`Dataset::split`].
    ///
    /// ```no_run
    /// use wgrad::data::Pictures;
    ///
    /// let cifar = Pictures::cifar("cifar-10-batches-bin")?;
    /// assert_eq!(cifar.schema.classes[0], "airplane");
    /// let parts = cifar.train.split_stratified("label", &[0.9, 0.1], 1)?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is missing, and [`Error::File`] for one of another length, with a label that is
    /// none, or for a folder without such files.
    pub fn cifar(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match found(path) {
            Some((packed, folder)) => packed.read(&folder),
            None => {
                let wanted = format!("`{}` or `{}`", CIFAR_10.train[0], CIFAR_100.train[0]);
                let fix = "Unpack the binary version of CIFAR-10 or CIFAR-100 and name its folder.";
                Err(Error::file(path, "no such file in it", wanted, fix))
            }
        }
    }

    /// The four IDX files of a folder, as [`idx::load_dir`] reads them: of the training file, the last sixth is for
    /// validation. Classes are called by their numbers.
    ///
    /// # Errors
    /// As [`idx::load_dir`].
    pub fn idx(path: impl AsRef<Path>) -> Result<Self> {
        let split = idx::load_dir(path.as_ref())?;
        let schema = PictureSchema {
            classes: (0..split.train.classes).map(|c| c.to_string()).collect(),
            colour: Colour::Grey,
            size: [split.train.height, split.train.width],
            resize: false,
        };
        let part = |images: Images| {
            let labels = images.labels.iter().map(|&label| u32::from(label));
            let labels = labels.collect();
            dataset(&schema, images.pixels, labels)
        };
        Ok(Self {
            train: part(split.train)?,
            valid: Some(part(split.validation)?),
            test: Some(part(split.test)?),
            schema,
        })
    }

    /// The pictures of a folder: of IDX files, of CIFAR's binaries, or as `folder` reads one of PNG and JPEG files.
    ///
    /// # Errors
    /// As [`Pictures::idx`], [`Pictures::cifar`] or [`ImageFolder::read`]; [`Error::Setting`] for packed pictures where
    /// `folder` wants another size or other colours.
    pub(crate) fn of(folder: &ImageFolder) -> Result<Self> {
        let path = folder.path();
        let read = match (found(path), idx::is_dir(path)) {
            (Some((packed, folder)), _) => packed.read(&folder)?,
            (None, true) => Self::idx(path)?,
            (None, false) => return folder.read(),
        };
        let PictureSchema { colour, size, .. } = read.schema;
        if let Some([h, w]) = folder.wanted_size().filter(|wanted| *wanted != size) {
            let wanted = format!("{} × {}, which these files have", size[0], size[1]);
            let found = format!("{h} × {w}");
            return Err(Error::setting("size of pictures", found, wanted));
        }
        if let Some(other) = folder.wanted_colour().filter(|wanted| *wanted != colour) {
            let wanted = format!("{}, which these files have", colour.name());
            return Err(Error::setting("colour of pictures", other.name(), wanted));
        }
        Ok(read)
    }
}

fn found(path: &Path) -> Option<(&'static Packed, PathBuf)> {
    let all = [&CIFAR_10, &CIFAR_100].into_iter();
    all.filter_map(|packed| Some((packed, packed.find(path)?)))
        .next()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder of CIFAR-10 files of `rows` rows each, where pixel k of row i is (i + k) modulo 251.
    fn cifar_10(rows: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join(CIFAR_10.folder);
        fs::create_dir(&inner).unwrap();
        for (number, name) in CIFAR_10.train.iter().chain([&CIFAR_10.test]).enumerate() {
            let row = |i: usize| {
                let pixels = (0..PIXELS).map(move |k| ((i + k) % 251) as u8);
                std::iter::once(((i + number) % 10) as u8).chain(pixels)
            };
            fs::write(
                inner.join(name),
                (0..rows).flat_map(row).collect::<Vec<u8>>(),
            )
            .unwrap();
        }
        folder
    }

    #[test]
    fn cifar_10_is_read_with_its_names() {
        let folder = cifar_10(2);
        let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
        let inner = folder.path().join(CIFAR_10.folder);
        fs::write(inner.join(CIFAR_10.names), names).unwrap();
        for path in [folder.path(), &inner] {
            let read = Pictures::cifar(path).unwrap();
            assert_eq!(read.schema.classes[9], "truck");
            assert_eq!(read.schema.extents(), [3, 32, 32]);
            assert_eq!((read.train.rows(), read.test.unwrap().rows()), (10, 2));
            let image = read.train.column("image").unwrap();
            assert_eq!(image.extents, [3, 32, 32]);
            assert_eq!(image.row(1)[..2], [1.0 / 255.0, 2.0 / 255.0]);
            let labels = &read.train.column("label").unwrap().numbers;
            assert_eq!(
                labels,
                &Numbers::from(vec![0u32, 1, 1, 2, 2, 3, 3, 4, 4, 5])
            );
        }
    }

    #[test]
    fn cifar_100_has_fine_labels() {
        let folder = tempfile::tempdir().unwrap();
        let row = |coarse, fine| [vec![coarse, fine], vec![7; PIXELS]].concat();
        fs::write(
            folder.path().join("train.bin"),
            [row(1, 99), row(2, 0)].concat(),
        )
        .unwrap();
        fs::write(folder.path().join("test.bin"), row(3, 50)).unwrap();
        let read = Pictures::cifar(folder.path()).unwrap();
        assert_eq!(read.schema.classes[99], "99");
        let labels = &read.train.column("label").unwrap().numbers;
        assert_eq!(labels, &Numbers::from(vec![99u32, 0]));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_name() {
        let told = |change: &dyn Fn(&Path)| {
            let folder = cifar_10(1);
            change(&folder.path().join(CIFAR_10.folder));
            Pictures::cifar(folder.path()).unwrap_err().to_string()
        };
        let cut = told(&|f| fs::write(f.join("data_batch_2.bin"), [1; 3000]).unwrap());
        assert!(
            cut.contains("data_batch_2.bin") && cut.contains("3000 bytes"),
            "{cut}"
        );
        let none = told(&|f| fs::write(f.join("test_batch.bin"), []).unwrap());
        assert!(
            none.contains("test_batch.bin") && none.contains("0 bytes"),
            "{none}"
        );
        let label = told(&|f| fs::write(f.join("data_batch_3.bin"), [10; 3073]).unwrap());
        assert!(label.contains("label 10 in row 1"), "{label}");
        let missing = told(&|f| fs::remove_file(f.join("data_batch_5.bin")).unwrap());
        assert!(missing.contains("data_batch_5.bin"), "{missing}");
        let names = told(&|f| fs::write(f.join(CIFAR_10.names), "cat\ndog\n").unwrap());
        assert!(names.contains("2 names"), "{names}");
        let empty = tempfile::tempdir().unwrap();
        let empty = Pictures::cifar(empty.path()).unwrap_err().to_string();
        assert!(empty.contains("data_batch_1.bin"), "{empty}");
    }

    #[test]
    fn idx_files_are_pictures_too() {
        let folder = tempfile::tempdir().unwrap();
        let images =
            crate::data::digits::generate(1, crate::data::digits::Part::Train, 12).unwrap();
        for part in ["train", "t10k"] {
            let at = |kind: &str| folder.path().join(format!("{part}-{kind}-ubyte"));
            idx::write_idx(&images, &at("images-idx3"), &at("labels-idx1")).unwrap();
        }
        let read = Pictures::of(&ImageFolder::new(folder.path())).unwrap();
        assert_eq!(read.schema.extents(), [1, 28, 28]);
        assert_eq!((read.train.rows(), read.valid.unwrap().rows()), (10, 2));
        let row = read.train.column("image").unwrap().row(3);
        let wanted: Vec<f32> = images
            .image(3)
            .iter()
            .map(|&x| f32::from(x) / 255.0)
            .collect();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(row.iter().zip(&wanted).all(close));
        let sized = Pictures::of(&ImageFolder::new(folder.path()).size([32, 32]));
        let told = sized.unwrap_err().to_string();
        assert!(
            told.contains("size of pictures") && told.contains("28 × 28"),
            "{told}"
        );
        let coloured = Pictures::of(&ImageFolder::new(folder.path()).colour(Colour::Rgb));
        let told = coloured.unwrap_err().to_string();
        assert!(told.contains("colour of pictures"), "{told}");
    }
}
