//! Chapter 3's softmax sliders, through the op that trains networks.

use std::sync::Arc;

use super::options::Options;
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::Tape;
use crate::ops::softmax::Softmax;
use crate::report::record::{Record, Row};
use crate::run::Session;
use crate::shape::Type;

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
    let z = graph.input::<f32>("z", Type::f32("z", &[SLIDERS.len(), 4])?)?;
    let program = graph.begin("softmax");
    let a = graph.op1(Arc::new(Softmax { axis: 1 }), &[z.value()])?;
    let a = graph.output::<f32>("a", a)?;
    let mut session = Session::new(&graph, options.device)?;
    session.write(z, &SLIDERS.map(|(z, _)| z).concat())?;
    session.run(program, 1)?;
    let ours = session.read(a)?;
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
