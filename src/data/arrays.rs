//! Arrays in files: NumPy's `.npy` and `.npz`, and safetensors.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use safetensors::{Dtype, SafeTensors};

use super::{Dataset, Numbers};
use crate::error::{Error, Result};
use crate::files::read_limited;

/// Longest file that is read, and what its arrays may come to when they are unpacked.
const MAX_BYTES: u64 = 1 << 32;

/// Longest header of an array.
pub(super) const MAX_HEADER: usize = 1 << 16;

/// Named arrays of one file.
///
/// ```no_run
/// use wgrad::data::Arrays;
///
/// // x_train uint8 [60000, 28, 28] and y_train uint8 [60000], among others.
/// let arrays = Arrays::read("mnist.npz")?;
/// let data = arrays.dataset(&[("input", "x_train"), ("target", "y_train")])?;
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// What numbers become:
///
/// | in the file | in a column |
/// |---|---|
/// | floats of 16, 32 and 64 bits, bfloat16 | floats; what is beyond 32 bits is refused |
/// | bytes, two axes or more | pixels: floats from 0 to 1 |
/// | bytes, one axis; other integers from 0 on | integers: classes, words |
/// | integers, some below 0 | floats, up to 2²⁴ |
/// | booleans | floats, 0 and 1 |
///
/// Integers become floats by [`Dataset::as_floats`] where a model wants floats; experiments do that by
/// themselves.
///
/// An array of anything else, such as strings, keeps no other from being read: whoever asks for it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrays {
    file: std::path::PathBuf,
    arrays: Named,
}

impl Arrays {
    /// Reads a file that ends in `.npz`, `.safetensors` or `.npy`; the array of the latter is named by
    /// the file's stem.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] naming the array, for what is no whole file of that kind, for
    /// one that has no array of the numbers of the table above and for another ending.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let read = match ending.to_str() {
            Some("npy") => npy_file,
            Some("npz") => npz,
            Some("safetensors") => safetensors,
            _ => {
                let found = format!("the ending `{}`", ending.to_string_lossy());
                let fix = "Save the arrays with numpy.savez or safetensors.";
                let wanted = "`.npz`, `.npy` or `.safetensors`";
                return Err(Error::file(path, found, wanted, fix));
            }
        };
        let arrays = read(path, &read_limited(path, MAX_BYTES)?)?;
        // Of a file that has nothing else, it is said at once.
        if let (Some((name, Err((found, wanted)))), false) =
            (arrays.first_key_value(), arrays.values().any(Result::is_ok))
        {
            return Err(wrong(path, name, found, wanted));
        }
        Ok(Self {
            arrays,
            file: path.into(),
        })
    }

    /// Name and extents of each array that can be read, by name.
    pub fn extents(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let arrays = self.arrays.iter();
        arrays.filter_map(|(name, array)| {
            let (extents, _) = array.as_ref().ok()?;
            Some((name.as_str(), extents.as_slice()))
        })
    }

    /// Refuses an array that is there and cannot be read.
    pub(crate) fn readable(&self, name: &str) -> Result<()> {
        match self.arrays.get(name) {
            Some(Err((found, wanted))) => Err(wrong(&self.file, name, found, wanted)),
            _ => Ok(()),
        }
    }

    /// An array's extents and numbers.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name; [`Error::File`] for an array of other numbers than those
    /// of the table above.
    pub fn get(&self, name: &str) -> Result<(&[usize], &Numbers)> {
        self.readable(name)?;
        let found = self.arrays.get(name).and_then(|array| array.as_ref().ok());
        let (extents, numbers) = found.ok_or_else(|| {
            let known: Vec<&str> = self.arrays.keys().map(String::as_str).collect();
            Error::unknown("array", name, &known)
        })?;
        Ok((extents, numbers))
    }

    /// Columns out of arrays: of each column its name and that of its array, whose first axis are the
    /// rows.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for an array that is not there, [`Error::File`] for one without axes, those
    /// of [`Dataset::with`] for rows that do not fit and for what is not finite.
    pub fn dataset(&self, columns: &[(&str, &str)]) -> Result<Dataset> {
        let mut data = Dataset::new();
        for &(column, name) in columns {
            let (extents, numbers) = self.get(name)?;
            let [_, row @ ..] = extents else {
                let found = format!("the array `{name}`, one number");
                let fix = "Give it an axis of rows.";
                return Err(Error::file(&self.file, found, "an axis of rows", fix));
            };
            data = data.with(column, row, numbers.clone())?;
        }
        Ok(data)
    }
}

