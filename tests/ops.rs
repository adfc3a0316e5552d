//! The tests that walk the op table: an op cannot be listed without them.
//!
//! `WGRAD_OPS=conv2d,matmul cargo test --test ops` runs the named ops alone.

mod common;
#[path = "ops/nonfinite.rs"]
mod nonfinite;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{checked_gpu, gpu, mixed_gpu, note};
use wgrad::doctor::harness::{Prepared, inputs, plan_of};
use wgrad::doctor::tolerance::Side;
use wgrad::doctor::{Comparison, examine};
use wgrad::exec::Device;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::kernel::{Access, DISPATCHES};
use wgrad::ops::{Row, TABLE};
use wgrad::plan::Launch;
use wgrad::shape::DType;

fn rows() -> Vec<&'static Row> {
    let wanted = std::env::var("WGRAD_OPS").ok();
    TABLE
        .iter()
        .filter(|row| {
            wanted
                .as_ref()
                .is_none_or(|w| w.split(',').any(|w| w == row.stem))
        })
        .collect()
}

/// The device whose products round their factors.
const MIXED: &str = "mixed";

/// One op: reference in f32 and CPU executor and GPU, each against the reference in f64.
fn parity_of(row: &Row, replicas: &[usize], gpus: &[(&str, &Option<Device>)]) -> Comparison {
    let mut all = Comparison::default();
    let mut hold = |side, what: &str, found: wgrad::Result<Comparison>| {
        let found = found.unwrap_or_else(|e| panic!("{} {what}: {e}", row.stem));
        if let Some(failure) = &found.failure {
            panic!("{} {what}: {failure}", row.stem);
        }
        println!(
            "{:<16} {what:<10} {side:?} worst {:.3} of what is allowed",
            row.stem, found.worst
        );
        all.merge(found);
    };
    for implementation in [Implementation::Reference, Implementation::Optimized] {
        let found = examine(row, replicas, Side::Cpu, &mut |plan| {
            Ok(vec![Box::new(Cpu::<f32>::new(plan, implementation)?)])
        });
        hold(Side::Cpu, &format!("{implementation:?}"), found);
    }
    for (what, gpu) in gpus {
        let Some(gpu) = gpu else { continue };
        let found = examine(row, replicas, Side::Gpu, &mut |plan| {
            let variants = gpu.variants(plan).into_iter();
            // In mixed precision only what the other devices do not have.
            let variants = variants.filter(|plan| *what != MIXED || plan.rounds_factors());
            variants.map(|plan| gpu.executor(plan)).collect()
        });
        hold(Side::Gpu, what, found);
    }
    all
}

#[test]
fn parity() {
    let (gpu, checked, mixed) = (gpu(), checked_gpu(), mixed_gpu());
    let gpus = [("GPU", &gpu), ("checked", &checked), (MIXED, &mixed)];
    let replicas = [1, 3];
    let rows = rows();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut all = Comparison::default();
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            all.merge(parity_of(row, &replicas, &gpus));
        }
        all
    };
    // Most of the time goes into compiling shaders, by one thread each.
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let mut all = Comparison::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .for_each(|t| all.merge(t.join().unwrap()));
    });
    println!(
        "{} ops, {} shapes and settings with {} numbers of replicas, {} variants against the \
         reference in f64: {} results compared",
        rows.len(),
        rows.iter().map(|row| (row.cases)().len()).sum::<usize>(),
        replicas.len(),
        2 + gpus.iter().filter(|(_, gpu)| gpu.is_some()).count(),
        all.buffers
    );
    if rows.len() == TABLE.len() {
        note("parity", all.buffers);
    }
    // Less would mean that cases got lost.
    if gpu.is_some() && rows.len() == TABLE.len() {
        assert!(all.buffers >= 2000, "{} comparisons", all.buffers);
    }
}

