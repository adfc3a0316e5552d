//! The one owner of an executor: a graph compiled, its buffers on a device, and the handles by
//! which they are written, run and read.
//!
//! ```
//! use std::sync::Arc;
//!
//! use wgrad::exec::{Choice, Device};
//! use wgrad::graph::Graph;
//! use wgrad::ops::{Tape, scale::Scale};
//! use wgrad::run::Session;
//! use wgrad::shape::Type;
//!
//! let mut graph = Graph::new();
//! let x = graph.input::<f32>("x", Type::f32("x", &[3])?)?;
//! let twice = graph.begin("twice");
//! let y = graph.op1(Arc::new(Scale(2.0)), &[x.value()])?;
//! let y = graph.output::<f32>("y", y)?;
//!
//! let mut session = Session::new(&graph, &Device::open(Choice::Cpu)?)?;
//! session.write(x, &[1.0, 2.0, 3.0])?;
//! session.run(twice, 1)?;
//! assert_eq!(session.read(y)?, [2.0, 4.0, 6.0]);
//! # Ok::<(), wgrad::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::compile::{Compiled, Options};
use crate::error::{Error, Result};
use crate::exec::cpu::{Cpu, Scalar};
use crate::exec::profile::{Profile, Runs};
use crate::exec::{Device, DeviceInfo, Executor, Traffic, run_verified};
use crate::graph::{Graph, Handle, Program};
use crate::plan::{Binding, Buffer, Launch, Plan, Role};
use crate::shape::DType;
use crate::tensor::{Content, Element, Host, View};

pub(crate) mod blame;
mod readable;
pub(crate) mod sentinel;
pub use readable::{Answers, Readable, Requests};

/// A graph compiled and ready to run: the one owner of its executor. What handles of that graph
/// name can be written, run and read; handles of another graph are refused.
///
/// `E` is any executor, or one that is known: `Session<Cpu<f64>>` also gives what it holds in
/// double precision.
pub struct Session<E: Executor + ?Sized = dyn Executor> {
    compiled: Compiled,
    executor: Box<E>,
}

impl Session {
    /// Compiles a graph for a device, one replica of it, and allocates its buffers. They hold
    /// nothing until they are written.
    ///
    /// # Errors
    /// What compiling says, and the device.
    pub fn new(graph: &Graph, device: &Device) -> Result<Self> {
        Self::with(graph, device, &Options::on(device.info()))
    }

    /// [`Session::new`] with options; [`Options::on`] has those to begin with.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with(graph: &Graph, device: &Device, options: &Options) -> Result<Self> {
        Self::open(&Compiled::new(graph, options)?, device)
    }

    /// What is compiled, on a device.
    ///
    /// # Errors
    /// What the device says.
    pub fn open(compiled: &Compiled, device: &Device) -> Result<Self> {
        Self::of(compiled, device.executor(compiled.plan().clone())?)
    }

    /// [`Session::with`] where nobody can stop and wait.
    ///
    /// # Errors
    /// As [`Session::with`].
    pub async fn with_async(graph: &Graph, device: &Device, options: &Options) -> Result<Self> {
        let compiled = Compiled::new(graph, options)?;
        let executor = device.executor_async(compiled.plan().clone()).await?;
        Self::of(&compiled, executor)
    }

    /// Runs a program once and holds one of its launches against the reference.
    ///
    /// # Errors
    /// [`Error::Disagrees`] naming the launch, [`Error::Setting`] for a launch the program lacks,
    /// and as [`Session::run`].
    pub fn run_verified(&mut self, program: Program, launch: usize) -> Result<()> {
        let name = self.compiled.program(program)?;
        run_verified(self.executor.as_mut(), name, launch)
    }

    /// Begins to measure a program that is to be run about `times` times; it runs by
    /// [`Session::run_measured`].
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn measure(&mut self, program: Program, times: u64) -> Result<Runs> {
        let name = self.compiled.program(program)?;
        Profile::begin(self.executor.as_mut(), name, times)
    }

    /// Runs the program of a measurement `times` times more.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_measured(&mut self, runs: &mut Runs, times: u64) -> Result<()> {
        runs.add(self.executor.as_mut(), times)
    }
}

impl<E: Executor + ?Sized> Session<E> {
    /// What is compiled, on an executor of its plan. The executor may take other variants, and have
    /// launches that were changed; programs and buffers must be the plan's.
    ///
    /// # Errors
    /// [`Error::Setting`] if they are not.
    pub fn of(compiled: &Compiled, executor: Box<E>) -> Result<Self> {
        let (own, given) = (compiled.plan(), executor.plan());
        let key = |b: &Buffer| (b.name.clone(), b.dtype, b.elements, b.shared);
        let buffers = own.buffers.iter().map(key);
        if !buffers.eq(given.buffers.iter().map(key))
            || !own.programs.keys().eq(given.programs.keys())
            || own.replicas != given.replicas
        {
            let wanted = "one of the plan that was compiled";
            return Err(Error::setting("executor", "one of another plan", wanted));
        }
        Ok(Self {
            compiled: compiled.clone(),
            executor,
        })
    }

