use std::sync::Arc;

use super::*;
use crate::exec::Choice;
use crate::exec::cpu::Implementation;
use crate::ops::argmax::Argmax;
use crate::ops::reshape::Reshape;
use crate::ops::scale::Scale;
use crate::ops::{Tape, Value};
use crate::shape::Type;

/// x `[2, 3]` and seen `[2]`, a program that doubles x, keeps 2x as a view and where each row is
/// largest.
struct Twice {
    graph: Graph,
    x: Handle<f32>,
    seen: Handle<u32>,
    program: Program,
    y: Handle<f32>,
    largest: Handle<u32>,
}

fn twice() -> Twice {
    let mut graph = Graph::new();
    let x = Type::f32("x", &[2, 3]).unwrap();
    let x = graph.input::<f32>("x", x).unwrap();
    let seen = Type::u32("seen", &[2]).unwrap().shared();
    let seen = graph.input::<u32>("seen", seen).unwrap();
    let program = graph.begin("twice");
    let y = graph.op1(Arc::new(Scale(2.0)), &[x.value()]).unwrap();
    let largest = graph.op1(Arc::new(Argmax), &[y]).unwrap();
    let largest = graph.output("largest", largest).unwrap();
    let flat = Reshape { extents: vec![6] };
    let flat = graph.op1(Arc::new(flat), &[y]).unwrap();
    let y = graph.output("y", flat).unwrap();
    Twice {
        graph,
        x,
        seen,
        program,
        y,
        largest,
    }
}

fn session(graph: &Graph, replicas: usize) -> Session {
    let device = Device::open(Choice::Cpu).unwrap();
    let options = Options {
        replicas,
        ..Options::on(device.info())
    };
    Session::with(graph, &device, &options).unwrap()
}

const X: [f32; 12] = [1., 3., 2., 6., 5., 4., 7., 8., 9., 0., 2., 1.];

#[test]
fn what_is_asked_for_comes_back_by_its_handle_in_one_readback() {
    let t = twice();
    let mut s = session(&t.graph, 2);
    s.write(t.x, &X).unwrap();
    s.write(t.seen, &[8, 9]).unwrap();
    s.run(t.program, 1).unwrap();
    let before = s.traffic().readbacks;
    let asked = (
        t.largest,
        t.y,
        Some(t.seen),
        None::<Handle<u32>>,
        vec![t.x, t.y],
    );
    let (largest, y, seen, none, list) = s.read(asked).unwrap();
    assert_eq!(s.traffic().readbacks - before, 1);
    let doubled = X.map(|x| 2.0 * x);
    assert_eq!(largest, [1, 0, 2, 1]);
    assert_eq!(y, doubled);
    assert_eq!(seen.unwrap(), [8, 9]);
    assert_eq!(none, None);
    assert_eq!(list, [s.read(t.x).unwrap(), s.read(t.y).unwrap()]);
    // Per replica; what is shared has one copy.
    assert_eq!(y.replica(1), Some(&doubled[6..]));
    assert_eq!(y.replica(2), None);
    assert_eq!(y.replicas().len(), 2);
    assert_eq!(s.read(t.seen).unwrap().replicas().len(), 1);
    // Nothing is read for nothing.
    let before = s.traffic().readbacks;
    let nothing: Vec<Handle<f32>> = vec![];
    assert_eq!(s.read(nothing).unwrap().len(), 0);
    assert_eq!(s.traffic().readbacks, before);
}

#[test]
fn every_replica_can_be_given_the_same() {
    let t = twice();
    let mut s = session(&t.graph, 3);
    s.write_each(t.x, &X[..6]).unwrap();
    s.fill(t.seen, 7).unwrap();
    let (x, seen) = s.read((t.x, t.seen)).unwrap();
    assert_eq!(x, X[..6].repeat(3));
    assert_eq!(seen, [7, 7]);
    let e = s.write_each(t.x, &X).unwrap_err().to_string();
    assert_eq!(e, "data for a replica of x: found 12 elements; wanted 6");
}

