//! What a crate outside wgrad can add to it, without a change to wgrad: an op with a WGSL kernel
//! ([`scan`]), expressions and a loss ([`expressions`]), an update rule ([`belief`]), a layer, a metric, a callback and data ([`front`]); and a network
//! that learns with all of them ([`memory`]). The page `docs/extending.md` of wgrad tells how.
#![deny(missing_docs)]

pub mod belief;
pub mod expressions;
pub mod front;
pub mod memory;
pub mod scan;
