//! The ops of general networks over shapes drawn at random.

use wgrad::doctor::harness::plan_of;
use wgrad::ops::Op;
use wgrad::ops::adaptive_avg_pool2d::{AdaptiveAvgPool2d, AdaptiveAvgPool2dGrad};
use wgrad::ops::adaptive_max_pool2d::{AdaptiveMaxPool2d, AdaptiveMaxPool2dGrad};
use wgrad::ops::bmm::Bmm;
use wgrad::ops::concat::Concat;
use wgrad::ops::cumsum::Cumsum;
use wgrad::ops::embedding::{Embedding, EmbeddingGrad};
use wgrad::ops::log_softmax::LogSoftmax;
use wgrad::ops::norm::{BatchNormGrad, Norm, NormGrad, NormParameters, Over};
use wgrad::ops::pad::{Edge, Pad, PadEdges, PadEdgesGrad};
use wgrad::ops::permute::Permute;
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::slice::Slice;
use wgrad::ops::split::Split;
use wgrad::ops::upsample::{Sampling, Upsample, UpsampleGrad};

use super::*;

/// Extents of up to six axes, many of one element.
fn extents(most: usize) -> impl Strategy<Value = Vec<usize>> {
    let extent = prop_oneof![Just(1usize), 1..4usize, 1..9usize];
    prop::collection::vec(extent, 1..=most)
}

/// The numbers below `count`, sorted by what was drawn.
fn order(count: usize, keys: &[u32]) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    order.sort_by_key(|&i| keys[i]);
    order
}

#[test]
fn permutations() {
    let drawn = (extents(6), any::<[u32; 6]>());
    draw("permutations", drawn, |(extents, keys)| {
        let axes = order(extents.len(), &keys);
        Some(Case::new(Permute { axes }, 1).fixed(&extents, UNIFORM))
    });
}

#[test]
fn reductions() {
    let drawn = (extents(6), any::<[bool; 6]>(), any::<bool>(), 0..7usize);
    draw("reductions", drawn, |(extents, marks, keep, kind)| {
        let kinds = [Kind::Sum, Kind::Mean, Kind::Max, Kind::Min];
        let more = [Kind::Variance, Kind::LogSumExp, Kind::Norm];
        let kind = *kinds.iter().chain(&more).nth(kind)?;
        let axes: Vec<_> = (0..extents.len()).filter(|&axis| marks[axis]).collect();
        let terms = axes.iter().map(|&axis| extents[axis]).product();
        let op = Reduction {
            keep,
            ..Reduction::new(kind, &axes)
        };
        let fill = if terms % 2 == 0 { Fill::Ties } else { UNIFORM };
        (!axes.is_empty()).then(|| Case::new(op, terms).fixed(&extents, fill))
    });
}

#[test]
fn products_of_many_matrices() {
    let sizes = [1..40usize, 1..40, 1..70];
    let batch = prop::collection::vec((1..4usize, 0..4u8), 0..=4);
    let drawn = (sizes, batch, any::<(bool, bool)>());
    draw(
        "products of many matrices",
        drawn,
        |([m, n, k], batch, (trans_a, trans_b))| {
            let from = |once: u8| {
                let extents = batch.iter();
                extents.map(move |&(extent, who)| if who == once { 1 } else { extent })
            };
            let a = if trans_a { [k, m] } else { [m, k] };
            let b = if trans_b { [n, k] } else { [k, n] };
            let case = Case::new(Bmm { trans_a, trans_b }, k);
            let case = case.fixed(&from(0).chain(a).collect::<Vec<_>>(), UNIFORM);
            Some(case.fixed(&from(1).chain(b).collect::<Vec<_>>(), UNIFORM))
        },
    );
}

