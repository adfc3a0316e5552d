//! Data in shards on a device: one is trained on while the next is read and uploaded.
//!
//! A column has two variables. Programs read one, uploads go to the other, and between two shards they
//! change places, which copies nothing. Another thread reads the next shard; it goes up in parts between
//! the steps of the present one, so that neither the device nor whoever hands it work waits for all of
//! it. Only the first shard of a run, and of each evaluation, is waited for: an epoch ends with the
//! upload of the next one's first shard.
//!
//! The order of rows within a shard is drawn on the device (`shuffle`), as that of data that lie there
//! as a whole. A shard that is shorter has its order made on the host. A step finds its rows by its
//! number alone: the steps of a shard go once round the places of its order, wherever they begin.

use std::borrow::Cow;
use std::ops::Range;

use super::resident::{Need, of_set};
use crate::data::{DataRef, Dataset, Order, Shards, content, words};
use crate::error::{Error, Result};
use crate::graph::{Handle, Program};
use crate::ops::shuffle::permutation;
use crate::run::Session;
use crate::run::sentinel::Steps;
use crate::tensor::Host;

/// Data as they were given, opened.
#[derive(Debug)]
pub(crate) enum Given<'a> {
    /// They lie on the device as a whole.
    Whole(Cow<'a, Dataset>),
    /// One shard after the other, with a row whose columns are those of all.
    Shards(Shards<'a>, Dataset),
}

impl<'a> Given<'a> {
    /// Looks at the first row of data in shards; reads all of what is one shard.
    pub fn open(set: &str, data: DataRef<'a>) -> Result<Self> {
        let open = || match data {
            DataRef::Whole(data) => Ok(Self::Whole(Cow::Borrowed(data))),
            DataRef::Shards(shards) => {
                let sample = shards.sample()?;
                if shards.shard_rows() < shards.rows() {
                    return Ok(Self::Shards(shards, sample));
                }
                let all = shards.read(0..shards.rows(), &sample)?;
                Ok(Self::Whole(Cow::Owned(all)))
            }
        };
        open().map_err(|e| of_set(e, set))
    }

    /// The same data, not opened anew.
    pub fn again(&self) -> Given<'_> {
        match self {
            Self::Whole(data) => Given::Whole(Cow::Borrowed(data)),
            Self::Shards(shards, sample) => Given::Shards(*shards, sample.clone()),
        }
    }

    /// All rows, or the one that is known.
    pub fn columns(&self) -> &Dataset {
        match self {
            Self::Whole(data) => data,
            Self::Shards(_, sample) => sample,
        }
    }

    pub fn rows(&self) -> usize {
        match self {
            Self::Whole(data) => data.rows(),
            Self::Shards(shards, _) => shards.rows(),
        }
    }

    /// Rows of a shard: whole mini-batches.
    pub fn shard(&self, batch: usize) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Shards(shards, _) => Some(shards.shard_rows() / batch * batch),
        }
    }
}

/// A run of rows, and which shard it is.
#[derive(Clone, Debug, PartialEq)]
struct Shard {
    number: usize,
    of: usize,
    rows: Range<usize>,
}

fn numbered(all: Vec<Range<usize>>) -> Vec<Shard> {
    let of = all.len();
    let all = all.into_iter().enumerate();
    all.map(|(k, rows)| Shard {
        number: k + 1,
        of,
        rows,
    })
    .collect()
}

/// A column's two places on the device.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub column: String,
    /// What programs read.
    pub present: Handle<Host>,
    /// What is written meanwhile.
    pub next: Handle<Host>,
}

/// The way of one data set's shards to the device.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    set: &'a str,
    shards: Shards<'a>,
    sample: &'a Dataset,
    needs: &'a [Need],
    pairs: Vec<Pair>,
}

/// In how many parts a shard goes up, at most: that many times in a shard the device has work before it
/// while the host copies.
const PARTS: usize = 32;

impl<'a> Feed<'a> {
    /// None for data that lie on the device as a whole.
    pub fn of(
        set: &'a str,
        data: &'a Given<'_>,
        needs: &'a [Need],
        pairs: &[Pair],
    ) -> Option<Self> {
        match data {
            Given::Whole(_) => None,
            Given::Shards(shards, sample) => Some(Self {
                set,
                shards: *shards,
                sample,
                needs,
                pairs: pairs.to_vec(),
            }),
        }
    }

