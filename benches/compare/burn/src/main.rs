#![recursion_limit = "256"]
//! How long a training step of four kinds of network takes in Burn, and one picture's way through one.
//!
//!     cargo run --release --manifest-path benches/compare/burn/Cargo.toml -- [SECONDS] [NAMES]
//!
//! NAMES are parts of the names below, such as `lstm`; with `ndarray` among them, where it was built in,
//! that backend runs instead of `flex`. RAYON_NUM_THREADS sets the threads. Each model's line is JSON.
//! The models, losses, optimizers and sizes are those of examples/models.rs and of its twin for
//! PyTorch, benches/compare/models.py.

use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::PaddingConfig2d::Explicit;
use burn::nn::attention::generate_autoregressive_mask as causal;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLossConfig, MseLoss, Reduction};
use burn::nn::transformer::*;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, Lstm, LstmConfig};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

#[derive(Module, Debug)]
struct Convolution {
    convolution: Conv2d,
    norm: BatchNorm,
}

impl Convolution {
    fn new(i: usize, o: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let p = kernel / 2;
        let convolution = Conv2dConfig::new([i, o], [kernel, kernel]).with_bias(false);
        let convolution = convolution.with_stride([stride, stride]);
        let convolution = convolution.with_padding(Explicit(p, p, p, p));
        Self {
            convolution: convolution.init(device),
            norm: BatchNormConfig::new(o).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.convolution.forward(x))
    }
}

#[derive(Module, Debug)]
struct Block {
    a: Convolution,
    b: Convolution,
    around: Option<Convolution>,
}

impl Block {
    fn new(i: usize, o: usize, stride: usize, device: &Device) -> Self {
        Self {
            a: Convolution::new(i, o, 3, stride, device),
            b: Convolution::new(o, o, 3, 1, device),
            around: (i != o).then(|| Convolution::new(i, o, 1, stride, device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.b.forward(relu(self.a.forward(x.clone())));
        let around = match &self.around {
            Some(around) => around.forward(x),
            None => x,
        };
        relu(around + h)
    }
}

/// A residual network of 20 layers for pictures of 32 × 32 (He et al. 2015, section 4.2).
#[derive(Module, Debug)]
struct ResNet20 {
    first: Convolution,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet20 {
    fn new(device: &Device) -> Self {
        let (mut blocks, mut i) = (Vec::new(), 16);
        for (stage, filters) in [16, 32, 64].into_iter().enumerate() {
            for block in 0..3 {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Block::new(i, filters, stride, device));
                i = filters;
            }
        }
        Self {
            first: Convolution::new(3, 16, 3, 1, device),
            blocks,
            head: LinearConfig::new(64, 10).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.first.forward(x));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let mean = x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim::<2>(2);
        self.head.forward(mean)
    }
}

#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    head: Linear,
}

impl Recurrent {
    fn new(device: &Device) -> Self {
        Self {
            lstm: LstmConfig::new(128, 256, true).init(device),
            head: LinearConfig::new(256, 1).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let (_, last) = self.lstm.forward(x, None);
        self.head.forward(last.hidden)
    }
}

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        let layer = |i, o| LinearConfig::new(i, o).init(device);
        Self {
            layers: vec![layer(16, 64), layer(64, 64), layer(64, 1)],
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.layers[0].forward(x));
        let x = relu(self.layers[1].forward(x));
        self.layers[2].forward(x)
    }
}

fn transformer(device: &Device) -> TransformerEncoder {
    let config = TransformerEncoderConfig::new(128, 512, 4, 1);
    config.with_dropout(0.0).with_norm_first(true).init(device)
}

fn sgd(momentum: Option<f64>) -> ModuleOptimizer {
    let momentum = momentum.map(|m| MomentumConfig::new().with_momentum(m).with_dampening(0.0));
    SgdConfig::new().with_momentum(momentum).init()
}

/// With the coefficients of PyTorch and wgrad; Burn's own are ε = 1e-5, λ = 1e-4.
fn adamw() -> ModuleOptimizer {
    let config = AdamWConfig::new().with_epsilon(1e-8);
    config.with_weight_decay(0.01).init()
}

fn wave<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let wave: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    Tensor::from_data(TensorData::new(wave, shape), device)
}

fn mse<const D: usize>(y: Tensor<D>, t: &Tensor<D>) -> Tensor<1> {
    MseLoss::new().forward(y, t.clone(), Reduction::Mean)
}

/// Counts the numbers that are trained, which leaves out BatchNorm's running means and variances.
struct Trained(usize);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().is_require_grad() {
            self.0 += param.val().shape().num_elements();
        }
    }
}

/// The median and the least of what `run` takes in µs, over rounds of about a tenth of `seconds`.
fn timed(seconds: f64, mut run: impl FnMut(u64)) -> [f64; 2] {
    run(3);
    let start = Instant::now();
    run(1);
    let once = start.elapsed().as_secs_f64();
    let times = ((seconds / 10.0 / once) as u64).max(1);
    let mut rounds = Vec::new();
    let begin = Instant::now();
    while rounds.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run(times);
        rounds.push(start.elapsed().as_secs_f64() * 1e6 / times as f64);
    }
    rounds.sort_by(f64::total_cmp);
    [rounds[rounds.len() / 2], rounds[0]]
}