    /// The device.
    pub fn device(&self) -> &DeviceInfo {
        self.executor.device()
    }

    /// The plan as it is executed: each launch in the variant that was chosen for the device.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// How many replicas it runs.
    pub fn replicas(&self) -> usize {
        self.executor.plan().replicas
    }

    /// What has been moved and launched so far.
    pub fn traffic(&self) -> Traffic {
        self.executor.traffic()
    }

    /// The launches of a program.
    ///
    /// # Errors
    /// As [`Compiled::program`].
    pub fn launches(&self, program: Program) -> Result<&[Launch]> {
        Ok(&self.plan().programs[self.compiled.program(program)?])
    }

    /// The elements of a handle's buffer over all replicas; of a shared buffer, the one copy's.
    ///
    /// # Errors
    /// As [`Compiled::buffer`].
    pub fn elements<T>(&self, handle: Handle<T>) -> Result<usize> {
        Ok(self.buffer(handle)?.total(self.replicas()))
    }

    fn buffer<T>(&self, handle: Handle<T>) -> Result<&Buffer> {
        Ok(&self.plan().buffers[self.compiled.buffer(handle)?])
    }

    /// Writes a variable: the values of each replica in order, or the one copy that all share.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the variable where the number of values is another, and for a
    /// handle of another graph; [`Error::Device`] when the device fails.
    pub fn write<T: Content>(&mut self, handle: Handle<T>, data: &T::Data) -> Result<()> {
        let buffer = self.compiled.buffer(handle)?;
        self.executor.upload(buffer, T::view(data))
    }

    /// Writes elements of a variable that all replicas share, from element `first` on. The rest stays, and
    /// counts as written.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the variable for elements of another type or beyond its end, for a
    /// variable that each replica has of its own and for a handle of another graph; [`Error::Device`]
    /// when the device fails.
    pub fn write_part<T>(&mut self, handle: Handle<T>, first: usize, data: View<'_>) -> Result<()> {
        let buffer = self.compiled.buffer(handle)?;
        self.executor.upload_part(buffer, first, data)
    }

    /// Two variables of one type change places: programs then read as one what was written to the other,
    /// and nothing is copied. So one is written while programs under way read the other.
    ///
    /// # Errors
    /// [`Error::Setting`] naming them for variables of different types or sizes and for a handle of another
    /// graph; [`Error::Device`] when the device fails.
    pub fn swap<T>(&mut self, one: Handle<T>, other: Handle<T>) -> Result<()> {
        let (one, other) = (self.compiled.buffer(one)?, self.compiled.buffer(other)?);
        self.executor.swap(one, other)
    }

    /// Writes the same values to every replica.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn write_each<T>(&mut self, handle: Handle<T>, replica: &[T]) -> Result<()>
    where
        T: Element + Content<Data = [T]>,
    {
        let (total, elements) = (self.elements(handle)?, handle.elements());
        if replica.len() != elements {
            let name = format!("data for a replica of {}", self.buffer(handle)?.name);
            let found = format!("{} elements", replica.len());
            return Err(Error::setting(name, found, elements.to_string()));
        }
        self.write(handle, &replica.repeat(total / elements))
    }

    /// Writes one value to every element.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn fill<T>(&mut self, handle: Handle<T>, value: T) -> Result<()>
    where
        T: Element + Content<Data = [T]>,
    {
        let total = self.elements(handle)?;
        self.write(handle, &vec![value; total])
    }

    /// Reads back what is asked for in one go, after all work before it: of a handle its
    /// [`Values`](crate::tensor::Values), of a tuple, a list or an option of handles a tuple, a
    /// list or an option of such. Asked for nothing, it does not wait for the device.
    ///
    /// # Errors
    /// [`Error::Setting`] for a handle of another graph and naming a variable that nothing has
    /// written, [`Error::Device`] when the device fails.
    pub fn read<R: Readable>(&mut self, what: R) -> Result<R::Output> {
        let hosts = match &self.asked(&what)?[..] {
            [] => vec![],
            some => self.executor.read_all(some)?,
        };
        what.take(&mut Answers::new(hosts))
    }

