//! A trained model, compiled once and fed as often as you like.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ndarray::{ArrayD, IxDyn};

use super::cost::output;
use super::resident::{has_rows, numbers_of};
use super::weights::Weights;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::graph::{Graph, Handle, Program};
use crate::model::{Input, Model, Pass, Role, Variables};
use crate::ops::{Tape, Value};
use crate::run::Session;
use crate::tensor::{Host, View};

/// What one example's outputs are, by name: `[N, …]` each.
pub type Outputs = BTreeMap<String, ArrayD<f32>>;

/// An input that is fed.
struct Fed {
    name: String,
    /// One example.
    input: Input,
    /// How many things its integers number.
    numbered: Option<usize>,
    handle: Handle<Host>,
}

/// A model with weights, compiled for mini-batches up to a size. Any number of examples goes through
/// it, from any thread.
///
/// ```
/// use wgrad::exec::{Choice, Device};
/// use wgrad::fit::{Inference, Weights};
/// use wgrad::model::{Input, Model, layers::*};
///
/// let model = Model::sequential(Input::f32([4])).then(Dense::new(3)).then(Softmax).build()?;
/// let weights = Weights::initial(&model, 1);
/// let net = Inference::new(&model, &weights, 8, &Device::open(Choice::Cpu)?)?;
/// let five = net.run(&[("input", (&[0.5f32; 20][..]).into())])?;
/// assert_eq!(five["output"].shape(), [5, 3]);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct Inference {
    session: Mutex<Session>,
    program: Program,
    batch: usize,
    inputs: Vec<Fed>,
    outputs: Vec<(String, Input, Handle<f32>)>,
}

/// A column of a mini-batch, or what comes of one: name, an example, value.
pub(super) type Column = (String, Input, Value);

/// What is written behind a model.
#[derive(Default)]
pub(super) struct Extra {
    pub inputs: Vec<Column>,
    pub outputs: Vec<Column>,
}

impl Inference {
    /// Compiles a model for at most `batch` examples at once.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a weight that is missing, [`Error::Shape`] for one of other extents,
    /// what the device says.
    pub fn new(model: &Model, weights: &Weights, batch: usize, device: &Device) -> Result<Self> {
        Self::with(model, weights, batch, device, |_, _, _, _| {
            Ok(Extra::default())
        })
    }

    /// [`Inference::new`] with what is written behind the model, given the graph, the model's variables,
    /// its inputs and its outputs.
    pub(super) fn with(
        model: &Model,
        weights: &Weights,
        batch: usize,
        device: &Device,
        more: impl FnOnce(&mut Graph, &mut Variables, &[Column], &[Value]) -> Result<Extra>,
    ) -> Result<Self> {
        if batch == 0 {
            return Err(Error::setting("examples at once", 0, "at least 1"));
        }
        let mut graph = Graph::new();
        let mut variables = Variables::default();
        let mut inputs = Vec::new();
        for (name, input) in model.inputs() {
            let value = graph.variable(name, input.of_batch(name, batch)?)?;
            inputs.push((name.to_string(), input.clone(), value));
        }
        let program = graph.begin("forward");
        let values: Vec<_> = inputs.iter().map(|(_, _, value)| *value).collect();
        let made = model.write(&mut graph, &mut variables, &values, Pass::Evaluation)?;
        let extra = more(&mut graph, &mut variables, &inputs, &made)?;
        inputs.extend(extra.inputs);
        let of_model = model.outputs().zip(made);
        let of_model =
            of_model.map(|((name, example), value)| (name.into(), example.clone(), value));
        let mut outputs: Vec<(String, Input, Handle<f32>)> = Vec::new();
        for (name, example, value) in of_model.chain(extra.outputs) {
            let kept = output(&mut graph, &format!("output {name}"), value)?;
            outputs.push((name, example, kept));
        }
        // What follows from weights alone, such as what a batch norm multiplies a channel by, is computed here.
        let weights_alone: Vec<_> = variables.all().iter().map(|v| v.value).collect();
        let prepare = graph.prepare(&weights_alone)?;
        let mut session = Session::new(&graph, device)?;
        for variable in variables.all() {
            let handle: Handle<f32> = graph.handle(variable.value)?;
            match variable.role {
                Role::Constant => session.write(handle, &variable.draw(0, 0, 0))?,
                _ => {
                    let extents = variable.ty.shape.extents();
                    session.write(handle, weights.values(&variable.name, extents)?)?;
                }
            }
        }
        if let Some(prepare) = prepare {
            session.run(prepare, 1)?;
        }
        let mut handles = Vec::new();
        for (name, input, value) in inputs {
            debug_assert_eq!(graph.ty(value)?.dtype, input.dtype);
            handles.push(Fed {
                name,
                input,
                numbered: variables.numbered(value),
                handle: graph.handle::<Host>(value)?,
            });
        }
        Ok(Self {
            session: Mutex::new(session),
            program,
            batch,
            inputs: handles,
            outputs,
        })
    }

