//! Chapter 3's softmax sliders, through the op that trains networks.

use std::sync::Arc;

use super::run::Options;
use crate::compile::{Options as CompileOptions, compile};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::Tape;
use crate::ops::softmax::Softmax;
use crate::report::record::{Record, Row};
use crate::shape::Type;
use crate::tensor::Host;

/// Weighted inputs of the book's figure and the activations it shows.
const SLIDERS: [([f32; 4], [f64; 4]); 3] = [
    ([2.5, -1.0, 3.2, 0.5], [0.315, 0.009, 0.633, 0.043]),
    ([2.5, -1.0, 3.2, 1.6], [0.290, 0.009, 0.584, 0.118]),
    ([2.5, -1.0, 3.2, 3.5], [0.174, 0.005, 0.349, 0.472]),
];
/// The book prints three digits, and cuts some of them off instead of rounding.
const SLACK: f64 = 0.001;

pub(super) fn run(options: &Options<'_>, record: &mut Record) -> Result<()> {
    record.setting = "softmax of four weighted inputs; the fourth is moved".into();
    record.seeds.clear();
    let mut graph = Graph::new();
    let z = graph.variable("z", Type::f32("z", &[SLIDERS.len(), 4])?)?;
    graph.begin("softmax");
    let a = graph.op1(Arc::new(Softmax { axis: 1 }), &[z])?;
    graph.result("a", a)?;
    let plan = compile(
        &graph,
        &CompileOptions {
            replicas: 1,
            fuse: true,
            limits: options.device.info().limits,
        },
    )?;
    let mut executor = options.device.executor(plan)?;
    let buffer = |plan: &crate::plan::Plan, name: &str| {
        (plan.state(name)).ok_or_else(|| Error::setting("buffer", name, "a buffer of the plan"))
    };
    let z = buffer(executor.plan(), "z")?;
    let inputs = SLIDERS.iter().flat_map(|(z, _)| *z).collect();
    executor.write(z, &Host::F32(inputs))?;
    executor.run("softmax", 1)?;
    let a = buffer(executor.plan(), "a")?;
    let ours = executor.read(a)?.floats().unwrap_or_default();
    for ((z, book), ours) in SLIDERS.iter().zip(ours.chunks(4)) {
        for (k, (&book, &ours)) in book.iter().zip(ours).enumerate() {
            record.rows.push(Row {
                what: format!("z₄ = {}: a{}", z[3], ["₁", "₂", "₃", "₄"][k]),
                book: Some(book),
                ours: vec![f64::from(ours)],
                slack: SLACK,
                ..Row::default()
            });
        }
    }
    Ok(())
}
