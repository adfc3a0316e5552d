//! The plan: a flat list of kernel launches over buffers allocated beforehand.
//!
//! A plan is plain data. It knows kernels by name and buffers by number, nothing of ops,
//! graphs or devices; it can be checked ([`Plan::check`]), accounted for
//! ([`Plan::account`]) and written as JSON before anything runs.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::kernel::{Kernel, Target};
use crate::shape::DType;

mod account;
mod check;
mod latency;
mod persistent;
pub use account::{Account, ProgramAccount};
pub use check::Limits;
pub use latency::{Bound, Card, Prediction};
pub use persistent::{BoundBuffer, Persistent};

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Lives as long as the plan: data, parameters, counters, metrics.
    State,
    /// Holds values within one run of a program; may serve several in turn.
    Temporary,
}

/// A buffer of the plan.
#[derive(Clone, Debug, Serialize)]
pub struct Buffer {
    /// The variable's name, or `temporary <k>`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Elements within one replica.
    pub elements: usize,
    /// True if all replicas share one copy.
    pub shared: bool,
    /// What it is for.
    pub role: Role,
}

impl Buffer {
    /// Elements over all replicas.
    pub fn total(&self, replicas: usize) -> usize {
        self.elements * if self.shared { 1 } else { replicas }
    }

    /// Bytes over all replicas.
    pub fn bytes(&self, replicas: usize) -> u64 {
        4 * self.total(replicas) as u64
    }
}

/// A buffer at a binding: its first `elements` of each replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// Index into [`Plan::buffers`].
    pub buffer: usize,
    /// Elements of each replica that the kernel sees; replicas lie this far apart.
    pub elements: usize,
}

/// One kernel launch.
#[derive(Clone, Debug, Serialize)]
pub struct Launch {
    /// Layer and pass, for messages: `0.conv2d forward`.
    pub label: String,
    /// The kernel; its name in JSON.
    #[serde(serialize_with = "kernel_name")]
    pub kernel: &'static Kernel,
    /// A value for each of the kernel's constants.
    pub constants: Vec<(&'static str, f64)>,
    /// What stands at each of its bindings.
    pub bindings: Vec<Binding>,
    /// Workgroups; z is the number of replicas.
    pub grid: [u32; 3],
    /// Floating-point operations over all replicas.
    pub flops: u64,
    /// Other kernels that do the same work over the same bindings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// Another kernel for a launch's work.
#[derive(Clone, Debug, Serialize)]
pub struct Alternative {
    /// The kernel; its name in JSON.
    #[serde(serialize_with = "kernel_name")]
    pub kernel: &'static Kernel,
    /// The devices it is made for.
    pub target: Target,
    /// A value for each of the kernel's constants.
    pub constants: Vec<(&'static str, f64)>,
    /// Workgroups; z is the number of replicas.
    pub grid: [u32; 3],
}

impl Launch {
    /// The error of a launch, by its number, whose kernel's function has panicked.
    pub(crate) fn panicked(&self, launch: usize, found: &str) -> Error {
        Error::Plan {
            launch,
            label: self.label.clone(),
            found: format!(
                "a panic in {}'s function on the CPU: {found}",
                self.kernel.name
            ),
            wanted: "a function that keeps to what its kernel declares".into(),
        }
    }

    /// In how many variants the launch can be done.
    pub fn variants(&self) -> usize {
        1 + self.alternatives.len()
    }

    /// How often the launch's own kernel is dispatched.
    pub fn dispatches(&self) -> u64 {
        self.kernel.dispatches(&self.constants)
    }

    /// Which of the alternatives a GPU takes before the launch's own kernel: the first that asks for
    /// workgroups of some size, of those that the adapter has.
    pub fn by_workgroups(&self) -> Option<usize> {
        let mut others = self.alternatives.iter();
        others.position(|other| matches!(other.target, Target::Workgroup { .. }))
    }

    /// The launch done in one of its variants, without the others; variant 0 is its own kernel.
    pub fn done(&self, variant: usize) -> Self {
        let bare = Self {
            alternatives: vec![],
            ..self.clone()
        };
        match variant
            .checked_sub(1)
            .and_then(|i| self.alternatives.get(i))
        {
            Some(other) => Self {
                kernel: other.kernel,
                constants: other.constants.clone(),
                grid: other.grid,
                ..bare
            },
            None => bare,
        }
    }
}

fn kernel_name<S: Serializer>(kernel: &&'static Kernel, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kernel.name)
}

/// Buffers and, by name, the programs that run over them.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// How many networks are trained at once.
    pub replicas: usize,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// Launch lists: `init`, `shuffle`, `train`, …
    pub programs: BTreeMap<String, Vec<Launch>>,
}

impl Plan {
    /// The index of the state buffer called `name`.
    pub fn state(&self, name: &str) -> Option<usize> {
        self.buffers
            .iter()
            .position(|b| b.role == Role::State && b.name == name)
    }

    /// The plan with each launch done in the variant that `pick` gives and no other.
    pub fn choose(mut self, mut pick: impl FnMut(&Launch) -> usize) -> Self {
        for launch in self.programs.values_mut().flatten() {
            *launch = launch.done(pick(launch));
        }
        self
    }

    /// The plan without the variants that are made for other devices than those `keep` names.
    pub fn with_variants(mut self, mut keep: impl FnMut(Target) -> bool) -> Self {
        for launch in self.programs.values_mut().flatten() {
            launch.alternatives.retain(|other| keep(other.target));
        }
        self
    }

    /// Whether one of its launches rounds its factors to f16.
    pub fn rounds_factors(&self) -> bool {
        let mut launches = self.programs.values().flatten();
        launches.any(|launch| !launch.kernel.factors_in_f16().is_empty())
    }

    /// The plan as JSON.
    ///
    /// # Errors
    /// Whatever the serialiser says; a plan holds nothing it refuses.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}