    /// The outputs of any number of examples, given every input by name, example after example.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for an input that the model lacks, [`Error::Shape`] for one that is missing
    /// or no whole number of examples, or not as many as the others; [`Error::Setting`] for integers of no row of
    /// an embedding; what the device says.
    pub fn run(&self, inputs: &[(&str, View<'_>)]) -> Result<Outputs> {
        let known: Vec<&str> = self.inputs.iter().map(|fed| fed.name.as_str()).collect();
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !known.contains(name)) {
            return Err(Error::unknown("input", name, &known));
        }
        let mut given = Vec::new();
        let mut rows = None;
        for fed in &self.inputs {
            let (name, input) = (&fed.name, &fed.input);
            let place = || format!("input {name}");
            let found = inputs.iter().find(|(other, _)| other == name);
            let Some((_, view)) = found else {
                return Err(Error::shape(place(), "nothing", "every input of the model"));
            };
            let size: usize = input.extents.iter().product();
            if view.dtype() != input.dtype || view.is_empty() || view.len() % size != 0 {
                let found = format!("{} numbers of {:?}", view.len(), view.dtype());
                let wanted = format!("{:?} {:?} an example", input.dtype, input.extents);
                return Err(Error::shape(place(), found, wanted));
            }
            let count = view.len() / size;
            if *rows.get_or_insert(count) != count {
                let found = format!("{count} examples");
                return Err(Error::shape(
                    place(),
                    found,
                    "as many as of the other inputs",
                ));
            }
            if let (View::U32(all), Some(count)) = (view, fed.numbered)
                && let Some(at) = all.iter().position(|&number| number as usize >= count)
            {
                let found = format!("{} in example {}", all[at], at / size);
                return Err(Error::setting(place(), found, numbers_of(count)));
            }
            given.push((*view, size, fed.handle));
        }
        let rows = rows.unwrap_or(0);
        let mut made: Vec<Vec<f32>> = vec![Vec::new(); self.outputs.len()];
        // A panic elsewhere leaves whole buffers, and every run writes all of them again.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        for first in (0..rows).step_by(self.batch) {
            let count = self.batch.min(rows - first);
            for (view, size, handle) in &given {
                session.write(
                    *handle,
                    &padded(*view, first * size, count * size, self.batch * size),
                )?;
            }
            session.run(self.program, 1)?;
            let handles: Vec<Handle<f32>> = self.outputs.iter().map(|(_, _, h)| *h).collect();
            let values = session.read(handles)?;
            for ((values, made), (_, example, _)) in values.iter().zip(&mut made).zip(&self.outputs)
            {
                let size: usize = example.extents.iter().product();
                made.extend_from_slice(&values[..count * size]);
            }
        }
        drop(session);
        let mut outputs = Outputs::new();
        for ((name, example, _), values) in self.outputs.iter().zip(made) {
            let extents = [&[rows][..], &example.extents].concat();
            let array = ArrayD::from_shape_vec(IxDyn(&extents), values).map_err(|e| {
                Error::shape(format!("output {name}"), e.to_string(), "its examples")
            })?;
            outputs.insert(name.clone(), array);
        }
        Ok(outputs)
    }

