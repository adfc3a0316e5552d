//! A trained network as one file that other tools can read: safetensors.
//!
//! # The format
//! ```text
//! 8 bytes   length n of the header, little endian
//! n bytes   JSON: {"__metadata__": {text: text}, name: {dtype, shape, data_offsets}, …},
//!           padded with spaces so that the data starts at a multiple of 8
//! the rest  the tensors' values, f32 little endian, row-major, without gaps
//! ```
//! `__metadata__` holds `wgrad.network` (the network's description as JSON),
//! `wgrad.version` (the version that wrote it) and whatever the caller adds, so that the
//! network can be rebuilt from the file alone.
//!
//! The header is written here and not by the `safetensors` crate: that crate keeps the
//! metadata in a hash map, and the same model would give other bytes each time. Reading
//! goes through the crate, after a check of its own (see [`ModelFile::from_bytes`]).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{hex, read_limited, write_whole};

/// Metadata key of the network's description.
const NETWORK: &str = "wgrad.network";
/// Metadata key of the version that wrote the file.
const VERSION: &str = "wgrad.version";
/// Metadata key of how many networks' tensors there are, where it is not one.
pub(crate) const REPLICAS: &str = "wgrad.replicas";
/// Most networks of a file.
const MOST_NETWORKS: usize = 4096;
/// The header's entry that is no tensor.
const METADATA: &str = "__metadata__";
/// Longest file that is read: far above any network of the book, far below what would
/// bring a machine down.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// Longest header that is read, the same as in the `safetensors` crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

const FIX: &str = "Save the model again, or name another file.";

/// Tensors by name.
pub type Tensors = Vec<(String, ArrayD<f32>)>;

/// A network's parameters with the description of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// Names and values, in the file's order. Names are unique, no tensor is empty, none
    /// has more than eight dimensions.
    pub tensors: Tensors,
    /// The network's description as JSON text. Opaque here: it is kept as it is.
    pub network_json: String,
    /// Further metadata: any keys but `wgrad.network` and `wgrad.version`.
    pub extra: BTreeMap<String, String>,
}

impl ModelFile {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// Those of [`ModelFile::to_bytes`] and of [`write_whole`].
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.to_bytes()?)
    }

    /// Reads a file of at most 4 GiB.
    ///
    /// # Errors
    /// Those of [`read_limited`] and of [`ModelFile::from_bytes`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(path, &read_limited(path, MAX_FILE_BYTES)?)
    }

    /// The file's bytes. The same model gives the same bytes, always.
    ///
    /// # Errors
    /// [`Error::Setting`] for a tensor name that is used twice or is `__metadata__`, and
    /// for a key of `extra` that belongs to this module; [`Error::Shape`] for a tensor
    /// that is empty or has more than eight dimensions.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut names = HashSet::new();
        for (name, values) in &self.tensors {
            if name == METADATA || !names.insert(name) {
                return Err(Error::setting(
                    "tensor name",
                    shown(name),
                    "names that are used once, and not `__metadata__`",
                ));
            }
            check_shape(values.shape())
                .map_err(|wanted| Error::shape(shown(name), shape_text(values.shape()), wanted))?;
        }
        for key in [NETWORK, VERSION] {
            if self.extra.contains_key(key) {
                return Err(Error::setting(
                    "extra metadata",
                    format!("`{key}`"),
                    "keys other than `wgrad.network` and `wgrad.version`",
                ));
            }
        }

        // A list of pairs and not a map: the header lists the tensors in their own order.
        let mut metadata: BTreeMap<&str, &str> = self
            .extra
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        metadata.insert(NETWORK, &self.network_json);
        metadata.insert(VERSION, env!("CARGO_PKG_VERSION"));
        let mut header = format!("{{\"{METADATA}\":{}", json!(metadata));
        let mut end = 0;
        for (name, values) in &self.tensors {
            let begin = end;
            end += values.len() * 4;
            header += &format!(
                ",{}:{{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[{begin},{end}]}}",
                json!(name),
                json!(values.shape()),
            );
        }
        header.push('}');
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }

        let mut bytes = Vec::with_capacity(8 + header.len() + end);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header.as_bytes());
        for (_, values) in &self.tensors {
            each_little_endian(values, |chunk| bytes.extend_from_slice(chunk));
        }
        Ok(bytes)
    }

    /// Reads the bytes of a file; `path` only appears in messages. The tensors come in
    /// the order of their data.
    ///
    /// Lengths that the bytes claim are compared with the length they have before
    /// anything is allocated or sliced by them.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a whole safetensors file of `f32` tensors with a
    /// `wgrad.network` entry.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |found: String, wanted: String| Error::file(path, found, wanted, FIX);
        let Read { all, mut metadata } = read(path, bytes)?;
        let network_json = metadata.remove(NETWORK).ok_or_else(|| {
            wrong(
                "a safetensors file without `wgrad.network` in its metadata".into(),
                "a model that wgrad saved, with the network's description inside".into(),
            )
        })?;
        metadata.remove(VERSION);
        let mut tensors = Vec::with_capacity(all.len());
        for (name, view) in &all {
            if view.dtype() != Dtype::F32 {
                return Err(wrong(
                    format!("tensor {} of type {:?}", shown(name), view.dtype()),
                    "tensors of type F32 only".into(),
                ));
            }
            tensors.push((name.clone(), array(path, name, view)?));
        }
        Ok(Self {
            tensors,
            network_json,
            extra: metadata,
        })
    }

    /// The tensors of each network of the file, under the names that they have there without `r0.`, `r1.`, …,
    /// which stand before them where there are several networks.
    ///
    /// # Errors
    /// [`Error::File`] for a number of networks that is none, and for a tensor that belongs to none of them.
    pub fn networks(self, path: &Path) -> Result<Vec<Tensors>> {
        let wrong = |found: String, wanted: String| Error::file(path, found, wanted, FIX);
        let count = match self.extra.get(REPLICAS) {
            None => 1,
            Some(n) => {
                let known = n.parse().ok().filter(|n| (1..=MOST_NETWORKS).contains(n));
                let wanted = format!("1 to {MOST_NETWORKS}");
                known.ok_or_else(|| wrong(format!("{} networks", shown(n)), wanted))?
            }
        };
        if count == 1 {
            return Ok(vec![self.tensors]);
        }
        let mut networks = vec![vec![]; count];
        for (name, tensor) in self.tensors {
            let of = |name: &str| {
                let (text, rest) = name.strip_prefix('r')?.split_once('.')?;
                let number: usize = text.parse().ok().filter(|n| *n < count)?;
                (number.to_string() == text).then(|| (number, rest.to_string()))
            };
            let (number, rest) = of(&name).ok_or_else(|| {
                let wanted = format!(
                    "only those of its {count} networks, `r0.` to `r{}.`",
                    count - 1
                );
                wrong(format!("a tensor {}", shown(&name)), wanted)
            })?;
            networks[number].push((rest, tensor));
        }
        Ok(networks)
    }

    /// The name of the first tensor with a value that is infinite or not a number, that
    /// value's row-major index, and the value. Such a file loads, since one may want to look
    /// at it; a [`Model`](crate::book::train::Model) does not.
    pub fn first_non_finite(&self) -> Option<(&str, usize, f32)> {
        self.tensors.iter().find_map(|(name, values)| {
            let mut all = values.iter().copied().enumerate();
            let (index, value) = all.find(|(_, v)| !v.is_finite())?;
            Some((name.as_str(), index, value))
        })
    }
}