#[test]
fn a_length_that_is_wrong_is_told_by_the_variable() {
    let t = twice();
    let mut s = session(&t.graph, 2);
    let e = s.write(t.x, &X[..6]).unwrap_err().to_string();
    assert_eq!(e, "data for x: found 6 elements of F32; wanted 12 of F32");
}

#[test]
fn handles_of_another_graph_are_refused() {
    let (t, other) = (twice(), twice());
    let mut s = session(&t.graph, 2);
    let e = s.write(other.x, &X).unwrap_err().to_string();
    let wanted = "wanted one of the graph that was compiled";
    assert_eq!(e, format!("handle: found one of another graph; {wanted}"));
    assert!(s.read(other.y).is_err() && s.fill(other.seen, 1).is_err());
    let e = s.run(other.program, 1).unwrap_err().to_string();
    assert_eq!(e, format!("program: found one of another graph; {wanted}"));
    assert!(s.run_part(other.program, 0..0).is_err() && s.launches(other.program).is_err());
}

/// A plan knows nothing of what its graph gets later.
#[test]
fn handles_younger_than_the_plan_are_refused() {
    let mut t = twice();
    let mut s = session(&t.graph, 1);
    let z = Type::f32("z", &[1]).unwrap();
    let z = t.graph.input::<f32>("z", z).unwrap();
    let late = t.graph.begin("late");
    let e = s.write(z, &[1.0]).unwrap_err().to_string();
    assert!(e.contains("after it was compiled"), "{e}");
    let e = s.run(late, 1).unwrap_err().to_string();
    assert!(e.contains("after it was compiled"), "{e}");
}

#[test]
fn handles_are_for_what_lasts_and_for_its_elements() {
    let mut t = twice();
    let program = t.graph.begin("more");
    t.graph.label("mine");
    let half = t.graph.op1(Arc::new(Scale(0.5)), &[t.x.value()]).unwrap();
    let handle = |graph: &Graph, value: Value| graph.handle::<f32>(value).map(|_| ());
    let e = handle(&t.graph, half).unwrap_err().to_string();
    assert!(e.contains("a value that scale makes"), "{e}");
    let e = handle(&t.graph, t.seen.value()).unwrap_err().to_string();
    assert_eq!(
        e,
        "handle of seen: found u32[2] shared; wanted elements of f32"
    );
    let e = handle(&t.graph, t.largest.value()).unwrap_err().to_string();
    assert_eq!(e, "handle of largest: found u32[2]; wanted elements of f32");
    assert!(handle(&Graph::new(), t.x.value()).is_err());
    // Where only the graph knows, a handle takes either.
    let either: Vec<Handle<Host>> = [t.x.value(), t.seen.value()]
        .map(|value| t.graph.handle(value).unwrap())
        .to_vec();
    let mut s = session(&t.graph, 1);
    let data = [Host::F32(X[..6].to_vec()), Host::U32(vec![1, 2])];
    for (handle, data) in either.iter().zip(&data) {
        s.write(*handle, data).unwrap();
    }
    assert_eq!(s.read(&either).unwrap(), data);
    let e = s.write(either[0], &data[1]).unwrap_err().to_string();
    assert!(e.contains("data for x: found 2 elements of U32"), "{e}");
    s.run(program, 1).unwrap();
}

/// Fusion gives the result's value to another node; the handle is the one that was made before.
#[test]
fn a_handle_outlives_fusion() {
    use crate::ops::activation::{Activate, Activation};
    use crate::ops::max_pool2d::MaxPool2d;
    let mut graph = Graph::new();
    let x = Type::f32("x", &[1, 1, 2, 4]).unwrap();
    let x = graph.input::<f32>("x", x).unwrap();
    let program = graph.begin("pool");
    let pool = MaxPool2d {
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
    };
    let pooled = graph.op(Arc::new(pool), &[x.value()]).unwrap();
    let place = graph.output::<u32>("place", pooled[1]).unwrap();
    let relu = Arc::new(Activate(Activation::Relu));
    let y = graph.op1(relu, &[pooled[0]]).unwrap();
    let y = graph.output::<f32>("y", y).unwrap();
    let mut s = session(&graph, 1);
    assert_eq!(s.launches(program).unwrap().len(), 1);
    let plane = [-1.0, -2.0, 3.0, 4.0, -5.0, -6.0, 7.0, 8.0];
    s.write(x, &plane).unwrap();
    s.run(program, 1).unwrap();
    let (y, place) = s.read((y, place)).unwrap();
    assert_eq!(y, [0.0, 8.0]);
    assert_eq!(place, [0, 7]);
}