    /// What goes up of a shard, column by column.
    fn read(&self, shard: &Shard) -> Result<Vec<Host>> {
        let read = || {
            let data = self.shards.read(shard.rows.clone(), self.sample)?;
            // Row numbers in messages are those of the whole set.
            let first = shard.rows.start;
            let mut needs = self.needs.iter();
            needs.try_for_each(|need| need.check_from(&data, first))?;
            let pairs = self.pairs.iter();
            pairs
                .map(|pair| Ok(content(data.column(&pair.column)?, data.rows())))
                .collect::<Result<Vec<Host>>>()
        };
        read().map_err(|e| {
            let Shard { number, of, rows } = shard;
            let (first, last) = (rows.start, rows.end - 1);
            let rows = format!("rows {first} to {last}");
            in_shard(
                e,
                &format!("{} data, shard {number} of {of} ({rows})", self.set),
            )
        })
    }

    /// Bytes that go up of so many rows.
    fn bytes(&self, rows: usize) -> Result<u64> {
        let each = self.pairs.iter();
        let each = each.map(|pair| Ok(4 * words(self.sample.column(&pair.column)?, rows) as u64));
        each.sum()
    }

    /// Reads a shard and uploads it, and waits for both.
    fn load(&self, session: &mut Session, shard: &Shard) -> Result<()> {
        Upload::new(self.read(shard)?).part(session, &self.pairs, 1)
    }

    /// What was uploaded last becomes what programs read.
    fn swap(&self, session: &mut Session) -> Result<()> {
        let mut pairs = self.pairs.iter();
        pairs.try_for_each(|pair| session.swap(pair.present, pair.next))
    }