pub(super) fn wrong(path: &Path, name: &str, found: impl std::fmt::Display, wanted: &str) -> Error {
    let found = format!("array `{name}`: {found}");
    Error::file(path, found, wanted, "Save the arrays anew.")
}

/// An array's extents and numbers, or why nobody can ask for it.
type Array = Result<(Vec<usize>, Numbers), Wrong>;

type Named = BTreeMap<String, Array>;

fn npy_file(path: &Path, bytes: &[u8]) -> Result<Named> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let array = npy(bytes).map_err(|(found, wanted)| wrong(path, &name, found, wanted))?;
    Ok([(name.into_owned(), array)].into())
}

fn npz(path: &Path, bytes: &[u8]) -> Result<Named> {
    let unreadable = |found: String| {
        let fix = "Save the arrays anew, with numpy.savez.";
        Error::file(path, found, "a whole archive of arrays", fix)
    };
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes))
        .map_err(|e| unreadable(format!("no archive ({e})")))?;
    let (mut arrays, mut left) = (Named::new(), MAX_BYTES);
    for i in 0..archive.len() {
        let mut file = archive
            .by_index(i)
            .map_err(|e| unreadable(format!("entry {i} ({e})")))?;
        let name = file
            .name()
            .map_err(|e| unreadable(format!("entry {i} ({e})")))?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        // What an archive says of lengths may be wrong, and little may unpack to much: the header tells
        // how long the array is, and no more than that is unpacked.
        let mut bytes = Vec::new();
        let mut unpack = |limit: u64, bytes: &mut Vec<u8>| {
            let read = (&mut file).take(limit).read_to_end(bytes);
            read.map_err(|e| unreadable(format!("array `{name}` ({e})")))
        };
        unpack(MAX_HEADER as u64 + 16, &mut bytes)?;
        let of_array = |(found, wanted): Wrong| wrong(path, &name, found, wanted);
        let head = Head::of(&bytes).map_err(of_array)?;
        let array = match head.kind() {
            // Nothing more of it is unpacked.
            Err(unknown) => Err(unknown),
            Ok(kind) => {
                let about = head.about(kind, MAX_BYTES).map_err(of_array)?;
                let length = about.begin as u64 + about.size as u64;
                left = left.checked_sub(length).ok_or_else(|| {
                    unreadable(format!(
                        "arrays of more than {MAX_BYTES} bytes, up to `{name}`"
                    ))
                })?;
                unpack((length + 1).saturating_sub(bytes.len() as u64), &mut bytes)?;
                npy(&bytes).map_err(of_array)?
            }
        };
        if arrays.insert(name.clone(), array).is_some() {
            return Err(unreadable(format!("two arrays `{name}`")));
        }
    }
    Ok(arrays)
}

/// What was found, what was wanted.
pub(super) type Wrong = (String, &'static str);

const FORM: &str = "NumPy's format 1, 2 or 3";

/// The beginning of an array (NumPy enhancement proposal 1): a magic word, the header's length, the
/// header; then come the numbers.
struct Head {
    header: Header,
    /// Where the numbers begin.
    begin: usize,
}

impl Head {
    fn of(bytes: &[u8]) -> Result<Self, Wrong> {
        let no = |found: &str| (found.to_string(), FORM);
        let rest = bytes
            .strip_prefix(b"\x93NUMPY")
            .ok_or_else(|| no("no array"))?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(|| no("cut off"))?;
        let (length, rest) = match version[0] {
            1 => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(|| no("cut off"))?;
                (usize::from(u16::from_le_bytes(*length)), rest)
            }
            2 | 3 => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(|| no("cut off"))?;
                (u32::from_le_bytes(*length) as usize, rest)
            }
            other => return Err(no(&format!("version {other}"))),
        };
        if length > MAX_HEADER || length > rest.len() {
            return Err(no(&format!("a header of {length} bytes")));
        }
        let header = &rest[..length];
        let begin = bytes.len() - rest.len() + length;
        let header = std::str::from_utf8(header).map_err(|e| no(&e.to_string()))?;
        let header = Header::of(header).ok_or_else(|| no(&format!("the header {header:?}")))?;
        Ok(Self { header, begin })
    }

    /// How its numbers are written, if they are some.
    fn kind(&self) -> Result<Kind, Wrong> {
        Kind::of(&self.header.descr).ok_or_else(|| {
            let wanted = "floats of 16, 32 or 64 bits, integers, booleans";
            (format!("elements of type {:?}", self.header.descr), wanted)
        })
    }

    /// All that is said of an array of so many bytes at most.
    fn about(self, kind: Kind, most: u64) -> Result<About, Wrong> {
        let Self { header, begin } = self;
        let mut extents = header.shape.iter();
        let elements = extents.try_fold(1usize, |n, &e| n.checked_mul(e));
        let size = elements.and_then(|n| n.checked_mul(kind.size));
        let size = size.filter(|&size| size as u64 <= most);
        let size = size.ok_or_else(|| {
            let found = format!("{:?} elements", header.shape);
            (found, "arrays of 4 GiB at most, or `ArrayFiles`")
        })?;
        Ok(About {
            header,
            kind,
            begin,
            size,
        })
    }
}

