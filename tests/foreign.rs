//! What a crate outside may do to the engine, and what it gets when that is wrong: own ops, own
//! kernels, values of other graphs, variables that nobody has written.

mod common;

use std::sync::Arc;

use common::gpu;
use wgrad::compile::{Options, compile};
use wgrad::exec::{Choice, Device};
use wgrad::expr::Expr;
use wgrad::graph::{Graph, Handle, Program};
use wgrad::kernel::{Args, Bind, Kernel, Port};
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::add_bias::AddBias;
use wgrad::ops::advance::Advance;
use wgrad::ops::constant::Constant;
use wgrad::ops::dense_loss::DenseLoss;
use wgrad::ops::dropout::Dropout;
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::pointwise::{Pointwise, WithEnding};
use wgrad::ops::reshape::Reshape;
use wgrad::ops::scale::Scale;
use wgrad::ops::softmax::SOFTMAX;
use wgrad::ops::{
    COUNTER, Cost, Loss, LossGrad, Lowered, Lowering, Op, Operand, Tape, Value, quadratic,
};
use wgrad::optim::{HYPER, TableSgd};
use wgrad::plan::{Limits, Plan};
use wgrad::run::Session;
use wgrad::shape::Type;
use wgrad::tensor::Real;
use wgrad::{Error, Result};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    std::iter::once(cpu).chain(gpu()).collect()
}

fn f32s(extents: &[usize]) -> Type {
    Type::f32("test", extents).unwrap()
}

fn u32s(extents: &[usize]) -> Type {
    Type::u32("test", extents).unwrap()
}

fn options(fuse: bool) -> Options {
    Options {
        replicas: 1,
        fuse,
        limits: Limits::default(),
    }
}

fn plan(graph: &Graph, fuse: bool) -> Result<Plan> {
    compile(graph, &options(fuse))
}

fn session(graph: &Graph, device: &Device) -> Session {
    Session::with(graph, device, &options(true)).unwrap()
}

/// An op of one input and one output of its type, whatever it lowers to.
struct Own(fn(&[Type], &[Type]) -> Result<Lowering>);

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Own")
    }
}

impl Op for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        (self.0)(inputs, outputs)
    }
}

/// A launch of `kernel` over x and y `[N]`, with N as it is told.
fn over(kernel: &'static Kernel, n: usize, more: &[(&'static str, f64)]) -> Lowering {
    Lowering::Launch(Lowered {
        kernel,
        constants: [&[("N", n as f64)], more].concat(),
        operands: vec![Operand::In(0), Operand::Out(0)],
        grid: [n.div_ceil(64) as u32, 1],
        flops: n as u64,
        alternatives: vec![],
    })
}

/// x `[4]`, a program `run` that applies an op to it, the result y.
struct Applied {
    graph: Graph,
    x: Handle<f32>,
    run: Program,
    y: Handle<f32>,
}

fn applied(op: impl Op) -> Result<Applied> {
    let mut graph = Graph::new();
    let x = graph.input("x", f32s(&[4]))?;
    let run = graph.begin("run");
    graph.label("mine");
    let y = graph.op1(Arc::new(op), &[x.value()])?;
    let y = graph.output("y", y)?;
    Ok(Applied { graph, x, run, y })
}

// --- steps -------------------------------------------------------------------------------------

