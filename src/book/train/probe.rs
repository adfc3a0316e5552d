//! Looking into networks without training them: costs, gradients and activations over a
//! whole set of images in one pass.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::front::check_images;
use super::model::{Model, Weights};
use crate::book::nn::{Network, Parameter};
use crate::compile::Options;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::graph::{Graph, Handle, Program};
use crate::model::{Pass, Variables};
use crate::ops::constant::Constant;
use crate::ops::gather::{Expansion, Gather};
use crate::ops::{COUNTER, Tape, Value};
use crate::run::Session;
use crate::shape::Type;
use crate::tensor::pack;

/// The name of the images' buffers.
const SET: &str = "probe";

/// The cost of networks and its gradient, over all of a few images at once.
///
/// Dropout is as when evaluating: nothing here is random.
pub struct Probe {
    session: Session,
    network: Network,
    parameters: Vec<Parameter>,
    weights: Vec<Handle<f32>>,
    cost: Program,
    losses: Handle<f32>,
    gradient: Program,
    gradients: Vec<Handle<f32>>,
}

/// Images, labels and a step counter that stays 0.
#[derive(Clone, Copy)]
struct Set {
    pixels: Handle<u32>,
    labels: Handle<u32>,
    step: Handle<u32>,
}

impl Set {
    fn of(graph: &mut Graph, images: &Images) -> Result<Self> {
        let words = images.pixels.len().div_ceil(4);
        let shared = |extents: &[usize]| Type::u32(SET, extents).map(Type::shared);
        Ok(Self {
            pixels: graph.input("probe images", shared(&[words])?)?,
            labels: graph.input("probe labels", shared(&[images.len()])?)?,
            step: graph.input("probe step", Type::u32(SET, &[COUNTER])?)?,
        })
    }

    fn write(self, session: &mut Session, images: &Images) -> Result<()> {
        session.write(self.pixels, &pack(&images.pixels))?;
        let labels: Vec<u32> = images.labels.iter().map(|&label| label.into()).collect();
        session.write(self.labels, &labels)?;
        session.fill(self.step, 0)
    }

    /// The forward pass over all of `images`: the network's values, labels.
    fn forward(
        self,
        graph: &mut Graph,
        network: &Network,
        variables: &mut Variables,
        images: &Images,
    ) -> Result<(crate::book::nn::Forward, Value)> {
        let [x, labels] = self.gathered(graph, network, images)?;
        let forward = network.forward(graph, variables, x, Pass::Evaluation)?;
        Ok((forward, labels))
    }

