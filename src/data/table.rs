//! Tables: columns of numbers or of words, from CSV files, and what makes a data set of them.
//!
//! A [`Table`] is what a file holds. A [`Schema`] says which columns are inputs and targets and how they
//! become numbers: standardised numbers, one place for each word, a class for each word. It is made from
//! the training rows, kept with the model, and makes a [`Dataset`] of any table with these columns.
//!
//! ```
//! use std::path::Path;
//! use wgrad::data::{Roles, Schema, Table};
//!
//! let text = "rooms,place,price\n3,town,250\n5,country,300\n4,town,310\n";
//! let table = Table::parse(Path::new("houses.csv"), text.as_bytes())?;
//! let roles = Roles { targets: vec!["price".into()], ..Roles::default() };
//! let schema = Schema::of(&table, &roles)?;
//! assert_eq!((schema.width(), schema.outputs()), (3, 1));
//! let data = schema.dataset(&table)?;
//! assert_eq!(data.rows(), 3);
//! # Ok::<(), wgrad::Error>(())
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::error::{Error, Result};
use crate::files::read_limited;

/// Longest table that is read.
const MAX_BYTES: u64 = 4 << 30;

/// Most words of one column that become places or classes.
const MOST_WORDS: usize = 4096;

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
enum Cells {
    /// Numbers, and how they are written.
    Numbers(Vec<f64>, Vec<String>),
    Words(Vec<String>),
}

/// Named columns, as they stand in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    cells: Vec<Cells>,
    /// The numbers of its rows in the file, from 1.
    places: Vec<usize>,
}

impl Table {
    /// Reads a CSV file: a header, then rows of as many cells. A column is one of numbers if all its
    /// cells are; else one of words.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] with row and column: no header, a name twice, a ragged row, a
    /// number that is not finite, no row.
    pub fn csv(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &read_limited(path, MAX_BYTES)?)
    }

    /// [`Table::csv`] of text that is there already; the path is for messages.
    ///
    /// # Errors
    /// As [`Table::csv`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let fail = |found: String, wanted: &str, fix: &str| Error::file(path, found, wanted, fix);
        let broken = |e: csv::Error| {
            let fix = "Mend the row, or export the table again as UTF-8.";
            fail(
                e.to_string(),
                "rows of as many cells as the header has",
                fix,
            )
        };
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text);
        let header = reader.headers().map_err(broken)?.clone();
        let names: Vec<String> = header.iter().map(str::to_string).collect();
        let mut seen = BTreeSet::new();
        for (k, name) in names.iter().enumerate() {
            if name.is_empty() || !seen.insert(name) {
                let found = match name.as_str() {
                    "" => format!("no name for column {}", k + 1),
                    name => format!("two columns named `{name}`"),
                };
                let fix = "Give each column a name of its own in the first line.";
                return Err(fail(found, "a header of different names", fix));
            }
        }
        let mut words: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        for record in reader.records() {
            let record = record.map_err(broken)?;
            for (cell, words) in record.iter().zip(&mut words) {
                words.push(cell.to_string());
            }
        }
        let rows = words.first().map_or(0, Vec::len);
        if rows == 0 {
            let fix = "Check that this is the file you mean.";
            return Err(fail("no rows".into(), "a header and at least one row", fix));
        }
        let mut cells = Vec::new();
        for (column, name) in words.into_iter().zip(&names) {
            let number = |cell: &String| match cell.is_empty() {
                true => Some(0.0),
                false => cell.parse().ok(),
            };
            let numbers: Option<Vec<f64>> = column.iter().map(number).collect();
            cells.push(match numbers {
                None => Cells::Words(column),
                Some(numbers) => {
                    if let Some(row) = numbers.iter().position(|x| !(*x as f32).is_finite()) {
                        let found = format!("{} in row {}, column `{name}`", column[row], row + 1);
                        let fix = "Replace the value, or leave the row out.";
                        return Err(fail(found, "finite numbers", fix));
                    }
                    Cells::Numbers(numbers, column)
                }
            });
        }
        Ok(Self {
            path: path.into(),
            names,
            cells,
            places: (1..=rows).collect(),
        })
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// The names of its columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Some rows, in this order.
    ///
    /// # Errors
    /// [`Error::Shape`] for no rows, or one that is not there.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if rows.is_empty() || rows.iter().any(|&r| r >= self.rows()) {
            let wanted = format!("one or more of {} rows", self.rows());
            return Err(Error::shape("rows of a table", format!("{rows:?}"), wanted));
        }
        let cells = self.cells.iter().map(|cells| match cells {
            Cells::Numbers(all, text) => {
                let text = rows.iter().map(|&r| text[r].clone());
                Cells::Numbers(rows.iter().map(|&r| all[r]).collect(), text.collect())
            }
            Cells::Words(all) => Cells::Words(rows.iter().map(|&r| all[r].clone()).collect()),
        });
        Ok(Self {
            cells: cells.collect(),
            places: rows.iter().map(|&r| self.places[r]).collect(),
            ..self.clone()
        })
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        Error::unknown("column", name, &known).within(&self.path.display().to_string())
    }

    fn column(&self, name: &str) -> Result<&Cells> {
        let place = self.names.iter().position(|other| other == name);
        let cells = place.map(|k| &self.cells[k]);
        let cells = cells.ok_or_else(|| self.unknown(name))?;
        let (Cells::Numbers(_, text) | Cells::Words(text)) = cells;
        match text.iter().position(String::is_empty) {
            None => Ok(cells),
            Some(row) => {
                let found = format!("nothing in row {}, column `{name}`", self.places[row]);
                let fix = "Fill the cell, or leave the row out.";
                Err(Error::file(&self.path, found, "a value in every cell", fix))
            }
        }
    }

    /// Refuses a column of words most of whose cells are numbers.
    fn not_numbers_but_for_some(&self, name: &str) -> Result<()> {
        let Cells::Words(all) = self.column(name)? else {
            return Ok(());
        };
        let is_word = |cell: &String| cell.parse::<f64>().is_err();
        let words = all.iter().filter(|cell| is_word(cell)).count();
        match all.iter().position(is_word) {
            Some(row) if 2 * words < all.len() => {
                let found = format!("`{}` in row {}", all[row], self.places[row]);
                let wanted = "numbers, as in most of its rows";
                let fix =
                    "Mend the cell or leave the row out, or say that the column is one of `words`.";
                Err(self.wrong(name, found, wanted, fix))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, name: &str, found: impl std::fmt::Display, wanted: &str, fix: &str) -> Error {
        Error::file(
            &self.path,
            format!("{found} in column `{name}`"),
            wanted,
            fix,
        )
    }
}

/// Which columns of a table are what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// The columns that a model sees; all but the targets if none are named.
    pub inputs: Vec<String>,
    /// The columns that it is to find. One of words, or of several words, is one of classes.
    pub targets: Vec<String>,
    /// Columns of words although most of their cells are numbers; other such columns are refused, since
    /// one stray sign would make a column of numbers one of words.
    pub words: Vec<String>,
    /// The target is a class also where it is a number: each number there is one.
    pub classes: bool,
    /// Numbers are moved and scaled so that their mean is 0 and their standard deviation 1.
    pub standardise: bool,
    /// So are the targets that are numbers.
    pub standardise_targets: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            inputs: vec![],
            targets: vec![],
            words: vec![],
            classes: false,
            standardise: true,
            standardise_targets: true,
        }
    }
}