/// A graph that loads no batch counts its steps all the same: other masks, other rates.
#[test]
fn a_graph_without_gather_counts_its_steps() {
    const N: usize = 64;
    let mut graph = Graph::new();
    let x = graph.input::<f32>("x", f32s(&[N])).unwrap();
    let w = graph.input::<f32>("w", f32s(&[1])).unwrap();
    let one = graph.input::<f32>("one", f32s(&[1])).unwrap();
    let keys = graph.input::<u32>("keys", u32s(&[4])).unwrap();
    let hyper = graph.input::<f32>("hyper", f32s(&[HYPER + 3])).unwrap();
    let step = graph.input::<u32>("step", u32s(&[COUNTER])).unwrap();
    let run = graph.begin("run");
    let dropout = Dropout {
        p: 0.5,
        layer: 0,
        rescale: false,
    };
    let inputs = [x.value(), keys.value(), step.value()];
    let y = graph.op1(Arc::new(dropout), &inputs).unwrap();
    let y = graph.output::<f32>("y", y).unwrap();
    let sgd = TableSgd {
        l2: false,
        l1: false,
        momentum: false,
        epoch_steps: 1,
    };
    let inputs = [one, w, hyper].map(Handle::value);
    let inputs = [&inputs[..], &[step.value()]].concat();
    graph.op(Arc::new(sgd.update()), &inputs).unwrap();
    graph.op(Arc::new(Advance), &[step.value()]).unwrap();
    for device in devices() {
        for fuse in [false, true] {
            let mut session = Session::with(&graph, &device, &options(fuse)).unwrap();
            session.fill(x, 1.0).unwrap();
            session.fill(w, 0.0).unwrap();
            session.fill(one, 1.0).unwrap();
            session.write(keys, &[1, 2, 0, 0]).unwrap();
            let rates = [1.0, 10.0, 100.0];
            let all = [&[0.0; HYPER][..], &rates].concat();
            session.write(hyper, &all).unwrap();
            session.fill(step, 0).unwrap();
            let mut masks = vec![];
            for sum in [-1.0, -11.0, -111.0] {
                session.run(run, 1).unwrap();
                let (w, y) = session.read((w, y)).unwrap();
                assert_eq!(w, [sum], "{}", device.info().name);
                masks.push(y);
            }
            assert!(masks[0] != masks[1] && masks[1] != masks[2] && masks[0] != masks[2]);
            // Three more steps in one go are three steps.
            session.run(run, 3).unwrap();
            assert_eq!(session.read(w).unwrap(), [-411.0]);
        }
    }
}

// --- an own cost -------------------------------------------------------------------------------

fn absolute<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (scores, loss) = (a.f(0), a.f_mut(2));
    for (loss, z) in loss.iter_mut().zip(scores.chunks(k)) {
        *loss = z.iter().fold(T::ZERO, |sum, &z| sum + z * z * T::of(3.0));
    }
}

fn absolute_grad<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (scores, g, delta) = (a.f(0), a.f(2), a.f_mut(3));
    for (i, delta) in delta.iter_mut().enumerate() {
        *delta = g[i / k] * scores[i] * T::of(6.0);
    }
}

/// Three times the squares of the scores, whatever the label.
static OWN_LOSS: Kernel = Kernel::new(
    "own_loss",
    "override N: u32 = 1u;
     override K: u32 = 1u;
     @group(0) @binding(0) var<storage, read> scores: array<f32>;
     @group(0) @binding(1) var<storage, read> labels: array<u32>;
     @group(0) @binding(2) var<storage, read_write> loss: array<f32>;
     @compute @workgroup_size(1)
     fn own_loss(@builtin(workgroup_id) group: vec3<u32>) {
         let n = group.x;
         var sum = 0.0 * f32(labels[n]);
         for (var k = 0u; k < K; k++) { sum += 3.0 * scores[n * K + k] * scores[n * K + k]; }
         loss[n] = sum;
     }",
    &[
        Bind::read("scores"),
        Bind::read("labels").u32(),
        Bind::write("loss"),
    ],
    &["N", "K"],
    wgrad::reference!(absolute),
);

