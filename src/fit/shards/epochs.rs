//! Epochs of training over shards, in any number of stretches.

use std::ops::Range;

use super::{Feed, Given, Next, Pair, Shard, Take, Took, Turn, numbered};
use crate::data::Order;
use crate::error::Result;
use crate::fit::resident::Need;
use crate::fit::saved::Seed;
use crate::graph::{Handle, Program};
use crate::ops::shuffle::permutation;
use crate::rng::keys;
use crate::run::Session;
use crate::run::sentinel::Steps;

/// What a compiled step has for data in shards.
#[derive(Clone, Copy, Debug)]
pub(in crate::fit) struct Programs<'p> {
    /// Draws the order of a shard's rows.
    pub shuffle: Option<Program>,
    /// That order.
    pub rows: Option<Handle<u32>>,
    pub train: Steps,
    pub pairs: &'p [Pair],
}

/// Training over shards.
#[derive(Debug)]
pub(in crate::fit) struct Epochs<'a> {
    pub feed: Feed<'a>,
    pub order: Order,
    /// Each replica's key words.
    keys: Vec<[u32; crate::rng::KEYS]>,
    shuffle: Program,
    train: Steps,
    /// The order of the present shard's rows.
    rows: Handle<u32>,
    /// The shards of the epoch that a step belonged to last.
    shards: (Option<usize>, Vec<Shard>),
    /// The steps of the shard that programs read.
    present: Range<u64>,
    /// The shard that those steps are followed by.
    next: Next,
}

impl<'a> Epochs<'a> {
    /// None for data that lie on the device as a whole.
    pub fn of(
        data: &Given<'a>,
        needs: &[Need],
        programs: Programs<'_>,
        seed: Seed,
        batch: usize,
    ) -> Option<Self> {
        let replicas = 0..seed.replicas as u32;
        Some(Self {
            feed: Feed::of("training", data, needs, programs.pairs)?,
            order: Order {
                seed: seed.seed,
                rows: data.rows(),
                batch,
                shard: data.shard(batch)?,
            },
            keys: replicas
                .map(|r| keys(seed.seed, seed.first_replica + r))
                .collect(),
            shuffle: programs.shuffle?,
            train: programs.train,
            rows: programs.rows?,
            shards: (None, vec![]),
            present: 0..0,
            next: Next::None,
        })
    }

    /// Trains an epoch, counted from 0; `more` if another one comes behind it. `took` hears of steps as they are taken.
    pub fn train(
        &mut self,
        session: &mut Session,
        epoch: usize,
        more: bool,
        took: Took<'_>,
    ) -> Result<()> {
        let steps = self.order.steps() as u64;
        let first = epoch as u64 * steps;
        self.run(session, first..first + steps, more, None, took)
    }