    /// Takes so many steps over the present shard; the next is read and uploaded meanwhile. What keeps the next
    /// from being read is handed back, since the present one is none the worse for it.
    #[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
    fn turn(
        &self,
        session: &mut Session,
        steps: Steps,
        runs: usize,
        (next, took): (Option<&Shard>, Took<'_>),
    ) -> Result<Option<Error>> {
        std::thread::scope(|scope| {
            let mut reading = next.map(|shard| scope.spawn(|| self.read(shard)));
            self.alternate(session, steps, (runs, took), &mut |wait| {
                let done = reading.take_if(|reading| wait || reading.is_finished())?;
                let read = done.join();
                // A source of another crate may panic; then this is that panic.
                Some(read.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    }

    /// Without threads, the next shard is read while the device has the present one's first steps.
    #[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
    fn turn(
        &self,
        session: &mut Session,
        steps: Steps,
        runs: usize,
        (mut next, took): (Option<&Shard>, Took<'_>),
    ) -> Result<Option<Error>> {
        self.alternate(session, steps, (runs, took), &mut |_| {
            next.take().map(|shard| self.read(shard))
        })
    }

    /// Runs and uploads in turn. `ready` gives the next shard once, when it has been read; told to wait,
    /// it does.
    fn alternate(
        &self,
        session: &mut Session,
        mut steps: Steps,
        (runs, took): (usize, Took<'_>),
        ready: &mut dyn FnMut(bool) -> Option<Result<Vec<Host>>>,
    ) -> Result<Option<Error>> {
        let parts = PARTS.min(runs);
        let mut read = None;
        let mut next = took(0)?;
        for k in 0..parts {
            let now = runs * (k + 1) / parts - runs * k / parts;
            let mut left = now as u64;
            while left > 0 {
                let taken = left.min(next);
                steps.run(session, taken)?;
                next = took(taken)?;
                left -= taken;
            }
            if read.is_none() {
                read = ready(false).map(|read| read.map(Upload::new));
            }
            if let Some(Ok(upload)) = &mut read {
                upload.part(session, &self.pairs, parts - k)?;
            }
        }
        if read.is_none() {
            read = ready(true).map(|read| read.map(Upload::new));
        }
        match read {
            None => Ok(None),
            Some(Err(error)) => Ok(Some(error)),
            Some(Ok(mut upload)) => upload.part(session, &self.pairs, 1).map(|()| None),
        }
    }

    /// Runs an evaluation over all rows in their order, from a counter that begins at 0 for each shard.
    pub fn evaluate(&self, session: &mut Session, over: &Evaluated) -> Result<()> {
        let rows = self.shards.rows();
        let cuts = (0..rows).step_by(over.shard);
        let all = cuts.map(|first| first..rows.min(first + over.shard));
        let all = numbered(all.collect());
        if let Some(first) = all.first() {
            self.load(session, first)?;
        }
        for (k, shard) in all.iter().enumerate() {
            self.swap(session)?;
            let runs = shard.rows.len().div_ceil(over.batch);
            let last = shard.rows.len() - (runs - 1) * over.batch;
            session.fill(over.counter, 0)?;
            session.fill(over.full, (runs - 1) as f32)?;
            session.fill(over.last, last as f32)?;
            let program = Steps::unverified(over.program);
            let next = (all.get(k + 1), &mut (|_| Ok(u64::MAX)) as Took<'_>);
            if let Some(error) = self.turn(session, program, runs, next)? {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// An evaluation of data in shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evaluated {
    pub program: Program,
    pub counter: Handle<u32>,
    pub batch: usize,
    /// Rows of a shard.
    pub shard: usize,
    /// Mini-batches of a shard whose places are all rows, and the rows of the one behind them.
    pub full: Handle<f32>,
    pub last: Handle<f32>,
}

/// What hears of steps as they are taken, and says how many are taken next at most.
type Took<'a> = &'a mut dyn FnMut(u64) -> Result<u64>;

/// A shard on its way up.
struct Upload {
    columns: Vec<Host>,
    /// The column that goes up, and where it goes on.
    at: (usize, usize),
    left: usize,
}

impl Upload {
    fn new(columns: Vec<Host>) -> Self {
        Self {
            left: columns.iter().map(Host::len).sum(),
            at: (0, 0),
            columns,
        }
    }

    /// Uploads one of so many parts of what is left.
    fn part(&mut self, session: &mut Session, pairs: &[Pair], parts: usize) -> Result<()> {
        let mut words = self.left.div_ceil(parts);
        while words > 0 {
            let (column, first) = self.at;
            let (host, handle) = (&self.columns[column], pairs[column].next);
            let end = host.len().min(first + words);
            session.write_part(handle, first, host.view().part(first..end))?;
            words -= end - first;
            self.left -= end - first;
            self.at = match end == host.len() {
                true => (column + 1, 0),
                false => (column, end),
            };
        }
        Ok(())
    }
}

/// Training over shards.
#[derive(Debug)]
pub(super) struct Epochs<'a> {
    pub feed: Feed<'a>,
    pub order: Order,
    /// Each replica's key words.
    pub keys: Vec<[u32; crate::rng::KEYS]>,
    pub shuffle: Program,
    pub train: Steps,
    /// The order of the present shard's rows.
    pub rows: Handle<u32>,
    /// The epoch whose first shard was uploaded last.
    pub ahead: Option<usize>,
}

impl Epochs<'_> {
    /// Trains an epoch, counted from 0; `more` if another one comes behind it. `took` hears of steps as they are taken.
    pub fn train(
        &mut self,
        session: &mut Session,
        epoch: usize,
        more: bool,
        took: Took<'_>,
    ) -> Result<()> {
        let shards = numbered(self.order.shards(epoch));
        let mut behind = match more {
            true => numbered(self.order.shards(epoch + 1)),
            false => vec![],
        };
        behind.truncate(1);
        let mut step = epoch * self.order.steps();
        if self.ahead != Some(epoch)
            && let Some(first) = shards.first()
        {
            self.feed.load(session, first)?;
        }
        self.ahead = None;
        for (k, shard) in shards.iter().enumerate() {
            self.feed.swap(session)?;
            let steps = shard.rows.len() / self.order.batch;
            self.put_in_order(session, step as u32, steps)?;
            let next = shards.get(k + 1).or(behind.first());
            let train = self.train.from(step as u64);
            let failed = self.feed.turn(session, train, steps, (next, took))?;
            step += steps;
            match failed {
                // The epoch is done, and the one behind it will find the same.
                Some(_) if k + 1 == shards.len() => {}
                Some(error) => return Err(error),
                None if k + 1 == shards.len() => self.ahead = more.then_some(epoch + 1),
                None => {}
            }
        }
        Ok(())
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

/// What goes up to the device in an epoch of data in shards; [`Fit::uploads`](super::Fit::uploads) tells
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

/// The error with the shard before its place.
fn in_shard(error: Error, shard: &str) -> Error {
    match error {
        Error::Setting {
            name,
            found,
            wanted,
        } => Error::setting(format!("{shard}, {name}"), found, wanted),
        Error::File {
            path,
            found,
            wanted,
            fix,
        } => Error::file(&path, format!("{found} ({shard})"), wanted, fix),
        Error::Io {
            action,
            path,
            fix,
            source,
        } => Error::io(action, &path, source, format!("{fix} It was for {shard}.")),
        other => other.within(shard),
    }
}

#[cfg(test)]
mod tests;
