//! Executors: they take a plan and run its programs, thousands of times, without
//! thinking. They see plans and kernels, never ops or graphs.

use std::pin::Pin;

use crate::error::Result;
use crate::plan::{Binding, Limits, Plan};
use crate::tensor::{Host, View};
use profile::Span;

mod cache;
pub mod cpu;
mod device;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;
pub mod profile;
mod replay;
pub mod tolerance;
mod written;

pub use cache::Cache;
pub use device::{Choice, Device, WholePrograms, devices};
pub use replay::run_verified;

/// What an executor has moved and launched since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Kernel launches.
    pub launches: u64,
    /// Bytes written from the host.
    pub uploaded: u64,
    /// Bytes read back to the host.
    pub read_back: u64,
    /// Times something was read back; each waits for the device.
    pub readbacks: u64,
    /// Times work was handed to the device.
    pub submits: u64,
}

/// The device that an executor runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// For people: adapter, backend and driver, or the CPU and its threads.
    pub name: String,
    /// True for the CPU executor.
    pub cpu: bool,
    /// True where a "GPU" is a program that runs on the CPU.
    pub software: bool,
    /// What it allows.
    pub limits: Limits,
}

/// What an executor is doing, to be awaited.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Runs a plan.
///
/// What waits for the device stops the program until the device is done. Where a program may not
/// stop, as in a page in a browser, a GPU refuses that; there the functions on `_async` do the
/// same and give up their turn instead. An executor that never waits leaves those as they are.
pub trait Executor: Send {
    /// The device.
    fn device(&self) -> &DeviceInfo;

    /// The plan.
    fn plan(&self) -> &Plan;

    /// Fills a state buffer from the host: the values of all replicas in order, or the
    /// one copy of a shared buffer.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) when length or element type differ
    /// from the plan's; [`Error::Device`](crate::Error::Device) when the device fails.
    fn upload(&mut self, buffer: usize, data: View<'_>) -> Result<()>;

    /// [`Executor::upload`] of what is there as [`Host`].
    ///
    /// # Errors
    /// As [`Executor::upload`].
    fn write(&mut self, buffer: usize, data: &Host) -> Result<()> {
        self.upload(buffer, data.view())
    }

    /// Fills elements of a state buffer that all replicas share, from element `first` on, after all work
    /// before it. The buffer counts as written.
    ///
    /// # Errors
    /// As [`Executor::upload`], and [`Error::Setting`](crate::Error::Setting) for elements beyond the
    /// buffer's end and a buffer that each replica has of its own.
    fn upload_part(&mut self, buffer: usize, first: usize, data: View<'_>) -> Result<()>;

    /// Two state buffers change places: what stands in one is then read and written as the other. Nothing
    /// is copied.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for buffers of different types or sizes.
    fn swap(&mut self, one: usize, other: usize) -> Result<()>;

    /// Reads back what bindings see, in one go, after all work before it: the elements of
    /// each replica in order.
    ///
    /// A temporary holds what the launch that ran last has left in it, so it must be read
    /// through a binding of that launch.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a buffer the plan lacks, more elements
    /// than it has or a variable that nothing has written,
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    fn read_bindings(&mut self, bindings: &[Binding]) -> Result<Vec<Host>>;

    /// [`Executor::read_bindings`] where nobody can stop and wait.
    fn read_bindings_async<'a>(&'a mut self, bindings: &'a [Binding]) -> Pending<'a, Vec<Host>> {
        Box::pin(async move { self.read_bindings(bindings) })
    }

    /// Reads whole state buffers back in one go, after all work before it.
    ///
    /// # Errors
    /// As [`Executor::read_bindings`].
    fn read_all(&mut self, buffers: &[usize]) -> Result<Vec<Host>> {
        let bindings = whole(self.plan(), buffers)?;
        self.read_bindings(&bindings)
    }

    /// [`Executor::read_all`] where nobody can stop and wait.
    fn read_all_async<'a>(&'a mut self, buffers: &'a [usize]) -> Pending<'a, Vec<Host>> {
        Box::pin(async move {
            let bindings = whole(self.plan(), buffers)?;
            self.read_bindings_async(&bindings).await
        })
    }

    /// Reads one buffer back.
    ///
    /// # Errors
    /// As [`Executor::read_all`].
    fn read(&mut self, buffer: usize) -> Result<Host> {
        Ok(self.read_all(&[buffer])?.remove(0))
    }

    /// Runs a program `times` times.
    ///
    /// # Errors
    /// [`Error::UnknownName`](crate::Error::UnknownName) for a program the plan lacks,
    /// [`Error::Setting`](crate::Error::Setting) naming a variable that the program would read
    /// and nothing has written, [`Error::Device`](crate::Error::Device) when the device fails.
    fn run(&mut self, program: &str, times: u64) -> Result<()>;

    /// [`Executor::run`] where nobody can stop and wait: it waits when the device is behind.
    fn run_async<'a>(&'a mut self, program: &'a str, times: u64) -> Pending<'a, ()> {
        Box::pin(async move { self.run(program, times) })
    }

    /// Runs some of a program's launches once, in order.
    ///
    /// # Errors
    /// As [`Executor::run`]; [`Error::Setting`](crate::Error::Setting) for launches the
    /// program lacks.
    fn run_part(&mut self, program: &str, launches: std::ops::Range<usize>) -> Result<()>;

    /// Runs a program `times` times with the device's clock read around each launch, and
    /// returns for each run when its launches began and ended. `None`, and nothing has run,
    /// where the device has no clock of its own. [`profile::Profile`] works everywhere.
    ///
    /// # Errors
    /// As [`Executor::run`].
    fn timed(&mut self, program: &str, times: u64) -> Result<Option<Vec<Vec<Span>>>> {
        self::program(self.plan(), program)?;
        let _ = times;
        Ok(None)
    }

    /// The seconds of the host's time in which a launch of a program is recorded for the
    /// device, over `times` runs; nothing of it is handed over. `None` where nothing is
    /// recorded.
    ///
    /// # Errors
    /// As [`Executor::run`].
    fn recording(&mut self, program: &str, times: u64) -> Result<Option<f64>> {
        self::program(self.plan(), program)?;
        let _ = times;
        Ok(None)
    }

    /// Waits until all work handed over is done.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    fn wait(&mut self) -> Result<()>;

    /// [`Executor::wait`] where nobody can stop and wait.
    fn wait_async(&mut self) -> Pending<'_, ()> {
        Box::pin(async move { self.wait() })
    }

    /// What has been moved and launched so far.
    fn traffic(&self) -> Traffic;
}

/// Bindings of whole buffers.
fn whole(plan: &Plan, buffers: &[usize]) -> Result<Vec<Binding>> {
    let whole = |&b: &usize| {
        let elements = buffer(plan, b)?.elements;
        Ok(Binding {
            buffer: b,
            elements,
        })
    };
    buffers.iter().map(whole).collect()
}

/// The plan's specification of a buffer.
fn buffer(plan: &Plan, index: usize) -> Result<&crate::plan::Buffer> {
    plan.buffers.get(index).ok_or_else(|| {
        crate::Error::setting("buffer", index, format!("below {}", plan.buffers.len()))
    })
}

/// The plan's specification of a binding's buffer, which must be large enough.
fn binding<'a>(plan: &'a Plan, binding: &Binding) -> Result<&'a crate::plan::Buffer> {
    let spec = buffer(plan, binding.buffer)?;
    if binding.elements <= spec.elements {
        return Ok(spec);
    }
    Err(crate::Error::setting(
        format!("elements of {}", spec.name),
        binding.elements,
        format!("at most {}", spec.elements),
    ))
}

