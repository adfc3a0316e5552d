//! Data larger than a device: rows that are read when they are needed, and the shards in which they are
//! trained on.
//!
//! An epoch of N rows in mini-batches of B takes ⌊N / B⌋ steps. It begins at a row that is drawn anew for
//! each epoch, goes on to the end of the data and from there to the beginning, and what it leaves out is
//! the N mod B rows before its first one. Both runs of rows are cut into shards, which are whole
//! mini-batches and, but for the last of each run, of one size. The shards come in an order that is
//! drawn, too. So which rows share a shard changes from epoch to epoch, every shard is a run of
//! neighbours, as disks like it, and all of it follows from seed and epoch alone.

use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::columns::{Column, Dataset, Numbers, below};
use crate::error::{Error, Result};
use crate::files::hex;
use crate::rng::{Stream, key, streams};
use crate::tensor::{Host, pack};

/// Rows that are read when they are needed: a [`Dataset`], [`ArrayFiles`](super::ArrayFiles), a data base,
/// whatever a program has.
///
/// ```
/// use std::ops::Range;
/// use wgrad::data::{DataSource, Dataset};
///
/// /// Numbers and their squares, as many as one likes.
/// #[derive(Debug)]
/// struct Squares(usize);
///
/// impl DataSource for Squares {
///     fn rows(&self) -> usize {
///         self.0
///     }
///
///     fn read(&self, rows: Range<usize>) -> wgrad::Result<Dataset> {
///         let x: Vec<f32> = rows.map(|row| row as f32 / self.0 as f32).collect();
///         let y: Vec<f32> = x.iter().map(|x| x * x).collect();
///         Dataset::new().with("input", [1], x)?.with("target", [1], y)
///     }
/// }
/// # assert_eq!(Squares(10).read(4..7)?.rows(), 3);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub trait DataSource: fmt::Debug + Sync {
    /// How many rows there are.
    fn rows(&self) -> usize;

    /// Some neighbouring rows, with the same columns whichever rows are asked for. It may be called by
    /// another thread.
    ///
    /// # Errors
    /// Whatever keeps rows from being read; it ends the run, and the message names shard and rows. Steps in a loop of
    /// one's own can go on, and read the shard anew.
    fn read(&self, rows: Range<usize>) -> Result<Dataset>;

    /// What the rows are recognised by when a run goes on from a checkpoint. If not said, it is a hash of
    /// all of them, which are read once for it.
    ///
    /// # Errors
    /// As [`DataSource::read`].
    fn identity(&self) -> Result<String> {
        identity(self.rows(), |rows| self.read(rows))
    }
}

impl DataSource for Dataset {
    fn rows(&self) -> usize {
        self.rows()
    }

    fn read(&self, rows: Range<usize>) -> Result<Dataset> {
        self.range(rows)
    }
}

/// Rows that are hashed at once, at most, and about how many bytes of them.
const PIECE: usize = 4096;
const PIECE_BYTES: usize = 16 << 20;

fn identity(rows: usize, read: impl Fn(Range<usize>) -> Result<Dataset>) -> Result<String> {
    let mut hashes: Vec<(String, Sha256)> = Vec::new();
    // As many rows as follow from a row's size: the hash is of these pieces.
    let piece = match rows {
        0 => PIECE,
        _ => {
            let row = read(0..1)?;
            let bytes: usize = row.columns().iter().map(|c| 4 * words(c, 1)).sum();
            (PIECE_BYTES / bytes.max(1)).clamp(1, PIECE)
        }
    };
    for first in (0..rows).step_by(piece) {
        let piece = first..rows.min(first + piece);
        let data = read(piece.clone())?;
        for column in data.columns() {
            let form = format!("{:?} {:?}", Form::of(column), piece);
            let place = match hashes.iter().position(|(name, _)| *name == column.name) {
                Some(place) => place,
                None => {
                    hashes.push((column.name.clone(), Sha256::new()));
                    hashes.len() - 1
                }
            };
            let hash = &mut hashes[place].1;
            hash.update(form);
            hash.update(content(column, data.rows()).bytes());
        }
    }
    let mut all = Sha256::new();
    for (name, hash) in hashes {
        all.update(name);
        all.update(hash.finalize());
    }
    Ok(hex(&all.finalize()))
}

/// What shards of a column have in common.
#[derive(Debug, PartialEq)]
struct Form<'a> {
    name: &'a str,
    extents: &'a [usize],
    stride: usize,
    /// Floats, integers, or bytes and their scale.
    kind: (&'static str, f64),
}

impl<'a> Form<'a> {
    fn of(column: &'a Column) -> Self {
        Self {
            name: &column.name,
            extents: &column.extents,
            stride: column.stride,
            kind: match column.numbers {
                Numbers::F32(_) => ("floats", 1.0),
                Numbers::U32(_) => ("integers", 1.0),
                Numbers::U8(_, scale) => ("bytes", scale),
            },
        }
    }
}

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, scale) = self.kind;
        write!(f, "{kind} {:?} a row", self.extents)?;
        if kind == "bytes" {
            write!(f, ", times {scale}")?;
        }
        Ok(())
    }
}

/// The words of a column's rows as they lie on a device.
pub(crate) fn content(column: &Column, rows: usize) -> Host {
    let span = column.span(rows);
    match &column.numbers {
        Numbers::F32(all) => Host::F32(all[span].to_vec()),
        Numbers::U32(all) => Host::U32(all[span].to_vec()),
        Numbers::U8(all, _) => Host::U32(pack(&all[span])),
    }
}

