//! The checker: a plan that breaks a rule is refused before it runs.

use std::collections::HashSet;

use super::{Launch, Plan, Role};
use crate::error::{Error, Result};
use crate::kernel::{Access, Kernel};
use crate::tensor::held;

/// What an adapter allows. The default is WebGPU's portable minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one storage binding.
    pub binding_bytes: u64,
    /// Storage buffers in one launch.
    pub bindings: usize,
    /// Workgroups in one dimension.
    pub workgroups: u32,
    /// Turns that the loops of one thread may take together. Mesa's llvmpipe ends them, without a
    /// word, after 65,535 (`LP_MAX_TGSI_LOOP_ITERATIONS`).
    pub turns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            binding_bytes: 128 << 20,
            bindings: 8,
            workgroups: 65_535,
            turns: 65_535,
        }
    }
}

impl Limits {
    /// No limits but those of 32-bit indices: the CPU.
    pub const CPU: Self = Self {
        binding_bytes: u64::MAX,
        bindings: usize::MAX,
        workgroups: u32::MAX,
        turns: u64::MAX,
    };
}

/// Dispatches of a launch, each with a number of its own in the device's memory ([`DISPATCHES`](crate::kernel::DISPATCHES)).
pub(crate) const MOST_DISPATCHES: u64 = 1 << 16;

/// Found and wanted.
type Refused = (String, String);

/// Checks that a launch uses its bindings alike, whichever variant runs.
fn same_use(launch: &Launch, variant: usize) -> std::result::Result<(), Refused> {
    let uses = |kernel: &Kernel| -> Vec<_> {
        let bindings = kernel.bindings.iter();
        bindings.map(|b| (b.dtype, b.access, b.shared)).collect()
    };
    let kernel = launch.done(variant).kernel;
    if uses(kernel) == uses(launch.kernel) {
        return Ok(());
    }
    let wanted = format!("bindings used as {} uses them", launch.kernel.name);
    Err((format!("alternative {}", kernel.name), wanted))
}

