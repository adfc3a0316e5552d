//! From the programs of a run to a session with its first values.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::step::Step;
use super::writing::Writing;
use super::{Setup, Wanted, host32};
use crate::compile::Options;
use crate::error::Result;
use crate::exec::{Device, DeviceInfo};
use crate::expr::Expr;
use crate::files::hex;
use crate::fit::by_hand::ByHand;
use crate::fit::resident::Resident;
use crate::fit::run::MEASURED;
use crate::fit::saved::{self, Seed};
use crate::fit::shards::Given;
use crate::fit::training::{Evaluation, Losses, Total, Training};
use crate::graph::{Graph, Handle, Program};
use crate::model::{Role, Variables};
use crate::ops::average::Average;
use crate::ops::finite::Finite;
use crate::ops::pointwise::Pointwise;
use crate::ops::{Tape, Value};
use crate::optim::{Optimizer, Update};
use crate::run::Session;
use crate::run::sentinel::{Sentinel, Steps};
use crate::shape::Type;

/// The programs of a run, and what goes with them.
struct Written {
    graph: Graph,
    variables: Variables,
    resident: Resident,
    counter: Value,
    key: Value,
    step: Step,
    averages: Vec<(String, Value)>,
    average: Option<Program>,
    check: Option<Program>,
    kept: Vec<(String, Value)>,
    evaluations: Vec<Evaluation>,
    init: Program,
}

/// The program that notes in a guard which of some variables is not finite.
fn watch(w: &mut Writing, kept: &[(String, Value)], guard: Value) -> Result<Program> {
    let program = w.graph.begin("check");
    for (number, (name, value)) in kept.iter().enumerate() {
        w.graph.label(format!("{name} check"));
        let finite = Finite {
            number: number as u32,
        };
        w.graph.op(Arc::new(finite), &[*value, guard])?;
    }
    Ok(program)
}

