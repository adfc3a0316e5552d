//! Normalization in ONNX's operators.

use super::{Norm, Over};
use crate::error::Result;
use crate::interchange::{Attribute, Extent, Site, Tensor};

/// y; nobody gets the statistics.
pub(super) fn norm(norm: &Norm, site: &mut Site<'_>) -> Result<Vec<String>> {
    let [x, gamma, beta] = std::array::from_fn(|k| site.input(k));
    let epsilon = || ("epsilon", Attribute::from(norm.epsilon));
    let (extents, rank) = (site.extents(0), site.extents(0).len());
    let y = match norm.over {
        Over::Layer(axes) => {
            let axis = ("axis", (-(axes as i64)).into());
            site.op(
                "LayerNormalization",
                &[&x, &gamma, &beta],
                &[axis, epsilon()],
            )
        }
        Over::Rms(axes) => {
            let square = site.op("Mul", &[&x, &x], &[]);
            let axes: Vec<i64> = (1..=axes as i64).map(|axis| -axis).collect();
            let kept = [("axes", axes.into()), ("keepdims", 1.into())];
            let mean = site.op("ReduceMean", &[&square], &kept);
            let epsilon = site.constant(Tensor::float(norm.epsilon));
            let sum = site.op("Add", &[&mean, &epsilon], &[]);
            let root = site.op("Sqrt", &[&sum], &[]);
            let y = site.op("Div", &[&x, &root], &[]);
            site.op("Mul", &[&y, &gamma], &[])
        }
        Over::Instance if rank > 2 => {
            site.op("InstanceNormalization", &[&x, &gamma, &beta], &[epsilon()])
        }
        Over::Group(groups) if rank > 1 => {
            // The channels of a group become one channel's places, and each its own weight after that.
            let mut each = site.fixed(0, 1)? / groups.max(1);
            for axis in 2..rank {
                each *= site.fixed(0, axis)?;
            }
            let apart = [extents[0], Extent::Fixed(groups), Extent::Fixed(each)];
            let y = site.reshape(&x, &extents, &apart)?;
            let one = site.constant(Tensor::floats(&[groups], vec![1.0; groups]));
            let zero = site.constant(Tensor::floats(&[groups], vec![0.0; groups]));
            let y = site.op("InstanceNormalization", &[&y, &one, &zero], &[epsilon()]);
            let y = site.reshape(&y, &apart, &extents)?;
            let axes: Vec<i64> = (1..rank as i64 - 1).collect();
            let [gamma, beta] = [gamma, beta].map(|weight| match axes.as_slice() {
                [] => weight,
                axes => {
                    let axes = site.ints(axes);
                    site.op("Unsqueeze", &[&weight, &axes], &[])
                }
            });
            let y = site.op("Mul", &[&y, &gamma], &[]);
            site.op("Add", &[&y, &beta], &[])
        }
        Over::Batch => return Err(site.refused("by the statistics of a mini-batch")),
        Over::Instance | Over::Group(_) => return Err(site.refused("without an axis of places")),
    };
    let mut made = vec![y];
    made.resize(site.inputs().len(), String::new());
    Ok(made)
}
