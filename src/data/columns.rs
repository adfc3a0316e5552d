//! Data as columns: a set of rows, each with a value in every column.
//!
//! ```
//! use wgrad::data::Dataset;
//!
//! let data = Dataset::new()
//!     .with("input", [2], vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?
//!     .with("target", [], vec![0, 1, 1, 0])?;
//! assert_eq!(data.rows(), 4);
//! let parts = data.split(&[0.5, 0.5], 7)?;
//! assert_eq!(parts[0].rows() + parts[1].rows(), 4);
//! # Ok::<(), wgrad::Error>(())
//! ```

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::rng::{Stream, key, streams};
use crate::shape::DType;

/// The numbers of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Floats.
    F32(Arc<Vec<f32>>),
    /// Integers: classes, words.
    U32(Arc<Vec<u32>>),
    /// Bytes, each of which becomes a float times a scale when it is needed: images at a quarter of
    /// the memory.
    U8(Arc<Vec<u8>>, f64),
}

impl From<Vec<f32>> for Numbers {
    fn from(values: Vec<f32>) -> Self {
        Self::F32(Arc::new(values))
    }
}

impl From<Vec<u32>> for Numbers {
    fn from(values: Vec<u32>) -> Self {
        Self::U32(Arc::new(values))
    }
}

impl From<&[f32]> for Numbers {
    fn from(values: &[f32]) -> Self {
        values.to_vec().into()
    }
}

impl From<&[u32]> for Numbers {
    fn from(values: &[u32]) -> Self {
        values.to_vec().into()
    }
}

impl<D: ndarray::Dimension> From<&ndarray::Array<f32, D>> for Numbers {
    fn from(values: &ndarray::Array<f32, D>) -> Self {
        values.iter().copied().collect::<Vec<f32>>().into()
    }
}

impl<D: ndarray::Dimension> From<&ndarray::Array<u32, D>> for Numbers {
    fn from(values: &ndarray::Array<u32, D>) -> Self {
        values.iter().copied().collect::<Vec<u32>>().into()
    }
}

/// What bytes are multiplied by to be numbers between 0 and 1.
pub(crate) const SCALE: f64 = 1.0 / 255.0;

impl Numbers {
    /// Bytes that become numbers between 0 and 1.
    pub fn bytes(values: Vec<u8>) -> Self {
        Self::U8(Arc::new(values), SCALE)
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::U8(values, _) => values.len(),
        }
    }

    /// What a network gets of it.
    pub fn dtype(&self) -> DType {
        match self {
            Self::U32(_) => DType::U32,
            _ => DType::F32,
        }
    }
}

/// A column: `rows` values of `extents` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The extents of one row; none for a number.
    pub extents: Vec<usize>,
    /// All numbers, row after row.
    pub numbers: Numbers,
    /// The names of its classes, where they have some.
    pub classes: Option<Arc<Vec<String>>>,
    /// Numbers from the beginning of a row to that of the next, if rows overlap.
    pub(crate) stride: usize,
    /// Numbers before row 0.
    pub(crate) start: usize,
}

impl Column {
    fn size(&self) -> usize {
        self.extents.iter().product()
    }

    /// Where the numbers of the first `rows` rows stand.
    pub(crate) fn span(&self, rows: usize) -> std::ops::Range<usize> {
        let length = match rows {
            0 => 0,
            rows => (rows - 1) * self.stride + self.size(),
        };
        self.start..self.start + length
    }

    /// The first number below 0 of a column of whole numbers, and its row: files have integers below 0,
    /// which are floats here. To whoever wanted integers, that they are floats would say nothing.
    pub(crate) fn negative(&self, rows: usize) -> Option<(f32, usize)> {
        let Numbers::F32(all) = &self.numbers else {
            return None;
        };
        let all = &all[self.span(rows)];
        let at = all.iter().position(|&x| x < 0.0)?;
        let whole = all.iter().all(|x| x.fract() == 0.0);
        whole.then(|| (all[at], self.row_of(at, rows)))
    }

    /// The row of a number of a span of rows. Of rows that overlap it is the last one that begins no later.
    pub(crate) fn row_of(&self, at: usize, rows: usize) -> usize {
        (at / self.stride).min(rows.saturating_sub(1))
    }

    fn is_packed(&self) -> bool {
        self.stride == self.size() && self.start == 0
    }

