//! Which launch of a program it is that makes a value infinite.

use super::Session;
use crate::error::Result;
use crate::graph::Program;
use crate::kernel::Access;
use crate::plan::Binding;
use crate::shape::DType;

/// Runs a program once, launch by launch, up to the first one that leaves a replica a float that is not finite: its
/// label and its kernel. `None` where the whole program leaves none.
pub(crate) fn first_not_finite(
    session: &mut Session,
    program: Program,
    replica: usize,
) -> Result<Option<String>> {
    let launches = session.launches(program)?.to_vec();
    for (i, launch) in launches.iter().enumerate() {
        session.run_part(program, i..i + 1)?;
        let bindings = launch.bindings.iter().zip(launch.kernel.bindings);
        let written = bindings.filter(|(_, b)| b.access != Access::Read && b.dtype == DType::F32);
        let written: Vec<Binding> = written.map(|(binding, _)| *binding).collect();
        if written.is_empty() {
            continue;
        }
        let hosts = session.read_bindings(&written)?;
        for (binding, host) in written.iter().zip(hosts) {
            let values = host.floats().unwrap_or_default();
            let own = values.chunks(binding.elements).nth(replica);
            if own.is_some_and(|own| own.iter().any(|x| !x.is_finite())) {
                return Ok(Some(format!("{} ({})", launch.label, launch.kernel.name)));
            }
        }
    }
    Ok(None)
}
