//! `wgrad export`: a trained model in another framework's form.

use std::path::PathBuf;

use wgrad::fit::{Reading, Trained, Weights};
use wgrad::model_file::ModelFile;
use wgrad::{Result, files, onnx};

use super::print;

#[derive(clap::Args)]
pub struct Args {
    /// The model: a file that `wgrad train --config` or `Weights::save` has written
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The ONNX file to write (opset 17)
    #[arg(long, value_name = "OUT")]
    onnx: PathBuf,
}

/// Writes the model as an ONNX file and says what it takes and makes.
pub fn run(args: &Args) -> Result<()> {
    let (model, weights) = Weights::load_model(&args.model, &onnx::registry())?;
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
