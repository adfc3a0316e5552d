//! A device that fails, and a kernel of somebody else's: each failure ends with a typed error, no hang, and the last
//! checkpoint as it was.

mod common;

use std::sync::Arc;

use common::{checked_gpu, gpu};
use wgrad::Error;
use wgrad::book::nn::Network;
use wgrad::book::train::{Settings, Trainer};
use wgrad::compile::{Options, compile};
use wgrad::data::Split;
use wgrad::data::digits::{Part, generate};
use wgrad::doctor::harness::{Prepared, inputs, plan_of};
use wgrad::exec::{Choice, Device};
use wgrad::graph::Graph;
use wgrad::kernel::{Args, Bind, Kernel};
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::{Lowered, Lowering, Op, Operand, TABLE, Tape};
use wgrad::plan::Limits;
use wgrad::run::Session;
use wgrad::shape::Type;
use wgrad::tensor::Real;

fn data() -> Split {
    let part = |part, n| generate(5, part, n).unwrap();
    Split {
        train: part(Part::Train, 60),
        validation: part(Part::Validation, 20),
        test: part(Part::Test, 20),
        synthetic: true,
    }
}

fn network() -> Network {
    Network::new([1, 28, 28])
        .flatten()
        .dense(20)
        .relu()
        .dense(10)
        .softmax()
}

#[test]
fn a_lost_device_is_an_error_and_the_checkpoint_stays() {
    let Some(device) = gpu() else { return };
    let Device::Gpu(opened) = &device else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        epochs: 3,
        ..Settings::default()
    };
    let mut trainer = Trainer::new(&network(), &data(), &settings, &device).unwrap();
    trainer.keep_checkpoints(folder.path(), 2).unwrap();
    let mut epochs = 0;
    let lost = opened.clone();
    let outcome = trainer.run(&mut |event| {
        if let wgrad::book::train::Event::Epoch(_) = event {
            epochs += 1;
            if epochs == 2 {
                lost.lose();
            }
        }
    });
    match outcome {
        Err(Error::Device { found, fix, .. }) => {
            assert!(
                found.to_lowercase().contains("destroy") || found.contains("lost"),
                "{found}"
            );
            assert!(fix.contains("on the CPU"), "{fix}");
        }
        other => panic!("{other:?}"),
    }
    // The CPU goes on from the checkpoint of the first epoch.
    let cpu = Device::open(Choice::Cpu).unwrap();
    let mut trainer = Trainer::new(&network(), &data(), &settings, &cpu).unwrap();
    trainer.keep_checkpoints(folder.path(), 2).unwrap();
    assert_eq!(trainer.resume().unwrap(), 1);
    let by: Vec<&str> = (trainer.origins().iter())
        .map(|origin| origin.device.as_str())
        .collect();
    assert_eq!(by, [&device.info().name, &cpu.info().name]);
    assert_eq!(trainer.run(&mut |_| {}).unwrap().epochs.len(), 3);
}

#[test]
fn a_shader_that_does_not_compile_is_an_error() {
    let Some(device) = checked_gpu() else { return };
    let row = TABLE.iter().find(|row| row.stem == "argmax").unwrap();
    let mut plan = plan_of(&(row.cases)()[0], 1).unwrap();
    for launch in plan.programs.values_mut().flatten() {
        let kernel = launch.kernel;
        let source = kernel
            .source
            .replace("largest = candidate", "largest = nothing");
        launch.kernel = Box::leak(Box::new(kernel.with_source(String::leak(source))));
    }
    match device.executor(plan).map(|_| ()) {
        Err(Error::Device { action, found, fix }) => {
            assert!(action.contains("compile kernel argmax"), "{action}");
            assert!(found.contains("nothing"), "{found}");
            // Another device would refuse the text as well.
            assert!(fix.contains("WGSL") && !fix.contains("CPU"), "{fix}");
        }
        other => panic!("{other:?}"),
    }
    // The device is as good as before.
    let case = &(row.cases)()[0];
    let prepared = Prepared::new(case, 1).unwrap();
    let mut session = Session::open(&prepared.compiled, &device).unwrap();
    prepared.run(&mut session, &inputs(case, 1)).unwrap();
}

