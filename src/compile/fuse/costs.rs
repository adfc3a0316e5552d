//! A cost's losses and their slopes, which read the same scores, are one launch; what the slopes are multiplied by stands
//! at its end.

use std::sync::Arc;

use super::constants;
use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::pointwise::{Ending, Pointwise, WithEnding};
use crate::ops::{Loss, LossGrad, Op};

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        // In the place of the losses, which others may read before there are slopes; where the slopes wait for what is
        // computed of others between, in theirs.
        let mut joined = false;
        for before in [true, false] {
            if !joined && let Some(join) = recognise(nodes, i, before) {
                joined = nodes.join(join)?;
            }
        }
    }
    Ok(())
}

/// `i` is the op of the losses.
fn recognise(nodes: &Nodes, i: usize, before: bool) -> Option<Join> {
    let loss = nodes.op::<Loss>(i)?;
    let core: Arc<dyn Op> = Arc::new(loss.and_slope()?);
    let &[scores, labels] = nodes.inputs(i) else {
        return None;
    };
    let mut readers = nodes.readers(scores).iter().copied();
    let slopes = readers.find(|&r| {
        let op = nodes.op::<LossGrad>(r);
        op.is_some_and(|op| op.0.is(loss)) && nodes.inputs(r)[..2] == [scores, labels]
    })?;
    let upstream = nodes.inputs(slopes)[2];
    let (by, upstream) = match constants::number(nodes, upstream) {
        Some(number) => (Expr::constant(number), None),
        None => (Expr::input(1), Some(upstream)),
    };
    let scaled = Pointwise::new(&[Expr::input(0) * by]);
    let scaled = match upstream {
        // One for each example.
        Some(_) => scaled.with_axes_behind(1, 1),
        None => scaled,
    };
    Some(Join {
        members: vec![i, slopes],
        at: if before { i } else { slopes },
        named: i,
        op: Arc::new(WithEnding::of(&core, &Ending::new(scaled))?),
        inputs: [scores, labels].into_iter().chain(upstream).collect(),
        outputs: vec![nodes.first(slopes), nodes.first(i)],
        unseen: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fuse::fused;
    use crate::graph::Graph;
    use crate::ops::constant::Constant;
    use crate::ops::pointwise::pointwise;
    use crate::ops::reduce::Reduce;
    use crate::ops::{Cost, Tape, Value, log_likelihood};
    use crate::shape::Type;

    /// Scores `[4, k]`, labels and one float of each example; a program `run`.
    fn graph(k: usize) -> (Graph, [Value; 3]) {
        let mut graph = Graph::new();
        let f32 = |extents: &[usize]| Type::f32("test", extents).unwrap();
        let scores = graph.variable("scores", f32(&[4, k])).unwrap();
        let labels = graph.variable("labels", Type::u32("labels", &[4]).unwrap());
        let each = graph.variable("each", f32(&[4])).unwrap();
        graph.begin("run");
        (graph, [scores, labels.unwrap(), each])
    }

    fn number(graph: &mut Graph, value: f64) -> Value {
        let extents = vec![4];
        let constant = Constant { extents, value };
        graph.op1(Arc::new(constant), &[]).unwrap()
    }

    /// Losses, and slopes times `upstream` of them.
    fn both(
        graph: &mut Graph,
        loss: Loss,
        [scores, labels]: [Value; 2],
        upstream: impl FnOnce(&mut Graph, Value) -> Value,
    ) -> [Value; 2] {
        let losses = graph.op1(Arc::new(loss), &[scores, labels]).unwrap();
        let g = upstream(graph, losses);
        let slopes = [scores, labels, g];
        [
            losses,
            graph.op1(Arc::new(LossGrad(loss)), &slopes).unwrap(),
        ]
    }

    fn kernels(mut graph: Graph, [losses, slopes]: [Value; 2]) -> Vec<&'static str> {
        graph.result("losses", losses).unwrap();
        graph.result("slopes", slopes).unwrap();
        let plan = fused(&graph);
        let launches = plan.programs["run"].iter();
        launches.map(|launch| launch.kernel.name).collect()
    }

    const LOSS: Loss = Loss::of(&log_likelihood::COST);

    #[test]
    fn losses_and_slopes_are_one_launch() {
        for (k, wanted) in [(32, "log_likelihood_short"), (33, "log_likelihood_both")] {
            // By a number that is made between, and losses that are read before there are slopes.
            let (mut graph, [scores, labels, _]) = graph(k);
            let made = both(&mut graph, LOSS, [scores, labels], |graph, losses| {
                let mean = graph.op1(Arc::new(Reduce::new(None, 0.25)), &[losses]);
                graph.result("mean", mean.unwrap()).unwrap();
                number(graph, 0.25)
            });
            assert_eq!(kernels(graph, made), [wanted, "reduce"]);
        }
        // By a number of each example, which is made between; and what follows the slopes.
        let (mut graph, [scores, labels, each]) = graph(5);
        let [losses, slopes] = both(&mut graph, LOSS, [scores, labels], |graph, _| {
            graph
                .op1(Arc::new(Reduce::new(Some(0), 2.0)), &[each])
                .unwrap()
        });
        let after = pointwise(&mut graph, [slopes, scores], |[x, z]| x + z.tanh()).unwrap();
        let found = kernels(graph, [losses, after]);
        assert_eq!(found, ["reduce", "log_likelihood_short"]);
    }

    #[test]
    fn what_cannot_be_one_stays_apart() {
        // By what is computed of the losses.
        let (mut graph, [scores, labels, _]) = graph(5);
        let focal =
            |graph: &mut Graph, losses| pointwise(graph, [losses], |[l]| 1.0 - (-l).exp()).unwrap();
        let made = both(&mut graph, LOSS, [scores, labels], focal);
        let apart = ["log_likelihood", "pointwise", "log_likelihood_grad"];
        assert_eq!(kernels(graph, made), apart);
        // Another cost's, and that of other targets.
        static OWN: Cost = Cost {
            both: None,
            ..log_likelihood::COST
        };
        let smoothed = Loss {
            smoothing: 0.1,
            ..LOSS
        };
        for (of_losses, of_slopes) in [(Loss::of(&OWN), Loss::of(&OWN)), (LOSS, smoothed)] {
            let (mut graph, [scores, labels, each]) = self::graph(5);
            let losses = graph.op1(Arc::new(of_losses), &[scores, labels]).unwrap();
            let slopes = Arc::new(LossGrad(of_slopes));
            let slopes = graph.op1(slopes, &[scores, labels, each]).unwrap();
            let found = kernels(graph, [losses, slopes]);
            assert_eq!(found, ["log_likelihood", "log_likelihood_grad"]);
        }
    }
}