    /// All of `images` and their labels.
    fn gathered(self, graph: &mut Graph, network: &Network, images: &Images) -> Result<[Value; 2]> {
        graph.label("gather");
        let gather = Gather {
            batch: images.len(),
            images: images.len(),
            shape: network.input,
            expansion: Expansion::None,
            epoch_steps: 1,
            scale: 1.0 / 255.0,
            shuffled: false,
        };
        let set = [self.pixels, self.labels, self.step].map(Handle::value);
        let xy = graph.op(Arc::new(gather), &set)?;
        Ok([xy[0], xy[1]])
    }
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
        let (mut graph, mut variables) = (Graph::new(), Variables::default());
        let set = Set::of(&mut graph, images)?;
        let cost = graph.begin("cost");
        let (values, labels) = set.forward(&mut graph, network, &mut variables, images)?;
        let losses = network.losses(&mut graph, values.scores, labels)?;
        let measured = graph.output("losses", losses)?;
        let gradient = graph.begin("gradient");
        let (values, labels) = set.forward(&mut graph, network, &mut variables, images)?;
        let losses = network.losses(&mut graph, values.scores, labels)?;
        let weights = weights(&graph, &parameters, &variables)?;
        let wanted: Vec<Value> = weights.iter().map(|w| w.value()).collect();
        let mean = Constant {
            extents: vec![images.len()],
            value: 1.0 / images.len() as f64,
        };
        let seed = graph.op1(Arc::new(mean), &[])?;
        let values = graph.gradients(losses, seed, &wanted)?;
        let mut gradients = Vec::new();
        for (p, value) in parameters.iter().zip(values) {
            let value = value.ok_or_else(|| {
                Error::setting(&p.name, "no influence on the cost", "every parameter used")
            })?;
            gradients.push(graph.output(&format!("{} gradient", p.name), value)?);
        }
        let options = Options {
            replicas,
            ..Options::on(device.info())
        };
        let mut session = Session::with(&graph, device, &options)?;
        set.write(&mut session, images)?;
        Ok(Self {
            session,
            network: network.clone(),
            parameters,
            weights,
            cost,
            losses: measured,
            gradient,
            gradients,
        })
    }

    /// Uploads the weights to look at: one set for each replica, or one for all.
    ///
    /// # Errors
    /// [`Error::Setting`] if the model is of another network or another number of replicas.
    pub fn set_weights(&mut self, model: &Model) -> Result<()> {
        model.write(&self.parameters, &self.weights, &mut self.session)
    }

    /// Uploads one parameter's values of every replica.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a parameter the network lacks, [`Error::Setting`] for another
    /// number of values.
    pub fn set_parameter(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let mut known = self.parameters.iter();
        let Some(at) = known.position(|p| p.name == name) else {
            let known: Vec<&str> = self.parameters.iter().map(|p| &p.name[..]).collect();
            return Err(Error::unknown("parameter", name, &known));
        };
        self.session.write(self.weights[at], values)
    }

    /// The mean cost over the images, one per replica, without weight decay; summed in f64.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn costs(&mut self) -> Result<Vec<f64>> {
        self.session.run(self.cost, 1)?;
        let losses = self.session.read(self.losses)?;
        let mean = |l: &[f32]| l.iter().map(|&x| f64::from(x)).sum::<f64>() / l.len() as f64;
        Ok(losses.replicas().map(mean).collect())
    }

    /// The gradient of the mean cost with respect to each parameter, one set per replica.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn gradients(&mut self) -> Result<Vec<Weights>> {
        self.run_gradient()?;
        let values = self.session.read(&self.gradients)?;
        Ok(Model::from_values(&self.network, &self.parameters, &values)?.replicas)
    }

    /// Runs the pass with gradients and waits for it, without a readback; for measurements.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn run_gradient(&mut self) -> Result<()> {
        self.session.run(self.gradient, 1)?;
        self.session.wait()
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
        let part = Network {
            layers: network.layers[..layers].to_vec(),
            ..network.clone()
        };
        let (mut graph, mut variables) = (Graph::new(), Variables::default());
        let set = Set::of(&mut graph, images)?;
        let program = graph.begin("forward");
        let [x, _] = set.gathered(&mut graph, network, images)?;
        let values = part.values(&mut graph, &mut variables, x, Pass::Evaluation)?;
        let last = values[layers];
        let shape = graph.ty(last)?.shape.extents().to_vec();
        let output = graph.output::<f32>("activations", last)?;
        let known = |p: &Parameter| variables.value(&p.name).is_ok();
        let parameters: Vec<Parameter> = network.parameters()?.into_iter().filter(known).collect();
        let weights = weights(&graph, &parameters, &variables)?;
        let options = Options {
            replicas: model.replicas.len(),
            ..Options::on(device.info())
        };
        let mut session = Session::with(&graph, device, &options)?;
        model.write(&parameters, &weights, &mut session)?;
        set.write(&mut session, images)?;
        session.run(program, 1)?;
        let values = session.read(output)?;
        let array = |v: &[f32]| {
            ArrayD::from_shape_vec(IxDyn(&shape), v.to_vec())
                .map_err(|e| Error::shape("activations", e.to_string(), format!("{shape:?}")))
        };
        let replicas = values.replicas().map(array).collect::<Result<_>>()?;
        Ok(Self { replicas })
    }
}

/// Each parameter's handle, from the values that a forward pass has noted by name.
fn weights(
    graph: &Graph,
    parameters: &[Parameter],
    variables: &Variables,
) -> Result<Vec<Handle<f32>>> {
    let each = parameters
        .iter()
        .map(|p| graph.handle(variables.value(&p.name)?));
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::nn::Cost;
    use crate::data::digits::{Part, generate};
    use crate::exec::Choice;

    #[test]
    fn a_parameter_is_set_by_its_name() {
        let network = Network::new([1, 28, 28]).flatten().dense(10).sigmoid();
        let network = network.cost(Cost::Quadratic);
        let images = generate(1, Part::Test, 3).unwrap();
        let cpu = Device::open(Choice::Cpu).unwrap();
        let mut probe = Probe::new(&network, &images, 2, &cpu).unwrap();
        let names: Vec<String> = probe.parameters.iter().map(|p| p.name.clone()).collect();
        let sizes: Vec<usize> = probe.weights.iter().map(|w| w.elements()).collect();
        for (name, size) in names.iter().zip(&sizes) {
            probe.set_parameter(name, &vec![0.0; 2 * size]).unwrap();
        }
        // Every output is ½ and so far from its goal, in both replicas.
        assert_eq!(probe.costs().unwrap(), [1.25; 2]);
        let unknown = probe.set_parameter("weights", &[]).unwrap_err().to_string();
        let known = format!("unknown parameter `weights`; known: {}", names.join(", "));
        assert_eq!(unknown, known);
        let short = probe.set_parameter(&names[0], &[0.0]).unwrap_err();
        let wanted = format!("data for {}: found 1 elements", names[0]);
        assert!(short.to_string().starts_with(&wanted), "{short}");
    }
}
