//! Recurrences in ONNX's operators, whose gates stand in another order: i, o, f, c and z, r, h.

use super::{Cell, Recurrent};
use crate::error::Result;
use crate::interchange::{Extent, Site, Tensor};

impl Cell {
    /// ONNX's operator, and for each of its gates which of ours it is.
    pub(crate) fn onnx(self) -> (&'static str, &'static [usize]) {
        match self {
            Self::Lstm => ("LSTM", &[0, 3, 1, 2]),
            Self::Gru => ("GRU", &[1, 0, 2]),
            Self::Plain { .. } => ("RNN", &[0]),
        }
    }
}

/// The sequence x that the inputs are a product of, its weight and perhaps its bias, where operators that
/// are written make it so.
fn product(site: &Site<'_>) -> Option<[String; 3]> {
    let back = site.maker(&site.inputs()[0].name)?;
    let gemm = site.maker(back.inputs.first()?)?;
    let flat = site.maker(gemm.inputs.first()?)?;
    let kinds = [back, gemm, flat].map(|operator| operator.kind.as_str());
    let transposed = ["transA", "transB"].map(|name| gemm.attributes.get(name));
    if kinds != ["Reshape", "Gemm", "Reshape"] || transposed != [Some(&0.into()), Some(&1.into())] {
        return None;
    }
    let x = site.term(flat.inputs.first()?)?;
    let w = site.term(gemm.inputs.get(1)?)?;
    let sums = &site.inputs()[0].extents;
    let bias = gemm.inputs.get(2).cloned().unwrap_or_default();
    let fits =
        x.extents.len() == 3 && x.extents[..2] == sums[..2] && w.extents == [sums[2], x.extents[2]];
    fits.then(|| [x.name.clone(), w.name.clone(), bias])
}

/// h of every step; nobody gets what the gradient needs.
pub(super) fn recurrent(op: &Recurrent, site: &mut Site<'_>) -> Result<Vec<String>> {
    let (kind, order) = op.cell.onnx();
    let (rows, units) = (site.fixed(1, 0)?, site.fixed(1, 1)?);
    let [x, w, bias] = product(site).unwrap_or_else(|| {
        // What the inputs come to is there already: ONNX's product leaves it as it is.
        let place = |i: usize| f32::from(u8::from(i / rows == i % rows));
        let one = (0..rows * rows).map(place).collect();
        let one = site.constant(Tensor::floats(&[rows, rows], one));
        [site.input(0), one, String::new()]
    });
    let bias = match bias.as_str() {
        "" => site.constant(Tensor::floats(&[rows], vec![0.0; rows])),
        _ => bias,
    };
    let (recurrent, recurrent_bias) = (site.input(1), site.input(2));
    // Gates of a weight in ONNX's order.
    let ordered = |site: &mut Site<'_>, weight: &str| {
        if order.len() == 1 {
            return weight.to_string();
        }
        let sizes = site.ints(&vec![units as i64; order.len()]);
        let gates = site.ops(
            "Split",
            &[weight, &sizes],
            &[("axis", 0.into())],
            order.len(),
        );
        let gates: Vec<&str> = order.iter().map(|&gate| gates[gate].as_str()).collect();
        site.op("Concat", &gates, &[("axis", 0.into())])
    };
    let weights = [&w, &recurrent, &bias, &recurrent_bias];
    let [w, r, b, rb] = weights.map(|weight| ordered(site, weight));
    let b = site.op("Concat", &[&b, &rb], &[("axis", 0.into())]);
    let axis = site.ints(&[0]);
    let [w, r, b] = [w, r, b].map(|weight| site.op("Unsqueeze", &[&weight, &axis], &[]));
    // ONNX has the steps before the examples, and an axis of directions behind them.
    let swapped = || ("perm", vec![1, 0, 2].into());
    let steps = site.op("Transpose", &[&x], &[swapped()]);
    let direction = if op.reverse { "reverse" } else { "forward" };
    let mut attributes = vec![
        ("hidden_size", (units as i64).into()),
        ("direction", direction.into()),
    ];
    match op.cell {
        Cell::Gru => attributes.push(("linear_before_reset", 1.into())),
        Cell::Plain { relu: true } => {
            let relu = crate::interchange::Attribute::Texts(vec!["Relu".into()]);
            attributes.push(("activations", relu));
        }
        Cell::Lstm | Cell::Plain { .. } => {}
    }
    let h = site.op(kind, &[&steps, &w, &r, &b], &attributes);
    let axis = site.ints(&[1]);
    let h = site.op("Squeeze", &[&h, &axis], &[]);
    let h = site.op("Transpose", &[&h], &[swapped()]);
    debug_assert_eq!(site.made(0).last(), Some(&Extent::Fixed(units)));
    let mut made = vec![h];
    made.resize(site.outputs().len(), String::new());
    Ok(made)
}