/// Analytic gradients against central differences in f64.
#[test]
fn gradients() {
    let mut checked = 0;
    for row in rows() {
        let found = wgrad::doctor::gradients(row).unwrap_or_else(|e| panic!("{}: {e}", row.stem));
        if let Some(failure) = &found.failure {
            panic!("{}: {failure}", row.stem);
        }
        let cases = (row.cases)();
        let inputs = cases.iter().flat_map(|case| &case.inputs);
        let wanted = inputs.filter(|given| given.differentiate).count();
        assert_eq!(found.buffers, wanted, "{}", row.stem);
        checked += found.buffers;
    }
    println!("gradients of {checked} inputs checked");
    if rows().len() == TABLE.len() {
        assert!(checked >= 300, "{checked} inputs");
        note("gradients", checked);
    }
}

/// Files, WGSL and declarations agree.
#[test]
fn table() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut names = std::collections::HashSet::new();
    for row in TABLE {
        assert!(
            std::path::Path::new(root)
                .join(format!("src/ops/{}.rs", row.stem))
                .exists()
        );
        assert!(!(row.cases)().is_empty(), "{} lists no cases", row.stem);
        let shader = std::path::Path::new(root).join(format!("shaders/{}.wgsl", row.stem));
        assert_eq!(shader.exists(), !row.kernels.is_empty(), "{}", row.stem);
        if row.stem == "pointwise" {
            for case in (row.cases)() {
                for launch in &plan_of(&case, 1).unwrap().programs["run"] {
                    declared(launch.kernel);
                }
            }
        }
        let launched: std::collections::HashSet<_> = (row.cases)()
            .iter()
            .flat_map(|case| plan_of(case, 1).unwrap().programs["run"].clone())
            .flat_map(|launch| {
                (0..launch.variants()).map(move |variant| launch.done(variant).kernel.name)
            })
            .collect();
        for kernel in row.kernels {
            assert!(
                names.insert(kernel.name),
                "two kernels called {}",
                kernel.name
            );
            assert_eq!(kernel.stem, row.stem, "{}", kernel.name);
            assert!(
                launched.contains(kernel.name),
                "no case launches {}",
                kernel.name
            );
            declared(kernel);
        }
    }
    // No op without a row: modules are declared beside the table, not by it.
    let text = std::fs::read_to_string(format!("{root}/src/ops/mod.rs")).unwrap();
    let public = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    let declared: Vec<String> = text.lines().filter_map(public).collect();
    let rows: Vec<_> = TABLE.iter().map(|row| row.stem).collect();
    assert_eq!(declared, rows, "modules and rows of src/ops/mod.rs");
    // No shader without an op.
    for entry in std::fs::read_dir(format!("{root}/shaders")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
            assert!(
                TABLE.iter().any(|r| r.stem == stem),
                "{stem}.wgsl has no op"
            );
        }
    }
}

/// A kernel's declaration is whole, and its text says the same.
fn declared(kernel: &wgrad::kernel::Kernel) {
    assert!(kernel.trusted(), "{}", kernel.name);
    assert!(!kernel.turns.is_empty(), "{}: how many turns?", kernel.name);
    for bind in kernel.bindings {
        let said = !bind.elements.is_empty();
        assert!(
            said,
            "{}: how many elements has {}?",
            kernel.name, bind.name
        );
    }
    let module = naga::front::wgsl::parse_str(kernel.source)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(kernel.source)));
    declarations(kernel, &module);
}

