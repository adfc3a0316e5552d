//! What a plan costs, known before it runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Plan, Role};

/// What one run of a program costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProgramAccount {
    /// Kernel launches; one that is dispatched several times counts as many.
    pub launches: usize,
    /// Floating-point operations over all replicas.
    pub flops: u64,
    /// Bytes bound by the launches: what they move if each reads and writes its
    /// bindings once.
    pub bytes: u64,
    /// Bytes that go up from the host: none, for any program.
    pub uploaded: u64,
    /// Bytes that come back to the host: none, for any program.
    pub read_back: u64,
}

/// What a plan holds and costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Bytes of buffers that live as long as the plan.
    pub state_bytes: u64,
    /// Bytes of buffers for values in passing.
    pub temporary_bytes: u64,
    /// The largest buffer, to hold against the adapter's limit.
    pub largest_binding: u64,
    /// Each program.
    pub programs: BTreeMap<String, ProgramAccount>,
}

impl Plan {
    /// Adds everything up.
    pub fn account(&self) -> Account {
        let bytes_of = |role| {
            self.buffers
                .iter()
                .filter(|b| b.role == role)
                .map(|b| b.bytes(self.replicas))
                .sum()
        };
        Account {
            state_bytes: bytes_of(Role::State),
            temporary_bytes: bytes_of(Role::Temporary),
            largest_binding: self
                .buffers
                .iter()
                .map(|b| b.bytes(self.replicas))
                .max()
                .unwrap_or(0),
            programs: self
                .programs
                .iter()
                .map(|(name, launches)| {
                    let account = ProgramAccount {
                        launches: launches.iter().map(|l| l.dispatches() as usize).sum(),
                        flops: launches.iter().map(|l| l.flops).sum(),
                        bytes: launches.iter().map(|l| self.launch_bytes(l)).sum(),
                        ..ProgramAccount::default()
                    };
                    (name.clone(), account)
                })
                .collect(),
        }
    }

    /// Bytes that a launch's bindings span.
    pub fn launch_bytes(&self, launch: &super::Launch) -> u64 {
        launch
            .bindings
            .iter()
            .map(|b| {
                let copies = if self.buffers[b.buffer].shared {
                    1
                } else {
                    self.replicas
                };
                4 * (b.elements * copies) as u64
            })
            .sum()
    }
}
