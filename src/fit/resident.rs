//! A data set's columns on the device, and mini-batches of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::data::{Column, Dataset, Numbers};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::Input;
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

/// Holds a column to what the model or the loss takes.
pub(super) fn fits(
    column: &Column,
    wanted: &Input,
    classes: Option<usize>,
    ignored: Option<u32>,
) -> Result<()> {
    let place = || format!("column {}", column.name);
    if column.extents != wanted.extents || column.numbers.dtype() != wanted.dtype {
        let text = |extents: &[usize], dtype| match dtype {
            DType::F32 => format!("floats {extents:?} a row"),
            DType::U32 => format!("integers {extents:?} a row"),
        };
        let found = text(&column.extents, column.numbers.dtype());
        return Err(Error::shape(
            place(),
            found,
            text(&wanted.extents, wanted.dtype),
        ));
    }
    if let (Some(classes), Numbers::U32(all)) = (classes, &column.numbers)
        && let Some(&wrong) = all
            .iter()
            .find(|&&c| c as usize >= classes && Some(c) != ignored)
    {
        let wanted = format!("classes from 0 to {}", classes.saturating_sub(1));
        return Err(Error::setting(place(), wrong, wanted));
    }
    Ok(())
}
/// A mini-batch of each column that a graph needs.
pub(super) struct Columns<'a> {
    pub set: String,
    pub data: &'a Dataset,
    pub batch: usize,
    pub epoch_steps: usize,
    pub order: Value,
    pub step: Value,
    pub made: HashMap<String, Value>,
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
        let buffer = format!("{} {name}", self.set);
        let values = resident.buffer(graph, &buffer, &column.numbers)?;
        let rows = Rows {
            batch: self.batch,
            rows: self.data.rows(),
            extents: column.extents.clone(),
            stride: column.stride,
            start: column.start,
            epoch_steps: self.epoch_steps,
            bytes: match column.numbers {
                Numbers::U8(_, scale) => Some(scale),
                _ => None,
            },
        };
        let made = graph.op1(Arc::new(rows), &[values, self.order, self.step])?;
        self.made.insert(name.into(), made);
        Ok(made)
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