    /// [`Session::read`] where nobody can stop and wait.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub async fn read_async<R: Readable>(&mut self, what: R) -> Result<R::Output> {
        let hosts = match &self.asked(&what)?[..] {
            [] => vec![],
            some => self.executor.read_all_async(some).await?,
        };
        what.take(&mut Answers::new(hosts))
    }

    /// The buffers that are asked for.
    fn asked(&self, what: &impl Readable) -> Result<Vec<usize>> {
        let mut requests = Requests::default();
        what.ask(&mut requests);
        let places = requests.values.iter().map(|&v| self.compiled.place(v));
        places.collect()
    }

    /// Reads back what bindings see, in one go: also a temporary, through a binding of the launch
    /// that ran last. To look into a program launch by launch.
    ///
    /// # Errors
    /// As [`Executor::read_bindings`].
    pub fn read_bindings(&mut self, bindings: &[Binding]) -> Result<Vec<Host>> {
        self.executor.read_bindings(bindings)
    }

    /// Everything that lasts, by name, read back in one go: for people and for files.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub fn state(&mut self) -> Result<BTreeMap<String, Host>> {
        let buffers = &self.plan().buffers;
        let lasting: Vec<usize> = (0..buffers.len())
            .filter(|&i| buffers[i].role == Role::State)
            .collect();
        let hosts = self.executor.read_all(&lasting)?;
        let buffers = &self.plan().buffers;
        let names = lasting.into_iter().map(|i| buffers[i].name.clone());
        Ok(names.zip(hosts).collect())
    }

    /// Fills every buffer, temporaries too, with what is no number (integers with 2^32 - 1), so
    /// that a kernel shows if it reads what it should not. It counts as written.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn spoil(&mut self) -> Result<()> {
        for i in 0..self.plan().buffers.len() {
            let buffer = &self.plan().buffers[i];
            let total = buffer.total(self.replicas());
            let garbage = match buffer.dtype {
                DType::F32 => Host::F32(vec![f32::NAN; total]),
                DType::U32 => Host::U32(vec![u32::MAX; total]),
            };
            self.executor.write(i, &garbage)?;
        }
        Ok(())
    }

    /// Runs a program `times` times.
    ///
    /// # Errors
    /// [`Error::Setting`] for a program of another graph and naming a variable that the program
    /// would read and nothing has written, [`Error::Device`] when the device fails.
    pub fn run(&mut self, program: Program, times: u64) -> Result<()> {
        self.executor.run(self.compiled.program(program)?, times)
    }

    /// [`Session::run`] where nobody can stop and wait: it gives up its turn when the device is
    /// behind.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run_async(&mut self, program: Program, times: u64) -> Result<()> {
        let name = self.compiled.program(program)?;
        self.executor.run_async(name, times).await
    }

    /// Runs some of a program's launches once, in order.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Setting`] for launches the program lacks.
    pub fn run_part(&mut self, program: Program, launches: Range<usize>) -> Result<()> {
        let name = self.compiled.program(program)?;
        self.executor.run_part(name, launches)
    }

    /// Waits until all work handed over is done.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn wait(&mut self) -> Result<()> {
        self.executor.wait()
    }

    /// [`Session::wait`] where nobody can stop and wait.
    ///
    /// # Errors
    /// As [`Session::wait`].
    pub async fn wait_async(&mut self) -> Result<()> {
        self.executor.wait_async().await
    }
}

impl<T: Scalar> Session<Cpu<T>> {
    /// One replica's values at the executor's own precision, without a readback.
    ///
    /// # Errors
    /// [`Error::Setting`] for a handle of another graph, a replica that is not there, and a
    /// buffer that all replicas share.
    pub fn values(&self, replica: usize, handle: Handle<f32>) -> Result<&[T]> {
        let buffer = self.compiled.buffer(handle)?;
        let values = self.executor.values(replica, buffer);
        values.ok_or_else(|| no_replica(self.plan(), replica, buffer))
    }

    /// [`Session::values`], to be changed; counts as written.
    ///
    /// # Errors
    /// As [`Session::values`].
    pub fn values_mut(&mut self, replica: usize, handle: Handle<f32>) -> Result<&mut [T]> {
        let buffer = self.compiled.buffer(handle)?;
        if self.executor.values(replica, buffer).is_none() {
            return Err(no_replica(self.plan(), replica, buffer));
        }
        Ok(self
            .executor
            .values_mut(replica, buffer)
            .unwrap_or_default())
    }
}

fn no_replica(plan: &Plan, replica: usize, buffer: usize) -> Error {
    let name = &plan.buffers[buffer].name;
    Error::setting(
        format!("replica of {name}"),
        replica,
        format!("below {}, of a buffer that each has", plan.replicas),
    )
}

impl<E: Executor + ?Sized> fmt::Debug for Session<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("device", self.device())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