fn declarations(kernel: &wgrad::kernel::Kernel, module: &naga::Module) {
    let info = naga::valid::Validator::new(Default::default(), naga::valid::Capabilities::all())
        .validate(module)
        .unwrap_or_else(|e| panic!("{}: {e:?}", kernel.name));
    let entry = module
        .entry_points
        .iter()
        .position(|e| e.name == kernel.name)
        .unwrap_or_else(|| panic!("no entry point {}", kernel.name));
    let used = info.get_entry_point(entry);
    let mut found: Vec<_> = module
        .global_variables
        .iter()
        .filter(|(handle, _)| !used[*handle].is_empty())
        .filter_map(|(_, v)| {
            let binding = v.binding?;
            let counted = kernel.constants.contains(&DISPATCHES);
            if (binding.group, v.space) == (1, naga::AddressSpace::Uniform) && counted {
                assert_eq!(v.name.as_deref(), Some("dispatched"));
                return None;
            }
            assert_eq!(binding.group, 0, "{}", kernel.name);
            let naga::AddressSpace::Storage { access } = v.space else {
                panic!("storage only")
            };
            let writes = access.contains(naga::StorageAccess::STORE);
            let naga::TypeInner::Array { base, .. } = module.types[v.ty].inner else {
                panic!("arrays only")
            };
            // Four neighbours at once are called `<name>_fours`, eight floats as four words of
            // 64 bits `<name>_octets`, four as two `<name>_pairs`. A composed kernel has one view of a
            // buffer, which needs no second name.
            let name = v.name.as_deref().unwrap();
            let (scalar, name) = match module.types[base].inner {
                naga::TypeInner::Scalar(scalar) => (scalar, name),
                naga::TypeInner::Vector {
                    size: naga::VectorSize::Quad,
                    scalar: naga::Scalar::U64,
                } => (naga::Scalar::F32, name.strip_suffix("_octets").unwrap()),
                naga::TypeInner::Vector {
                    size: naga::VectorSize::Bi,
                    scalar: naga::Scalar::U64,
                } => (naga::Scalar::F32, name.strip_suffix("_pairs").unwrap()),
                naga::TypeInner::Vector {
                    size: naga::VectorSize::Quad,
                    scalar,
                } if kernel.stem == "pointwise" => (scalar, name),
                naga::TypeInner::Vector {
                    size: naga::VectorSize::Quad,
                    scalar,
                } => (scalar, name.strip_suffix("_fours").unwrap()),
                _ => panic!("numbers only, one at a time or four"),
            };
            let dtype = match scalar.kind {
                naga::ScalarKind::Float => DType::F32,
                naga::ScalarKind::Uint => DType::U32,
                _ => panic!("f32 or u32 only"),
            };
            Some((binding.binding, name.to_string(), dtype, writes))
        })
        .collect();
    found.sort_by_key(|(binding, ..)| *binding);
    let declared: Vec<_> = kernel
        .bindings
        .iter()
        .enumerate()
        .map(|(i, b)| {
            (
                i as u32,
                b.name.to_string(),
                b.dtype,
                b.access != Access::Read,
            )
        })
        .collect();
    assert_eq!(found, declared, "bindings of {}", kernel.name);
    for constant in kernel.constants {
        assert!(
            module
                .overrides
                .iter()
                .any(|(_, o)| o.name.as_deref() == Some(constant)),
            "{} declares constant {constant}, its shader does not",
            kernel.name
        );
    }
}

/// A model of latency chooses between these, and what it says must not change a result.
#[test]
fn sums_of_columns_have_the_bits_of_sums_apart() {
    let Some(device) = checked_gpu() else { return };
    let named = |launch: &Launch, name: &str| {
        let mut variants = 0..launch.variants();
        variants.find(|&variant| launch.done(variant).kernel.name == name)
    };
    let row = TABLE.iter().find(|row| row.stem == "reduce").unwrap();
    let mut compared = 0;
    for case in (row.cases)() {
        let prepared = Prepared::new(&case, 2).unwrap();
        let given = inputs(&case, 2);
        let found = ["reduce", "reduce_columns"].map(|name| {
            let plan = prepared.plan().clone();
            named(&plan.programs["run"][0], name)?;
            let plan = plan.choose(|launch| named(launch, name).unwrap_or(0));
            let mut session = prepared.session(device.executor(plan).unwrap()).unwrap();
            Some(prepared.run(&mut session, &given).unwrap())
        });
        if let [Some(apart), Some(columns)] = found {
            assert_eq!(apart, columns, "{case:?}");
            compared += 1;
        }
    }
    assert!(compared > 3, "{compared}");
}