    /// The column of some rows, in this order, each where it was.
    fn take(&self, rows: &[usize]) -> Self {
        fn taken<T: Copy>(all: &[T], column: &Column, rows: &[usize]) -> Arc<Vec<T>> {
            let row = |&r: &usize| {
                let at = r * column.stride + column.start;
                all[at..at + column.size()].iter().copied()
            };
            Arc::new(rows.iter().flat_map(row).collect())
        }
        Self {
            numbers: match &self.numbers {
                Numbers::F32(all) => Numbers::F32(taken(all, self, rows)),
                Numbers::U32(all) => Numbers::U32(taken(all, self, rows)),
                Numbers::U8(all, scale) => Numbers::U8(taken(all, self, rows), *scale),
            },
            stride: self.size(),
            start: 0,
            ..self.clone()
        }
    }

    /// A run of rows without a copy of what rows share.
    fn range(&self, first: usize, rows: usize) -> Self {
        match self.is_packed() {
            true => self.take(&(first..first + rows).collect::<Vec<_>>()),
            false => Self {
                start: self.start + first * self.stride,
                ..self.clone()
            },
        }
    }

    /// One row of integers, every bit of them; none of floats.
    pub(crate) fn integers(&self, row: usize) -> Option<&[u32]> {
        let at = row * self.stride + self.start;
        match &self.numbers {
            Numbers::U32(all) => Some(&all[at..at + self.size()]),
            _ => None,
        }
    }

    /// One row as floats; integers above 2²⁴ are rounded.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let at = row * self.stride + self.start;
        let range = at..at + self.size();
        match &self.numbers {
            Numbers::F32(all) => all[range].to_vec(),
            Numbers::U32(all) => all[range].iter().map(|&x| x as f32).collect(),
            Numbers::U8(all, scale) => {
                let number = |&byte: &u8| f32::from(byte) * *scale as f32;
                all[range].iter().map(number).collect()
            }
        }
    }
}

/// Named columns of the same rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    columns: Vec<Column>,
    rows: Option<usize>,
    places: Places,
}

/// The numbers that rows have in the file that they are of, where they are of one. Whoever splits a file does not see
/// the parts. Equal rows are equal wherever they stand.
#[derive(Clone, Debug, Default)]
struct Places(Option<Arc<Vec<usize>>>);

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Places {
    fn taken(&self, rows: impl Iterator<Item = usize>) -> Self {
        let taken = |all: &Arc<Vec<usize>>| Arc::new(rows.map(|row| all[row]).collect());
        Self(self.0.as_ref().map(taken))
    }
}

impl Dataset {
    /// No columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one column more: numbers row after row, of these extents a row (`[]` for one number each).
    ///
    /// # Errors
    /// [`Error::Shape`] where the numbers are no whole rows, or not as many as the other columns have,
    /// or none; [`Error::Setting`] for a name that is taken and for floats that are not finite, naming
    /// the first row of them.
    pub fn with(
        mut self,
        name: &str,
        extents: impl AsRef<[usize]>,
        numbers: impl Into<Numbers>,
    ) -> Result<Self> {
        let (extents, numbers) = (extents.as_ref().to_vec(), numbers.into());
        let place = || format!("column {name}");
        // Extents may come from a file.
        let size = extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        let size = size.unwrap_or(0);
        let length = numbers.len();
        if size == 0 || length == 0 || length % size != 0 {
            let found = format!("{length} numbers in rows {extents:?}");
            return Err(Error::shape(place(), found, "one or more whole rows"));
        }
        if let Numbers::F32(values) = &numbers
            && let Some(first) = values.iter().position(|x| !x.is_finite())
        {
            let found = format!("{} in row {}", values[first], first / size);
            return Err(Error::setting(place(), found, "finite numbers"));
        }
        self.push(Column {
            name: name.into(),
            stride: size,
            start: 0,
            extents,
            numbers,
            classes: None,
        })?;
        Ok(self)
    }

    /// With two columns out of one text: `input`, windows of `length` numbers that begin at every
    /// place, and `target`, the same one place on. Each number is kept once. Windows overlap, so rows split at random
    /// show a validation what was trained on: cut the text into its parts first.
    ///
    /// # Errors
    /// [`Error::Shape`] for a text that is not longer than a window.
    pub fn windows(text: Vec<u32>, length: usize) -> Result<Self> {
        Self::windows_apart(text, length, 1)
    }

    /// [`Dataset::windows`] that begin `apart` numbers from each other: `length` for windows that do not
    /// overlap, so that an evaluation looks at each number once.
    ///
    /// # Errors
    /// As [`Dataset::windows`].
    pub fn windows_apart(text: Vec<u32>, length: usize, apart: usize) -> Result<Self> {
        if length == 0 || apart == 0 || text.len() <= length {
            let found = format!("{} numbers, windows of {length}", text.len());
            return Err(Error::shape(
                "text",
                found,
                "a text longer than its windows",
            ));
        }
        let rows = (text.len() - length - 1) / apart + 1;
        let numbers = Numbers::U32(Arc::new(text));
        let mut data = Self {
            rows: Some(rows),
            ..Self::default()
        };
        for (name, start) in [("input", 0), ("target", 1)] {
            data.columns.push(Column {
                name: name.into(),
                extents: vec![length],
                numbers: numbers.clone(),
                classes: None,
                stride: apart,
                start,
            });
        }
        Ok(data)
    }

