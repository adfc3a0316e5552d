//! Which variables hold something.
//!
//! What nothing has written is zero on one device and not a number on another, so nobody gets
//! to read it: a program that would is refused before it runs, and so is a readback.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::kernel::Access;
use crate::plan::{Binding, Launch, Plan, Role};

/// The state buffers of a plan that hold something.
#[derive(Debug)]
pub(super) struct Written {
    buffers: Vec<bool>,
    /// Programs whose inputs are all there; buffers become empty by changing places alone.
    passed: HashSet<String>,
}

impl Written {
    /// None of them; temporaries are the plan checker's business.
    pub(super) fn none_of(plan: &Plan) -> Self {
        let temporary = plan.buffers.iter().map(|b| b.role == Role::Temporary);
        Self {
            buffers: temporary.collect(),
            passed: HashSet::new(),
        }
    }

    /// A buffer has been filled from the host.
    pub(super) fn fill(&mut self, buffer: usize) {
        self.buffers[buffer] = true;
    }

    /// Two buffers have changed places.
    pub(super) fn swap(&mut self, one: usize, other: usize) {
        self.buffers.swap(one, other);
        // The one that has come may hold nothing.
        self.passed.clear();
    }

    /// A whole program is about to run.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first variable that it would read and nothing has written.
    pub(super) fn run(&mut self, plan: &Plan, program: &str) -> Result<()> {
        if !self.passed.contains(program) {
            self.part(plan, program, super::program(plan, program)?)?;
            self.passed.insert(program.into());
        }
        Ok(())
    }

    /// Some launches of a program are about to run.
    ///
    /// # Errors
    /// As [`Written::run`].
    pub(super) fn part(&mut self, plan: &Plan, program: &str, launches: &[Launch]) -> Result<()> {
        let mut buffers = self.buffers.clone();
        for launch in launches {
            let uses = || launch.bindings.iter().zip(launch.kernel.bindings);
            for (binding, declared) in uses() {
                if declared.access != Access::Write && !buffers[binding.buffer] {
                    let name = &plan.buffers[binding.buffer].name;
                    let label = match &launch.label[..] {
                        "" => launch.kernel.name,
                        label => label,
                    };
                    let reader = format!("program {program} reads it in {label}");
                    return Err(unwritten(name, &reader));
                }
            }
            for (binding, declared) in uses() {
                buffers[binding.buffer] |= declared.access != Access::Read;
            }
        }
        self.buffers = buffers;
        Ok(())
    }

    /// Bindings are about to be read back.
    ///
    /// # Errors
    /// As [`Written::run`].
    pub(super) fn read(&self, plan: &Plan, bindings: &[Binding]) -> Result<()> {
        for binding in bindings {
            let name = &super::buffer(plan, binding.buffer)?.name;
            if !self.buffers[binding.buffer] {
                return Err(unwritten(name, "it is read back"));
            }
        }
        Ok(())
    }
}

fn unwritten(name: &str, reader: &str) -> Error {
    Error::setting(
        format!("variable {name}"),
        "nothing written to it",
        format!("a value from the host or a program before {reader}"),
    )
}
