//! Fusion: rules over the graph, not a list of special cases for one network.
//!
//! | rule | several launches become one |
//! |---|---|
//! | [`endings`] | expressions at the end of the kernel that makes what they read: bias, activation, mask, slope, the update of a parameter |
//! | [`dense`] | a dense layer's way back: input gradient, mask and slope, weights and bias with their updates |
//! | [`conv`] | convolution, bias, pool and activation; pool gradient into both gradients of the convolution; filters and bias with their updates |
//! | [`pointwise`] | chains and trees of expressions |
//! | [`beside`] | updates of as many elements, such as those of the biases of several layers, side by side |
//! | [`rows`] | mini-batches of two columns |
//! | [`constants`] | numbers into the expressions that read them |
//! | [`costs`] | the losses of a cost and their slopes |
//! | [`loss`] | the last dense layer with its cost, the epoch's metrics, the output error and the step counter |
//!
//! A rule only recognises a pattern. Whether the nodes may become one, since none between
//! them reads what would be gone or sees an update too early or too late, is decided in
//! one place: [`Nodes::join`](nodes::Nodes).

mod beside;
mod constants;
mod conv;
mod costs;
mod dense;
mod endings;
mod loss;

mod nodes;
mod pointwise;
mod rows;
#[cfg(test)]
mod sums_tests;

use crate::error::Result;
use endings::Between;
pub(super) use nodes::Nodes;

/// Applies every rule.
///
/// # Errors
/// What a fused op's lowering says.
pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    constants::fuse(nodes)?;
    endings::fuse(nodes, Between::Alone)?;
    conv::fuse(nodes)?;
    dense::fuse(nodes)?;
    rows::fuse(nodes)?;
    loss::fuse(nodes)?;
    costs::fuse(nodes)?;
    // A dense layer's way back no longer reads what stood before a mask, so the mask may
    // now go to the end of the layer before it.
    endings::fuse(nodes, Between::Alone)?;
    pointwise::fuse(nodes)?;
    // What several expressions read is now read by one, where they have become one; what still several read is stored.
    endings::fuse(nodes, Between::Viewed)?;
    endings::fuse(nodes, Between::Shared)?;
    pointwise::fuse(nodes)?;
    beside::fuse(nodes)
}

/// The plan of one network of a graph, with every rule.
#[cfg(test)]
fn fused(graph: &crate::graph::Graph) -> crate::plan::Plan {
    let options = crate::compile::Options {
        replicas: 1,
        fuse: true,
        limits: crate::plan::Limits::default(),
    };
    crate::compile::compile(graph, &options).unwrap()
}