#[test]
fn a_session_in_double_precision_gives_it() {
    let t = twice();
    let compiled = Compiled::new(
        &t.graph,
        &Options {
            replicas: 2,
            ..Options::on(Device::open(Choice::Cpu).unwrap().info())
        },
    )
    .unwrap();
    let cpu = Cpu::<f64>::new(compiled.plan().clone(), Implementation::Reference).unwrap();
    let mut s = Session::of(&compiled, Box::new(cpu)).unwrap();
    s.write(t.x, &X).unwrap();
    s.values_mut(1, t.x).unwrap()[0] = 0.1;
    s.run(t.program, 1).unwrap();
    assert_eq!(s.values(1, t.y).unwrap()[0], 0.2);
    assert_eq!(s.values(0, t.y).unwrap()[0], 2.0);
    assert!(s.values(2, t.y).is_err() && s.values_mut(2, t.x).is_err());
}

#[test]
fn an_executor_of_another_plan_is_refused() {
    let t = twice();
    let cpu = Device::open(Choice::Cpu).unwrap();
    let two = Options {
        replicas: 2,
        ..Options::on(cpu.info())
    };
    let plan = Compiled::new(&t.graph, &two).unwrap().into_plan();
    let one = Compiled::new(&t.graph, &Options::on(cpu.info())).unwrap();
    let refused = Session::of(&one, cpu.executor(plan).unwrap());
    let e = refused.unwrap_err().to_string();
    assert!(e.contains("executor: found one of another plan"), "{e}");
}

/// Names are for people and for files.
#[test]
fn everything_that_lasts_has_a_name() {
    let t = twice();
    let mut s = session(&t.graph, 1);
    s.spoil().unwrap();
    s.write(t.x, &X[..6]).unwrap();
    let state = s.state().unwrap();
    let names: Vec<&str> = state.keys().map(String::as_str).collect();
    assert_eq!(names, ["largest", "seen", "x", "y"]);
    assert_eq!(state["x"], Host::F32(X[..6].to_vec()));
    assert_eq!(state["seen"], Host::U32(vec![u32::MAX; 2]));
    assert!(s.read(t.y).unwrap().iter().all(|y| y.is_nan()));
}

#[test]
fn what_nobody_has_written_is_told_by_name() {
    let t = twice();
    let mut s = session(&t.graph, 1);
    let e = s.run(t.program, 1).unwrap_err().to_string();
    assert!(e.starts_with("variable x: found nothing written"), "{e}");
    let e = s.read((t.seen, t.y)).map(|_| ()).unwrap_err().to_string();
    assert!(e.starts_with("variable seen: found nothing written"), "{e}");
}

/// The forms that give up their turn do what those do that stop: same values, same traffic.
#[cfg(feature = "gpu")]
#[test]
fn what_is_awaited_is_what_stops() {
    let t = twice();
    let gpu = pollster::block_on(Device::open_async(Choice::Gpu)).ok();
    let cpu = pollster::block_on(Device::open_async(Choice::Cpu)).ok();
    for device in cpu.into_iter().chain(gpu) {
        let options = Options {
            replicas: 2,
            ..Options::on(device.info())
        };
        let mut s = Session::with(&t.graph, &device, &options).unwrap();
        s.write(t.x, &X).unwrap();
        // More launches than are handed over in one go, and more of those than are under way.
        s.run(t.program, 1000).unwrap();
        s.wait().unwrap();
        let stopped = (s.read((t.y, t.largest)).unwrap(), s.traffic());
        let awaited: Result<_> = pollster::block_on(async {
            let mut s = Session::with_async(&t.graph, &device, &options).await?;
            s.write(t.x, &X)?;
            s.run_async(t.program, 1000).await?;
            s.wait_async().await?;
            let read = s.read_async((t.y, t.largest)).await?;
            // Errors are the same too.
            assert!(s.read_async(t.seen).await.is_err());
            Ok((read, s.traffic()))
        });
        assert_eq!(awaited.unwrap(), stopped, "{}", device.info().name);
    }
}