/// How a column becomes numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// (x − mean)/deviation.
    Number {
        /// What is taken away.
        mean: f64,
        /// What is divided by.
        deviation: f64,
    },
    /// One place for each word, 1 where it is that word.
    Words(Vec<String>),
    /// The number of the word.
    Class(Vec<String>),
}

impl std::fmt::Display for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let few = |words: &[String]| {
            let shown = words.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            if words.len() > 8 {
                format!("{shown}, …")
            } else {
                shown
            }
        };
        match self {
            Self::Number { mean, deviation } => {
                write!(f, "a number, mean {mean:.4}, deviation {deviation:.4}")
            }
            Self::Words(words) => write!(f, "one of {} words: {}", words.len(), few(words)),
            Self::Class(words) => write!(f, "one of {} classes: {}", words.len(), few(words)),
        }
    }
}

/// A column's coding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coded {
    /// Its name.
    pub name: String,
    /// How it becomes numbers.
    pub coding: Coding,
}

/// How tables become data sets: kept with the model that was trained on one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// The columns of `input`, in order.
    pub inputs: Vec<Coded>,
    /// The columns of `target`, in order.
    pub targets: Vec<Coded>,
}

/// The words of a column in the order of the alphabet, or of their size where all are numbers.
fn words(table: &Table, name: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = match table.column(name)? {
        Cells::Words(all) => all
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        Cells::Numbers(all, _) => {
            let mut numbers = all.clone();
            numbers.sort_by(f64::total_cmp);
            numbers.dedup();
            numbers.iter().map(f64::to_string).collect()
        }
    };
    if words.len() < 2 || words.len() > MOST_WORDS {
        let found = match words.as_mut_slice() {
            [one] => format!("`{one}` in every row"),
            many => format!("{} different values", many.len()),
        };
        let wanted = format!("2 to {MOST_WORDS} different values");
        let fix = "Leave the column out, or put its values into fewer kinds.";
        return Err(table.wrong(name, found, &wanted, fix));
    }
    Ok(words)
}