impl Plan {
    /// Holds every launch against its kernel's declaration and the limits: element
    /// types and sizes, temporaries written before they are read, no buffer bound twice
    /// where one use writes, constants complete.
    ///
    /// # Errors
    /// [`Error::Plan`] naming the launch, or [`Error::Adapter`] where a limit is passed.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        for buffer in &self.buffers {
            let bytes = buffer.bytes(self.replicas);
            if bytes > limits.binding_bytes {
                return Err(Error::Adapter {
                    found: format!("a limit of {} bytes for one buffer", limits.binding_bytes),
                    wanted: format!("{bytes} bytes for {}", buffer.name),
                    fix: "Use fewer replicas, a smaller batch or the CPU.".into(),
                });
            }
        }
        for launches in self.programs.values() {
            let mut written = HashSet::new();
            for (i, launch) in launches.iter().enumerate() {
                let variants = (0..launch.variants()).try_for_each(|variant| {
                    same_use(launch, variant)?;
                    self.check_launch(&launch.done(variant), limits, &written)
                });
                variants.map_err(|(found, wanted)| Error::Plan {
                    launch: i,
                    label: launch.label.clone(),
                    found,
                    wanted,
                })?;
                // All variants use their bindings alike.
                for (binding, declared) in launch.bindings.iter().zip(launch.kernel.bindings) {
                    if declared.access != Access::Read {
                        written.insert(binding.buffer);
                    }
                }
            }
        }
        Ok(())
    }

    fn check_launch(
        &self,
        launch: &Launch,
        limits: &Limits,
        written: &HashSet<usize>,
    ) -> std::result::Result<(), Refused> {
        let kernel = launch.kernel;
        let fail = |found: String, wanted: String| Err((found, wanted));
        if launch.bindings.len() != kernel.bindings.len() {
            return fail(
                format!("{} bindings", launch.bindings.len()),
                format!(
                    "the {} that {} declares",
                    kernel.bindings.len(),
                    kernel.name
                ),
            );
        }
        if launch.bindings.len() > limits.bindings {
            return fail(
                format!("{} bindings", launch.bindings.len()),
                format!("at most {}", limits.bindings),
            );
        }
        let names: Vec<_> = launch.constants.iter().map(|(name, _)| *name).collect();
        if names != kernel.constants {
            return fail(
                format!("constants {names:?}"),
                format!("{:?}", kernel.constants),
            );
        }
        if let Some((name, value)) = launch.constants.iter().find(|(_, v)| !held(*v)) {
            return fail(
                format!("constant {name} = {value:e}"),
                "a number that 32-bit floats have: finite, and 0 only if it is 0".into(),
            );
        }
        if launch.grid.iter().any(|&g| g == 0 || g > limits.workgroups) {
            return fail(
                format!("grid {:?}", launch.grid),
                format!("1 to {} workgroups in each dimension", limits.workgroups),
            );
        }
        if !(1..=MOST_DISPATCHES).contains(&launch.dispatches()) {
            return fail(
                format!("{} dispatches of {}", launch.dispatches(), kernel.name),
                format!("1 to {MOST_DISPATCHES}"),
            );
        }
        if let Some(turns) = kernel.turns_by(&launch.constants)
            && turns > limits.turns
        {
            return fail(
                format!("{turns} turns of a thread's loops in {}", kernel.name),
                format!(
                    "at most {}; smaller sizes, or the CPU, which has no such limit",
                    limits.turns
                ),
            );
        }
        // Replicas run beside each other and in no order.
        if let Some(d) = kernel
            .bindings
            .iter()
            .find(|d| d.shared && d.access != Access::Read)
        {
            return fail(
                format!(
                    "{} writes {}, which all replicas share",
                    kernel.name, d.name
                ),
                "shared buffers that are only read".into(),
            );
        }
        let replicas = self.replicas as u32;
        if launch.grid[2] != replicas {
            return fail(
                format!("{} workgroups in z", launch.grid[2]),
                format!("{replicas}"),
            );
        }
        for (i, (binding, declared)) in launch.bindings.iter().zip(kernel.bindings).enumerate() {
            let Some(buffer) = self.buffers.get(binding.buffer) else {
                return fail(
                    format!("buffer {}", binding.buffer),
                    "one of the plan".into(),
                );
            };
            let what = format!("{} at binding {i} ({})", buffer.name, declared.name);
            if buffer.dtype != declared.dtype {
                return fail(
                    format!("{:?} in {what}", buffer.dtype),
                    format!("{:?}", declared.dtype),
                );
            }
            if buffer.shared != declared.shared {
                return fail(
                    format!("shared = {} in {what}", buffer.shared),
                    format!("shared = {}", declared.shared),
                );
            }
            if binding.elements == 0 || binding.elements > buffer.elements {
                return fail(
                    format!("{} elements in {what}", binding.elements),
                    format!("1 to {}", buffer.elements),
                );
            }
            if !declared.elements.is_empty() {
                let said = declared.elements_by(&launch.constants);
                if said != Some(binding.elements as u64) {
                    let constants = launch.constants.iter();
                    let constants: Vec<_> = constants.map(|(n, x)| format!("{n} = {x}")).collect();
                    let said = said.map_or("no number".into(), |n| format!("{n} elements"));
                    return fail(
                        format!("{} elements in {what}", binding.elements),
                        format!(
                            "{said}: {} with {}",
                            declared.elements,
                            constants.join(", ")
                        ),
                    );
                }
            }
            let aliased =
                launch
                    .bindings
                    .iter()
                    .zip(kernel.bindings)
                    .enumerate()
                    .any(|(j, (other, d))| {
                        j != i
                            && other.buffer == binding.buffer
                            && (d.access != Access::Read || declared.access != Access::Read)
                    });
            if aliased {
                return fail(
                    format!("{what} bound twice"),
                    "no aliasing where one use writes".into(),
                );
            }
            if buffer.role == Role::Temporary
                && declared.access != Access::Write
                && !written.contains(&binding.buffer)
            {
                return fail(format!("{what} read"), "a temporary written before".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Alternative, Binding, Buffer};
    use super::*;
    use crate::kernel::{Args, Bind, Target};
    use crate::shape::DType;
    use crate::tensor::Real;

    fn copy<T: Real>(args: &mut Args<'_, T>) {
        let (x, y) = (args.f(0), args.f_mut(1));
        y.copy_from_slice(x);
    }

    static COPY: Kernel = Kernel::new(
        "copy",
        "",
        &[Bind::read("x").of("N"), Bind::write("y").of("N")],
        &["N", "KIND"],
        crate::reference!(copy),
    );

    fn plan() -> Plan {
        let buffer = |name: &str, role| Buffer {
            name: name.into(),
            dtype: DType::F32,
            elements: 4,
            shared: false,
            role,
        };
        let binding = |buffer| Binding {
            buffer,
            elements: 4,
        };
        Plan {
            replicas: 2,
            buffers: vec![buffer("x", Role::State), buffer("t", Role::Temporary)],
            programs: [(
                "train".to_string(),
                vec![Launch {
                    label: "layer 1".into(),
                    kernel: &COPY,
                    constants: vec![("N", 4.0), ("KIND", 1.0)],
                    bindings: vec![binding(0), binding(1)],
                    grid: [1, 1, 2],
                    flops: 8,
                    alternatives: vec![],
                }],
            )]
            .into(),
        }
    }

    static WRITES_SHARED: Kernel = Kernel {
        bindings: &[Bind::read("x"), Bind::write("y").shared()],
        ..COPY
    };

    fn refused(change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = plan();
        change(&mut plan);
        plan.check(&Limits::default()).unwrap_err().to_string()
    }

    fn launch(plan: &mut Plan) -> &mut Launch {
        &mut plan.programs.get_mut("train").unwrap()[0]
    }

    #[test]
    fn a_sound_plan_passes() {
        plan().check(&Limits::default()).unwrap();
        assert_eq!(plan().account().programs["train"].bytes, 64);
    }

    /// Shaders have them in f32.
    #[test]
    fn constants_that_f32_lacks_are_refused() {
        for (value, shown) in [(1e-50, "1e-50"), (1e39, "1e39"), (f64::NAN, "NaN")] {
            let said = refused(|p| launch(p).constants[0].1 = value);
            assert!(said.contains(&format!("constant N = {shown}")), "{said}");
        }
    }

    #[test]
    fn alternatives_are_held_too() {
        let with = |kernel, constants, grid| {
            refused(|p| {
                launch(p).alternatives.push(Alternative {
                    kernel,
                    target: Target::Gpu,
                    constants,
                    grid,
                });
            })
        };
        let constants = vec![("N", 4.0), ("KIND", 1.0)];
        assert!(with(&WRITES_SHARED, constants.clone(), [1, 1, 2]).contains("alternative"));
        assert!(with(&COPY, constants, [1, 1, 1]).contains("in z"));
        assert!(with(&COPY, vec![], [1, 1, 2]).contains("KIND"));
    }

    #[test]
    fn every_rule_is_held() {
        assert!(refused(|p| launch(p).bindings[0].elements = 5).contains("1 to 4"));
        assert!(refused(|p| launch(p).bindings[1].buffer = 0).contains("bound twice"));
        assert!(refused(|p| launch(p).bindings[0].buffer = 7).contains("buffer 7"));
        assert!(refused(|p| p.buffers[0].dtype = DType::U32).contains("F32"));
        assert!(refused(|p| p.buffers[0].shared = true).contains("shared = false"));
        assert!(refused(|p| p.buffers[0].role = Role::Temporary).contains("written before"));
        assert!(refused(|p| launch(p).grid[0] = 70_000).contains("65535"));
        assert!(refused(|p| launch(p).grid[2] = 1).contains("in z"));
        assert!(refused(|p| launch(p).constants.truncate(1)).contains("KIND"));
        assert!(refused(|p| launch(p).bindings.truncate(1)).contains("1 bindings"));
        assert!(refused(|p| p.buffers[0].elements = 1 << 26).contains("or the CPU."));
        assert!(refused(|p| launch(p).kernel = &WRITES_SHARED).contains("only read"));
    }
}
