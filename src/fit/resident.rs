//! A data set's columns on the device, and mini-batches of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::loss::{Criterion, Floats, Term};
use crate::data::{Column, Dataset, Numbers, words};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{Input, Model};
use crate::ops::gather::{Expansion, Gather};
use crate::ops::rows::Rows;
use crate::ops::{Tape, Value};
use crate::run::Session;
use crate::shape::{DType, Type};
use crate::tensor::{Host, pack};

/// Columns on the device: numbers that several columns share stand there once.
#[derive(Default)]
pub(super) struct Resident {
    pub buffers: HashMap<(usize, DType), Value>,
    pub uploads: Vec<(Value, Host)>,
}

impl Resident {
    pub fn buffer(&mut self, graph: &mut Graph, name: &str, numbers: &Numbers) -> Result<Value> {
        let (address, host) = match numbers {
            Numbers::F32(all) => (Arc::as_ptr(all) as usize, Host::F32(all.to_vec())),
            Numbers::U32(all) => (Arc::as_ptr(all) as usize, Host::U32(all.to_vec())),
            Numbers::U8(all, _) => (Arc::as_ptr(all) as usize, Host::U32(pack(all))),
        };
        if let Some(&known) = self.buffers.get(&(address, host.dtype())) {
            return Ok(known);
        }
        let ty = match host.dtype() {
            DType::F32 => Type::f32(name, &[host.len()])?,
            DType::U32 => Type::u32(name, &[host.len()])?,
        };
        let value = graph.variable(name, ty.shared())?;
        self.buffers.insert((address, host.dtype()), value);
        self.uploads.push((value, host));
        Ok(value)
    }

    /// Writes all of it to the device.
    pub fn write(self, session: &mut Session, graph: &Graph) -> Result<()> {
        for (value, host) in self.uploads {
            let handle = graph.handle::<Host>(value)?;
            let copies = session.elements(handle)? / host.len();
            let host = match host {
                host if copies == 1 => host,
                Host::F32(values) => Host::F32(values.repeat(copies)),
                Host::U32(values) => Host::U32(values.repeat(copies)),
            };
            session.write(handle, &host)?;
        }
        Ok(())
    }
}

/// Who wants a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Who {
    /// A model.
    Model,
    /// The function that describes a step.
    Step,
    /// A loss of this name.
    Loss(String),
    /// A metric of this name.
    Metric(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model => f.write_str("model input"),
            Self::Step => f.write_str("joint step"),
            Self::Loss(name) => write!(f, "loss {name}"),
            Self::Metric(name) => write!(f, "metric {name}"),
        }
    }
}

/// A column that a model, a loss or a metric takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Need {
    pub column: String,
    pub input: Input,
    /// How many classes its integers are of.
    pub classes: Option<usize>,
    /// An integer that is none of them and may stand there.
    pub ignored: Option<u32>,
    /// How many things the integers of an input number.
    pub numbered: Option<usize>,
    /// Classes that count nothing.
    pub uncounted: Vec<u32>,
    /// What its floats must be.
    pub floats: Floats,
    /// Who wants it.
    pub who: Who,
}

/// What a set must have whose loss is a mean over labels.
pub(super) const LABELS_THAT_COUNT: &str = "one or more labels that count: the loss is their mean";

/// What integers that number so many things are, in words.
pub(super) fn numbers_of(count: usize) -> String {
    format!(
        "integers from 0 to {}, the rows of an embedding",
        count.saturating_sub(1)
    )
}

impl Need {
    /// A column of any values, for a model.
    pub fn of(column: &str, input: &Input) -> Self {
        Self {
            column: column.into(),
            input: input.clone(),
            classes: None,
            ignored: None,
            numbered: None,
            uncounted: vec![],
            floats: Floats::Any,
            who: Who::Model,
        }
    }

    /// A target of a loss, given the examples of the outputs that it looks at.
    pub fn of_target(
        criterion: &dyn Criterion,
        outputs: &[Input],
        name: &str,
        target: &Input,
    ) -> Self {
        Self {
            classes: criterion.classes(outputs),
            ignored: criterion.ignored(),
            uncounted: criterion.uncounted(),
            floats: criterion.floats(outputs),
            who: Who::Loss(criterion.name().into()),
            ..Self::of(name, target)
        }
    }

