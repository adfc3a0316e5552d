//! A launch that is dispatched several times: each time it learns how often it was before, and reads what that left.

mod common;

use common::gpu;
use wgrad::Result;
use wgrad::doctor::harness::{Prepared, plan_of};
use wgrad::doctor::{examine, tolerance::Side};
use wgrad::exec::{Choice, Device};
use wgrad::kernel::{Args, Bind, DISPATCHES, Kernel};
use wgrad::ops::{Case, Fill, Lowered, Lowering, Op, Operand, Row};
use wgrad::plan::Limits;
use wgrad::shape::Type;
use wgrad::tensor::Real;

/// y by Horner's rule: y = 0 at first, and then y x + n for n from 0 on.
static HORNER: Kernel = Kernel::new(
    "horner",
    "
        override N: u32 = 1u;
        override DISPATCHES: u32 = 1u;
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @group(1) @binding(0) var<uniform> dispatched: vec4<u32>;

        @compute @workgroup_size(64)
        fn horner(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
            let i = group.x * 64u + lane;
            if i >= N {
                return;
            }
            let at = group.z * N + i;
            var before = 0.0;
            if dispatched.x > 0u {
                before = y[at];
            }
            y[at] = before * x[at] + f32(dispatched.x);
        }
    ",
    &[Bind::read("x").of("N"), Bind::write("y").of("N")],
    &["N", DISPATCHES],
    wgrad::reference!(horner),
);

static KERNELS: &[&Kernel] = &[&HORNER];

fn horner<T: Real>(args: &mut Args<'_, T>) {
    let times = args.size(DISPATCHES);
    let (x, y) = (args.f(0), args.f_mut(1));
    for (y, &x) in y.iter_mut().zip(x) {
        *y = T::ZERO;
        for n in 0..times {
            *y = *y * x + T::of(n as f64);
        }
    }
}

#[derive(Debug)]
struct Horner(usize);

impl Op for Horner {
    fn name(&self) -> &'static str {
        "horner"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        Ok(inputs.to_vec())
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let n = inputs[0].elements();
        Ok(Lowering::Launch(Lowered {
            kernel: &HORNER,
            constants: vec![("N", n as f64), (DISPATCHES, self.0 as f64)],
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid: [n.div_ceil(64) as u32, 1],
            flops: (2 * n * self.0) as u64,
            alternatives: vec![],
        }))
    }
}

fn case(n: usize, times: usize) -> Case {
    Case::new(Horner(times), 8 * times)
        .fixed(&[n], Fill::Uniform(-1.0, 1.0))
        .forward_only()
}

fn cases() -> Vec<Case> {
    vec![case(1, 1), case(65, 2), case(200, 7)]
}

#[test]
fn each_dispatch_goes_on_from_the_one_before() {
    let row = Row {
        stem: "horner",
        kernels: KERNELS,
        cases,
    };
    for (choice, side) in [(Choice::Cpu, Side::Cpu), (Choice::Gpu, Side::Gpu)] {
        if choice == Choice::Gpu && gpu().is_none() {
            continue;
        }
        let device = Device::open(choice).unwrap();
        let comparison = examine(&row, &[1, 3], side, &mut |plan| {
            let variants = device.variants(plan).into_iter();
            variants.map(|plan| device.executor(plan)).collect()
        });
        let comparison = comparison.unwrap();
        assert_eq!(comparison.failure, None);
        assert_eq!(comparison.buffers, 6);
    }
}

#[test]
fn dispatches_are_launches_to_whoever_counts() {
    let prepared = Prepared::new(&case(65, 7), 1).unwrap();
    let plan = prepared.plan().clone();
    assert_eq!(plan.programs["run"].len(), 1);
    assert_eq!(plan.account().programs["run"].launches, 7);
    let mut devices = vec![Device::open(Choice::Cpu).unwrap()];
    if gpu().is_some() {
        devices.push(Device::open(Choice::Gpu).unwrap());
    }
    for device in devices {
        let mut executor = device.executor(plan.clone()).unwrap();
        let inputs = wgrad::doctor::harness::inputs(&case(65, 7), 1);
        let x = plan.programs["run"][0].bindings[0].buffer;
        executor.write(x, &inputs[0]).unwrap();
        executor.run("run", 3).unwrap();
        executor.wait().unwrap();
        assert_eq!(executor.traffic().launches, 21);
    }
}

#[test]
fn a_launch_of_no_dispatch_is_refused() {
    for times in [0, 1 << 17] {
        let mut plan = plan_of(&case(65, 7), 1).unwrap();
        let launch = &mut plan.programs.get_mut("run").unwrap()[0];
        launch.constants[1].1 = f64::from(times);
        let said = plan.check(&Limits::default()).unwrap_err().to_string();
        assert!(
            said.contains(&format!("{times} dispatches of horner")),
            "{said}"
        );
    }
}