/// A backend's name, its device, and how many seconds each model gets.
struct Bench<'b>(&'b str, Device, f64);

impl Bench<'_> {
    fn report(&self, name: &str, [median, least]: [f64; 2], more: &str) {
        let backend = self.0;
        print!(r#"{{"model": "{name}", "us": {median:.1}, "backend": "{backend}", "#);
        println!(r#""least_us": {least:.1}{more}}}"#);
    }

    /// Steps of `net` with `optimizer` at `rate`; the loss is read once a round.
    fn training<M: Module>(
        &self,
        name: &str,
        net: M,
        mut optimizer: ModuleOptimizer,
        rate: f64,
        loss: impl Fn(&M) -> Tensor<1>,
    ) {
        let mut trained = Trained(0);
        net.visit(&mut trained);
        assert!(name != "resnet-20" || trained.0 == 272_474);
        let (mut net, mut losses, mut count) = (Some(net), Vec::new(), 0);
        let times = timed(self.2, |steps| {
            for step in 0..steps {
                let model = net.take().expect("a step puts the network back");
                let value = loss(&model);
                let gradients = GradientsParams::from_grads(value.backward(), &model);
                net = Some(optimizer.step(rate, model, gradients));
                if step + 1 == steps {
                    losses.push(value.into_scalar::<f32>());
                }
            }
            self.1.sync().expect("the device works");
            count += steps;
        });
        let (parameters, first, last) = (trained.0, losses[0], losses[losses.len() - 1]);
        let losses = format!(r#""steps": {count}, "losses": [{first}, {last}]"#);
        self.report(
            name,
            times,
            &format!(r#", "parameters": {parameters}, {losses}"#),
        );
    }

    fn run(&self, name: &str) {
        let device = &self.1.clone().autodiff();
        match name {
            "resnet-20" => {
                let (x, t) = (wave([64, 3, 32, 32], device), classes(64, device));
                let entropy = CrossEntropyLossConfig::new().init(device);
                let loss = |net: &ResNet20| entropy.forward(net.forward(x.clone()), t.clone());
                self.training(name, ResNet20::new(device), sgd(Some(0.9)), 0.01, loss);
            }
            // A number from the last of 64 states.
            "lstm" => {
                let (x, t) = (wave([32, 64, 128], device), wave([32, 1], device));
                let loss = |net: &Recurrent| mse(net.forward(x.clone()), &t);
                self.training(name, Recurrent::new(device), sgd(None), 0.01, loss);
            }
            // A table of 16 columns.
            "table" => {
                let (x, t) = (wave([32, 16], device), wave([32, 1], device));
                let loss = |net: &Mlp| mse(net.forward(x.clone()), &t);
                self.training(name, Mlp::new(device), adamw(), 1e-3, loss);
            }
            // 64 places of 128 numbers, four heads, each place sees those before it.
            "transformer" => {
                let (x, t) = (wave([16, 64, 128], device), wave([16, 64, 128], device));
                let mask = causal(16, 64, device);
                let loss = |net: &TransformerEncoder| {
                    let input = TransformerEncoderInput::new(x.clone());
                    mse(net.forward(input.mask_attn(mask.clone())), &t)
                };
                self.training(name, transformer(device), adamw(), 1e-3, loss);
            }
            // One picture through the residual network, without autodiff, read back.
            _ => {
                let net = ResNet20::new(&self.1);
                let x = wave([1, 3, 32, 32], &self.1);
                let show = || assert_eq!(net.forward(x.clone()).into_data().num_elements(), 10);
                self.report(
                    name,
                    timed(self.2, |times| (0..times).for_each(|_| show())),
                    "",
                );
            }
        }
    }
}

fn classes(n: usize, device: &Device) -> Tensor<1, Int> {
    let classes: Vec<i32> = (0..n as i32).map(|i| i % 10).collect();
    Tensor::from_data(TensorData::new(classes, [n]), device)
}

#[allow(deprecated)] // Burn 0.22 calls ndarray deprecated in favour of flex.
fn device(backend: &str) -> Device {
    match backend {
        #[cfg(feature = "flex")]
        "flex" => Device::flex(),
        #[cfg(feature = "ndarray")]
        "ndarray" => Device::ndarray(),
        other => panic!("{other} is not built in"),
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|n| n.parse().ok()).unwrap_or(2.0);
    let (backends, parts): (Vec<_>, Vec<_>) = args.partition(|n| n == "flex" || n == "ndarray");
    let backend = backends.first().map_or("flex", String::as_str);
    let device = device(backend);
    device.seed(0);
    let bench = Bench(backend, device, seconds);
    for name in ["resnet-20", "lstm", "table", "transformer", "latency"] {
        if parts.is_empty() || parts.iter().any(|part| name.contains(part)) {
            bench.run(name);
        }
    }
}