    /// The outputs of every row of a data set that has the model's inputs as columns.
    ///
    /// # Errors
    /// As [`Inference::run`].
    pub fn run_on(&self, data: &Dataset) -> Result<Outputs> {
        let hosts = self.columns(data)?;
        let views: Vec<(&str, View<'_>)> = hosts.iter().map(|(n, h)| (*n, h.view())).collect();
        self.run(&views)
    }

    /// The columns of a data set that it takes.
    pub(super) fn columns(&self, data: &Dataset) -> Result<Vec<(&str, Host)>> {
        let mut hosts = Vec::new();
        has_rows(data)?;
        for Fed { name, .. } in &self.inputs {
            let column = data.column(name);
            let column = column.map_err(|e| e.within("input"))?;
            let all = data.rows();
            let integers = (0..all).map(|row| column.integers(row));
            let host = match integers.collect::<Option<Vec<&[u32]>>>() {
                Some(rows) => Host::U32(rows.concat()),
                None => Host::F32((0..all).flat_map(|row| column.row(row)).collect()),
            };
            hosts.push((name.as_str(), host));
        }
        Ok(hosts)
    }
}

/// A part of some numbers with its last ones again up to a mini-batch: whatever stands there, nobody
/// looks at what comes of it.
fn padded(view: View<'_>, from: usize, count: usize, whole: usize) -> Host {
    fn filled<T: Copy>(part: &[T], whole: usize) -> Vec<T> {
        let mut all = part.to_vec();
        let last = part[part.len() - 1];
        all.resize(whole, last);
        all
    }
    match view {
        View::F32(all) => Host::F32(filled(&all[from..from + count], whole)),
        View::U32(all) => Host::U32(filled(&all[from..from + count], whole)),
    }
}

impl fmt::Debug for Inference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |list: Vec<&str>| list.join(", ");
        f.debug_struct("Inference")
            .field(
                "inputs",
                &names(self.inputs.iter().map(|fed| fed.name.as_str()).collect()),
            )
            .field(
                "outputs",
                &names(self.outputs.iter().map(|(n, ..)| n.as_str()).collect()),
            )
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exec::Choice;
    use crate::expr::Expr;
    use crate::model::layers::{BatchNorm, Conv2d, Embedding};
    use crate::ops::Tape;
    use crate::ops::pointwise::Pointwise;
    use crate::ops::reshape::Reshape;
    use crate::shape::Type;

    /// f32 has no 2²⁴ + 1.
    #[test]
    fn integers_stay_what_they_are() {
        let model = Model::sequential(Input::u32([2])).then(Embedding::new(4, 1));
        let model = model.build().unwrap();
        let device = Device::open(Choice::Cpu).unwrap();
        let net = Inference::new(&model, &Weights::initial(&model, 1), 2, &device).unwrap();
        let words = [3u32, 16_777_217, u32::MAX, 0];
        let data = Dataset::new().with("input", [2], words.to_vec()).unwrap();
        let columns = net.columns(&data).unwrap();
        assert_eq!(columns[0].1, Host::U32(words.to_vec()));
    }

