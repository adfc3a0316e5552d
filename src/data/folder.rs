//! Folders of pictures: one folder of PNG and JPEG files for each class.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::picture::{MAX_FILE_BYTES, Pixels, spans};
use super::{Dataset, Numbers};
use crate::error::{Error, Result};
use crate::files::read_limited;
use crate::threads::prelude::*;

/// Names of the folders that part a data set.
const PARTS: [&str; 3] = ["train", "valid", "test"];

/// Other names of the second.
const VALID: [&str; 2] = ["val", "validation"];

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Longest side of a picture as a network sees it.
const MAX_SIDE: usize = 4096;

/// What a network sees of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// One channel: luma (Rec. 601).
    Grey,
    /// Three channels: red, green, blue.
    Rgb,
}

impl Colour {
    /// As a configuration says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Rgb => "rgb",
        }
    }

    /// How many channels there are.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// How pictures become numbers, and what their classes are called: kept with the model that was trained
/// on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureSchema {
    /// The names of the classes; a class's place is its number.
    pub classes: Vec<String>,
    /// What is seen of a picture.
    pub colour: Colour,
    /// Height and width.
    pub size: [usize; 2],
    /// Pictures of another size are brought to this one; else they are refused.
    pub resize: bool,
}

impl PictureSchema {
    /// The extents of a picture: channels, height, width.
    pub fn extents(&self) -> [usize; 3] {
        [self.colour.channels(), self.size[0], self.size[1]]
    }

    /// A file's pixels `[C, H, W]`. Transparent parts lie on white; each channel of a picture that is
    /// resized is averaged over areas, height and width each by itself.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] for a file that is no whole PNG or JPEG of at most 64
    /// megapixels, or one of another size where none is resized.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        self.pixels(path, &decoded(path)?)
    }

    fn pixels(&self, path: &Path, pixels: &Pixels) -> Result<Vec<u8>> {
        let [height, width] = self.size;
        if !self.resize && [pixels.height, pixels.width] != self.size {
            let found = format!("a picture of {} × {} pixels", pixels.height, pixels.width);
            let wanted = format!("{height} × {width} pixels, as the other pictures have");
            let fix = "Mend the picture, or name a size to which all are brought.";
            return Err(Error::file(path, found, wanted, fix));
        }
        let alpha = pixels.alpha();
        let mut all = Vec::with_capacity(self.extents().iter().product());
        for channel in 0..self.colour.channels() {
            let mut values = match self.colour {
                Colour::Grey => pixels.grey(),
                Colour::Rgb => pixels.colour(channel),
            };
            for (value, &a) in values.iter_mut().zip(alpha.iter().flatten()) {
                let a = u32::from(a);
                *value = ((u32::from(*value) * a + 255 * (255 - a) + 127) / 255) as u8;
            }
            all.extend(match [pixels.height, pixels.width] == self.size {
                true => values,
                false => resized(&values, [pixels.height, pixels.width], self.size),
            });
        }
        Ok(all)
    }
}

fn decoded(path: &Path) -> Result<Pixels> {
    Pixels::decode(path, &read_limited(path, MAX_FILE_BYTES)?)
}

/// A channel `[h, w]` as averages over the areas of `[height, width]` pixels.
fn resized(values: &[u8], [h, w]: [usize; 2], [height, width]: [usize; 2]) -> Vec<u8> {
    let (rows, columns) = (spans(0, h, height), spans(0, w, width));
    let mut out = Vec::with_capacity(height * width);
    let mut line = vec![0f32; w];
    for row in &rows {
        line.fill(0.0);
        for &(source, share) in row {
            for (sum, &v) in line.iter_mut().zip(&values[source * w..][..w]) {
                *sum += share * f32::from(v);
            }
        }
        for column in &columns {
            let value: f32 = column.iter().map(|&(s, share)| share * line[s]).sum();
            out.push(value.round() as u8);
        }
    }
    out
}