    /// The targets of a term of a loss.
    pub fn of_targets(
        term: &Term,
        targets: &[(String, Input)],
        model: &Model,
    ) -> Result<Vec<Self>> {
        let outputs = term.outputs(model)?.into_iter();
        let outputs: Vec<Input> = outputs.map(|(_, output)| output).collect();
        let of = |(name, target): &(String, Input)| {
            Self::of_target(&*term.criterion, &outputs, name, target)
        };
        Ok(targets.iter().map(of).collect())
    }

    /// The column in a data set.
    fn found<'d>(&self, data: &'d Dataset) -> Result<&'d Column> {
        let found = data.column(&self.column);
        found.map_err(|e| e.within(&self.who.to_string()))
    }

    /// Holds a data set's column to it.
    pub fn check(&self, data: &Dataset) -> Result<()> {
        self.check_from(data, 0)
    }

    /// [`Need::check`] of a run of rows, whose first one has this number in the whole set.
    pub fn check_from(&self, data: &Dataset, first: usize) -> Result<()> {
        let column = self.found(data)?;
        let metric = matches!(self.who, Who::Metric(_));
        let place = || match metric {
            true => format!("{}, column {}", self.who, column.name),
            false => format!("column {}", column.name),
        };
        if let Some((number, row)) = self.negative(column, data.rows()) {
            let found = format!("{number} in {}", data.named(row, first));
            return Err(Error::setting(place(), found, self.integers()));
        }
        if column.extents != self.input.extents || column.numbers.dtype() != self.input.dtype {
            let text = |extents: &[usize], dtype| match dtype {
                DType::F32 => format!("floats {extents:?} a row"),
                DType::U32 => format!("integers {extents:?} a row"),
            };
            let found = text(&column.extents, column.numbers.dtype());
            let mut wanted = text(&self.input.extents, self.input.dtype);
            // A metric of classes, where targets are probabilities or other numbers.
            if metric && (self.input.dtype, column.numbers.dtype()) == (DType::U32, DType::F32) {
                wanted += " (`mae`, `mse`, `rmse` and `r2` are metrics of floats)";
            } else if (self.input.dtype, column.numbers.dtype()) == (DType::U32, DType::F32) {
                wanted += " (numbers in a table are classes by `classes = true` in an experiment's data, or `Roles::classes`)";
            }
            let same = column.extents.iter().product::<usize>()
                == self.input.extents.iter().product::<usize>();
            if same && column.numbers.dtype() == self.input.dtype {
                let shape: Vec<String> = self.input.extents.iter().map(usize::to_string).collect();
                let shape = [vec!["N".to_string()], shape].concat().join(", ");
                wanted += &format!(": the same numbers, as an array [{shape}]");
            }
            return Err(Error::shape(place(), found, wanted));
        }
        if self.floats != Floats::Any && self.input.dtype == DType::F32 {
            let last = self.input.extents.last().copied().unwrap_or(1);
            let size: usize = self.input.extents.iter().product();
            for at in 0..data.rows() {
                let begin = column.start + at * column.stride;
                let wrong = match &column.numbers {
                    // Where they lie: targets may be whole pictures.
                    Numbers::F32(all) => self.floats.wrong(&all[begin..begin + size], last),
                    _ => self.floats.wrong(&column.row(at), last),
                };
                if let Some((found, wanted)) = wrong {
                    let found = format!("{found} in {}", data.named(at, first));
                    return Err(Error::setting(place(), found, wanted));
                }
            }
        }
        let most = self.classes.or(self.numbered);
        let (Some(classes), Numbers::U32(all)) = (most, &column.numbers) else {
            return Ok(());
        };
        let wrong = |&c: &u32| c as usize >= classes && Some(c) != self.ignored;
        let span = column.span(data.rows());
        let Some(at) = all[span].iter().position(wrong) else {
            return Ok(());
        };
        let row = data.named(column.row_of(at, data.rows()), first);
        let found = format!("{} in {row}", all[column.start + at]);
        Err(Error::setting(place(), found, self.integers()))
    }

    /// [`Need::check`] of a mini-batch that is fed. Of another size or type it is nothing that could be looked at.
    pub fn check_fed(&self, host: &Host) -> Result<()> {
        let particular = self.classes.is_some()
            || self.numbered.is_some()
            || self.floats != Floats::Any
            || !self.uncounted.is_empty();
        let size: usize = self.input.extents.iter().product();
        if !particular || host.dtype() != self.input.dtype || !host.len().is_multiple_of(size) {
            return Ok(());
        }
        let numbers: Numbers = match host {
            Host::F32(values) => values.clone().into(),
            Host::U32(values) => values.clone().into(),
        };
        let data = Dataset::new().with(&self.column, &self.input.extents, numbers)?;
        self.check(&data)?;
        self.counts(&data)
    }

    /// Rows of which no label counts.
    pub fn uncounted_rows(&self, data: &Dataset) -> Result<usize> {
        let column = self.found(data)?;
        let Numbers::U32(all) = &column.numbers else {
            return Ok(0);
        };
        if self.uncounted.is_empty() {
            return Ok(0);
        }
        let nothing = |&row: &usize| {
            let at = column.start + row * column.stride;
            let mut labels = all[at..at + self.input.extents.iter().product::<usize>()].iter();
            labels.all(|label| self.uncounted.contains(label))
        };
        Ok((0..data.rows()).filter(nothing).count())
    }

    /// Refuses a whole set of which no label counts, since its loss would be 0/0.
    pub fn counts(&self, data: &Dataset) -> Result<()> {
        if self.uncounted_rows(data)? < data.rows() {
            return Ok(());
        }
        let classes: Vec<String> = self.uncounted.iter().map(u32::to_string).collect();
        let found = format!(
            "no label but of classes that count nothing ({})",
            classes.join(", ")
        );
        Err(Error::setting(
            format!("column {}", self.column),
            found,
            LABELS_THAT_COUNT,
        ))
    }

    /// The integers that are wanted, in words.
    fn integers(&self) -> String {
        match (self.classes, self.numbered) {
            (Some(classes), _) => format!("classes from 0 to {}", classes.saturating_sub(1)),
            (None, Some(count)) => numbers_of(count),
            (None, None) => "integers from 0 on".into(),
        }
    }

    /// The first number below 0, where integers from 0 on are wanted.
    fn negative(&self, column: &Column, rows: usize) -> Option<(f32, usize)> {
        let wanted = self.input.dtype == DType::U32 && column.extents == self.input.extents;
        column.negative(rows).filter(|_| wanted)
    }
}