/// Two shared columns take turns under one program, on every device, and the program of before runs on.
#[test]
fn variables_that_change_places_are_read_in_turn() {
    let mut graph = Graph::new();
    let column = |graph: &mut Graph, name: &str, n: usize| {
        let ty = Type::u32(name, &[n]).unwrap().shared();
        graph.input::<u32>(name, ty).unwrap()
    };
    let (present, next) = (
        column(&mut graph, "present", 4),
        column(&mut graph, "next", 4),
    );
    let longer = column(&mut graph, "longer", 5);
    let own = graph
        .input::<u32>("own", Type::u32("own", &[4]).unwrap())
        .unwrap();
    let step = graph
        .input::<u32>("step", Type::u32("step", &[2]).unwrap())
        .unwrap();
    let program = graph.begin("take");
    let rows = crate::ops::rows::Rows {
        batch: 4,
        rows: 4,
        extents: vec![],
        stride: 1,
        start: 0,
        epoch_steps: 1,
        bytes: None,
    };
    let inputs = [present.value(), own.value(), step.value()];
    let taken = graph.op1(Arc::new(rows), &inputs).unwrap();
    let taken = graph.output::<u32>("taken", taken).unwrap();
    let cpu = Device::open(Choice::Cpu).unwrap();
    let gpu = Device::open(Choice::Gpu).ok();
    for device in std::iter::once(cpu).chain(gpu) {
        let options = Options {
            replicas: 2,
            ..Options::on(device.info())
        };
        let mut s = Session::with(&graph, &device, &options).unwrap();
        s.write(own, &[3, 2, 1, 0, 0, 1, 2, 3]).unwrap();
        s.write(step, &[0; 4]).unwrap();
        s.write(present, &[1, 2, 3, 4]).unwrap();
        s.run(program, 1).unwrap();
        let first = [4, 3, 2, 1, 1, 2, 3, 4];
        assert_eq!(s.read(taken).unwrap(), first);
        // What nobody has written is not read in its stead.
        s.swap(present, next).unwrap();
        let error = s.run(program, 1).unwrap_err().to_string();
        assert!(
            error.contains("variable present: found nothing written"),
            "{error}"
        );
        s.write_part(present, 0, (&[5u32, 6][..]).into()).unwrap();
        s.write_part(present, 2, (&[7u32, 8][..]).into()).unwrap();
        s.run(program, 2).unwrap();
        assert_eq!(s.read(taken).unwrap(), [8, 7, 6, 5, 5, 6, 7, 8]);
        assert_eq!(s.read(next).unwrap(), [1, 2, 3, 4]);
        s.swap(next, present).unwrap();
        s.run(program, 1).unwrap();
        assert_eq!(s.read(taken).unwrap(), first);
        let told = |result: Result<()>| result.unwrap_err().to_string();
        let longer = told(s.swap(present, longer));
        assert!(
            longer.contains("present: found longer, 5 elements"),
            "{longer}"
        );
        assert!(told(s.swap(present, own)).contains("found own"));
        for (first, data) in [(3, vec![1u32, 2]), (usize::MAX, vec![1])] {
            let beyond = told(s.write_part(present, first, (&data[..]).into()));
            assert!(beyond.contains("a part of present"), "{beyond}");
        }
        assert!(told(s.write_part(present, 0, (&[0.5f32][..]).into())).contains("of F32"));
        assert!(told(s.write_part(own, 0, (&[1u32][..]).into())).contains("a part of own"));
        assert_eq!(s.read((present, next)).unwrap().1, [5, 6, 7, 8]);
    }
}