static OWN_GRAD: Kernel = Kernel::new(
    "own_grad",
    "override N: u32 = 1u;
     override K: u32 = 1u;
     @group(0) @binding(0) var<storage, read> scores: array<f32>;
     @group(0) @binding(1) var<storage, read> labels: array<u32>;
     @group(0) @binding(2) var<storage, read> g: array<f32>;
     @group(0) @binding(3) var<storage, read_write> delta: array<f32>;
     @compute @workgroup_size(1)
     fn own_grad(@builtin(workgroup_id) group: vec3<u32>) {
         let n = group.x;
         for (var k = 0u; k < K; k++) {
             delta[n * K + k] = g[n] * 6.0 * scores[n * K + k] + 0.0 * f32(labels[n]);
         }
     }",
    &[
        Bind::read("scores"),
        Bind::read("labels").u32(),
        Bind::read("g"),
        Bind::write("delta"),
    ],
    &["N", "K"],
    wgrad::reference!(absolute_grad),
);

/// It even has the name of a cost of the crate's.
static OWN: Cost = Cost {
    name: "quadratic",
    loss: &OWN_LOSS,
    slope: &OWN_GRAD,
    both: None,
};

/// A dense layer under a cost, as the crate's training steps have it.
struct Classifier {
    graph: Graph,
    /// Images, labels, step counter, guard.
    integers: [Handle<u32>; 4],
    /// Weights, biases, metrics.
    floats: [Handle<f32>; 3],
    train: Program,
    delta: Handle<f32>,
}

impl Classifier {
    fn step(&self) -> Value {
        self.integers[2].value()
    }
}

fn classifier(cost: &'static Cost) -> Classifier {
    let mut this = uncounted_classifier(cost, true);
    let step = this.step();
    this.graph.op(Arc::new(Advance), &[step]).unwrap();
    this
}

/// [`classifier`] before its step is counted; its batch is gathered or given.
fn uncounted_classifier(cost: &'static Cost, gathered: bool) -> Classifier {
    let mut graph = Graph::new();
    let shared = |extents: &[usize]| u32s(extents).shared();
    let images = graph.input("images", shared(&[3])).unwrap();
    let labels = graph.input("labels", shared(&[3])).unwrap();
    let step = graph.input("step", u32s(&[COUNTER])).unwrap();
    let w = graph.input("w", f32s(&[2, 4])).unwrap();
    let b = graph.input("b", f32s(&[2])).unwrap();
    let metrics = graph.input("metrics", f32s(&[4])).unwrap();
    let guard = graph.input("guard", u32s(&[4])).unwrap();
    let integers: [Handle<u32>; 4] = [images, labels, step, guard];
    let floats: [Handle<f32>; 3] = [w, b, metrics];
    let [images, labels, step, guard] = integers.map(Handle::value);
    let [w, b, metrics] = floats.map(Handle::value);
    let given = [
        graph.variable("x", f32s(&[3, 1, 2, 2])).unwrap(),
        graph.variable("y", u32s(&[3])).unwrap(),
    ];
    let train = graph.begin("train");
    let gather = Gather {
        batch: 3,
        images: 3,
        shape: [1, 2, 2],
        expansion: Expansion::None,
        epoch_steps: 1,
        scale: 1.0,
        shuffled: false,
    };
    let xy = match gathered {
        true => graph.op(Arc::new(gather), &[images, labels, step]).unwrap(),
        false => given.to_vec(),
    };
    let mut one = |op: Arc<dyn Op>, inputs: &[Value]| graph.op1(op, inputs).unwrap();
    let extents = vec![3, 4];
    let x = one(Arc::new(Reshape { extents }), &[xy[0]]);
    let z = one(Arc::new(Matmul::new(false, true)), &[x, w]);
    let z = one(Arc::new(AddBias), &[z, b]);
    let losses = one(Arc::new(Loss::of(cost)), &[z, xy[1]]);
    let op = EpochMetrics {
        count: 3,
        epoch_steps: 1,
        predict: false,
        keeps: false,
    };
    let measured = [z, losses, xy[1], step, metrics, guard];
    graph.op(Arc::new(op), &measured).unwrap();
    let seed = Constant {
        extents: vec![3],
        value: 0.5,
    };
    let seed = graph.op1(Arc::new(seed), &[]).unwrap();
    let delta = graph
        .op1(Arc::new(LossGrad(Loss::of(cost))), &[z, xy[1], seed])
        .unwrap();
    let delta = graph.op1(Arc::new(Scale(2.0)), &[delta]).unwrap();
    let delta = graph.output("delta", delta).unwrap();
    Classifier {
        graph,
        integers,
        floats,
        train,
        delta,
    }
}