/// The float tensors of a safetensors file, whoever wrote it: of 64 bits they are rounded to 32, of 16 bits
/// they are what they were. Integers, such as PyTorch's counts of mini-batches, are no weights and left out.
///
/// # Errors
/// [`Error::Io`]; [`Error::File`] for anything but a whole safetensors file, for tensors of floats that 32 bits
/// do not hold, and for floats of other sizes.
pub fn tensors(path: &Path) -> Result<Tensors> {
    let bytes = read_limited(path, MAX_FILE_BYTES)?;
    let mut tensors = Vec::new();
    for (name, view) in &read(path, &bytes)?.all {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        if matches!(
            view.dtype(),
            BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64
        ) {
            continue;
        }
        tensors.push((name.clone(), array(path, name, view)?));
    }
    Ok(tensors)
}

/// A file that was read: its tensors in the order of their data, and what else it says.
struct Read<'b> {
    all: Vec<(String, TensorView<'b>)>,
    metadata: BTreeMap<String, String>,
}

fn read<'b>(path: &Path, bytes: &'b [u8]) -> Result<Read<'b>> {
    let wrong = |found: String, wanted: String| Error::file(path, found, wanted, FIX);
    check_claims(bytes).map_err(|(found, wanted)| wrong(found, wanted))?;
    let unreadable = |e: safetensors::SafeTensorError| {
        wrong(
            format!("an inconsistent header ({})", shown(&e.to_string())),
            "a safetensors file whose tensors lie one after another without gaps".into(),
        )
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
    let names = header.offset_keys().into_iter();
    let all = names.map(|name| {
        let view = file.tensor(&name).map_err(unreadable)?;
        Ok((name, view))
    });
    Ok(Read {
        all: all.collect::<Result<_>>()?,
        metadata,
    })
}

/// A tensor of floats.
fn array(path: &Path, name: &str, view: &TensorView<'_>) -> Result<ArrayD<f32>> {
    let wrong = |found: String, wanted: &str| {
        let found = format!("tensor {} {found}", shown(name));
        Error::file(path, found, wanted, FIX)
    };
    let of_shape = || format!("of shape {}", shape_text(view.shape()));
    check_shape(view.shape()).map_err(|wanted| wrong(of_shape(), wanted))?;
    let values = floats(view).map_err(|(found, wanted)| wrong(found, wanted))?;
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|e| {
        wrong(
            format!("{} ({e})", of_shape()),
            "a shape that fits its data",
        )
    })
}