/// How many words so many rows of a column take on a device.
pub(crate) fn words(column: &Column, rows: usize) -> usize {
    let numbers = column.span(rows).len();
    match column.numbers {
        Numbers::U8(..) => numbers.div_ceil(4),
        _ => numbers,
    }
}

/// Rows in shards: what [`Fit`](crate::fit::Fit) takes in place of a [`Dataset`] when the rows are more
/// than the device, or the machine, has room for. [`TrainStep`](crate::fit::TrainStepBuilder::compile_over_shards) and
/// [`JointStep`](crate::fit::JointStepBuilder::compile_over_shards) take them too.
///
/// A device keeps two shards of each data set: one that is trained on, and the next, which is read and uploaded meanwhile.
/// Where one shard holds all rows, they lie on the device as a whole, as a [`Dataset`] does.
#[derive(Clone, Copy, Debug)]
pub struct Shards<'a> {
    source: &'a dyn DataSource,
    rows: usize,
}

impl<'a> Shards<'a> {
    /// Shards of this many rows, or a few less: whole mini-batches. The larger they are, the better the
    /// rows are mixed.
    pub fn of(source: &'a dyn DataSource, rows: usize) -> Self {
        Self { source, rows }
    }

    /// Shards of which two take at most so many bytes on the device, all columns together.
    ///
    /// # Errors
    /// As [`DataSource::read`]; [`Error::Setting`] where that is not enough for two rows.
    pub fn within(source: &'a dyn DataSource, bytes: u64) -> Result<Self> {
        let sample = Self::of(source, 1).sample()?;
        let of_rows = |rows: usize| -> u64 {
            let all = sample.columns().iter();
            let words = all.map(|column| words(column, rows) as u64);
            words.sum::<u64>().saturating_mul(8)
        };
        if of_rows(1) > bytes {
            let wanted = format!("{} or more, for two rows", of_rows(1));
            return Err(Error::setting("bytes of shards", bytes, wanted));
        }
        // The largest number of rows that fits, by halves.
        let (mut fits, mut beyond) = (1, source.rows().saturating_add(1));
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            match of_rows(middle) <= bytes {
                true => fits = middle,
                false => beyond = middle,
            }
        }
        Ok(Self::of(source, fits))
    }

    /// Rows of all shards.
    pub fn rows(&self) -> usize {
        self.source.rows()
    }

    /// Rows of a shard, at most.
    pub fn shard_rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn identity(&self) -> Result<String> {
        self.source.identity()
    }

    /// The first row, whose columns are those of all shards.
    pub(crate) fn sample(&self) -> Result<Dataset> {
        if self.rows() == 0 {
            return Err(Error::shape("rows of a data source", "none", "one or more"));
        }
        let sample = self.source.read(0..1)?;
        check_rows(&sample, 1)?;
        Ok(sample)
    }

    /// Neighbouring rows, held to what the source has said of itself: their number, and the columns of
    /// the first row.
    pub(crate) fn read(&self, rows: Range<usize>, sample: &Dataset) -> Result<Dataset> {
        let data = self.source.read(rows.clone())?;
        check_rows(&data, rows.len())?;
        for column in sample.columns() {
            let (found, wanted) = (Form::of(data.column(&column.name)?), Form::of(column));
            if found != wanted {
                let place = format!("column {}", column.name);
                let wanted = format!("{wanted}, as in the first row");
                return Err(Error::shape(place, found.to_string(), wanted));
            }
        }
        Ok(data)
    }
}

fn check_rows(data: &Dataset, wanted: usize) -> Result<()> {
    match data.rows() {
        found if found == wanted => Ok(()),
        found => {
            let wanted = format!("the {wanted} that were asked for");
            Err(Error::shape(
                "rows of a data source",
                found.to_string(),
                wanted,
            ))
        }
    }
}

/// A data set as a whole, or in shards.
#[derive(Clone, Copy, Debug)]
pub enum DataRef<'a> {
    /// All rows at once.
    Whole(&'a Dataset),
    /// One shard after the other.
    Shards(Shards<'a>),
}

impl<'a> From<&'a Dataset> for DataRef<'a> {
    fn from(data: &'a Dataset) -> Self {
        Self::Whole(data)
    }
}

impl<'a> From<Shards<'a>> for DataRef<'a> {
    fn from(shards: Shards<'a>) -> Self {
        Self::Shards(shards)
    }
}

/// Which rows the shards of an epoch have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub seed: u64,
    /// Rows of all shards.
    pub rows: usize,
    pub batch: usize,
    /// Rows of a shard: whole mini-batches.
    pub shard: usize,
}

impl Order {
    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.rows / self.batch
    }

    /// The shards of an epoch, counted from 0, as they come: each whole mini-batches.
    pub fn shards(&self, epoch: usize) -> Vec<Range<usize>> {
        let stream = Stream {
            seed: key(self.seed),
            replica: 0,
            stream: streams::SHARDS,
        };
        let draw = |index: usize, n: usize| below(stream.words(epoch as u32, index as u32), n);
        let batches = draw(0, self.steps() + 1);
        let end = batches * self.batch;
        let begin = end + self.rows % self.batch;
        let mut shards = Vec::new();
        for run in [begin..self.rows, 0..end] {
            let cuts = run.clone().step_by(self.shard);
            shards.extend(cuts.map(|first| first..run.end.min(first + self.shard)));
        }
        for i in (1..shards.len()).rev() {
            shards.swap(i, draw(i, i + 1));
        }
        shards
    }
}

#[cfg(test)]
mod tests;