impl Setup<'_> {
    /// The optimizer of each replica.
    pub(super) fn each(&self) -> Vec<Optimizer> {
        match self.sweep {
            [] => vec![self.optimizer.clone(); self.replicas],
            sweep => sweep.to_vec(),
        }
    }

    /// The plan of a run on such a device, without allocating anything.
    #[cfg(feature = "book")]
    pub fn plan(&self, device: &DeviceInfo) -> Result<crate::plan::Plan> {
        let wanted = self.checked()?;
        let written = self.write(&wanted)?;
        crate::compile::compile(&written.graph, &self.options(device))
    }

    fn options(&self, device: &DeviceInfo) -> Options {
        Options {
            replicas: self.replicas,
            fuse: self.wishes.fuse,
            ..Options::on(device)
        }
    }

    /// Writes the graph.
    fn write(&self, wanted: &Wanted) -> Result<Written> {
        let mut writing = Writing::new()?;
        let step = self.step(&mut writing, wanted)?;
        let mut averages = step.update.as_ref().map_or_else(Vec::new, Update::averages);
        let (mut average, mut means) = (None, vec![]);
        if let Some(from) = self.wishes.mean_from {
            let program;
            (program, means) = self.means(&mut writing, from)?;
            average = Some(program);
            averages.extend(means.clone());
        }
        let kept = match self.wishes.watches {
            true => self.kept(&writing, step.update.as_ref(), &averages)?,
            false => vec![],
        };
        let check = match (step.losses, self.wishes.watches) {
            (Losses::OfExamples { guard, .. }, true) => Some(watch(&mut writing, &kept, guard)?),
            _ => None,
        };
        // What is evaluated are the averages, where such are kept.
        let trained = writing.variables.bind_each(&averages);
        let mut evaluations = Vec::new();
        for (set, data) in self.evaluated {
            evaluations.push(self.evaluation(set, data, wanted, &mut writing)?);
        }
        writing.variables.bind_each(&trained);
        let init = writing.graph.begin("init");
        if let Some(update) = &step.update {
            update.init(&mut writing.graph)?;
        }
        for (name, mean) in means {
            let value = writing.variables.value(&name)?;
            writing.graph.label(format!("{name} average init"));
            let copy = Pointwise::new(&[Expr::input(0)]).updating(0, 1);
            writing.graph.op(Arc::new(copy), &[value, mean])?;
        }
        Ok(Written {
            graph: writing.graph,
            variables: writing.variables,
            resident: writing.resident,
            counter: writing.step,
            key: writing.key,
            step,
            averages,
            average,
            check,
            kept,
            evaluations,
            init,
        })
    }

    /// Steps in an epoch of training data.
    fn epoch_steps(&self) -> usize {
        self.data.map_or(1, |data| match data {
            Given::Whole(_) => self.examples(data) / self.batch,
            Given::Shards(..) => data.rows() / self.batch,
        })
    }

    /// The program that takes the parameters into their means over epochs, and these by the parameters' names.
    fn means(&self, w: &mut Writing, from: usize) -> Result<(Program, Vec<(String, Value)>)> {
        let parameters = w.variables.of(Role::Parameter);
        let parameters: Vec<(String, Value, Type)> = parameters
            .map(|v| (v.name.clone(), v.value, v.ty.clone()))
            .collect();
        let mut means = Vec::new();
        for (name, _, ty) in &parameters {
            let mean = w.graph.variable(&format!("{name} average"), ty.clone())?;
            means.push((name.clone(), mean));
        }
        let op = Average {
            epoch_steps: self.epoch_steps(),
            from,
        };
        let program = w.graph.begin("average");
        for ((name, value, _), (_, mean)) in parameters.iter().zip(&means) {
            w.graph.label(format!("{name} average"));
            w.graph.op(Arc::new(op), &[*mean, *value, w.step])?;
        }
        Ok((program, means))
    }

    /// What lasts from epoch to epoch: of each parameter its weight, what the optimizer keeps, and its mean.
    fn kept(
        &self,
        w: &Writing,
        update: Option<&Update>,
        averages: &[(String, Value)],
    ) -> Result<Vec<(String, Value)>> {
        let states = update.map_or_else(Vec::new, Update::states);
        let mut kept = Vec::new();
        for parameter in w.variables.of(Role::Parameter) {
            let name = &parameter.name;
            kept.push((name.clone(), parameter.value));
            let own = states.iter().filter(|(state, _)| {
                let of = state.strip_prefix(name.as_str());
                of.is_some_and(|rest| rest.starts_with(' ') && rest != " average")
            });
            kept.extend(own.cloned());
            let mean = averages.iter().find(|(other, _)| other == name);
            kept.extend(mean.map(|(_, mean)| (format!("{name} average"), *mean)));
        }
        Ok(kept)
    }

    /// Writes the graph, compiles it and gives every variable its first value.
    pub fn compile(&self, device: &Device) -> Result<Training> {
        let wanted = self.checked()?;
        self.fits(device)?;
        let Written {
            graph,
            variables,
            resident,
            counter,
            key,
            step,
            averages,
            average,
            check,
            kept,
            evaluations,
            init,
        } = self.write(&wanted)?;
        let Step {
            order,
            train,
            fed,
            pairs,
            update,
            table,
            gradients,
            recorded,
            losses,
        } = step;
        let mut fingerprint = match self.wishes.fingerprint {
            true => self.fingerprint(&graph, &variables, train, &evaluations),
            false => String::new(),
        };
        let mut session = Session::with(&graph, device, &self.options(device.info()))?;
        let seed = Seed {
            seed: self.seed,
            first_replica: self.first_replica,
            replicas: self.replicas,
        };
        seed.write(&mut session, graph.handle(key)?)?;
        let recorded: Option<Handle<f32>> = recorded.map(|v| graph.handle(v)).transpose()?;
        if let Some(recorded) = recorded {
            session.fill(recorded, 0.0)?;
        }
        resident.write(&mut session, &graph)?;
        let fed = fed.iter();
        let fed = fed.map(|(name, value)| Ok((name.clone(), host32(&graph, *value)?)));
        let states = update.iter().flat_map(|update| update.states());
        let means = averages.iter().filter(|_| average.is_some()).cloned();
        let means = means.map(|(name, value)| (format!("{name} average"), value));
        let states = states.chain(means);
        let states = states.map(|(name, value)| Ok((name, graph.handle(value)?)));
        let scale = update.as_ref().and_then(|update| update.scale());
        let sentinel = Sentinel {
            every: self.wishes.verify,
            seed: self.seed,
        };
        let saved = saved::begin(&mut session, &graph, &variables, seed, &mut 0)?;
        let averages = averages.iter().cloned();
        let averages = averages.map(|(name, value)| Ok((name, graph.handle(value)?)));
        let averages: HashMap<String, Handle<f32>> = averages.collect::<Result<_>>()?;
        let by_hand = table
            .map(|table| ByHand::new(&graph, table, self.each(), self.by_setting().rates))
            .transpose()?;
        if let (true, Some(by_hand)) = (self.wishes.fingerprint, &by_hand) {
            // Numbers that are no part of the program.
            let hash = Sha256::digest(bytemuck::cast_slice(&by_hand.values()?));
            fingerprint += &hex(&hash);
        }
        let kept = kept.into_iter();
        let kept = kept.map(|(name, value)| Ok((name, graph.handle(value)?)));
        let mut training = Training {
            fingerprint,
            order: order.map(|(program, _)| program),
            train: Steps::new(train, sentinel),
            init,
            fed: fed.collect::<Result<_>>()?,
            evaluated: saved::replaced(&saved, |name| averages.get(name).copied()),
            averages: !averages.is_empty(),
            saved,
            states: states.collect::<Result<_>>()?,
            step: graph.handle(counter)?,
            total: Total::new(&graph, losses, self.batch)?,
            overflowed: vec![None; self.replicas],
            scale: scale.map(|scale| graph.handle(scale)).transpose()?,
            skipped: vec![],
            average,
            check,
            kept: kept.collect::<Result<_>>()?,
            by_hand,
            gradients,
            recorded,
            evaluations,
            epoch_steps: self.epoch_steps(),
            rows: order.map(|(_, rows)| graph.handle(rows)).transpose()?,
            pairs,
            replicas: self.replicas,
            session,
        };
        if let Some(by_hand) = &training.by_hand {
            by_hand.write(&mut training.session)?;
        }
        training.begin_drawn()?;
        Ok(training)
    }

    /// Hashes of what a step computes and of how it is validated, which decides how callbacks act.
    fn fingerprint(
        &self,
        graph: &Graph,
        variables: &Variables,
        train: Program,
        evaluations: &[Evaluation],
    ) -> String {
        let constants = variables.constants();
        let watched = ["validation", MEASURED];
        let watched = evaluations.iter().filter(|e| watched.contains(&&*e.set));
        let programs = std::iter::once(train).chain(watched.map(|e| e.program));
        let hashes = programs.map(|program| graph.fingerprint(program, &constants));
        hashes.collect()
    }
}
