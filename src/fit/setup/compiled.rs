//! From the programs of a run to a session with its first values.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::step::Step;
use super::writing::Writing;
use super::{Setup, host32};
use crate::compile::Options;
use crate::error::Result;
use crate::exec::Device;
use crate::files::hex;
use crate::fit::by_hand::ByHand;
use crate::fit::saved::{self, Seed};
use crate::fit::training::{Evaluation, Total, Training};
use crate::graph::{Graph, Handle, Program};
use crate::model::Variables;
use crate::optim::{Optimizer, Update};
use crate::run::Session;
use crate::run::sentinel::{Sentinel, Steps};

impl Setup<'_> {
    /// The optimizer of each replica.
    pub(super) fn each(&self) -> Vec<Optimizer> {
        match self.sweep {
            [] => vec![self.optimizer.clone(); self.replicas],
            sweep => sweep.to_vec(),
        }
    }

    /// Writes the graph, compiles it and gives every variable its first value.
    pub fn compile(&self, device: &Device) -> Result<Training> {
        let wanted = self.checked()?;
        self.fits(device)?;
        let mut writing = Writing::new()?;
        let step = self.step(&mut writing, &wanted)?;
        let averages = step.update.as_ref().map_or_else(Vec::new, Update::averages);
        // What is evaluated are the averages, where such are kept.
        let trained = writing.variables.bind_each(&averages);
        let mut evaluations = Vec::new();
        for (set, data) in self.evaluated {
            evaluations.push(self.evaluation(set, data, &wanted, &mut writing)?);
        }
        writing.variables.bind_each(&trained);
        let init = writing.graph.begin("init");
        if let Some(update) = &step.update {
            update.init(&mut writing.graph)?;
        }
        let Writing {
            graph,
            variables,
            resident,
            step: counter,
            key,
        } = writing;
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
        let options = Options {
            replicas: self.replicas,
            fuse: self.wishes.fuse,
            ..Options::on(device.info())
        };
        let mut fingerprint = match self.wishes.fingerprint {
            true => self.fingerprint(&graph, &variables, train, &evaluations),
            false => String::new(),
        };
        let mut session = Session::with(&graph, device, &options)?;
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
        let states = states.map(|(name, value)| Ok((name, graph.handle(value)?)));
        let scale = update.as_ref().and_then(|update| update.scale());
        let sentinel = Sentinel {
            every: self.wishes.verify,
            seed: self.seed,
        };
        let saved = saved::begin(&mut session, &graph, &variables, seed, &mut 0)?;
        let averages = averages.into_iter();
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
            by_hand,
            gradients,
            recorded,
            evaluations,
            epoch_steps: self.data.map_or(1, |data| data.rows() / self.batch),
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
        let validation = evaluations.iter().filter(|e| e.set == "validation");
        let programs = std::iter::once(train).chain(validation.map(|e| e.program));
        let hashes = programs.map(|program| graph.fingerprint(program, &constants));
        hashes.collect()
    }
}