/// A folder of pictures that is to be read.
///
/// ```no_run
/// use wgrad::data::ImageFolder;
///
/// // pets/cat/1.png, pets/cat/2.jpg, …, pets/dog/1.png, …
/// let pets = ImageFolder::new("pets").size([64, 64]).read()?;
/// assert_eq!(pets.schema.classes, ["cat", "dog"]);
/// let parts = pets.train.split_stratified("label", &[0.8, 0.2], 1)?;
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// Each sub-folder is a class, in the alphabetical order of their names. Where all sub-folders are named
/// `train`, `valid` and `test`, these are the parts, and the classes are in them. Names that begin with
/// a dot and files beside the folders of classes are passed over.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    path: PathBuf,
    colour: Option<Colour>,
    size: Option<[usize; 2]>,
}

/// The data sets of a folder of pictures, each with the columns `image`, bytes `[C, H, W]` that become
/// numbers from 0 to 1, and `label`, the number of the class.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// How the pictures were read.
    pub schema: PictureSchema,
    /// The pictures in `train`, or all where the folder is not parted.
    pub train: Dataset,
    /// Those in `valid`.
    pub valid: Option<Dataset>,
    /// Those in `test`.
    pub test: Option<Dataset>,
}

impl ImageFolder {
    /// The folder at a path; nothing is read yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().into(),
            colour: None,
            size: None,
        }
    }

    /// Sees this of each picture. If it is not called: colours if the first picture has some.
    #[must_use]
    pub fn colour(self, colour: Colour) -> Self {
        Self {
            colour: Some(colour),
            ..self
        }
    }

    /// Brings every picture to this height and width. If it is not called, all must be of one size.
    #[must_use]
    pub fn size(self, size: [usize; 2]) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn wanted_size(&self) -> Option<[usize; 2]> {
        self.size
    }

    pub(super) fn wanted_colour(&self) -> Option<Colour> {
        self.colour
    }

    /// Reads all pictures.
    ///
    /// # Errors
    /// [`Error::Setting`] for a size of 0 or above 4096. [`Error::Io`], and [`Error::File`] naming what
    /// is at fault: a folder without classes or with one alone, a class without a picture or in one part
    /// alone, a file that cannot be decoded or has another size.
    pub fn read(&self) -> Result<Pictures> {
        if let Some(&side) = self.size.iter().flatten().find(|s| !allowed(**s)) {
            let wanted = format!("1 to {MAX_SIDE} pixels");
            return Err(Error::setting("size of pictures", side, wanted));
        }
        let named = |name: &String| [&PARTS[..], &VALID].concat().contains(&name.as_str());
        let folders = folders(&self.path)?;
        let parted = !folders.is_empty() && folders.iter().all(named);
        let root = match parted {
            true => self.path.join(PARTS[0]),
            false => self.path.clone(),
        };
        if parted && !folders.iter().any(|name| name == PARTS[0]) {
            let found = format!("no folder `{}` beside `{}`", PARTS[0], folders.join("`, `"));
            let fix = "Name the folder of the pictures to be trained on so.";
            return Err(Error::file(&self.path, found, "pictures to train on", fix));
        }
        let classes = classes(&root)?;
        let train = files(&root, &classes)?;
        let schema = self.schema(classes, &train)?;
        let part = |name: &str| {
            let path = self.path.join(name);
            if !(parted && folders.iter().any(|other| other == name)) {
                return Ok(None);
            }
            alike(&path, &schema.classes)?;
            dataset(&schema, &files(&path, &schema.classes)?).map(Some)
        };
        // The small parts first: what is wrong in them is known before the large one is read.
        let valid = [PARTS[1], VALID[0], VALID[1]];
        let valid = valid
            .into_iter()
            .filter(|name| folders.iter().any(|other| other == name));
        let valid: Vec<&str> = valid.collect();
        if let (true, [first, second, ..]) = (parted, valid.as_slice()) {
            let found = format!("the folders `{first}` and `{second}`");
            let fix =
                "Keep one of these folders, that of the pictures to be evaluated after each epoch.";
            return Err(Error::file(&self.path, found, "one of them", fix));
        }
        let (valid, test) = (part(valid.first().unwrap_or(&PARTS[1]))?, part(PARTS[2])?);
        Ok(Pictures {
            train: dataset(&schema, &train)?,
            valid,
            test,
            schema,
        })
    }

    /// What the settings and the first picture say.
    fn schema(&self, classes: Vec<String>, files: &[(PathBuf, u32)]) -> Result<PictureSchema> {
        let first = match files.first() {
            Some((path, _)) => (path, decoded(path)?),
            None => return Err(no_pictures(&self.path)),
        };
        let (path, pixels) = first;
        let size = self.size.unwrap_or([pixels.height, pixels.width]);
        if !size.iter().all(|s| allowed(*s)) {
            let found = format!("a picture of {} × {} pixels", size[0], size[1]);
            let wanted = format!("at most {MAX_SIDE} pixels a side");
            let fix = "Name a smaller size to which all pictures are brought.";
            return Err(Error::file(path, found, wanted, fix));
        }
        let seen = match pixels.has_colour() {
            true => Colour::Rgb,
            false => Colour::Grey,
        };
        Ok(PictureSchema {
            classes,
            colour: self.colour.unwrap_or(seen),
            size,
            resize: self.size.is_some(),
        })
    }
}