#[test]
fn normalizations() {
    let groups = (1..4usize, 1..4usize);
    let drawn = (extents(4), groups, 1..300usize, 0..5u8, 0..4u8);
    draw(
        "normalizations",
        drawn,
        |(mut extents, (groups, per), last, over, what)| {
            let channels = vec![groups * per];
            let mut affine = channels.clone();
            let over = match over {
                0 | 1 => {
                    extents.push(last);
                    affine = extents.split_off(extents.len() / 2);
                    extents.extend(&affine);
                    [Over::Layer(affine.len()), Over::Rms(affine.len())][usize::from(over)]
                }
                over => {
                    extents.insert(1, channels[0]);
                    [Over::Group(groups), Over::Instance, Over::Batch][usize::from(over) - 2]
                }
            };
            let norm = Norm {
                over,
                epsilon: 1e-3,
            };
            let rms = matches!(over, Over::Rms(_));
            let x = wgrad::shape::Type::f32("x", &extents).ok()?;
            let parameter = wgrad::shape::Type::f32("gamma", &affine).ok()?;
            let inputs = [x, parameter.clone(), parameter];
            let outputs = norm.infer(&inputs[..3 - usize::from(rms)]).ok()?;
            let statistics = outputs[1].shape.extents();
            let elements: usize = extents.iter().product();
            let terms = elements / outputs[1].elements();
            let with_statistics = |case: Case| {
                let case = if rms {
                    case
                } else {
                    case.fixed(statistics, UNIFORM)
                };
                case.fixed(statistics, Fill::Uniform(0.5, 2.0))
            };
            Some(match what {
                0 => {
                    let case = Case::new(norm, terms).fixed(&extents, UNIFORM);
                    let case = case.fixed(&affine, UNIFORM);
                    if rms {
                        case
                    } else {
                        case.fixed(&affine, UNIFORM)
                    }
                }
                1 => {
                    let case = Case::new(NormGrad(norm), terms).fixed(&extents, UNIFORM);
                    with_statistics(case.fixed(&extents, UNIFORM).fixed(&affine, UNIFORM))
                }
                2 if over == Over::Batch => {
                    let case = Case::new(BatchNormGrad(norm), terms).fixed(&extents, UNIFORM);
                    with_statistics(case.fixed(&extents, UNIFORM).fixed(&affine, UNIFORM))
                }
                _ => {
                    let case = Case::new(NormParameters(norm), elements);
                    with_statistics(case.fixed(&extents, UNIFORM).fixed(&extents, UNIFORM))
                }
            })
        },
    );
}

/// Few statistics of many elements, which are cut into runs wherever channels and examples end.
#[test]
fn normalizations_in_runs() {
    let drawn = (1..40usize, 1..4usize, 2..20usize, 1..90usize, 0..4u8);
    draw("normalizations in runs", drawn, |(n, c, h, w, what)| {
        let over = [Over::Batch, Over::Layer(3), Over::Batch, Over::Group(1)];
        let over = over[usize::from(what)];
        let norm = Norm {
            over,
            epsilon: 1e-3,
        };
        let (extents, affine) = match over {
            Over::Batch => ([n, c, h, w], vec![c]),
            Over::Layer(_) => ([c, n, h, w], vec![n, h, w]),
            _ => ([c, n, h, w], vec![n]),
        };
        let terms = n * h * w;
        let case = match what {
            2 => {
                let case = Case::new(BatchNormGrad(norm), terms).fixed(&extents, UNIFORM);
                let case = case.fixed(&extents, UNIFORM).fixed(&affine, UNIFORM);
                let case = case.fixed(&affine, UNIFORM);
                case.fixed(&affine, Fill::Uniform(0.5, 2.0))
            }
            _ => {
                let case = Case::new(norm, terms).fixed(&extents, Fill::Rising(-1.0, 2.0));
                case.fixed(&affine, UNIFORM).fixed(&affine, UNIFORM)
            }
        };
        let plan = plan_of(&case, 1).ok()?;
        (plan.programs["run"].len() == 2).then_some(case)
    });
}

#[test]
fn parts() {
    let drawn = (
        extents(4),
        0..4usize,
        (0..4usize, 1..4usize),
        1..5usize,
        0..5u8,
    );
    draw(
        "parts",
        drawn,
        |(mut extents, axis, (start, extent), step, what)| {
            let axis = axis % extents.len();
            let whole = start + (extent - 1) * step + 1 + extents[axis] / 2;
            let around = Edge::Replicate;
            let edges = PadEdges {
                axis,
                before: start,
                after: extent,
                edge: match start.max(extent) < extents[axis] {
                    true => Edge::Reflect,
                    false => around,
                },
            };
            Some(match what {
                0 => {
                    extents[axis] = whole;
                    let op = Slice {
                        axis,
                        start,
                        extent,
                        step,
                    };
                    Case::new(op, 1).fixed(&extents, UNIFORM)
                }
                1 => {
                    extents[axis] = extent;
                    let op = Pad {
                        axis,
                        start,
                        extent: whole,
                        step,
                    };
                    Case::new(op, 1).fixed(&extents, UNIFORM)
                }
                2 => Case::new(edges, 1).fixed(&extents, UNIFORM),
                3 => {
                    extents[axis] += start + extent;
                    Case::new(PadEdgesGrad(edges), 8).fixed(&extents, UNIFORM)
                }
                _ => {
                    extents[axis] *= 1 + start * 37;
                    let reverse = step > 2;
                    let terms = extents[axis];
                    Case::new(Cumsum { axis, reverse }, terms).fixed(&extents, UNIFORM)
                }
            })
        },
    );
}