    /// With the integers of a column as floats, for a model or a loss that wants floats; floats stay as they are. Numbers are no
    /// classes any more, and have no names.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a column that is missing; [`Error::Setting`] for an integer above 2²⁴,
    /// naming its row: not all of those are floats.
    pub fn as_floats(mut self, column: &str) -> Result<Self> {
        let (rows, found) = (self.rows(), self.column(column)?);
        let Numbers::U32(all) = &found.numbers else {
            return Ok(self);
        };
        let span = found.span(rows);
        let first = span.start;
        if let Some(at) = all[span].iter().position(|&x| x > 1 << 24) {
            let row = self.named(found.row_of(at, rows), 0);
            let found = format!("{} in {row}", all[first + at]);
            let wanted = "integers up to 2²⁴ where floats are wanted, or floats";
            return Err(Error::setting(format!("column {column}"), found, wanted));
        }
        let floats = all.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        for own in self.columns.iter_mut().filter(|own| own.name == column) {
            own.numbers = floats.clone().into();
            own.classes = None;
        }
        Ok(self)
    }

    fn push(&mut self, column: Column) -> Result<()> {
        let name = &column.name;
        if self.columns.iter().any(|c| c.name == *name) {
            let wanted = "a name that no other column has";
            return Err(Error::setting(format!("column {name}"), "a second", wanted));
        }
        let rows = column.numbers.len() / column.size();
        if let Some(wanted) = self.rows.filter(|&wanted| wanted != rows) {
            let found = format!("{rows} rows");
            let wanted = format!("{wanted}, as the other columns have");
            return Err(Error::shape(format!("column {name}"), found, wanted));
        }
        self.rows = Some(rows);
        self.columns.push(column);
        Ok(())
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows.unwrap_or(0)
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn columns_mut(&mut self) -> &mut [Column] {
        &mut self.columns
    }

    /// A column by name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name.
    pub fn column(&self, name: &str) -> Result<&Column> {
        let found = self.columns.iter().find(|c| c.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
            Error::unknown("column", name, &known)
        })
    }

    /// Some rows, in this order.
    ///
    /// # Errors
    /// [`Error::Shape`] for no rows, or one that is not there.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if rows.is_empty() || rows.iter().any(|&r| r >= self.rows()) {
            let found = match rows.iter().find(|&&r| r >= self.rows()) {
                Some(row) => format!("row {row}"),
                None => "no rows".into(),
            };
            let wanted = format!("one or more of {} rows", self.rows());
            return Err(Error::shape("rows of a data set", found, wanted));
        }
        Ok(Self {
            columns: self.columns.iter().map(|c| c.take(rows)).collect(),
            rows: Some(rows.len()),
            places: self.places.taken(rows.iter().copied()),
        })
    }

    /// All rows, in an order that the seed alone decides. [`Shards`](super::Shards) are neighbouring rows, so what lies
    /// sorted by class is to be shuffled first: a mini-batch would be of one class. Without shards it changes nothing
    /// that matters, since each epoch draws an order of its own.
    ///
    /// # Errors
    /// As [`Dataset::select`].
    pub fn shuffled(&self, seed: u64) -> Result<Self> {
        self.select(&permutation(self.rows(), seed))
    }

    /// A run of rows.
    ///
    /// # Errors
    /// As [`Dataset::select`].
    pub fn range(&self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.is_empty() || range.end > self.rows() {
            let wanted = format!("one or more of {} rows", self.rows());
            return Err(Error::shape(
                "rows of a data set",
                format!("{range:?}"),
                wanted,
            ));
        }
        let columns = self.columns.iter();
        Ok(Self {
            columns: columns.map(|c| c.range(range.start, range.len())).collect(),
            rows: Some(range.len()),
            places: self.places.taken(range),
        })
    }

    /// The same rows, which have these numbers in the file that they are of.
    pub(crate) fn of_file(self, places: impl Iterator<Item = usize>) -> Self {
        let places: Vec<usize> = places.take(self.rows()).collect();
        debug_assert_eq!(places.len(), self.rows());
        Self {
            places: Places(Some(Arc::new(places))),
            ..self
        }
    }

    /// A row in words: by its number in the file, if it is of one, else by its own, of rows whose first one has this
    /// number.
    pub(crate) fn named(&self, row: usize, first: usize) -> String {
        let place = self.places.0.as_ref().and_then(|all| all.get(row));
        match place {
            Some(place) => format!("row {place} of the file"),
            None => format!("row {}", first + row),
        }
    }

    /// Parts of these shares, every row in one of them, drawn by a seed; the shares are parts of their
    /// sum.
    ///
    /// # Errors
    /// [`Error::Setting`] for shares that are not positive, or a part that would have no row.
    pub fn split(&self, shares: &[f64], seed: u64) -> Result<Vec<Self>> {
        let parts = split_rows(self.rows(), shares, seed)?;
        parts.iter().map(|rows| self.select(rows)).collect()
    }

    /// [`Dataset::split`] in which every class of a column has its share in each part, as nearly as
    /// whole rows allow.
    ///
    /// # Errors
    /// As [`Dataset::split`]; [`Error::Setting`] for a column that is not one of classes.
    pub fn split_stratified(&self, column: &str, shares: &[f64], seed: u64) -> Result<Vec<Self>> {
        let by = self.column(column)?;
        let Numbers::U32(classes) = &by.numbers else {
            let found = match by.negative(self.rows()) {
                Some((number, row)) => format!("{number} in {}", self.named(row, 0)),
                None => "floats".into(),
            };
            let name = format!("column {column}");
            let wanted = "classes, which are integers from 0 on, to be split by";
            return Err(Error::setting(name, found, wanted));
        };
        if by.size() != 1 {
            let found = format!("rows {:?}", by.extents);
            return Err(Error::shape(
                format!("column {column}"),
                found,
                "one class a row",
            ));
        }
        let parts = split_rows_of_classes(classes, shares, seed)?;
        parts.iter().map(|rows| self.select(rows)).collect()
    }
}