/// What the beginning of an array of numbers says of it.
pub(super) struct About {
    pub header: Header,
    pub kind: Kind,
    /// Where the numbers begin.
    pub begin: usize,
    /// Bytes of the numbers.
    pub size: usize,
}

impl About {
    /// Of an array of so many bytes at most.
    pub fn of(bytes: &[u8], most: u64) -> Result<Self, Wrong> {
        let head = Head::of(bytes)?;
        let kind = head.kind()?;
        head.about(kind, most)
    }
}

/// A whole array, or why its content cannot be read; an error for what is no whole array.
fn npy(bytes: &[u8]) -> Result<Array, Wrong> {
    let head = Head::of(bytes)?;
    let kind = match head.kind() {
        Ok(kind) => kind,
        Err(unknown) => return Ok(Err(unknown)),
    };
    let About {
        header,
        begin,
        size,
        ..
    } = head.about(kind, MAX_BYTES)?;
    let data = &bytes[begin..];
    if size != data.len() {
        let found = format!("{} bytes for {:?} elements", data.len(), header.shape);
        return Err((found, "as many bytes as its elements take"));
    }
    let numbers = kind.numbers(data, header.shape.len());
    let numbers = numbers.map(|numbers| match header.fortran_order {
        true => in_rows(&header.shape, numbers),
        false => numbers,
    });
    Ok(numbers.map(|numbers| (header.shape, numbers)))
}

/// Numbers that stand with the first axis innermost, in the order of everything here.
fn in_rows(extents: &[usize], numbers: Numbers) -> Numbers {
    fn turned<T: Copy>(extents: &[usize], values: &[T]) -> Vec<T> {
        let array = ArrayD::from_shape_vec(IxDyn(extents).f(), values.to_vec());
        array.map_or_else(|_| values.to_vec(), |array| array.iter().copied().collect())
    }
    match numbers {
        Numbers::F32(values) => turned(extents, &values).into(),
        Numbers::U32(values) => turned(extents, &values).into(),
        Numbers::U8(values, scale) => Numbers::U8(turned(extents, &values).into(), scale),
    }
}

/// The dictionary of an array's header.
pub(super) struct Header {
    descr: String,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, in any order.
    fn of(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let value = |key: &str| {
            let key = format!("'{key}':");
            let at = inner.find(&key)? + key.len();
            Some(inner[at..].trim_start())
        };
        let descr = value("descr")?;
        let descr = match descr.strip_prefix('\'') {
            Some(rest) => &rest[..rest.find('\'')?],
            // Of several fields an element, which are a list.
            None => &descr[..=descr.strip_prefix('[').and(descr.rfind(']'))?],
        };
        let order = value("fortran_order")?;
        let shape = value("shape")?.strip_prefix('(')?;
        let shape = shape[..shape.find(')')?].split(',').map(str::trim);
        Some(Self {
            descr: descr.into(),
            fortran_order: match () {
                () if order.starts_with("False") => false,
                () if order.starts_with("True") => true,
                () => return None,
            },
            shape: shape
                .filter(|extent| !extent.is_empty())
                .map(|extent| extent.parse().ok())
                .collect::<Option<_>>()?,
        })
    }
}

/// How numbers are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// `f`, `i`, `u`, `b` as NumPy has them, and `B` for bfloat16.
    pub letter: char,
    /// Bytes of a number.
    pub size: usize,
    big_endian: bool,
}