    /// What a batch norm multiplies by and adds is no work of a run, and stands at the convolution's end.
    #[test]
    fn what_follows_from_weights_alone_is_computed_once() {
        let model = Model::build(|m| {
            let x = m.input("x", [3, 9, 9]);
            let y = x.then(Conv2d::new(3, 3).padding(1).without_bias());
            let y = y.then(BatchNorm::new()).relu();
            m.output(
                "y",
                (y.then(Conv2d::new(3, 1)).then(BatchNorm::new()) + x).relu(),
            );
        });
        let model = model.unwrap();
        let device = Device::open(Choice::Cpu).unwrap();
        let net = Inference::new(&model, &Weights::initial(&model, 1), 2, &device).unwrap();
        let kernels = |name: &str| -> Vec<&str> {
            let session = net.session.lock().unwrap();
            let launches = session.plan().programs[name].iter();
            launches.map(|launch| launch.kernel.name).collect()
        };
        assert_eq!(kernels("forward"), ["conv2d", "conv2d"]);
        assert!(!kernels("prepare").is_empty());
        let mut numbers = Vec::new();
        for (number, channel) in [
            ("running_mean", 0.3),
            ("running_var", 2.0),
            ("weight", -1.5),
            ("bias", 0.7),
        ] {
            numbers.push((number, [channel, channel * 1.1, channel * 0.9]));
        }
        let model = Model::sequential([3, 4])
            .then(BatchNorm::new())
            .build()
            .unwrap();
        let mut tensors = Weights::initial(&model, 1).tensors().to_vec();
        for (name, values) in &mut tensors {
            let given = numbers
                .iter()
                .find(|(number, _)| name.ends_with(number))
                .unwrap();
            *values = ArrayD::from_shape_vec(IxDyn(&[3]), given.1.to_vec()).unwrap();
        }
        let weights = Weights::from_tensors(tensors);
        let net = Inference::new(&model, &weights, 2, &device).unwrap();
        for offset in [0.0, 5.0] {
            let x: Vec<f32> = (0..36).map(|i| i as f32 * 0.25 + offset).collect();
            let y = &net.run(&[("input", (&x[..]).into())]).unwrap()["output"];
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                let of = |k: usize| f64::from(numbers[k].1[i / 4 % 3]);
                let wanted = (f64::from(*x) - of(0)) / (of(1) + 1e-5).sqrt() * of(2) + of(3);
                assert!(
                    (f64::from(*y) - wanted).abs() < 1e-5,
                    "{i}: {y}, not {wanted}"
                );
            }
        }
    }

    /// Parts of inputs, axes behind others, several pieces; what is drawn, larger than what it is made of or changed stays.
    #[test]
    fn expressions_are_cut_where_they_depend_on_weights_alone() {
        let of = |k: u8| Expr::input(k.into());
        let plane = Pointwise::new(&[of(0) * (of(1) * of(2)).exp() + (of(1) - 1.0)]);
        let behind = |op: Pointwise| op.with_axes_behind(1, 1).with_axes_behind(2, 1);
        // Expression, extents of x, of a, of b; how many values are prepared.
        let cases: [(Pointwise, [&[usize]; 3], usize); 7] = [
            (plane.clone(), [&[2, 3], &[3], &[3]], 2),
            (behind(plane.clone()), [&[3, 2], &[3], &[3]], 2),
            (
                Pointwise::new(&[of(0) * (of(1) * of(2)).exp()]).with_planes(1, 2),
                [&[2, 3], &[2, 2, 3], &[]],
                1,
            ),
            // More bindings than before.
            (
                Pointwise::new(&[of(0) * of(1).exp() + of(1).sin() + of(1).tanh()]),
                [&[2, 3], &[3], &[]],
                0,
            ),
            (
                Pointwise::new(&[of(0) * of(1) * of(2)]),
                [&[2, 3], &[3], &[3]],
                0,
            ),
            (
                Pointwise::new(&[of(0) * (of(1) * of(2))]),
                [&[4, 5], &[4, 1], &[5]],
                0,
            ),
            (
                Pointwise::new(&[(of(1) * of(2)).exp(), of(0) * 2.0]).with_extents(&[3]),
                [&[3], &[3], &[3]],
                1,
            ),
        ];
        let device = Device::open(Choice::Cpu).unwrap();
        for (number, (op, extents, wanted)) in cases.into_iter().enumerate() {
            let read = extents.iter().filter(|e| !e.is_empty()).count();
            let outputs = |prepared: bool| {
                let mut graph = Graph::new();
                let mut values = vec![];
                for (name, extents) in ["x", "a", "b"].into_iter().zip(&extents[..read]) {
                    values.push(
                        graph
                            .variable(name, Type::f32(name, extents).unwrap())
                            .unwrap(),
                    );
                }
                let run = graph.begin("run");
                let made = graph.op(Arc::new(op.clone()), &values).unwrap();
                let names = ["first", "second"];
                let handles = made.iter().zip(names);
                let handles: Vec<Handle<f32>> = handles
                    .map(|(&y, name)| graph.output(name, y).unwrap())
                    .collect();
                let before = graph.variables().count();
                let prepare = match prepared {
                    true => graph.prepare(&values[1..]).unwrap(),
                    false => None,
                };
                let made = graph.variables().count() - before;
                assert_eq!(made, if prepared { wanted } else { 0 }, "case {number}");
                let mut session = Session::new(&graph, &device).unwrap();
                for &value in &values {
                    let n = graph.ty(value).unwrap().elements();
                    let numbers: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
                    session
                        .write(graph.handle::<f32>(value).unwrap(), &numbers)
                        .unwrap();
                }
                prepare.into_iter().for_each(|p| session.run(p, 1).unwrap());
                session.run(run, 1).unwrap();
                session.read(handles).unwrap()
            };
            assert_eq!(outputs(true), outputs(false), "case {number}");
        }
    }

    /// A statistic that a layer of one's own keeps up while it evaluates.
    #[test]
    fn what_a_program_changes_is_computed_each_time() {
        for changes in [false, true] {
            let mut graph = Graph::new();
            let mut variable = |name: &str| {
                graph
                    .variable(name, Type::f32(name, &[3]).unwrap())
                    .unwrap()
            };
            let [x, a] = [variable("x"), variable("a")];
            graph.begin("run");
            let [given, weight] = [Expr::input(0), Expr::input(1)];
            let op = Pointwise::new(&[given * weight.exp()]);
            let y = graph.op1(Arc::new(op), &[x, a]).unwrap();
            graph.result("y", y).unwrap();
            if changes {
                let flat = Reshape {
                    extents: vec![3, 1],
                };
                let view = graph.op1(Arc::new(flat), &[a]).unwrap();
                let op = Pointwise::new(&[Expr::input(0) * 0.5]).updating(0, 0);
                graph.op(Arc::new(op), &[view]).unwrap();
            }
            assert_eq!(graph.prepare(&[a]).unwrap().is_none(), changes);
        }
    }
}