#[test]
fn an_adapter_that_is_too_small_is_named() {
    let limits = Limits {
        binding_bytes: 40_000,
        ..Limits::default()
    };
    let mut graph = Graph::new();
    let x = graph
        .variable("big", Type::f32("big", &[10_001]).unwrap())
        .unwrap();
    graph.begin("run");
    let y = graph
        .op1(Arc::new(Activate(Activation::Relu)), &[x])
        .unwrap();
    graph.result("y", y).unwrap();
    let options = |limits| Options {
        replicas: 1,
        fuse: true,
        limits,
    };
    match compile(&graph, &options(limits)) {
        Err(Error::Adapter { found, wanted, fix }) => {
            assert!(found.contains("40000"), "{found}");
            assert!(wanted.contains("40004 bytes for"), "{wanted}");
            assert!(fix.contains("the CPU"), "{fix}");
        }
        other => panic!("{other:?}"),
    }
    // The same when a plan meets an adapter it was not compiled for.
    let Some(device) = gpu() else { return };
    let large = graph_of_terabytes();
    let plan = compile(&large, &options(Limits::CPU)).unwrap();
    match device.executor(plan).map(|_| ()) {
        Err(Error::Adapter { .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// A graph whose one buffer no adapter binds.
fn graph_of_terabytes() -> Graph {
    let mut graph = Graph::new();
    let x = graph
        .variable("huge", Type::f32("huge", &[1 << 30]).unwrap())
        .unwrap();
    graph.begin("run");
    let y = graph
        .op1(Arc::new(Activate(Activation::Relu)), &[x])
        .unwrap();
    graph.result("y", y).unwrap();
    graph
}

/// Many buffers that each fit and together do not: refused before anything is allocated.
#[test]
#[cfg(target_os = "linux")]
fn memory_that_would_run_out_is_an_error() {
    let cpu = Device::open(Choice::Cpu).unwrap();
    for device in std::iter::once(cpu).chain(gpu().filter(|d| d.info().software)) {
        let each = device.info().limits.binding_bytes.min(1 << 30) as usize / 4;
        let mut graph = Graph::new();
        let names: Vec<String> = (0..4096).map(|i| format!("v{i}")).collect();
        let mut variable = |name: &String| {
            graph
                .variable(name, Type::f32(name, &[each]).unwrap())
                .unwrap()
        };
        let variables: Vec<_> = names.iter().map(&mut variable).collect();
        graph.begin("run");
        let y = graph
            .op1(Arc::new(Activate(Activation::Relu)), &variables[..1])
            .unwrap();
        graph.result("y", y).unwrap();
        let options = Options {
            replicas: 1,
            fuse: true,
            limits: device.info().limits,
        };
        let plan = compile(&graph, &options).unwrap();
        match device.executor(plan).map(|_| ()) {
            Err(Error::Adapter { found, wanted, .. }) => {
                assert!(
                    found.contains("free memory") && wanted.contains("GiB"),
                    "{found} {wanted}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

fn taken_twice<T: Real>(args: &mut Args<'_, T>) {
    args.f_mut(1).fill(T::ONE);
    args.f_mut(1).fill(T::ONE);
}

fn past_the_end<T: Real>(args: &mut Args<'_, T>) {
    let (x, y) = (args.f(0), args.f_mut(1));
    // The last of 4; of 6 there is none.
    y.fill(x[7]);
}

fn not_declared<T: Real>(args: &mut Args<'_, T>) {
    let k = args.size("K");
    args.f_mut(1).fill(T::of(k as f64));
}

const fn own(name: &'static str, reference: wgrad::kernel::Reference) -> Kernel {
    const WGSL: &str = "override N: u32 = 1u;
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn twice() { y[0] = x[0]; }";
    const BINDINGS: &[Bind] = &[Bind::read("x"), Bind::write("y")];
    Kernel::new(name, WGSL, BINDINGS, &["N"], reference)
}

static TAKEN_TWICE: Kernel = own("twice", wgrad::reference!(taken_twice));
static PAST_THE_END: Kernel = own("past", wgrad::reference!(past_the_end));
static NOT_DECLARED: Kernel = own("undeclared", wgrad::reference!(not_declared));

#[derive(Debug)]
struct Own(&'static Kernel);

impl Op for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn infer(&self, inputs: &[Type]) -> wgrad::Result<Vec<Type>> {
        Ok(inputs.to_vec())
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> wgrad::Result<Lowering> {
        Ok(Lowering::Launch(Lowered {
            kernel: self.0,
            constants: vec![("N", inputs[0].elements() as f64)],
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid: [1, 1],
            flops: 1,
            alternatives: vec![],
        }))
    }
}

/// What the function of a kernel of another crate panics with is an error that names launch and kernel, of one replica
/// and of several; what was there stays, and other programs run.
#[test]
fn a_function_of_somebody_elses_that_panics_is_an_error() {
    for (kernel, said) in [
        (
            &TAKEN_TWICE,
            "binding 1 is no float output but an output that was taken already",
        ),
        (&PAST_THE_END, "index out of bounds"),
        (&NOT_DECLARED, "constant K is not declared"),
    ] {
        for replicas in [1, 5] {
            let mut graph = Graph::new();
            let x = graph
                .input::<f32>("x", Type::f32("x", &[6]).unwrap())
                .unwrap();
            let wrong = graph.begin("wrong");
            graph.label("first");
            let y = graph
                .op1(Arc::new(Activate(Activation::Relu)), &[x.value()])
                .unwrap();
            graph.label("mine");
            let y = graph.op1(Arc::new(Own(kernel)), &[y]).unwrap();
            graph.result("y", y).unwrap();
            let right = graph.begin("right");
            let z = graph
                .op1(Arc::new(Activate(Activation::Relu)), &[x.value()])
                .unwrap();
            let z = graph.output::<f32>("z", z).unwrap();
            let cpu = Device::open(Choice::Cpu).unwrap();
            let options = Options {
                replicas,
                fuse: true,
                limits: Limits::default(),
            };
            let mut session = Session::with(&graph, &cpu, &options).unwrap();
            session.fill(x, 3.0).unwrap();
            for _ in 0..2 {
                let error = session.run(wrong, 20).unwrap_err();
                let Error::Plan {
                    launch: 1,
                    label,
                    found,
                    ..
                } = &error
                else {
                    panic!("{error}");
                };
                assert_eq!(label, "mine");
                assert!(
                    found.contains(said) && found.contains(kernel.name),
                    "{found}"
                );
            }
            session.run(right, 1).unwrap();
            let z = session.read(z).unwrap();
            assert!(z.iter().all(|z| *z == 3.0), "{z:?}");
        }
    }
}
