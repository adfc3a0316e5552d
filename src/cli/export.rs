//! `wgrad export`: a trained model in another framework's form.

use std::path::PathBuf;

use wgrad::book::nn::Network;
use wgrad::fit::{Reading, Trained, Weights};
use wgrad::model::Model;
use wgrad::model_file::ModelFile;
use wgrad::{Error, Result, files, onnx};

use super::print;

#[derive(clap::Args)]
pub struct Args {
    /// The model: a file that `wgrad train` or `Weights::save` has written
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Which network of an ensemble, counted from 1
    #[arg(long, value_name = "NUMBER")]
    network: Option<usize>,
    /// The ONNX file to write (opset 17)
    #[arg(long, value_name = "OUT")]
    onnx: PathBuf,
}

/// Writes the model as an ONNX file and says what it takes and makes.
pub fn run(args: &Args) -> Result<()> {
    let (model, weights) = load(args)?;
    let network = onnx::network(&model, &weights)?;
    files::write_whole(&args.onnx, &onnx::to_bytes(&network))?;
    let ports = |ports: &[onnx::Port]| {
        let port = |port: &onnx::Port| {
            let extents = port.extents.iter().map(|extent| format!(", {extent}"));
            format!("{} [N{}]", port.name, extents.collect::<String>())
        };
        ports.iter().map(port).collect::<Vec<_>>().join(", ")
    };
    print(&format!(
        "{}: ONNX opset 17, {} operators, {} weights; {} -> {}\n",
        args.onnx.display(),
        network.operators.len(),
        network.weights.len(),
        ports(&network.inputs),
        ports(&network.outputs),
    ))?;
    if !Trained::is(&ModelFile::load(&args.model)?) {
        return Ok(());
    }
    // What the file does not say: how its inputs are made of columns, and what its classes are called.
    let trained = Trained::load(&args.model, &onnx::registry())?;
    let mut text = String::new();
    if let Reading::Table(schema) = &trained.reading {
        text += "its input takes the columns as they were coded for training:\n";
        for coded in &schema.inputs {
            text += &format!("  {:<24} {}\n", coded.name, coded.coding);
        }
    }
    if let Some(classes) = trained.reading.classes() {
        text += &format!(
            "classes, in the order of the scores: {}\n",
            classes.join(", ")
        );
    }
    print(&text)
}

/// The network that was asked for.
fn load(args: &Args) -> Result<(Model, Weights)> {
    let (model, mut networks) =
        Weights::load_networks(&args.model, &Network::known_to(onnx::registry()))?;
    let count = networks.len();
    let number = match (args.network, count) {
        (Some(number), _) if (1..=count).contains(&number) => number,
        (None, 1) => 1,
        (found, _) => {
            let found = found.map_or("none".into(), |number| number.to_string());
            let wanted = format!("1 to {count}, the networks of {}", args.model.display());
            return Err(Error::setting("--network", found, wanted));
        }
    };
    Ok((model, networks.swap_remove(number - 1)))
}