fn allowed(side: usize) -> bool {
    (1..=MAX_SIDE).contains(&side)
}

/// The names in a folder that do not begin with a dot, in order, and whether each is a folder.
fn entries(folder: &Path) -> Result<Vec<(String, bool)>> {
    let refused = |e| {
        let fix = "Check that the folder exists and may be read.";
        Error::io("list the folder", folder, e, fix)
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().unwrap_or_default();
        let Some(name) = name.to_str() else {
            let fix = "Give it a name of Unicode characters.";
            return Err(Error::file(&path, "a name of other bytes", "text", fix));
        };
        if !name.starts_with('.') {
            let fix = "Remove it, if it leads nowhere.";
            let known = fs::metadata(&path).map_err(|e| Error::io("look at", &path, e, fix))?;
            let is_folder = known.is_dir();
            entries.push((name.to_string(), is_folder));
        }
    }
    entries.sort();
    Ok(entries)
}

fn folders(path: &Path) -> Result<Vec<String>> {
    let entries = entries(path)?.into_iter();
    Ok(entries.filter(|e| e.1).map(|e| e.0).collect())
}

/// The classes of a folder: two or more.
fn classes(folder: &Path) -> Result<Vec<String>> {
    let classes = folders(folder)?;
    if classes.len() < 2 {
        let found = match classes.as_slice() {
            [] => "no folders".to_string(),
            [one, ..] => format!("`{one}` as the only folder"),
        };
        let fix = "Sort the pictures into a folder for each class.";
        return Err(Error::file(folder, found, "two classes or more", fix));
    }
    Ok(classes)
}

/// Holds a part to the classes of `train`.
fn alike(folder: &Path, wanted: &[String]) -> Result<()> {
    let found = folders(folder)?;
    let fix = "Give all parts the same folders of classes.";
    if let Some(name) = found.iter().find(|name| !wanted.contains(name)) {
        let wanted = "the classes that `train` has";
        return Err(Error::file(
            folder,
            format!("a class `{name}`"),
            wanted,
            fix,
        ));
    }
    if let Some(name) = wanted.iter().find(|name| !found.contains(name)) {
        let found = format!("no folder `{name}`");
        return Err(Error::file(
            folder,
            found,
            "the classes that `train` has",
            fix,
        ));
    }
    Ok(())
}

fn no_pictures(folder: &Path) -> Error {
    let fix = "Put pictures of this class there, or remove the folder.";
    Error::file(folder, "no picture", "PNG or JPEG pictures", fix)
}