/// Columns of which a shard lies on the device.
pub(super) struct Sharded {
    /// Rows of a shard.
    pub rows: usize,
    /// Of each column its name, what programs read and what is written meanwhile.
    pub pairs: Vec<(String, Value, Value)>,
}

impl Sharded {
    pub fn of(rows: usize) -> Self {
        Self {
            rows,
            pairs: vec![],
        }
    }
}

/// A mini-batch of each column that a graph needs.
pub(super) struct Columns<'a> {
    pub set: String,
    pub data: &'a Dataset,
    /// The columns that will be asked for, as far as they are known before.
    pub needed: Vec<String>,
    pub batch: usize,
    pub epoch_steps: usize,
    /// Views of each picture.
    pub expansion: Expansion,
    /// The order of rows; none where they are taken in their own, which pictures alone can be.
    pub order: Option<Value>,
    pub step: Value,
    pub made: HashMap<String, Value>,
    /// Of data in shards.
    pub shards: Option<Sharded>,
}

impl Columns<'_> {
    pub fn batch(
        &mut self,
        graph: &mut Graph,
        resident: &mut Resident,
        name: &str,
    ) -> Result<Value> {
        if let Some(&made) = self.made.get(name) {
            return Ok(made);
        }
        let column = self.data.column(name)?;
        if let Some((pictures, classes)) = self.pictures(name) {
            return self.gathered(graph, resident, name, [&pictures, &classes]);
        }
        if self.expansion != Expansion::None {
            let found = format!("column {name} beside others");
            let wanted = "a column of pictures [C, H, W] of bytes and one of classes, of all rows, and no others";
            return Err(Error::setting(
                "expansion of the training data",
                found,
                wanted,
            ));
        }
        let buffer = self.buffer(name);
        let (rows, start, values) = match &mut self.shards {
            None => {
                let values = resident.buffer(graph, &buffer, &column.numbers)?;
                (self.data.rows(), column.start, values)
            }
            Some(Sharded { rows, pairs }) => {
                let words = [words(column, *rows)];
                let mut variable = |name: &str| {
                    let ty = match column.numbers {
                        Numbers::F32(_) => Type::f32(name, &words)?,
                        _ => Type::u32(name, &words)?,
                    };
                    graph.variable(name, ty.shared())
                };
                let (present, next) = (variable(&buffer)?, variable(&format!("{buffer}, next"))?);
                pairs.push((name.into(), present, next));
                (*rows, 0, present)
            }
        };
        let rows = Rows {
            batch: self.batch,
            rows,
            extents: column.extents.clone(),
            stride: column.stride,
            start,
            epoch_steps: self.epoch_steps,
            bytes: match column.numbers {
                Numbers::U8(_, scale) => Some(scale),
                _ => None,
            },
        };
        let wanted = "an order of rows";
        let order = self
            .order
            .ok_or_else(|| Error::setting(&buffer, "none", wanted))?;
        let made = graph.op1(Arc::new(rows), &[values, order, self.step])?;
        self.made.insert(name.into(), made);
        Ok(made)
    }

    /// What a column's variable is called: nothing that a run declares by itself, whatever the column's name.
    fn buffer(&self, column: &str) -> String {
        format!("column {column} of {} data", self.set)
    }

    /// The first columns of pictures of bytes and of classes that are needed and lie on the device as a whole, if `name`
    /// is one of them: one launch gathers both.
    pub fn pictures(&self, name: &str) -> Option<(Column, Column)> {
        if self.shards.is_some() {
            return None;
        }
        let rows = self.data.rows();
        let whole = |c: &Column, count: usize| {
            let size: usize = c.extents.iter().product();
            (c.start, c.stride, count) == (0, size, rows * size)
        };
        let pictures = |c: &&Column| match &c.numbers {
            Numbers::U8(all, _) => {
                // Its kernels count bytes in 31 bits.
                c.extents.len() == 3 && whole(c, all.len()) && all.len() < 1 << 31
            }
            _ => false,
        };
        let classes = |c: &&Column| match &c.numbers {
            Numbers::U32(all) => c.extents.is_empty() && whole(c, all.len()),
            _ => false,
        };
        let needed = self.needed.iter();
        let needed: Vec<&Column> = needed
            .filter_map(|name| self.data.column(name).ok())
            .collect();
        let find = |of: &dyn Fn(&&Column) -> bool| needed.iter().copied().find(|c| of(c));
        let (pictures, classes) = (find(&pictures)?, find(&classes)?);
        let asked = [pictures, classes].iter().any(|column| column.name == name);
        asked.then(|| (pictures.clone(), classes.clone()))
    }

    /// A mini-batch of pictures and of their classes.
    fn gathered(
        &mut self,
        graph: &mut Graph,
        resident: &mut Resident,
        name: &str,
        columns: [&Column; 2],
    ) -> Result<Value> {
        let [pictures, classes] = columns;
        let (&[c, h, w], Numbers::U8(_, scale)) = (&pictures.extents[..], &pictures.numbers) else {
            return Err(Error::shape(name, "another column", "pictures of bytes"));
        };
        let gather = Gather {
            batch: self.batch,
            images: self.data.rows(),
            shape: [c, h, w],
            expansion: self.expansion,
            epoch_steps: self.epoch_steps,
            scale: *scale,
            shuffled: self.order.is_some(),
        };
        let mut buffer =
            |column: &Column| resident.buffer(graph, &self.buffer(&column.name), &column.numbers);
        let mut inputs = vec![buffer(pictures)?, buffer(classes)?, self.step];
        inputs.extend(self.order);
        let made = graph.op(Arc::new(gather), &inputs)?;
        self.made.insert(pictures.name.clone(), made[0]);
        self.made.insert(classes.name.clone(), made[1]);
        Ok(self.made[name])
    }
}

/// Refuses a data set without rows.
pub(super) fn has_rows(data: &Dataset) -> Result<()> {
    match data.rows() {
        0 => Err(Error::setting("rows", "none", "at least one row")),
        _ => Ok(()),
    }
}

/// The error with the data set's name before it.
pub(super) fn of_set(error: Error, set: &str) -> Error {
    match error {
        Error::Setting {
            name,
            found,
            wanted,
        } => Error::setting(format!("{set} data, {name}"), found, wanted),
        other => other.within(&format!("{set} data")),
    }
}