impl Kind {
    fn of(descr: &str) -> Option<Self> {
        let mut letters = descr.chars();
        let (order, letter) = (letters.next()?, letters.next()?);
        let size = letters.as_str().parse().ok()?;
        let known = match letter {
            'f' => matches!(size, 2 | 4 | 8),
            'i' | 'u' => matches!(size, 1 | 2 | 4 | 8),
            'b' => size == 1,
            _ => false,
        };
        (known && matches!(order, '<' | '>' | '|' | '=')).then_some(Self {
            letter,
            size,
            big_endian: order == '>' || order == '=' && cfg!(target_endian = "big"),
        })
    }

    /// The numbers of an array of so many axes.
    pub fn numbers(self, data: &[u8], axes: usize) -> Result<Numbers, Wrong> {
        // Each number's bits, the lowest first.
        let bits = data.chunks_exact(self.size).map(move |bytes| {
            let mut all = [0; 8];
            all[..self.size].copy_from_slice(bytes);
            if self.big_endian {
                all[..self.size].reverse();
            }
            u64::from_le_bytes(all)
        });
        match (self.letter, self.size) {
            ('u', 1) if axes > 1 => Ok(Numbers::bytes(data.to_vec())),
            ('b', _) => Ok(bits
                .map(|b| f32::from(u8::from(b != 0)))
                .collect::<Vec<f32>>()
                .into()),
            ('u', _) => integers(bits.map(i128::from)),
            ('i', size) => {
                let unused = 64 - 8 * size as u32;
                integers(bits.map(|b| i128::from((b << unused) as i64 >> unused)))
            }
            ('f', 2) => Ok(floats(
                bits.map(|b| half::f16::from_bits(b as u16).to_f32()),
            )),
            ('B', _) => Ok(floats(
                bits.map(|b| half::bf16::from_bits(b as u16).to_f32()),
            )),
            ('f', 4) => Ok(floats(bits.map(|b| f32::from_bits(b as u32)))),
            _ => {
                let values = bits.map(f64::from_bits);
                let far = |x: &f64| x.is_finite() && !(*x as f32).is_finite();
                if let Some(far) = values.clone().find(far) {
                    return Err((format!("{far:e}"), "numbers that floats of 32 bits have"));
                }
                Ok(floats(values.map(|x| x as f32)))
            }
        }
    }
}

fn floats(values: impl Iterator<Item = f32>) -> Numbers {
    values.collect::<Vec<f32>>().into()
}

fn integers(values: impl Iterator<Item = i128> + Clone) -> Result<Numbers, Wrong> {
    let negative = values.clone().any(|x| x < 0);
    let range = match negative {
        true => -(1 << 24)..=1 << 24,
        false => 0..=i128::from(u32::MAX),
    };
    if let Some(far) = values.clone().find(|x| !range.contains(x)) {
        let wanted = "integers from 0 to 2³² − 1, or from −2²⁴ to 2²⁴";
        return Err((far.to_string(), wanted));
    }
    Ok(match negative {
        true => floats(values.map(|x| x as f32)),
        false => values.map(|x| x as u32).collect::<Vec<_>>().into(),
    })
}

/// How the numbers of a tensor are written.
pub(super) fn tensor_kind(dtype: Dtype) -> Result<Kind, Wrong> {
    let (letter, size) = match dtype {
        Dtype::F16 => ('f', 2),
        Dtype::BF16 => ('B', 2),
        Dtype::F32 => ('f', 4),
        Dtype::F64 => ('f', 8),
        Dtype::U8 => ('u', 1),
        Dtype::U16 => ('u', 2),
        Dtype::U32 => ('u', 4),
        Dtype::U64 => ('u', 8),
        Dtype::I8 => ('i', 1),
        Dtype::I16 => ('i', 2),
        Dtype::I32 => ('i', 4),
        Dtype::I64 => ('i', 8),
        Dtype::BOOL => ('b', 1),
        other => {
            let wanted = "floats of 16, 32 or 64 bits, integers, booleans";
            return Err((format!("elements of type {other:?}"), wanted));
        }
    };
    Ok(Kind {
        letter,
        size,
        big_endian: false,
    })
}

fn safetensors(path: &Path, bytes: &[u8]) -> Result<Named> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        let fix = "Save the tensors anew.";
        Error::file(
            path,
            format!("no tensors ({e})"),
            "a whole safetensors file",
            fix,
        )
    })?;
    let mut arrays = Named::new();
    for (name, view) in file.iter() {
        let numbers = tensor_kind(view.dtype())
            .and_then(|kind| kind.numbers(view.data(), view.shape().len()));
        let array = numbers.map(|numbers| (view.shape().to_vec(), numbers));
        arrays.insert(name.to_string(), array);
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests;
