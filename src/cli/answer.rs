//! `wgrad eval` and `wgrad predict`: a trained model answers.

use std::path::PathBuf;

use wgrad::book::train::{Model, Predictor, plurality};
use wgrad::data::picture::read_digit;
use wgrad::data::{Images, Source};
use wgrad::exec::Choice;
use wgrad::fit::{Sample, Trained};
use wgrad::model::Registry;
use wgrad::model_file::ModelFile;
use wgrad::{Error, Result};

use super::{all_told, percent, print};

/// Flags of `wgrad eval`.
#[derive(clap::Args)]
pub struct EvalArgs {
    /// A model.safetensors that `wgrad train` wrote
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The configuration that the model was trained by, for all but the book's networks
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data: the file or folder of the configuration's kind [default: the configuration's]; for the
    /// book's networks a folder with MNIST's four IDX files, or `synthetic` [default: MNIST_DIR, else
    /// synthetic]
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
}

/// Flags of `wgrad predict`.
#[derive(clap::Args)]
pub struct PredictArgs {
    /// A model.safetensors that `wgrad train` wrote
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Pictures (PNG, JPEG): of one digit each, or like those of the folder that a model was trained on;
    /// of a model that was trained on a table, CSV files with its columns
    #[arg(required_unless_present = "after", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Of a model that was trained on a text: what it is to go on with
    #[arg(long, value_name = "TEXT", conflicts_with = "images")]
    after: Option<String>,
    /// Characters to go on with
    #[arg(long, value_name = "N", default_value_t = 400, requires = "after")]
    characters: usize,
    /// 1 draws characters as the model believes, less takes what is likely more often, 0 always the likeliest
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "after")]
    temperature: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0, requires = "after")]
    seed: u64,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
}

/// Prints the accuracy of each network and of their vote.
pub fn eval(args: &EvalArgs) -> Result<()> {
    let choice: Choice = args.device.parse()?;
    if let Some(config) = &args.config {
        let device = super::Variants::default().open(choice)?;
        return super::experiment::eval(&args.model, config, args.data.as_deref(), &device);
    }
    if Trained::is(&ModelFile::load(&args.model)?) {
        let wanted = "`--config FILE`, the configuration that it was trained by";
        return Err(Error::setting("model", "one of an experiment", wanted));
    }
    let model = Model::load(&args.model)?;
    let data = Source::resolve(args.data.as_deref())?.load()?;
    let device = super::Variants::default().open(choice)?;
    let mut predictor = Predictor::new(&model, &data.test, &device)?;
    let answers = predictor.evaluate()?;
    let mut text = format!(
        "{} test images of {}, device: {}\n",
        data.test.len(),
        data.test.name,
        device.info().name
    );
    for (r, (accuracy, cost)) in answers.accuracy.iter().zip(&answers.cost).enumerate() {
        text += &format!("network {r}: {}, cost {cost:.4}\n", percent(*accuracy));
    }
    if model.replicas.len() > 1 {
        let vote = answers.ensemble_accuracy(&data.test.labels);
        text += &format!("plurality vote: {}\n", percent(vote));
    }
    print(&text)
}

/// Prints each picture's reading.
pub fn predict(args: &PredictArgs) -> Result<()> {
    let choice: Choice = args.device.parse()?;
    if let Some(beginning) = &args.after {
        let sample = Sample {
            beginning: beginning.clone(),
            characters: args.characters,
            temperature: args.temperature,
            seed: args.seed,
        };
        let trained = Trained::load(&args.model, &Registry::standard())?;
        let device = super::Variants::default().open(choice)?;
        return print(&format!("{}\n", trained.sample(&sample, &device)?));
    }
    if Trained::is(&ModelFile::load(&args.model)?) {
        let device = super::Variants::default().open(choice)?;
        return super::experiment::predict(&args.model, &args.images, &device);
    }
    let model = Model::load(&args.model)?;
    let [_, height, width] = model.network.input;
    let classes = model.network.outputs()?.max(2);
    // One picture that cannot be read costs no other its answer.
    let (mut pixels, mut paths, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.images {
        match read_digit(path, height, width) {
            Ok(picture) => {
                pixels.extend(picture);
                paths.push(path);
            }
            Err(e) => refused.push(e),
        }
    }
    if paths.is_empty() {
        return all_told(refused);
    }
    let labels = vec![0; paths.len()];
    let images = Images::new("pictures", height, width, classes, pixels, labels)?;
    let device = super::Variants::default().open(choice)?;
    let mut predictor = Predictor::new(&model, &images, &device)?;
    let read = plurality(&predictor.evaluate()?.predictions);
    let outputs = predictor.outputs()?;
    let mut text = String::new();
    for (i, (path, class)) in paths.into_iter().zip(read).enumerate() {
        let sure: f32 = outputs
            .iter()
            .filter_map(|o| o[i].get(class as usize))
            .sum();
        let sure = f64::from(sure) / outputs.len() as f64;
        text += &format!("{}: {class} ({})\n", path.display(), percent(sure));
    }
    print(&text)?;
    all_told(refused)
}