fn fused(graph: &Graph) -> bool {
    let plan = plan(graph, true).unwrap();
    let mut launches = plan.programs["train"].iter();
    launches.any(|launch| launch.kernel.name == "dense_loss")
}

#[test]
fn only_the_crates_own_costs_are_fused() {
    assert!(fused(&classifier(&quadratic::COST).graph));
    let own = classifier(&OWN);
    assert!(!fused(&own.graph));
    let [images, labels, step, guard] = own.integers;
    let [w, b, metrics] = own.floats;
    let weights: Vec<f32> = (0..8).map(|i| i as f32 * 0.25 - 1.0).collect();
    for device in devices() {
        let mut session = session(&own.graph, &device);
        let packed = [0x0001_0002, 0x0300, 0x0001_0000];
        session.write(images, &packed).unwrap();
        session.write(labels, &[0, 1, 1]).unwrap();
        session.fill(step, 0).unwrap();
        session.write(w, &weights).unwrap();
        session.write(b, &[0.5, -0.5]).unwrap();
        session.fill(metrics, 0.0).unwrap();
        session.fill(guard, 0).unwrap();
        session.run(own.train, 1).unwrap();
        let (metrics, delta) = session.read((metrics, own.delta)).unwrap();
        // z = (-2, 0), (-1.75, 0.25), (0, 0); the cost is 3 Σ z², its slope 6 z.
        assert_eq!(metrics[0], 3.0 * (4.0 + 3.125));
        let wanted = [-12.0, 0.0, -10.5, 1.5, 0.0, 0.0];
        assert_eq!(delta, wanted, "{}", device.info().name);
    }
}

/// Whether the fused kernel counts the step; if not, that is a launch of its own.
fn counts(graph: &Graph) -> bool {
    let plan = plan(graph, true).unwrap();
    let launches = &plan.programs["train"];
    let of = |name: &str| launches.iter().find(|launch| launch.kernel.name == name);
    let constants = &of("dense_loss").unwrap().constants;
    let advance = constants
        .iter()
        .find(|(name, _)| *name == "ADVANCE")
        .unwrap();
    assert_eq!(advance.1 == 0.0, of("advance").is_some());
    advance.1 == 1.0
}

/// The fused kernel counts the step in its middle, and leaves `now` to the next gather.
#[test]
fn a_step_is_counted_in_its_middle_only_where_nobody_can_tell() {
    let masks = |graph: &mut Graph, step| {
        let x = graph.variable("noise", f32s(&[8])).unwrap();
        let keys = graph.variable("keys", u32s(&[4])).unwrap();
        (x, keys, step)
    };
    let draw = |graph: &mut Graph, (x, keys, step): (Value, Value, Value)| {
        let dropout = Dropout {
            p: 0.5,
            layer: 0,
            rescale: false,
        };
        let mask = graph.op1(Arc::new(dropout), &[x, keys, step]).unwrap();
        graph.result("mask", mask).unwrap();
    };
    // A mask between the loss and the count reads `now`, which nobody has changed.
    let mut this = uncounted_classifier(&quadratic::COST, true);
    let (step, graph) = (this.step(), &mut this.graph);
    let own = masks(graph, step);
    draw(graph, own);
    graph.op(Arc::new(Advance), &[step]).unwrap();
    assert!(counts(graph));
    // Nobody gathers: `now` would stay what it is.
    let mut this = uncounted_classifier(&quadratic::COST, false);
    let (step, graph) = (this.step(), &mut this.graph);
    graph.op(Arc::new(Advance), &[step]).unwrap();
    assert!(!counts(graph));
    // A mask behind the count is that of the step to come.
    let mut this = uncounted_classifier(&quadratic::COST, true);
    let (step, graph) = (this.step(), &mut this.graph);
    let own = masks(graph, step);
    graph.op(Arc::new(Advance), &[step]).unwrap();
    draw(graph, own);
    assert!(!counts(graph));
    // Another program asks for `now`, and does not begin with a gather.
    let mut this = uncounted_classifier(&quadratic::COST, true);
    let (step, graph) = (this.step(), &mut this.graph);
    graph.op(Arc::new(Advance), &[step]).unwrap();
    graph.begin("sample");
    let own = masks(graph, step);
    draw(graph, own);
    assert!(!counts(graph));
}

