//! The tests that walk the op table: an op cannot be listed without them.
//!
//! `WGRAD_OPS=conv2d,matmul cargo test --test ops` runs the named ops alone.

mod common;
#[path = "ops/nonfinite.rs"]
mod nonfinite;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{checked_gpu, gpu, mixed_gpu, words};
use wgrad::compile::{Compiled, Options};
use wgrad::doctor::harness::{fill, plan_of};
use wgrad::doctor::tolerance::Side;
use wgrad::doctor::{Comparison, examine};
use wgrad::exec::Device;
use wgrad::exec::cpu::{Cpu, Text};
use wgrad::graph::{Graph, Handle, Program};
use wgrad::kernel::Access;
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::{Case, Row, TABLE, Tape, Value};
use wgrad::plan::Limits;
use wgrad::rng::uniform;
use wgrad::run::Session;
use wgrad::shape::DType;
use wgrad::tensor::Host;

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
    for text in [Text::Reference, Text::Fast] {
        let found = examine(row, replicas, Side::Cpu, &mut |plan| {
            Ok(vec![Box::new(Cpu::<f32>::new(plan, text)?)])
        });
        hold(Side::Cpu, &format!("{text:?}"), found);
    }
    for (what, gpu) in gpus {
        let Some(gpu) = gpu else { continue };
        let found = examine(row, replicas, Side::Gpu, &mut |plan| {
            let ways = gpu.ways(plan).into_iter();
            // In mixed precision only what the other devices do not have.
            let ways = ways.filter(|plan| *what != MIXED || plan.rounds_factors());
            ways.map(|plan| gpu.executor(plan)).collect()
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
        "{} ops, {} shapes and settings with {} numbers of replicas, {} ways against the \
         reference in f64: {} results compared",
        rows.len(),
        rows.iter().map(|row| (row.cases)().len()).sum::<usize>(),
        replicas.len(),
        2 + gpus.iter().filter(|(_, gpu)| gpu.is_some()).count(),
        all.buffers
    );
    // Less would mean that cases got lost.
    if gpu.is_some() && rows.len() == TABLE.len() {
        assert!(all.buffers >= 2000, "{} comparisons", all.buffers);
    }
}

/// A case mid-graph: tanh before it, sigmoid after it, a random upstream gradient.
struct Middle {
    session: Session<Cpu<f64>>,
    program: Program,
    cost: Handle<f32>,
    /// The inputs to differentiate by: which of the case's, and their gradients.
    variables: Vec<(usize, Handle<f32>, Handle<f32>)>,
    upstream: Vec<f64>,
}

impl Middle {
    fn new(case: &Case) -> Option<Self> {
        let mut graph = Graph::new();
        let given = case.inputs.iter().enumerate();
        let inputs = given.map(|(i, g)| graph.input(&format!("input {i}"), g.ty.clone()).unwrap());
        let inputs: Vec<Handle<Host>> = inputs.collect();
        let by: Vec<usize> = (0..inputs.len())
            .filter(|&i| case.inputs[i].differentiate)
            .collect();
        let wanted: Vec<Value> = by.iter().map(|&i| inputs[i].value()).collect();
        if wanted.is_empty() {
            return None;
        }
        let types: Vec<_> = case.inputs.iter().map(|g| g.ty.clone()).collect();
        let output = case.op.infer(&types).unwrap().swap_remove(0);
        let seed = graph.input::<f32>("upstream", output).unwrap();
        let program = graph.begin("run");
        let before: Vec<Value> = inputs
            .iter()
            .zip(&case.inputs)
            .map(|(&v, g)| match g.differentiate {
                true => graph
                    .op1(
                        std::sync::Arc::new(Activate(Activation::Tanh)),
                        &[v.value()],
                    )
                    .unwrap(),
                false => v.value(),
            })
            .collect();
        let y = graph.op(case.op.clone(), &before).unwrap()[0];
        let cost = graph
            .op1(std::sync::Arc::new(Activate(Activation::Sigmoid)), &[y])
            .unwrap();
        let gradients = graph.gradients(cost, seed.value(), &wanted).unwrap();
        let cost = graph.output("cost", cost).unwrap();
        let mut variables = vec![];
        for (&i, g) in by.iter().zip(gradients) {
            let g = g.unwrap_or_else(|| panic!("{:?}: no gradient for input {i}", case.op));
            let x = graph.handle(inputs[i].value()).unwrap();
            let g = graph.output(&format!("gradient {i}"), g).unwrap();
            variables.push((i, x, g));
        }
        let options = Options {
            replicas: 1,
            fuse: true,
            limits: Limits::default(),
        };
        let compiled = Compiled::new(&graph, &options).unwrap();
        let cpu = Cpu::<f64>::new(compiled.plan().clone(), Text::Reference).unwrap();
        let mut session = Session::of(&compiled, Box::new(cpu)).unwrap();
        for (i, &input) in inputs.iter().enumerate() {
            session.write(input, &fill(case, i, 1)).unwrap();
        }
        let upstream: Vec<f64> = words(99, seed.elements())
            .iter()
            .map(|&w| f64::from(uniform(w)) * 2.0 - 1.0)
            .collect();
        let seeds = session.values_mut(0, seed).unwrap();
        seeds.copy_from_slice(&upstream);
        Some(Self {
            session,
            program,
            cost,
            variables,
            upstream,
        })
    }

    fn cost(&mut self) -> f64 {
        self.session.run(self.program, 1).unwrap();
        let cost = self.session.values(0, self.cost).unwrap();
        cost.iter().zip(&self.upstream).map(|(c, u)| c * u).sum()
    }

    /// Sets an element of an input.
    fn set(&mut self, input: Handle<f32>, i: usize, x: f64) {
        self.session.values_mut(0, input).unwrap()[i] = x;
    }
}

/// Analytic gradients against central differences in f64.
#[test]
fn gradients() {
    let mut checked = 0;
    for row in rows() {
        for case in (row.cases)() {
            let Some(mut middle) = Middle::new(&case) else {
                continue;
            };
            middle.cost();
            for (number, input, gradient) in middle.variables.clone() {
                middle.cost();
                let gradient = middle.session.values(0, gradient).unwrap().to_vec();
                for (i, &found) in gradient.iter().enumerate() {
                    let h = 1e-5;
                    let x = middle.session.values(0, input).unwrap()[i];
                    middle.set(input, i, x + h);
                    let above = middle.cost();
                    middle.set(input, i, x - h);
                    let below = middle.cost();
                    middle.set(input, i, x);
                    let slope = (above - below) / (2.0 * h);
                    // Truncation is of order h² times a third derivative, cancellation
                    // of order 1e-16/h: both near 1e-10.
                    assert!(
                        (slope - found).abs() <= 1e-7 * (1.0 + slope.abs()),
                        "{}: d/d input {} [{i}] is {found}, central difference {slope}\n{:?}\n{:?}",
                        row.stem,
                        number,
                        case.op,
                        case.inputs
                    );
                    checked += 1;
                }
            }
        }
    }
    println!("{checked} slopes checked");
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
            .flat_map(|launch| (0..launch.ways()).map(move |way| launch.done(way).kernel.name))
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
