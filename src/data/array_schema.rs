//! Which arrays of a file are which columns.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::arrays::Arrays;
use super::columns::{Column, Dataset, Numbers};
use crate::error::{Error, Result};

/// A column that is an array: its first axis are the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrayColumn {
    /// The column's name: that of an input of the model, of a target, or of neither.
    pub name: String,
    /// The array's name in its file.
    pub array: String,
    /// The extents of a row.
    pub extents: Vec<usize>,
    /// `floats`, `integers`, or `bytes`, which are floats from 0 to 1.
    pub kind: String,
}

/// Two of the kinds of a column.
const FLOATS: &str = "floats";
const INTEGERS: &str = "integers";

impl ArrayColumn {
    /// Takes its integers as floats.
    pub(crate) fn as_floats(&mut self) {
        if self.kind == INTEGERS {
            self.kind = FLOATS.into();
        }
    }

    pub(crate) fn of(array: &str, column: &Column) -> Self {
        let kind = match column.numbers {
            Numbers::F32(_) => FLOATS,
            Numbers::U32(_) => INTEGERS,
            Numbers::U8(..) => "bytes",
        };
        Self {
            name: column.name.clone(),
            array: array.into(),
            extents: column.extents.clone(),
            kind: kind.into(),
        }
    }
}

impl fmt::Display for ArrayColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} a row", self.kind, self.extents)?;
        match self.array == self.name {
            true => Ok(()),
            false => write!(f, ", array {}", self.array),
        }
    }
}

/// Which arrays are a model's columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArraySchema {
    /// The columns that the model sees.
    pub inputs: Vec<ArrayColumn>,
    /// The others: targets, and what neither model nor loss takes.
    pub targets: Vec<ArrayColumn>,
    /// The classes that the model's scores are of, by number.
    pub classes: Option<Vec<String>>,
}

impl ArraySchema {
    /// The inputs of a model out of another file of such arrays. Where model and file have one each, the
    /// names may differ. Integers are floats where the model wants floats.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for an array that is missing, [`Error::Shape`] for one of other extents or
    /// other numbers, [`Error::Setting`] for integers below 0 where the model wants words or classes, those
    /// of [`Arrays::dataset`] and of [`Dataset::as_floats`].
    pub fn inputs(&self, arrays: &Arrays) -> Result<Dataset> {
        let only = match &arrays.extents().collect::<Vec<_>>()[..] {
            [(name, _)] if self.inputs.len() == 1 => Some(name.to_string()),
            _ => None,
        };
        let name = |column: &ArrayColumn| only.clone().unwrap_or(column.array.clone());
        let named = self.inputs.iter();
        let named: Vec<(String, String)> = named.map(|c| (c.name.clone(), name(c))).collect();
        let pairs = named.iter().map(|(c, a)| (c.as_str(), a.as_str()));
        let mut data = arrays.dataset(&pairs.collect::<Vec<_>>())?;
        // What a file's integers are follows from the model, and not from whether some are below 0.
        for (wanted, (_, array)) in self.inputs.iter().zip(&named) {
            let rows = data.rows();
            match wanted.kind.as_str() {
                FLOATS => data = data.as_floats(&wanted.name)?,
                INTEGERS => {
                    if let Some((number, row)) = data.column(&wanted.name)?.negative(rows) {
                        let found = format!("{number} in row {row}");
                        let wanted = "integers from 0 on, as in training";
                        return Err(Error::setting(format!("array {array}"), found, wanted));
                    }
                }
                _ => {}
            }
        }
        for (wanted, (_, array)) in self.inputs.iter().zip(&named) {
            let found = ArrayColumn::of(array, data.column(&wanted.name)?);
            if (&found.extents, &found.kind) != (&wanted.extents, &wanted.kind) {
                let place = format!("array {array}");
                let wanted = format!("{} {:?} a row, as in training", wanted.kind, wanted.extents);
                let found = format!("{} {:?} a row", found.kind, found.extents);
                return Err(Error::shape(place, found, wanted));
            }
        }
        Ok(data)
    }

    /// What is an input and what is not, by the names of a model's inputs; and the number of its classes, if
    /// it scores some.
    pub(crate) fn settle(&mut self, inputs: &[&str], classes: Option<usize>) {
        let all = std::mem::take(&mut self.inputs);
        (self.inputs, self.targets) = all
            .into_iter()
            .partition(|column| inputs.contains(&column.name.as_str()));
        self.classes = classes.map(|classes| (0..classes).map(|k| k.to_string()).collect());
    }
}
