//! Arrays in files whose rows are read when they are needed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::arrays::{About, Kind, MAX_HEADER, tensor_kind, wrong};
use super::columns::{Dataset, Numbers};
use super::shards::DataSource;
use crate::error::{Error, Result};

/// Columns whose numbers stay in files, NumPy's `.npy` and safetensors, until rows of them are asked for:
/// a [`DataSource`] of any size.
///
/// ```no_run
/// use wgrad::data::{ArrayFiles, Shards};
///
/// // uint8 [N, 3, 64, 64] and uint16 [N].
/// let files = ArrayFiles::new().npy("input", "pictures.npy")?.npy("target", "labels.npy")?;
/// let shards = Shards::within(&files, 4 << 30)?;
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// Numbers become what [`Arrays`](super::Arrays) makes of them, but for integers that have a sign: they are
/// classes or words, and one below 0 is refused, unless the column is one [`ArrayFiles::as_floats`]. Numbers stand in the files row after row; `.npz`, whose
/// arrays are compressed, has no rows that can be read alone.
#[derive(Clone, Debug, Default)]
pub struct ArrayFiles {
    columns: Vec<Stored>,
    rows: usize,
}

/// Where the rows of a column stand.
#[derive(Clone, Debug)]
struct Stored {
    column: String,
    path: PathBuf,
    /// The array's name in messages.
    array: String,
    /// Axes of the array, rows included.
    axes: usize,
    /// The extents of a row.
    extents: Vec<usize>,
    kind: Kind,
    /// Where row 0 begins.
    begin: u64,
    /// Whether integers are floats.
    floats: bool,
}

impl ArrayFiles {
    /// No columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a column out of a `.npy` file, whose first axis are the rows. Its header is read.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for what is no such file, whose length is not what its header says,
    /// or which has the first axis innermost (Fortran's order); [`Error::Shape`] for another number of
    /// rows than the other columns have; [`Error::Setting`] for a name that is taken.
    pub fn npy(self, column: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let array = path.file_stem().unwrap_or_default().to_string_lossy();
        let (mut file, length) = open(path)?;
        let mut bytes = Vec::new();
        let head = (&mut file).take(MAX_HEADER as u64 + 16);
        let mut head = head;
        head.read_to_end(&mut bytes).map_err(|e| unread(path, e))?;
        let no = |(found, wanted): (String, &'static str)| wrong(path, &array, found, wanted);
        let about = About::of(&bytes, u64::MAX).map_err(no)?;
        let found = length.saturating_sub(about.begin as u64);
        if found != about.size as u64 {
            let found = format!("{found} bytes for {:?} elements", about.header.shape);
            return Err(no((found, "as many bytes as its elements take")));
        }
        if about.header.fortran_order && about.header.shape.len() > 1 {
            let found = "the first axis innermost".to_string();
            return Err(no((
                found,
                "one row after the other (numpy.ascontiguousarray)",
            )));
        }
        let begin = about.begin as u64;
        let place = (path, &*array, begin);
        self.with(column, place, about.kind, &about.header.shape)
    }

    /// With a column out of a safetensors file, a tensor whose first axis are the rows. The file's header
    /// is read.
    ///
    /// # Errors
    /// As [`ArrayFiles::npy`], and [`Error::UnknownName`] for a tensor that is not there.
    pub fn tensor(self, column: &str, path: impl AsRef<Path>, tensor: &str) -> Result<Self> {
        let path = path.as_ref();
        let (mut file, length) = open(path)?;
        let no = |found: String| {
            Error::file(
                path,
                found,
                "a whole safetensors file",
                "Save the tensors anew.",
            )
        };
        let mut size = [0; 8];
        file.read_exact(&mut size)
            .map_err(|_| no("cut off".into()))?;
        let size = u64::from_le_bytes(size);
        let begin = size.checked_add(8).filter(|&begin| begin <= length);
        let begin = begin.ok_or_else(|| no(format!("a header of {size} bytes")))?;
        // What the format allows for a header.
        if size > 100_000_000 {
            return Err(no(format!("a header of {size} bytes")));
        }
        file.rewind().map_err(|e| unread(path, e))?;
        let mut header = Vec::new();
        let mut head = file.take(begin);
        head.read_to_end(&mut header).map_err(|e| unread(path, e))?;
        let read = serde_json::from_slice::<safetensors::tensor::Metadata>(&header[8..]);
        let metadata = read.map_err(|e| no(format!("no tensors ({e})")))?;
        let Some(info) = metadata.info(tensor) else {
            let all = metadata.tensors();
            let mut known: Vec<&str> = all.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(Error::unknown("tensor", tensor, &known));
        };
        let kind = tensor_kind(info.dtype).map_err(|(f, w)| wrong(path, tensor, f, w))?;
        let (from, to) = info.data_offsets;
        let elements = info
            .shape
            .iter()
            .try_fold(kind.size, |n, &e| n.checked_mul(e));
        if to.checked_sub(from) != elements || to as u64 > length - begin {
            let found = format!(
                "bytes {from} to {to} of {} for {:?} elements",
                length - begin,
                info.shape
            );
            return Err(wrong(
                path,
                tensor,
                found,
                "as many bytes as its elements take",
            ));
        }
        let begin = begin + from as u64;
        self.with(column, (path, tensor, begin), kind, &info.shape)
    }

    fn with(
        mut self,
        column: &str,
        (path, array, begin): (&Path, &str, u64),
        kind: Kind,
        shape: &[usize],
    ) -> Result<Self> {
        let place = || format!("column {column}");
        if self.columns.iter().any(|other| other.column == column) {
            let wanted = "a name that no other column has";
            return Err(Error::setting(place(), "a second", wanted));
        }
        let [rows, extents @ ..] = shape else {
            let found = format!("the array `{array}`, one number");
            let fix = "Give it an axis of rows.";
            return Err(Error::file(path, found, "an axis of rows", fix));
        };
        if shape.contains(&0) {
            let found = format!("{shape:?} elements");
            return Err(Error::shape(place(), found, "one or more rows of numbers"));
        }
        if !self.columns.is_empty() && self.rows != *rows {
            let wanted = format!("{}, as the other columns have", self.rows);
            return Err(Error::shape(place(), format!("{rows} rows"), wanted));
        }
        self.rows = *rows;
        self.columns.push(Stored {
            column: column.into(),
            path: path.into(),
            array: array.into(),
            axes: shape.len(),
            extents: extents.to_vec(),
            kind,
            begin,
            floats: false,
        });
        Ok(self)
    }

    /// With the integers of a column as floats, for a model or a loss that wants floats, those below 0 too;
    /// [`Dataset::as_floats`] of what is read. Other numbers stay as they are.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a column that is missing.
    pub fn as_floats(mut self, column: &str) -> Result<Self> {
        let mut columns = self.columns.iter_mut();
        match columns.find(|stored| stored.column == column) {
            Some(stored) => stored.floats = true,
            None => {
                let known: Vec<&str> = self.columns.iter().map(|s| s.column.as_str()).collect();
                return Err(Error::unknown("column", column, &known));
            }
        }
        Ok(self)
    }
}

fn unread(path: &Path, source: std::io::Error) -> Error {
    Error::io("read", path, source, "Check the file and its permissions.")
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).map_err(|e| unread(path, e))?;
    let length = file.metadata().map_err(|e| unread(path, e))?.len();
    Ok((file, length))
}