fn number(table: &Table, name: &str, numbers: &[f64], standardise: bool) -> Result<Coding> {
    if !standardise {
        return Ok(Coding::Number {
            mean: 0.0,
            deviation: 1.0,
        });
    }
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let square = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let deviation = square.sqrt();
    if deviation <= 1e-9 * mean.abs().max(1e-30) {
        let found = format!("{mean} in every training row");
        let fix = "Leave the column out: it tells nothing.";
        return Err(table.wrong(name, found, "values that differ, to be standardised", fix));
    }
    Ok(Coding::Number { mean, deviation })
}

impl Schema {
    /// The schema of a table's columns; its rows are those that are trained on.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a column that is not there, [`Error::Setting`] for no target or a
    /// column that is input and target, [`Error::File`] for a column that tells nothing, or has too many
    /// words.
    pub fn of(table: &Table, roles: &Roles) -> Result<Self> {
        if roles.targets.is_empty() {
            let wanted = "the columns that a model is to find";
            return Err(Error::setting("targets", "none", wanted));
        }
        let inputs: Vec<String> = match roles.inputs.as_slice() {
            [] => {
                let others = table.names.iter().filter(|n| !roles.targets.contains(n));
                others.cloned().collect()
            }
            named => named.to_vec(),
        };
        if inputs.is_empty() {
            return Err(Error::setting("inputs", "none", "one column or more"));
        }
        if let Some(both) = inputs.iter().find(|name| roles.targets.contains(name)) {
            let found = format!("`{both}`, which is a target too");
            return Err(Error::setting(
                "inputs",
                found,
                "columns that are no targets",
            ));
        }
        let roles_of = [
            ("inputs", &inputs),
            ("targets", &roles.targets),
            ("words", &roles.words),
        ];
        for (role, names) in roles_of {
            if let Some(name) = names.iter().find(|name| !table.names.contains(name)) {
                return Err(table.unknown(name).within(role));
            }
        }
        let coded = |name: &String, class: bool| {
            let meant = roles.words.contains(name) || (class && roles.classes);
            if !meant {
                table.not_numbers_but_for_some(name)?;
            }
            let coding = match table.column(name)? {
                Cells::Numbers(all, _) if !class && !roles.words.contains(name) => {
                    let target = roles.targets.contains(name);
                    let scaled = roles.standardise && (!target || roles.standardise_targets);
                    number(table, name, all, scaled)?
                }
                _ if class => Coding::Class(words(table, name)?),
                _ => Coding::Words(words(table, name)?),
            };
            Ok(Coded {
                name: name.clone(),
                coding,
            })
        };
        let class = |name: &String| {
            let words = matches!(table.column(name)?, Cells::Words(_));
            Ok::<bool, Error>(roles.classes || words || roles.words.contains(name))
        };
        let targets = roles.targets.iter().map(|name| coded(name, class(name)?));
        let targets: Vec<Coded> = targets.collect::<Result<_>>()?;
        if let ([_, _, ..], Some(class)) = (
            targets.as_slice(),
            targets
                .iter()
                .find(|t| matches!(t.coding, Coding::Class(_))),
        ) {
            let found = format!("`{}` of classes among others", class.name);
            return Err(Error::setting(
                "targets",
                found,
                "one of classes, or numbers alone",
            ));
        }
        Ok(Self {
            inputs: inputs
                .iter()
                .map(|n| coded(n, false))
                .collect::<Result<_>>()?,
            targets,
        })
    }

    /// The same scales with the words of another schema of the same columns.
    pub(crate) fn with_words_of(mut self, other: &Self) -> Self {
        let own = self.inputs.iter_mut().chain(&mut self.targets);
        for (own, other) in own.zip(other.inputs.iter().chain(&other.targets)) {
            if !matches!(other.coding, Coding::Number { .. }) {
                own.coding = other.coding.clone();
            }
        }
        self
    }

    /// The extent of `input`.
    pub fn width(&self) -> usize {
        let width = |c: &Coded| match &c.coding {
            Coding::Words(words) => words.len(),
            _ => 1,
        };
        self.inputs.iter().map(width).sum()
    }

    /// The outputs that a model needs: a score of each class, or a number of each target.
    pub fn outputs(&self) -> usize {
        match self.classes() {
            Some(classes) => classes.len(),
            None => self.targets.len(),
        }
    }