#[test]
fn the_fused_kernel_refuses_a_cost_that_it_does_not_know() {
    let op = DenseLoss {
        activation: Activation::Linear,
        cost: &OWN,
        upstream: 1.0,
        metrics: EpochMetrics {
            count: 3,
            epoch_steps: 1,
            predict: false,
            keeps: false,
        },
        advance: true,
    };
    let inputs = [
        f32s(&[3, 4]),
        f32s(&[2, 4]),
        f32s(&[2]),
        u32s(&[3]),
        u32s(&[2]),
        f32s(&[4]),
        u32s(&[4]),
    ];
    let refused = op.infer(&inputs).unwrap_err().to_string();
    assert!(refused.contains("wgrad's own"), "{refused}");
}

// --- own kernels -------------------------------------------------------------------------------

macro_rules! times {
    ($kernel:ident, $f:ident, $factor:literal) => {
        fn $f<T: Real>(a: &mut Args<'_, T>) {
            let (x, y) = (a.f(0), a.f_mut(1));
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * T::of($factor);
            }
        }

        static $kernel: Kernel = Kernel::new(
            "times",
            concat!(
                "override N: u32 = 1u;
                 @group(0) @binding(0) var<storage, read> x: array<f32>;
                 @group(0) @binding(1) var<storage, read_write> y: array<f32>;
                 @compute @workgroup_size(64)
                 fn times(@builtin(global_invocation_id) id: vec3<u32>) {
                     if id.x < N { y[id.x] = x[id.x] * ",
                stringify!($factor),
                "; }
                 }"
            ),
            &[Bind::read("x").of("N"), Bind::write("y").of("N")],
            &["N"],
            wgrad::reference!($f),
        );
    };
}

times!(TWICE, twice, 2.0);
times!(THRICE, thrice, 3.0);

