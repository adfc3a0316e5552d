//! What depends on weights alone is computed once, and not for each mini-batch that a trained network is given.

use std::any::Any;
use std::sync::Arc;

use super::{Graph, Kind, Program};
use crate::error::Result;
use crate::ops::pointwise::{Parts, Piece, Pointwise};
use crate::ops::{Tape, Value};
use crate::shape::Type;

impl Graph {
    /// Moves what is computed element by element of these variables alone, as far as no program changes them, into a program
    /// of its own, which has to be run when they have been written. `None` where there is nothing of it: nothing that takes
    /// no more room than what it is made of, and no more of the bindings that its node has.
    ///
    /// # Errors
    /// What an op's shape rule or its lowering says.
    pub(crate) fn prepare(&mut self, variables: &[Value]) -> Result<Option<Program>> {
        let changed = self.changed()?;
        let fixed = variables.iter().copied().filter(|v| !changed.contains(v));
        let fixed: Vec<Value> = fixed.collect();
        let mut cuts = Vec::new();
        for i in 0..self.nodes.len() {
            if let Some(parts) = self.parts(i, &fixed)? {
                cuts.push((i, parts));
            }
        }
        if cuts.is_empty() {
            return Ok(None);
        }
        let program = self.begin("prepare");
        for (i, Parts { pieces, rest }) in cuts {
            let node = &self.nodes[i];
            let (whole, label) = (node.inputs.clone(), node.label.clone());
            self.label(label);
            let mut inputs: Vec<Value> = rest.inputs.iter().map(|&k| whole[k]).collect();
            for Piece { op, inputs: read } in pieces {
                let read: Vec<Value> = read.iter().map(|&k| whole[k]).collect();
                let made = self.op1(Arc::new(op), &read)?;
                inputs.push(self.kept(made)?);
            }
            self.nodes[i].kind = Kind::Op(Arc::new(rest.op));
            self.nodes[i].inputs = inputs;
        }
        Ok(Some(program))
    }

    /// Node `i` cut where it depends on these variables alone.
    fn parts(&self, i: usize, fixed: &[Value]) -> Result<Option<Parts>> {
        let node = &self.nodes[i];
        let Kind::Op(op) = &node.kind else {
            return Ok(None);
        };
        let types = self.types(&node.inputs)?;
        let Some(expression) = op.expression(&types) else {
            return Ok(None);
        };
        let is_fixed: Vec<bool> = node.inputs.iter().map(|v| fixed.contains(v)).collect();
        let Some(parts) = expression.parts(&types, &is_fixed)? else {
            return Ok(None);
        };
        let Parts { pieces, rest } = &parts;
        let (mut made, mut read) = (0, Vec::<usize>::new());
        for Piece { op, inputs } in pieces {
            let types: Vec<Type> = inputs.iter().map(|&k| types[k].clone()).collect();
            made += op.results(&types)?.iter().product::<usize>();
            read.extend(inputs);
        }
        read.sort_unstable();
        read.dedup();
        let room: usize = read.into_iter().map(|k| types[k].elements()).sum();
        let binds = rest.inputs.len() + pieces.len();
        let fits = made <= room && binds <= node.inputs.len();
        Ok(fits.then_some(parts))
    }

    /// The variables that some op changes.
    fn changed(&self) -> Result<Vec<Value>> {
        let mut changed = Vec::new();
        for node in &self.nodes {
            let Kind::Op(op) = &node.kind else { continue };
            let as_any: &dyn Any = &**op;
            let changes = match as_any.downcast_ref::<Pointwise>() {
                Some(expression) => expression.changes(),
                None => {
                    let lowering = op.lower(&self.types(&node.inputs)?, &node.outputs);
                    lowering.map_err(|e| e.within(&node.label))?.changes()
                }
            };
            for k in changes {
                changed.push(self.source(node.inputs[k])?);
            }
        }
        Ok(changed)
    }

    /// A variable that the program now begun writes a value to.
    fn kept(&mut self, made: Value) -> Result<Value> {
        let extents = self.ty(made)?.shape.extents().to_vec();
        let mut number = self.nodes.len();
        let variable = loop {
            let name = format!("prepared {number}");
            match self.variable(&name, Type::f32(&name, &extents)?) {
                Ok(variable) => break variable,
                Err(_) => number += 1,
            }
        };
        let copied = Pointwise::new(&[crate::expr::Expr::input(0)]).updating(0, 1);
        self.op(Arc::new(copied), &[made, variable])?;
        Ok(variable)
    }
}