    /// Takes steps, counted from 0 over all epochs, in whatever shards they lie; `more` if others come behind them. They
    /// are taken by `take`, if there is one.
    ///
    /// A shard that could not be read ends them where its first step is due, and only if that is one of them. It is
    /// then read anew by whoever takes that step.
    pub fn run(
        &mut self,
        session: &mut Session,
        steps: Range<u64>,
        more: bool,
        mut take: Option<Take<'_>>,
        took: Took<'_>,
    ) -> Result<()> {
        let mut train = self.train.from(steps.start);
        let mut take = |session: &mut Session, count| match &mut take {
            Some(take) => take(session, count),
            None => train.run(session, count),
        };
        let mut at = steps.start;
        while at < steps.end {
            if !self.present.contains(&at) {
                self.enter(session, at)?;
            }
            let Range { start, end } = self.present;
            let until = end.min(steps.end);
            let turn = Turn {
                shard: (end - start) as usize,
                steps: (at - start) as usize..(until - start) as usize,
                take: &mut take,
                took: &mut *took,
            };
            // Where nothing comes behind it, nothing is read ahead.
            let mut none = Next::None;
            let next = match more || end < steps.end {
                true => &mut self.next,
                false => &mut none,
            };
            let failed = self.feed.turn(session, turn, next)?;
            at = until;
            if let Some(error) = failed.filter(|_| at < steps.end) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the shard that a step belongs to the present one. Where that fails, the one before it still is.
    fn enter(&mut self, session: &mut Session, step: u64) -> Result<()> {
        let Order { batch, .. } = self.order;
        let steps = self.order.steps() as u64;
        let epoch = (step / steps) as usize;
        if self.shards.0 != Some(epoch) {
            self.shards = (Some(epoch), numbered(self.order.shards(epoch)));
        }
        let shards = &self.shards.1;
        let mut end = epoch as u64 * steps;
        let before = shards.iter().take_while(|shard| {
            end += (shard.rows.len() / batch) as u64;
            end <= step
        });
        let place = before.count();
        let shard = &shards[place];
        let steps = shard.rows.len() / batch;
        let first = end - steps as u64;
        if first != self.present.end || !matches!(self.next, Next::There) {
            self.feed.load(session, shard)?;
        }
        let next = match shards.get(place + 1) {
            Some(next) => Next::of(Some(next)),
            None => Next::of(numbered(self.order.shards(epoch + 1)).first()),
        };
        self.feed.swap(session)?;
        // What was uploaded is the present one now, whatever becomes of its order.
        self.next = next;
        self.put_in_order(session, first as u32, steps)?;
        self.present = first..end;
        Ok(())
    }

    /// The epoch whose first shard is there before its first step.
    #[cfg(test)]
    pub fn ahead(&self) -> Option<usize> {
        let (steps, end) = (self.order.steps(), self.present.end as usize);
        let there = matches!(self.next, Next::There) && end.is_multiple_of(steps);
        there.then_some(end / steps)
    }

    /// Puts the rows of a shard of so many steps in order, of which this is the first.
    fn put_in_order(&self, session: &mut Session, step: u32, steps: usize) -> Result<()> {
        let Order { shard, batch, .. } = self.order;
        let turns = shard / batch;
        if steps == turns {
            return session.run(self.shuffle, 1);
        }
        // Not the number of a shard of full size, which may begin as many rounds of steps from the first.
        let number = (step / turns as u32) | (1 << 31);
        let mut all = Vec::with_capacity(self.keys.len() * shard);
        for keys in &self.keys {
            let order = permutation(keys, number, steps * batch);
            let mut places = vec![0; shard];
            for (k, rows) in order.chunks(batch).enumerate() {
                // Where the step finds its rows (`ops/rows.rs`).
                let at = step.wrapping_add(k as u32) as usize % turns * batch;
                places[at..][..batch].copy_from_slice(rows);
            }
            all.extend(places);
        }
        session.write(self.rows, &all)
    }

    /// What goes up in an epoch, counted from 0.
    pub fn uploads(&self, epoch: usize) -> Result<Uploads> {
        let shards = self.order.shards(epoch);
        let mut bytes = 0;
        for shard in &shards {
            bytes += self.feed.bytes(shard.len())?;
            if shard.len() < self.order.shard {
                bytes += 4 * (self.keys.len() * self.order.shard) as u64;
            }
        }
        Ok(Uploads {
            shard_rows: self.order.shard,
            shard_bytes: self.feed.bytes(self.order.shard)?,
            shards: shards.len(),
            epoch_bytes: bytes,
        })
    }
}

/// What goes up to the device in an epoch of data in shards; [`Fit::uploads`](crate::fit::Fit::uploads) tells
/// before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// Rows of a shard; the last of a run of rows may have fewer.
    pub shard_rows: usize,
    /// Bytes of a shard. The device keeps twice as many.
    pub shard_bytes: u64,
    /// Shards of the first epoch; one more or less in others.
    pub shards: usize,
    /// Bytes of the first epoch, orders of short shards included.
    pub epoch_bytes: u64,
}