#[test]
fn parts_together() {
    let sizes = prop::collection::vec(1..9usize, 2..=7);
    let drawn = (extents(4), 0..4usize, sizes, any::<bool>());
    draw(
        "parts together",
        drawn,
        |(mut extents, axis, sizes, apart)| {
            let axis = axis % extents.len();
            if apart {
                extents[axis] = sizes.iter().sum();
                return Some(Case::new(Split { axis, sizes }, 1).fixed(&extents, UNIFORM));
            }
            let mut case = Case::new(Concat { axis }, 1);
            for size in sizes {
                extents[axis] = size;
                case = case.fixed(&extents, UNIFORM);
            }
            Some(case)
        },
    );
}

#[test]
fn tables_and_rows() {
    let drawn = ([1..40usize, 1..300], extents(3), 0..4u8, 0..3usize);
    draw("tables and rows", drawn, |([v, d], places, what, axis)| {
        let n: usize = places.iter().product();
        let axis = axis % places.len();
        Some(match what {
            0 => Case::new(Embedding, 1)
                .fixed(&[v, d], UNIFORM)
                .u32(&places, Fill::Below(v as u32 + 1)),
            1 => Case::new(EmbeddingGrad { rows: v }, n)
                .fixed(&[&places[..], &[d]].concat(), UNIFORM)
                .u32(&places, Fill::Below(v as u32 + 1)),
            2 => Case::new(Softmax { axis }, places[axis]).fixed(&places, Fill::Uniform(-9.0, 9.0)),
            _ => {
                let case = Case::new(LogSoftmax { axis }, places[axis]);
                case.fixed(&places, Fill::Uniform(-9.0, 9.0))
            }
        })
    });
}

#[test]
fn images_in_other_sizes() {
    let size = || prop_oneof![1..4usize, 1..14usize];
    let drawn = ([1..3usize, 1..4], [size(), size(), size(), size()], 0..9u8);
    draw(
        "images in other sizes",
        drawn,
        |([n, c], [h, w, ho, wo], what)| {
            let (x, y) = ([n, c, h, w], [n, c, ho, wo]);
            let (input, size) = ([h, w], [ho, wo]);
            let sampling = [Sampling::Nearest, Sampling::Bilinear][usize::from(what % 2)];
            let upsample = Upsample { sampling, size };
            let pool = AdaptiveAvgPool2d { size };
            let terms = (h.div_ceil(ho) + 1) * (w.div_ceil(wo) + 1);
            let readers = (3 * ho.div_ceil(h) + 2) * (3 * wo.div_ceil(w) + 2);
            Some(match what {
                0 | 1 => Case::new(upsample, 4).fixed(&x, UNIFORM),
                2 | 3 => {
                    let case = Case::new(UpsampleGrad { upsample, input }, readers);
                    case.fixed(&y, UNIFORM)
                }
                4 => Case::new(pool, terms).fixed(&x, UNIFORM),
                5 | 6 => {
                    let fill = if what == 5 { Fill::Ties } else { UNIFORM };
                    Case::new(AdaptiveMaxPool2d { size }, 1).fixed(&x, fill)
                }
                7 => {
                    let pool = AdaptiveMaxPool2d { size };
                    let grad = AdaptiveMaxPool2dGrad { pool, input };
                    let case = Case::new(grad, readers).fixed(&y, UNIFORM);
                    case.u32(&y, Fill::Below((h * w) as u32))
                }
                _ => {
                    let case = Case::new(AdaptiveAvgPool2dGrad { pool, input }, readers);
                    case.fixed(&y, UNIFORM)
                }
            })
        },
    );
}