/// Holds data that goes up against the plan.
fn check_write(plan: &Plan, buffer: usize, data: View<'_>) -> Result<()> {
    let b = self::buffer(plan, buffer)?;
    let wanted = b.total(plan.replicas);
    if data.dtype() != b.dtype || data.len() != wanted {
        return Err(crate::Error::setting(
            format!("data for {}", b.name),
            format!("{} elements of {:?}", data.len(), data.dtype()),
            format!("{wanted} of {:?}", b.dtype),
        ));
    }
    Ok(())
}

/// Holds data for a part of a buffer against the plan.
fn check_part_write(plan: &Plan, buffer: usize, first: usize, data: View<'_>) -> Result<()> {
    let b = self::buffer(plan, buffer)?;
    let end = first.checked_add(data.len());
    if data.dtype() == b.dtype && b.shared && end.is_some_and(|end| end <= b.elements) {
        return Ok(());
    }
    Err(crate::Error::setting(
        format!("data for a part of {}", b.name),
        format!(
            "{} elements of {:?} from {first} on",
            data.len(),
            data.dtype()
        ),
        format!(
            "a part of {} of {:?} that replicas share",
            b.elements, b.dtype
        ),
    ))
}

/// Holds two buffers that are to change places to each other.
fn check_swap(plan: &Plan, one: usize, other: usize) -> Result<()> {
    let (a, b) = (buffer(plan, one)?, buffer(plan, other)?);
    let key = |b: &crate::plan::Buffer| (b.dtype, b.elements, b.shared, b.role);
    if key(a) == key(b) && a.role == crate::plan::Role::State {
        return Ok(());
    }
    Err(crate::Error::setting(
        format!("what changes places with {}", a.name),
        format!("{}, {} elements of {:?}", b.name, b.elements, b.dtype),
        format!("a variable of {} elements of {:?}", a.elements, a.dtype),
    ))
}

/// Checks a range of a program's launches.
fn check_part(plan: &Plan, name: &str, part: &std::ops::Range<usize>) -> Result<()> {
    let count = program(plan, name)?.len();
    if part.start <= part.end && part.end <= count {
        return Ok(());
    }
    let found = format!("{part:?}");
    Err(crate::Error::setting(
        format!("launches of {name}"),
        found,
        format!("within 0..{count}"),
    ))
}

/// The launches of a program.
fn program<'a>(plan: &'a Plan, name: &str) -> Result<&'a [crate::plan::Launch]> {
    plan.programs.get(name).map(Vec::as_slice).ok_or_else(|| {
        let known: Vec<&str> = plan.programs.keys().map(String::as_str).collect();
        crate::Error::unknown("program", name, &known)
    })
}