#[test]
fn two_kernels_of_one_name_are_two() {
    let mut graph = Graph::new();
    let x = graph.input::<f32>("x", f32s(&[4])).unwrap();
    let run = graph.begin("run");
    let mut apply = |name: &str, op: Own| {
        let value = graph.op1(Arc::new(op), &[x.value()]).unwrap();
        graph.output::<f32>(name, value).unwrap()
    };
    let y = apply("y", Own(|x, _| Ok(over(&TWICE, x[0].elements(), &[]))));
    let z = apply("z", Own(|x, _| Ok(over(&THRICE, x[0].elements(), &[]))));
    for device in devices() {
        let mut session = session(&graph, &device);
        session.write(x, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        session.run(run, 1).unwrap();
        let (y, z) = session.read((y, z)).unwrap();
        assert_eq!(y, [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(z, [3.0, 6.0, 9.0, 12.0]);
    }
}

fn last_of_table<T: Real>(a: &mut Args<'_, T>) {
    a.f_mut(1).fill(T::of(4.0));
}

/// Asks a table of four for its elements 16 to 19; behind the table stands another one.
static PAST_THE_END: Kernel = Kernel::new(
    "past_the_end",
    "override N: u32 = 1u;
     @group(0) @binding(0) var<storage, read> x: array<f32>;
     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
     var<workgroup> table: array<f32, 4>;
     var<workgroup> behind: array<f32, 64>;
     @compute @workgroup_size(64)
     fn past_the_end(@builtin(local_invocation_index) thread: u32) {
         behind[thread] = 9.0;
         if thread < 4u { table[thread] = f32(thread + 1u); }
         workgroupBarrier();
         if thread < N { y[thread] = table[u32(x[thread])] + 0.0 * behind[63u - thread]; }
     }",
    &[Bind::read("x").of("N"), Bind::write("y").of("N")],
    &["N"],
    wgrad::reference!(last_of_table),
);

/// WGSL allows any element of the table then; naga takes the last one.
#[test]
fn kernels_of_other_crates_have_bounds_checks() {
    assert!(SOFTMAX.trusted() && !PAST_THE_END.trusted());
    assert!(!SOFTMAX.with_source(SOFTMAX.source).trusted());
    let own = applied(Own(|_, _| Ok(over(&PAST_THE_END, 4, &[])))).unwrap();
    for device in devices() {
        let mut session = session(&own.graph, &device);
        session.write(own.x, &[16.0, 17.0, 18.0, 19.0]).unwrap();
        session.run(own.run, 1).unwrap();
        assert_eq!(session.read(own.y).unwrap(), [4.0; 4]);
    }
}

static WORDS: Kernel = Kernel::new(
    "words",
    "override N: u32 = 1u;
     @group(0) @binding(0) var<storage, read> x: array<u32>;
     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64)
     fn words(@builtin(local_invocation_index) thread: u32) {
         if thread < N { y[thread] = f32(x[thread]); }
     }",
    &[Bind::read("x").of("N"), Bind::write("y").of("N")],
    &["N"],
    wgrad::reference!(last_of_table),
);

/// A float's bits taken for a whole number are a number like any other.
#[test]
fn element_types_that_differ_from_the_declaration_are_refused() {
    let Some(device) = gpu() else { return };
    let own = applied(Own(|_, _| Ok(over(&WORDS, 4, &[])))).unwrap();
    let refused = Session::new(&own.graph, &device).map(|_| ());
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("Uint of 4 bytes in binding 0 (x)"),
        "{refused}"
    );
    assert!(refused.contains("F32"), "{refused}");
}

/// An op that makes nothing, and whose gradient rule says nothing.
#[derive(Debug)]
struct Nothing(usize);

impl Op for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone(); self.0])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(over(&TWICE, inputs[0].elements(), &[]))
    }

    fn gradient(&self, _: &mut wgrad::ops::Backward<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![])
    }
}

#[test]
fn an_op_without_outputs_or_gradients_is_an_error() {
    let mut graph = Graph::new();
    let x = graph.variable("x", f32s(&[4])).unwrap();
    graph.begin("run");
    let refused = graph
        .op1(Arc::new(Nothing(0)), &[x])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("no output"), "{refused}");
    let y = graph.op1(Arc::new(Nothing(1)), &[x]).unwrap();
    let refused = graph.gradients(y, x, &[x]).unwrap_err().to_string();
    assert!(refused.contains("0 gradients of nothing"), "{refused}");
}

/// The crate's kernels run without checks, so nobody may call them with sizes that the buffers
/// do not have.
#[test]
fn constants_that_do_not_fit_the_buffers_are_refused() {
    let with = |op| plan(&applied(op).unwrap().graph, true).map(|_| ());
    const ALONE: [(&str, f64); 2] = [("K", 1.0), ("INNER", 1.0)];
    with(Own(|_, _| Ok(over(&SOFTMAX, 4, &ALONE)))).unwrap();
    let refused = [
        with(Own(|_, _| Ok(over(&SOFTMAX, 1000, &ALONE)))),
        with(Own(|_, _| Ok(over(&SOFTMAX, 3, &ALONE)))),
        with(Own(|_, _| Ok(over(&TWICE, 5, &[])))),
    ];
    for (refused, elements) in refused.into_iter().zip(["1000", "3", "5"]) {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Plan { .. }), "{error}");
        let said = format!("wanted {elements} elements: N");
        assert!(error.to_string().contains(&said), "{error}");
    }
}

