//! Hyperparameters that stand on the device: other ones for each replica, or set while training goes on.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::graph::{Graph, Handle};
use crate::optim::{Optimizer, Table};
use crate::run::Session;

/// The hyperparameters of an optimizer's update.
pub(super) struct ByHand {
    table: Table,
    handle: Handle<f32>,
    /// The optimizer of each replica.
    each: Vec<Optimizer>,
    /// The parameters that stay as they are.
    held: BTreeSet<String>,
    /// The replicas that stay as they are.
    stopped: Vec<bool>,
    /// Whether rates may be set.
    rates: bool,
}

impl ByHand {
    pub fn new(graph: &Graph, table: Table, each: Vec<Optimizer>, rates: bool) -> Result<Self> {
        Ok(Self {
            handle: graph.handle(table.variable)?,
            table,
            stopped: vec![false; each.len()],
            each,
            held: BTreeSet::new(),
            rates,
        })
    }

    /// What stands in the table as training begins.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.values_of(&self.each)
    }

    fn values_of(&self, each: &[Optimizer]) -> Result<Vec<f32>> {
        let held = |replica: usize, name: &str| self.stopped[replica] || self.held.contains(name);
        self.table.values(each, &held)
    }

    /// Writes all of them to the device.
    pub fn write(&self, session: &mut Session) -> Result<()> {
        self.write_of(session, &self.each)
    }

    fn write_of(&self, session: &mut Session, each: &[Optimizer]) -> Result<()> {
        let values = self.values_of(each)?;
        session.write(self.handle, &values)
    }

    /// The learning rate of each replica, if rates may be set.
    pub fn rates(&self) -> Result<Vec<f64>> {
        match self.rates {
            true => Ok(self.each.iter().map(Optimizer::rate).collect()),
            false => Err(none("learning rate")),
        }
    }

    /// Gives each replica a learning rate.
    pub fn set_rates(&mut self, session: &mut Session, rates: &[f64]) -> Result<()> {
        self.rates()?;
        if rates.len() != self.each.len() {
            let found = format!("{} rates", rates.len());
            let wanted = format!("one for each of {} replicas", self.each.len());
            return Err(Error::setting("learning rates", found, wanted));
        }
        let optimizers = self.each.iter().zip(rates);
        let new: Vec<Optimizer> = optimizers.map(|(o, &rate)| o.with_rate(rate)).collect();
        self.write_of(session, &new)?;
        self.each = new;
        Ok(())
    }

    /// Gives each replica a learning rate, and leaves those that have stopped as they are.
    #[cfg(feature = "book")]
    pub fn set_rates_of(
        &mut self,
        session: &mut Session,
        rates: &[f64],
        stopped: &[bool],
    ) -> Result<()> {
        self.stopped = stopped.to_vec();
        self.set_rates(session, rates)
    }

    /// Leaves the parameters that `frozen` picks as they are, and no others.
    pub fn freeze(&mut self, session: &mut Session, frozen: &dyn Fn(&str) -> bool) -> Result<()> {
        let names = self.table.names().filter(|name| frozen(name));
        self.held = names.map(str::to_string).collect();
        self.write(session)
    }
}

/// Refuses what needs hyperparameters on the device where there are none.
pub(super) fn none(what: &str) -> Error {
    let wanted =
        "a step that was compiled for it (`by_hand` of its builder, `Callback::sets_rates`)";
    Error::setting(what, "a step whose hyperparameters stay", wanted)
}