/// The values of a tensor in 32 bits, or what was found and wanted.
fn floats(view: &TensorView<'_>) -> Result<Vec<f32>, (String, &'static str)> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => each(data, f32::from_le_bytes),
        Dtype::F16 => each(data, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(data, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => {
            let wide = each(data, f64::from_le_bytes);
            let beyond = |x: &&f64| x.is_finite() && !(**x as f32).is_finite();
            if let Some(x) = wide.iter().find(beyond) {
                return Err((format!("with {x:e}"), "numbers that 32-bit floats hold"));
            }
            wide.into_iter().map(|x| x as f32).collect()
        }
        other => {
            let found = format!("of type {other:?}");
            return Err((found, "floats of 16, 32 or 64 bits"));
        }
    })
}

fn each<const N: usize, T>(data: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = data.as_chunks::<N>();
    chunks.iter().map(|&chunk| value(chunk)).collect()
}

/// The SHA-256 of a network's weights, as 64 hexadecimal digits.
///
/// Hashed are, for each tensor in the order given: the name's length in bytes and the
/// name in UTF-8, the number of dimensions and each dimension, then the values in
/// row-major order. Lengths and dimensions are u64 little endian, values f32 little
/// endian, bit for bit, so 0 and −0 differ. Since every part is preceded by its length,
/// two lists of tensors have the same input only if they are the same.
///
/// To compare a replica with the same network trained alone, give both the same names:
/// without the replica's prefix.
pub fn weights_sha256<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a ArrayD<f32>)>) -> String {
    let mut hash = Sha256::new();
    for (name, values) in tensors {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((values.ndim() as u64).to_le_bytes());
        for &size in values.shape() {
            hash.update((size as u64).to_le_bytes());
        }
        each_little_endian(values, |chunk| hash.update(chunk));
    }
    hex(&hash.finalize())
}

/// Hands the values to `take` in row-major order, as little-endian bytes in large pieces.
fn each_little_endian(values: &ArrayD<f32>, mut take: impl FnMut(&[u8])) {
    if cfg!(target_endian = "little")
        && let Some(slice) = values.as_slice()
    {
        take(bytemuck::cast_slice(slice));
        return;
    }
    let mut piece = Vec::with_capacity(4096);
    for value in values {
        piece.extend(value.to_le_bytes());
        if piece.len() == 4096 {
            take(&piece);
            piece.clear();
        }
    }
    take(&piece);
}

/// Whether the lengths that the header claims fit the bytes that are there; if not, what
/// was found and what was wanted.
///
/// The `safetensors` crate checks this too, but adds the last tensor's end to the header's
/// length without looking for an overflow, and the end is whatever the file says: a build
/// with overflow checks would panic.
fn check_claims(bytes: &[u8]) -> Result<(), (String, String)> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err((
            format!("{} bytes", bytes.len()),
            "a safetensors file, which has at least 8".into(),
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES || length > rest.len() as u64 {
        return Err((
            format!(
                "a header said to be {length} bytes long in a file of {} bytes",
                bytes.len()
            ),
            "a whole safetensors file; this one is cut off or something else".into(),
        ));
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Map<String, Value> = serde_json::from_slice(header).map_err(|e| {
        (
            format!("a header that is no JSON object ({e})"),
            "a safetensors file; this one is damaged or something else".into(),
        )
    })?;
    let end = header
        .iter()
        .filter(|(name, _)| *name != METADATA)
        .filter_map(|(_, entry)| entry.get("data_offsets")?.get(1)?.as_u64())
        .max()
        .unwrap_or(0);
    if end != data.len() as u64 {
        let why = if end > data.len() as u64 {
            "the file is cut off or its header damaged"
        } else {
            "something was appended or the header is damaged"
        };
        return Err((
            format!("{} bytes of tensor data", data.len()),
            format!("the {end} that the header promises; {why}"),
        ));
    }
    Ok(())
}

/// The rule for shapes, or what was wanted.
fn check_shape(shape: &[usize]) -> Result<(), &'static str> {
    if shape.len() > MAX_RANK {
        Err("at most 8 dimensions")
    } else if shape.contains(&0) {
        Err("sizes of at least 1")
    } else {
        Ok(())
    }
}

/// A shape for a message, cut off where a file makes it absurdly long.
fn shape_text(shape: &[usize]) -> String {
    if shape.len() > MAX_RANK {
        format!("with {} dimensions", shape.len())
    } else {
        format!("{shape:?}")
    }
}

/// A name out of a file for a message: quoted, without control characters, cut off.
pub(crate) fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

#[cfg(test)]
mod tests;
