//! `wgrad export`: a trained model in another framework's form.

use std::path::PathBuf;

use wgrad::fit::Weights;
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
    ))
}