/// The pictures of all classes, with the number of their class, in order.
fn files(root: &Path, classes: &[String]) -> Result<Vec<(PathBuf, u32)>> {
    let mut files = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = root.join(class);
        let before = files.len();
        for (name, is_folder) in entries(&folder)? {
            let path = folder.join(&name);
            let extension = path.extension().and_then(|e| e.to_str());
            let extension = extension.unwrap_or_default().to_ascii_lowercase();
            if is_folder || !EXTENSIONS.contains(&extension.as_str()) {
                let found = if is_folder {
                    "a folder"
                } else {
                    "another file"
                };
                let wanted = "PNG and JPEG pictures alone in the folder of a class";
                return Err(Error::file(&path, found, wanted, "Move it elsewhere."));
            }
            files.push((path, label as u32));
        }
        if files.len() == before {
            return Err(no_pictures(&folder));
        }
    }
    Ok(files)
}

fn dataset(schema: &PictureSchema, files: &[(PathBuf, u32)]) -> Result<Dataset> {
    // Of several faults that of the first file is told, whichever thread is first.
    // A place for each file, since tasks give nothing back.
    let mut read: Vec<Option<Result<Vec<u8>>>> = files.iter().map(|_| None).collect();
    let each = read.par_chunks_mut(1).zip(files.par_chunks(1));
    each.share(|(read, file)| read[0] = Some(schema.read(&file[0].0)));
    let mut bytes = Vec::with_capacity(files.len() * schema.extents().iter().product::<usize>());
    for picture in read.into_iter().flatten() {
        bytes.extend(picture?);
    }
    let labels: Vec<u32> = files.iter().map(|(_, label)| *label).collect();
    Dataset::new()
        .with("image", schema.extents(), Numbers::bytes(bytes))?
        .with("label", [], labels)?
        .with_classes("label", schema.classes.clone())
}

impl Dataset {
    /// Mean and deviation of each channel of a column of floats or bytes `[C, …]`, over all rows.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a column that is not there, [`Error::Shape`] for one of integers or of
    /// single numbers.
    pub fn channel_statistics(&self, column: &str) -> Result<Vec<(f64, f64)>> {
        let column = self.column(column)?;
        let channels = column.extents.first().copied().unwrap_or(0);
        if channels == 0 || matches!(column.numbers, Numbers::U32(_)) {
            let found = format!("rows {:?} of {:?}", column.extents, column.numbers.dtype());
            let place = format!("column {}", column.name);
            return Err(Error::shape(place, found, "floats or bytes [C, …] a row"));
        }
        let size = column.extents.iter().product::<usize>() / channels;
        let mut sums = vec![(0.0f64, 0.0f64); channels];
        for row in 0..self.rows() {
            for (sum, values) in sums.iter_mut().zip(column.row(row).chunks_exact(size)) {
                for &x in values {
                    let x = f64::from(x);
                    sum.0 += x;
                    sum.1 += x * x;
                }
            }
        }
        let n = (self.rows() * size) as f64;
        let statistics = sums.iter().map(|(sum, square)| {
            let mean = sum / n;
            (mean, (square / n - mean * mean).max(0.0).sqrt())
        });
        Ok(statistics.collect())
    }

    /// With names for the classes of a column, which stay with it in every part.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a column that is not there, [`Error::Setting`] for one that is not of
    /// classes or has a class without a name.
    pub fn with_classes(mut self, column: &str, names: Vec<String>) -> Result<Self> {
        let Numbers::U32(all) = &self.column(column)?.numbers else {
            let name = format!("column {column}");
            return Err(Error::setting(name, "floats", "classes, to have names"));
        };
        if let Some(class) = all.iter().find(|&&c| c as usize >= names.len()) {
            let wanted = format!("classes below {}, which have names", names.len());
            return Err(Error::setting(format!("column {column}"), class, wanted));
        }
        let names = Arc::new(names);
        let found = self.columns_mut().iter_mut().find(|c| c.name == column);
        if let Some(column) = found {
            column.classes = Some(names);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