impl Stored {
    fn read(&self, rows: Range<usize>) -> Result<Numbers> {
        let no = |found: String, wanted: &str| wrong(&self.path, &self.array, found, wanted);
        // The header's product fits, and rows are a part of it.
        let row = self.kind.size * self.extents.iter().product::<usize>();
        let (mut file, _) = open(&self.path)?;
        let begin = self.begin + rows.start as u64 * row as u64;
        let unread = |e| unread(&self.path, e);
        file.seek(SeekFrom::Start(begin)).map_err(unread)?;
        let (mut bytes, wanted) = (Vec::new(), rows.len() * row);
        bytes.try_reserve_exact(wanted).map_err(|e| {
            let found = format!("{wanted} bytes for {} rows", rows.len());
            no(found, &format!("rows that there is memory for ({e})"))
        })?;
        let mut part = file.take(wanted as u64);
        part.read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() < wanted {
            let found = format!("an end within rows {} to {}", rows.start, rows.end - 1);
            return Err(no(found, "the file as it was when it was opened"));
        }
        let size = self.extents.iter().product::<usize>();
        let row_of = |at: usize| rows.start + at / size;
        let numbers = self.kind.numbers(&bytes, self.axes);
        let numbers = numbers.map_err(|(found, wanted)| no(found, wanted))?;
        match numbers {
            // Here and not where the column is made, which knows nothing of the rows before these.
            Numbers::F32(all) => {
                let (wrong, wanted): (fn(&f32) -> bool, _) = match self.kind.letter {
                    'i' if !self.floats => (|x| *x < 0.0, "integers from 0 on, or floats"),
                    _ => (|x| !x.is_finite(), "finite numbers"),
                };
                match all.iter().position(wrong) {
                    None => Ok(Numbers::F32(all)),
                    Some(at) => {
                        let found = format!("{} in row {}", all[at], row_of(at));
                        Err(no(found, wanted))
                    }
                }
            }
            Numbers::U32(all) if self.floats => {
                if let Some(at) = all.iter().position(|&x| x > 1 << 24) {
                    let found = format!("{} in row {}", all[at], row_of(at));
                    return Err(no(found, "integers up to 2²⁴ where floats are wanted"));
                }
                Ok(all.iter().map(|&x| x as f32).collect::<Vec<f32>>().into())
            }
            numbers => Ok(numbers),
        }
    }
}

impl DataSource for ArrayFiles {
    fn rows(&self) -> usize {
        self.rows
    }

    fn read(&self, rows: Range<usize>) -> Result<Dataset> {
        if rows.is_empty() || rows.end > self.rows {
            let wanted = format!("one or more of {} rows", self.rows);
            return Err(Error::shape("rows of files", format!("{rows:?}"), wanted));
        }
        let mut data = Dataset::new();
        for stored in &self.columns {
            let numbers = stored.read(rows.clone())?;
            data = data.with(&stored.column, &stored.extents, numbers)?;
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests;