// --- what an op may become ---------------------------------------------------------------------

#[test]
fn an_error_of_lowering_is_no_view() {
    let op = Own(|_, _| Err(Error::setting("own", 4, "a multiple of 5")));
    // A kept value asks what its op becomes.
    let refused = applied(op).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("a multiple of 5"), "{refused}");
    let mut graph = Graph::new();
    let x = graph.variable("x", f32s(&[4])).unwrap();
    graph.begin("run");
    graph.label("mine");
    let op = Own(|_, _| Err(Error::shape("own", "4", "a multiple of 5")));
    let y = graph.op1(Arc::new(op), &[x]).unwrap();
    let y = graph.op1(Arc::new(Scale(2.0)), &[y]).unwrap();
    graph.result("y", y).unwrap();
    for fuse in [false, true] {
        let refused = plan(&graph, fuse).unwrap_err().to_string();
        assert!(
            refused.contains("mine, own: found 4; wanted a multiple of 5"),
            "{refused}"
        );
    }
}

/// Gives `[8]`, and says that this is `[4]` seen otherwise.
#[derive(Debug)]
struct Larger;

impl Op for Larger {
    fn name(&self) -> &'static str {
        "larger"
    }

    fn infer(&self, _: &[Type]) -> Result<Vec<Type>> {
        Ok(vec![f32s(&[8])])
    }

    fn lower(&self, _: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(Lowering::View)
    }
}

#[test]
fn a_view_has_as_many_elements() {
    let mut graph = Graph::new();
    let x = graph.variable("x", f32s(&[4])).unwrap();
    graph.begin("run");
    let y = graph.op1(Arc::new(Larger), &[x]).unwrap();
    let y = graph
        .op1(Arc::new(Activate(Activation::Relu)), &[y])
        .unwrap();
    graph.result("y", y).unwrap();
    let refused = plan(&graph, true).unwrap_err().to_string();
    assert!(refused.contains("as many elements"), "{refused}");
}

#[test]
fn operands_that_an_op_does_not_have_are_refused() {
    let graph = applied(Own(|_, _| {
        let mut lowered = over(&TWICE, 4, &[]).launch().unwrap();
        lowered.operands[0] = Operand::In(7);
        Ok(Lowering::Launch(lowered))
    }));
    let refused = plan(&graph.unwrap().graph, true).unwrap_err().to_string();
    assert!(refused.contains("operand In(7)"), "{refused}");
}

// --- values ------------------------------------------------------------------------------------

#[test]
fn a_graph_takes_its_own_values_only() {
    let (mut one, mut other) = (Graph::new(), Graph::new());
    let [x, theirs] = [&mut one, &mut other].map(|graph| {
        let x = graph.variable("x", f32s(&[4])).unwrap();
        graph.begin("run");
        graph.op1(Arc::new(Scale(2.0)), &[x]).unwrap()
    });
    // Values that stand where this graph has something, and where it has nothing.
    let far = (0..9).fold(theirs, |x, _| {
        other.op1(Arc::new(Scale(2.0)), &[x]).unwrap()
    });
    for theirs in [theirs, far] {
        let refused = [
            one.op1(Arc::new(Scale(2.0)), &[theirs]).map(|_| ()),
            one.ty(theirs).map(|_| ()),
            one.result("y", theirs),
            one.handle::<f32>(theirs).map(|_| ()),
            one.gradients(theirs, theirs, &[x]).map(|_| ()),
            one.gradients(x, theirs, &[x]).map(|_| ()),
            one.gradients(x, x, &[theirs]).map(|_| ()),
        ];
        for refused in refused {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("a value of another graph"), "{error}");
        }
    }
    assert_eq!(one.ty(x).unwrap(), &f32s(&[4]));
}

