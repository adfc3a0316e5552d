//! Data in shards on a device: one is trained on while the next is read and uploaded.
//!
//! A column has two variables. Programs read one, uploads go to the other, and between two shards they
//! change places, which copies nothing. Another thread reads the next shard; it goes up in parts between
//! the steps of the present one, so that neither the device nor whoever hands it work waits for all of
//! it. Only the first shard of a run, and of each evaluation, is waited for: an epoch ends with the
//! upload of the next one's first shard. Steps may also be taken a few at a time (`epochs`): the thread
//! reads while the first of a shard's are taken and is waited for behind them, since it borrows the
//! source, and the parts go up as the others are.
//!
//! The order of rows within a shard is drawn on the device (`shuffle`), as that of data that lie there
//! as a whole. A shard that is shorter has its order made on the host. A step finds its rows by its
//! number alone: the steps of a shard go once round the places of its order, wherever they begin.

use std::borrow::Cow;
use std::ops::Range;

use super::resident::{Need, of_set};
use crate::data::{DataRef, Dataset, Shards, content, words};
use crate::error::{Error, Result};
use crate::graph::{Handle, Program};
use crate::run::Session;
use crate::run::sentinel::Steps;
use crate::tensor::Host;

mod epochs;

pub use epochs::Uploads;
pub(super) use epochs::{Epochs, Programs};

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

    /// Refuses training data of which no shard has a mini-batch.
    pub fn has_batch(&self, batch: usize) -> Result<()> {
        match (self, self.shard(batch)) {
            (Self::Shards(shards, _), Some(0)) => Err(Error::setting(
                "rows of a shard of training data",
                shards.shard_rows(),
                format!("at least the {batch} of a mini-batch"),
            )),
            _ => Ok(()),
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
    sample: Dataset,
    needs: Vec<Need>,
    pairs: Vec<Pair>,
}

/// In how many parts a shard goes up, at most: that many times in a shard the device has work before it
/// while the host copies.
const PARTS: usize = 32;

impl<'a> Feed<'a> {
    /// None for data that lie on the device as a whole.
    pub fn of(set: &'a str, data: &Given<'a>, needs: &[Need], pairs: &[Pair]) -> Option<Self> {
        match data {
            Given::Whole(_) => None,
            Given::Shards(shards, sample) => Some(Self {
                set,
                shards: *shards,
                sample: sample.clone(),
                needs: needs.to_vec(),
                pairs: pairs.to_vec(),
            }),
        }
    }

    /// What goes up of a shard, column by column.
    fn read(&self, shard: &Shard) -> Result<Vec<Host>> {
        let read = || {
            let data = self.shards.read(shard.rows.clone(), &self.sample)?;
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

    /// Takes steps over the present shard; the next is read and uploaded meanwhile, and has been read when this returns.
    /// What keeps the next from being read is handed back, since the present one is none the worse for it.
    #[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
    fn turn(
        &self,
        session: &mut Session,
        turn: Turn<'_>,
        next: &mut Next,
    ) -> Result<Option<Error>> {
        let unread = next.unread().cloned();
        std::thread::scope(|scope| {
            let unread = unread.as_ref();
            let mut reading = unread.map(|shard| scope.spawn(|| self.read(shard)));
            self.alternate(session, turn, next, &mut |wait| {
                let done = reading.take_if(|reading| wait || reading.is_finished())?;
                let read = done.join();
                // A source of another crate may panic; then this is that panic.
                Some(read.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    }

    /// Without threads, the next shard is read while the device has the first of the steps.
    #[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
    fn turn(
        &self,
        session: &mut Session,
        turn: Turn<'_>,
        next: &mut Next,
    ) -> Result<Option<Error>> {
        let mut unread = next.unread().cloned();
        self.alternate(session, turn, next, &mut |_| {
            unread.take().map(|shard| self.read(&shard))
        })
    }

    /// Runs and uploads in turn. `ready` gives the next shard once, when it has been read; told to wait,
    /// it does.
    fn alternate(
        &self,
        session: &mut Session,
        turn: Turn<'_>,
        next: &mut Next,
        ready: &mut dyn FnMut(bool) -> Option<Result<Vec<Host>>>,
    ) -> Result<Option<Error>> {
        let Turn {
            shard,
            steps,
            take,
            took,
        } = turn;
        let parts = PARTS.min(shard);
        let mut failed = None;
        let mut arrive = |wait: bool, next: &mut Next| match ready(wait) {
            None => {}
            Some(Ok(columns)) => *next = Next::Read(Upload::new(columns)),
            Some(Err(error)) => {
                *next = Next::None;
                failed = Some(error);
            }
        };
        let mut at = steps.start;
        let mut most = took(0)?;
        for k in 0..parts {
            let end = shard * (k + 1) / parts;
            if end <= at {
                continue;
            }
            let until = end.min(steps.end);
            while at < until {
                let now = most.min((until - at) as u64);
                take(session, now)?;
                most = took(now)?;
                at += now as usize;
            }
            arrive(false, next);
            // Steps may end between two parts.
            if at < end {
                break;
            }
            if let Next::Read(upload) = next {
                upload.part(session, &self.pairs, parts - k)?;
            }
        }
        arrive(true, next);
        if let Next::Read(upload) = next
            && at == shard
        {
            upload.part(session, &self.pairs, 1)?;
            // Whose rows the host need not keep.
            *next = Next::There;
        }
        Ok(failed)
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
            let mut program = Steps::unverified(over.program);
            let whole = Turn {
                shard: runs,
                steps: 0..runs,
                take: &mut |session, count| program.run(session, count),
                took: &mut |_| Ok(u64::MAX),
            };
            let mut next = Next::of(all.get(k + 1));
            if let Some(error) = self.turn(session, whole, &mut next)? {
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

/// What takes so many steps.
pub(super) type Take<'a> = &'a mut dyn FnMut(&mut Session, u64) -> Result<()>;

/// What hears of steps as they are taken, and says how many are taken next at most.
pub(super) type Took<'a> = &'a mut dyn FnMut(u64) -> Result<u64>;

/// Steps over the present shard.
struct Turn<'a> {
    /// How many the whole shard has.
    shard: usize,
    /// Those that are taken now.
    steps: Range<usize>,
    take: Take<'a>,
    took: Took<'a>,
}

/// The shard behind the present one.
#[derive(Debug)]
enum Next {
    /// There is none, or it could not be read and is tried again when its turn comes.
    None,
    /// Nobody has read it.
    Unread(Shard),
    /// On its way up.
    Read(Upload),
    /// All of it has been uploaded.
    There,
}

impl Next {
    fn of(shard: Option<&Shard>) -> Self {
        shard.map_or(Self::None, |shard| Self::Unread(shard.clone()))
    }

    fn unread(&self) -> Option<&Shard> {
        match self {
            Self::Unread(shard) => Some(shard),
            _ => None,
        }
    }
}

/// A shard on its way up.
#[derive(Debug)]
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
