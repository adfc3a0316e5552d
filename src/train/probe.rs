//! Looking into networks without training them: costs, gradients and activations over a
//! whole set of images in one pass.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::model::{Model, Weights};
use super::programs::{check_images, gather, pixels};
use super::trainer::{state, upload};
use crate::compile::{Options, compile};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, Executor};
use crate::graph::Graph;
use crate::nn::{Cost, Layer, Mode, Network, Parameter};
use crate::ops::gather::Expansion;
use crate::ops::init::{Distribution, Init};
use crate::ops::{Tape, Value};
use crate::shape::Type;
use crate::tensor::Host;

/// The name of the images' buffers.
const SET: &str = "probe";

/// The cost of networks and its gradient, over all of a few images at once.
///
/// Dropout is as when evaluating: nothing here is random.
pub struct Probe {
    executor: Box<dyn Executor>,
    network: Network,
    parameters: Vec<Parameter>,
    replicas: usize,
}

/// The forward pass over all of `images`: the begun program, the network's values, labels.
fn forward(
    graph: &mut Graph,
    network: &Network,
    variables: &mut HashMap<String, Value>,
    images: &Images,
    [buffers, labels, step]: [Value; 3],
) -> Result<(crate::nn::Forward, Value)> {
    graph.label("gather");
    let gather = gather(network, images, images.len(), Expansion::None, 1, false);
    let xy = graph.op(Arc::new(gather), &[buffers, labels, step])?;
    let forward = network.forward(graph, variables, xy[0], Mode::Evaluate)?;
    Ok((forward, xy[1]))
}

/// Images, labels and a step counter that stays 0.
fn inputs(graph: &mut Graph, images: &Images) -> Result<[Value; 3]> {
    let [buffers, labels] = pixels(graph, SET, images)?;
    let step = Type::u32(SET, &[1])?.shared();
    Ok([buffers, labels, graph.variable("probe step", step)?])
}

impl Probe {
    /// Compiles a forward pass and a pass with gradients over all of `images`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not fit the network; what the device says.
    pub fn new(
        network: &Network,
        images: &Images,
        replicas: usize,
        device: &Device,
    ) -> Result<Self> {
        check_images(network, images)?;
        let parameters = network.parameters()?;
        let (mut graph, mut variables) = (Graph::new(), HashMap::new());
        let inputs = inputs(&mut graph, images)?;
        let keys = graph.variable("keys", Type::u32("keys", &[4])?)?;
        let seed = graph.variable("cost seed", Type::f32("cost seed", &[images.len()])?)?;
        graph.begin("cost");
        let (values, labels) = forward(&mut graph, network, &mut variables, images, inputs)?;
        let losses = network.losses(&mut graph, values.scores, labels)?;
        graph.result("losses", losses)?;
        graph.begin("gradient");
        let (values, labels) = forward(&mut graph, network, &mut variables, images, inputs)?;
        let losses = network.losses(&mut graph, values.scores, labels)?;
        let wanted: Vec<Value> = parameters.iter().map(|p| variables[&p.name]).collect();
        let gradients = graph.gradients(losses, seed, &wanted)?;
        for (p, gradient) in parameters.iter().zip(gradients) {
            let gradient = gradient.ok_or_else(|| {
                Error::setting(&p.name, "no influence on the cost", "every parameter used")
            })?;
            graph.result(&format!("{} gradient", p.name), gradient)?;
        }
        graph.begin("init");
        let mean = Init {
            distribution: Distribution::Constant {
                value: 1.0 / images.len() as f64,
            },
            parameter: 0,
        };
        graph.op(Arc::new(mean), &[seed, keys])?;
        let options = Options {
            replicas,
            fuse: true,
            limits: device.info().limits,
        };
        let mut executor = device.executor(compile(&graph, &options)?)?;
        let buffer = state(executor.plan(), "keys")?;
        executor.write(buffer, &Host::U32(vec![0; 4 * replicas]))?;
        upload(executor.as_mut(), SET, images)?;
        executor.run("init", 1)?;
        Ok(Self {
            executor,
            network: network.clone(),
            parameters,
            replicas,
        })
    }

    /// Uploads the weights to look at: one set for each replica, or one for all.
    ///
    /// # Errors
    /// [`Error::Setting`] if the model is of another network or another number of replicas.
    pub fn set_weights(&mut self, model: &Model) -> Result<()> {
        model.write(&self.network, self.executor.as_mut())
    }

    /// Uploads one parameter's values of every replica.
    ///
    /// # Errors
    /// [`Error::Setting`] for a parameter the network lacks or another number of values.
    pub fn set_parameter(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let buffer = state(self.executor.plan(), name)?;
        self.executor.write(buffer, &Host::F32(values.to_vec()))
    }