// --- variables ---------------------------------------------------------------------------------

#[test]
fn a_variable_that_nobody_has_written_is_not_read() {
    let mut graph = Graph::new();
    let x = graph.input::<f32>("x", f32s(&[4])).unwrap();
    let w = graph.variable("w", f32s(&[4])).unwrap();
    let init = graph.begin("init");
    let ones = wgrad::ops::init::Init {
        distribution: wgrad::ops::init::Distribution::Constant { value: 1.0 },
        parameter: 0,
    };
    let keys = graph.input::<u32>("keys", u32s(&[4])).unwrap();
    graph.op(Arc::new(ones), &[w, keys.value()]).unwrap();
    let run = graph.begin("run");
    graph.label("sum");
    let add = Arc::new(wgrad::ops::add::Add);
    let y = graph.op1(add, &[x.value(), w]).unwrap();
    let y = graph.output::<f32>("y", y).unwrap();
    let mut said = vec![];
    for device in devices() {
        let mut session = session(&graph, &device);
        let mut errors = vec![
            session.run(run, 1).unwrap_err().to_string(),
            session.run_part(run, 0..1).unwrap_err().to_string(),
            session.read(x).unwrap_err().to_string(),
            session.read(y).unwrap_err().to_string(),
        ];
        session.fill(x, 0.5).unwrap();
        assert_eq!(session.read(x).unwrap(), [0.5; 4]);
        // Another program's work counts, and there is none yet.
        errors.push(session.run(run, 1).unwrap_err().to_string());
        session.fill(keys, 0).unwrap();
        session.run(init, 1).unwrap();
        session.run(run, 1).unwrap();
        assert_eq!(session.read(y).unwrap(), [1.5; 4]);
        said.push(errors);
    }
    let named = [("x", 0), ("x", 1), ("x", 2), ("y", 3), ("w", 4)];
    for (name, at) in named {
        let wanted = format!("variable {name}: found nothing written to it");
        assert!(said[0][at].starts_with(&wanted), "{}", said[0][at]);
    }
    assert!(
        said[0][0].ends_with("program run reads it in sum"),
        "{}",
        said[0][0]
    );
    assert!(
        said.iter().all(|other| *other == said[0]),
        "devices differ: {said:?}"
    );
}

// --- what stands at the end of an own kernel ----------------------------------------------------

/// An op that says its kernel has a port.
#[derive(Debug)]
struct Ported(&'static Kernel);

impl Op for Ported {
    fn name(&self) -> &'static str {
        "ported"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(over(self.0, inputs[0].elements(), &[]))
    }

    fn port(&self) -> Option<usize> {
        Some(2)
    }
}

/// [`TWICE`] without a port, without a port's text, with one of a binding that it does not have and
/// with one of its input.
static PORTLESS: Kernel = TWICE.with_source(TWICE.source);
static TEXTLESS: Kernel = TWICE
    .with_source(TWICE.source)
    .with_ports(&[Port::finish(1, "1")]);
static NOWHERE: Kernel = TWICE
    .with_source(TWICE.source)
    .with_ports(&[Port::finish(7, "1")]);
static OF_THE_INPUT: Kernel = TWICE
    .with_source(TWICE.source)
    .with_ports(&[Port::finish(0, "1")]);

#[test]
fn a_port_that_is_not_there_is_an_error() {
    let relu = || Pointwise::new(&[Expr::input(0).relu()]);
    for (kernel, said) in [
        (&PORTLESS, "without a port at output 0"),
        (&TEXTLESS, "no open port in the kernel's text"),
        (&NOWHERE, "without a port at output 0"),
        (&OF_THE_INPUT, "without a port at output 0"),
    ] {
        let ended = WithEnding::new(Ported(kernel), relu()).unwrap();
        let refused = applied(ended).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let refused = WithEnding::new(Nothing(1), relu()).unwrap_err().to_string();
    assert!(refused.contains("an op with a port"), "{refused}");
}