    /// The names of the classes, where the target is one of classes.
    pub fn classes(&self) -> Option<&[String]> {
        match self.targets.as_slice() {
            [
                Coded {
                    coding: Coding::Class(words),
                    ..
                },
            ] => Some(words),
            _ => None,
        }
    }

    /// Mean and deviation of each target, where targets are numbers.
    pub fn scales(&self) -> Option<Vec<(f64, f64)>> {
        let scale = |c: &Coded| match c.coding {
            Coding::Number { mean, deviation } => Some((mean, deviation)),
            _ => None,
        };
        self.targets.iter().map(scale).collect()
    }

    /// `input` of a table's rows: `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a column that is not there, [`Error::File`] for a value that the
    /// training rows did not have.
    pub fn inputs(&self, table: &Table) -> Result<Vec<f32>> {
        let width = self.width();
        let mut values = vec![0.0; table.rows() * width];
        let mut first = 0;
        for coded in &self.inputs {
            match &coded.coding {
                Coding::Words(words) => {
                    for (row, word) in numbers_of(table, &coded.name, words)?.enumerate() {
                        values[row * width + first + word?] = 1.0;
                    }
                    first += words.len();
                }
                _ => {
                    for (row, x) in standard(table, coded)?.enumerate() {
                        values[row * width + first] = x;
                    }
                    first += 1;
                }
            }
        }
        Ok(values)
    }

    /// A data set of a table's rows: the columns `input` `[width]` and `target`, a class, or numbers
    /// `[targets]`, which then stand as they are in `target as it is`.
    ///
    /// # Errors
    /// As [`Schema::inputs`].
    pub fn dataset(&self, table: &Table) -> Result<Dataset> {
        let data = Dataset::new().with("input", [self.width()], self.inputs(table)?)?;
        let places = table.places.iter().copied();
        if let (Some(classes), [target]) = (self.classes(), self.targets.as_slice()) {
            let labels = numbers_of(table, &target.name, classes)?;
            let labels: Vec<u32> = labels.map(|c| c.map(|c| c as u32)).collect::<Result<_>>()?;
            return Ok(data.with("target", [], labels)?.of_file(places));
        }
        let n = self.targets.len();
        let (mut scaled, mut plain) = (vec![0.0; table.rows() * n], vec![0.0; table.rows() * n]);
        for (k, coded) in self.targets.iter().enumerate() {
            for (row, x) in standard(table, coded)?.enumerate() {
                scaled[row * n + k] = x;
            }
            if let Cells::Numbers(all, _) = table.column(&coded.name)? {
                for (row, &x) in all.iter().enumerate() {
                    plain[row * n + k] = x as f32;
                }
            }
        }
        let data = data.with("target", [n], scaled)?;
        let data = data.with("target as it is", [n], plain)?;
        Ok(data.of_file(places))
    }
}

/// Each row's number among words.
fn numbers_of<'a>(
    table: &'a Table,
    name: &'a str,
    words: &'a [String],
) -> Result<impl Iterator<Item = Result<usize>> + 'a> {
    let find = move |(row, word): (usize, &String)| {
        let place = |word: &str| words.iter().position(|other| other == word);
        // As it is written, or the number that it is.
        let number = || place(&word.parse::<f64>().ok()?.to_string());
        place(word).or_else(number).ok_or_else(|| {
            let found = format!("`{word}` in row {}", table.places[row]);
            let wanted = "one of the values that the model was trained on";
            table.wrong(
                name,
                found,
                wanted,
                "Mend the row, or train on rows with this value.",
            )
        })
    };
    let (Cells::Numbers(_, text) | Cells::Words(text)) = table.column(name)?;
    Ok(text.iter().enumerate().map(find))
}

/// A column of numbers as its coding has it.
fn standard<'a>(table: &'a Table, coded: &Coded) -> Result<impl Iterator<Item = f32> + 'a> {
    let (mean, deviation) = match coded.coding {
        Coding::Number { mean, deviation } => (mean, deviation),
        _ => (0.0, 1.0),
    };
    match table.column(&coded.name)? {
        Cells::Numbers(all, _) => Ok(all.iter().map(move |x| ((x - mean) / deviation) as f32)),
        Cells::Words(all) => {
            let row = all
                .iter()
                .position(|w| w.parse::<f64>().is_err())
                .unwrap_or(0);
            let found = format!("`{}` in row {}", all[row], table.places[row]);
            let fix = "Mend the row, or leave it out.";
            Err(table.wrong(&coded.name, found, "numbers, as in the training rows", fix))
        }
    }
}

#[cfg(test)]
mod tests;