fn no_rows(rows: usize) -> Error {
    let found = format!("a part without rows, of {rows}");
    Error::setting("shares of a split", found, "parts of one row or more")
}

fn check_shares(shares: &[f64]) -> Result<f64> {
    let total: f64 = shares.iter().sum();
    if !shares.is_empty() && shares.iter().all(|&s| s > 0.0) && total.is_finite() {
        return Ok(total);
    }
    let found = format!("{shares:?}");
    Err(Error::setting(
        "shares of a split",
        found,
        "positive numbers",
    ))
}

/// Consecutive parts of `rows` by these shares.
fn parted(rows: &[usize], shares: &[f64]) -> Result<Vec<Vec<usize>>> {
    let total = check_shares(shares)?;
    let (mut from, mut sum) = (0, 0.0);
    let mut parts = Vec::new();
    for (k, share) in shares.iter().enumerate() {
        sum += share;
        let to = match k + 1 == shares.len() {
            true => rows.len(),
            false => (rows.len() as f64 * sum / total).round() as usize,
        };
        if to <= from {
            return Err(no_rows(rows.len()));
        }
        let mut part = rows[from..to].to_vec();
        part.sort_unstable();
        parts.push(part);
        from = to;
    }
    Ok(parts)
}

/// The rows of each part, in their order: parts of these shares, drawn by a seed.
pub(crate) fn split_rows(n: usize, shares: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    parted(&permutation(n, seed), shares)
}

/// [`split_rows`] in which every class has its share in each part.
pub(crate) fn split_rows_of_classes(
    classes: &[u32],
    shares: &[f64],
    seed: u64,
) -> Result<Vec<Vec<usize>>> {
    let mut rows = permutation(classes.len(), seed);
    // Rows of a class stand together, and each part takes every so manieth of all.
    rows.sort_by_key(|&row| classes[row]);
    let total = check_shares(shares)?;
    let mut parts = vec![Vec::new(); shares.len()];
    let mut owed = vec![0.0; shares.len()];
    for row in rows {
        for (owed, share) in owed.iter_mut().zip(shares) {
            *owed += share / total;
        }
        let most = (0..owed.len()).fold(0, |m, k| if owed[k] > owed[m] { k } else { m });
        owed[most] -= 1.0;
        parts[most].push(row);
    }
    for rows in &mut parts {
        rows.sort_unstable();
        if rows.is_empty() {
            return Err(no_rows(classes.len()));
        }
    }
    Ok(parts)
}

/// 0 to n in an order that the seed alone decides (Fisher and Yates).
fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let stream = Stream {
        seed: key(seed),
        replica: 0,
        stream: streams::SPLIT,
    };
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(stream.words(1, i as u32), i + 1));
    }
    order
}

/// A number below n out of random words, uniform up to n/2⁶⁴.
pub(super) fn below([high, low, ..]: [u32; 4], n: usize) -> usize {
    let word = u64::from(high) << 32 | u64::from(low);
    // The high half of the product.
    ((u128::from(word) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