    /// The mean cost over the images, one per replica, without weight decay; summed in f64.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn costs(&mut self) -> Result<Vec<f64>> {
        self.executor.run("cost", 1)?;
        let buffer = state(self.executor.plan(), "losses")?;
        let losses = self.executor.read(buffer)?.floats().unwrap_or_default();
        let count = losses.len() / self.replicas;
        let mean = |l: &[f32]| l.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        Ok(losses.chunks(count).map(mean).collect())
    }

    /// The gradient of the mean cost with respect to each parameter, one set per replica.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn gradients(&mut self) -> Result<Vec<Weights>> {
        self.run_gradient()?;
        let names = self
            .parameters
            .iter()
            .map(|p| format!("{} gradient", p.name));
        let buffers = names.map(|n| state(self.executor.plan(), &n));
        let buffers: Vec<usize> = buffers.collect::<Result<_>>()?;
        let hosts = self.executor.read_all(&buffers)?;
        let model = Model::from_buffers(&self.network, &self.parameters, hosts, self.replicas)?;
        Ok(model.replicas)
    }

    /// Runs the pass with gradients and waits for it, without a readback; for measurements.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn run_gradient(&mut self) -> Result<()> {
        self.executor.run("gradient", 1)?;
        self.executor.wait()
    }

    /// ‖δˡ‖: the length of the gradient with respect to each layer's biases, from the first
    /// layer to the last, `[replica][layer]`. Averaged over the images first, then measured,
    /// as the book does it in chapter 5.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn bias_norms(&mut self) -> Result<Vec<Vec<f64>>> {
        let norm = |t: &ArrayD<f32>| t.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let gradients = self.gradients()?;
        let biases = |w: &Weights| {
            let biases = w.iter().filter(|(name, _)| name.ends_with(".bias"));
            biases.map(|(_, t)| norm(t)).collect()
        };
        Ok(gradients.iter().map(biases).collect())
    }
}

/// What a layer of a network makes of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// The values of each replica, `[N, C, H, W]` or `[N, units]`.
    pub replicas: Vec<ArrayD<f32>>,
}

impl Activations {
    /// The output of the first `layers` layers of a model for `images`.
    ///
    /// # Errors
    /// [`Error::Setting`] for no layers or more than there are; [`Error::Shape`] if the
    /// images do not fit; what the device says.
    pub fn of(model: &Model, layers: usize, images: &Images, device: &Device) -> Result<Self> {
        let network = &model.network;
        check_images(network, images)?;
        if layers == 0 || layers > network.layers.len() {
            let wanted = format!("1 to {}", network.layers.len());
            return Err(Error::setting("layers", layers, wanted));
        }
        let mut part = Network {
            layers: network.layers[..layers].to_vec(),
            ..network.clone()
        };
        let extents = shape_of(&part)?;
        // Any cost takes such an end, and none is computed.
        if part.layers.last() != Some(&Layer::Softmax) {
            part = part.flatten().cost(Cost::Quadratic);
        }
        let (mut graph, mut variables) = (Graph::new(), HashMap::new());
        let inputs = inputs(&mut graph, images)?;
        graph.begin("forward");
        let (values, _) = forward(&mut graph, &part, &mut variables, images, inputs)?;
        graph.result("activations", values.output)?;
        let options = Options {
            replicas: model.replicas.len(),
            fuse: true,
            limits: device.info().limits,
        };
        let mut executor = device.executor(compile(&graph, &options)?)?;
        model.write(&part, executor.as_mut())?;
        upload(executor.as_mut(), SET, images)?;
        executor.run("forward", 1)?;
        let buffer = state(executor.plan(), "activations")?;
        let values = executor.read(buffer)?.floats().unwrap_or_default();
        let shape: Vec<usize> = [images.len()].into_iter().chain(extents).collect();
        let each = shape.iter().product::<usize>();
        let array = |v: &[f32]| {
            ArrayD::from_shape_vec(IxDyn(&shape), v.to_vec())
                .map_err(|e| Error::shape("activations", e.to_string(), format!("{shape:?}")))
        };
        let replicas = values.chunks(each).map(array).collect::<Result<_>>()?;
        Ok(Self { replicas })
    }
}

/// The shape of what a network's last layer makes of one image.
fn shape_of(network: &Network) -> Result<Vec<usize>> {
    // A rank-4 end is refused by the walk itself, so sizes are asked of it layer by layer.
    let flat = match network.layers.last() {
        Some(Layer::Softmax) => network.clone(),
        _ => network.clone().flatten().cost(Cost::Quadratic),
    };
    let total = flat.outputs()?;
    let mut size = Some(network.input);
    for layer in &network.layers {
        size = size.and_then(|[c, h, w]| match layer {
            Layer::Conv2d {
                filters,
                kernel,
                stride,
                padding,
                dilation,
                ..
            } => {
                let out = |n: usize, i: usize| {
                    (n + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i] + 1
                };
                Some([*filters, out(h, 0), out(w, 1)])
            }
            Layer::MaxPool2d {
                kernel,
                stride,
                padding,
            }
            | Layer::AvgPool2d {
                kernel,
                stride,
                padding,
            } => {
                let stride = stride.unwrap_or(*kernel);
                let out = |n: usize, i: usize| (n + 2 * padding[i] - kernel[i]) / stride[i] + 1;
                Some([c, out(h, 0), out(w, 1)])
            }
            Layer::Flatten | Layer::Dense { .. } => None,
            _ => Some([c, h, w]),
        });
    }
    Ok(match size {
        Some(size) if size.iter().product::<usize>() == total => size.to_vec(),
        _ => vec![total],
    })
}
