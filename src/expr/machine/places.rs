//! Where each line of a program has its values while a chunk is computed.

use super::{Layout, Machine, Operand};
use crate::expr::{Binary, Form, Unary};

/// Where a line's values are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// The same for all elements.
    Uniform,
    /// In the input's own memory.
    Input,
    /// In the memory of this output: of an input that is written over by it, until it is.
    Output(usize),
    Register(usize),
    /// Where the old value of this output stands, which this line alone still reads.
    Over(usize),
    /// Nowhere: it is a product that the one line which reads it computes as well.
    Inside,
}

impl Machine {
    /// Gives every line a place; a register is free again after the last line that reads it.
    pub(super) fn place(&mut self) {
        let forms = self.program.forms().to_vec();
        let outputs = self.program.outputs().to_vec();
        let uniform = self
            .program
            .uniform(|k| self.inputs[k as usize].access == Layout::One);
        let inside = self.products(&uniform);
        // A product is read where the line that has it inside is computed.
        let reads = |form: Form<u32>| -> Vec<u32> {
            let operands = form.operands().into_iter();
            let own = |o: u32| match inside[o as usize] {
                true => forms[o as usize].operands().to_vec(),
                false => vec![o],
            };
            operands.flat_map(own).collect()
        };
        let mut last = vec![0; forms.len()];
        for (line, &form) in forms.iter().enumerate() {
            for operand in reads(form) {
                last[operand as usize] = line;
            }
        }
        for &output in &outputs {
            last[output as usize] = usize::MAX;
        }
        let mut free: Vec<usize> = vec![];
        let mut taken = std::collections::HashSet::new();
        for (line, &form) in forms.iter().enumerate() {
            let output = outputs.iter().position(|&o| o as usize == line);
            // A result that is written over an input must wait until nobody reads that input.
            let over = |k: usize| self.inputs.iter().any(|i| i.updated_by == Some(k));
            let place = match (form, output) {
                (_, Some(k)) if self.goes_over(line, k, &inside) => Place::Over(k),
                _ if uniform[line] => Place::Uniform,
                _ if inside[line] => Place::Inside,
                (Form::Input(k), _) if self.is_direct(k) => Place::Input,
                (Form::Input(k), None) if self.over(k).is_some() => {
                    Place::Output(self.over(k).unwrap_or(0))
                }
                (_, Some(k)) if !over(k) && taken.insert(k) => Place::Output(k),
                _ => Place::Register(free.pop().unwrap_or_else(|| {
                    self.registers += 1;
                    self.registers - 1
                })),
            };
            self.places.push(place);
            self.work += match (place, form) {
                (Place::Uniform | Place::Input, _) => 0,
                (_, Form::Uniform(_) | Form::Chance(..) | Form::Binary(Binary::Pow, ..)) => 16,
                (_, Form::Unary(Unary::Neg | Unary::Abs | Unary::Sign | Unary::Relu, _)) => 1,
                (_, Form::Unary(..)) => 16,
                _ => 1,
            };
            if place == Place::Inside {
                continue;
            }
            for operand in reads(form) {
                if let Place::Register(r) = self.places[operand as usize]
                    && last[operand as usize] == line
                    && !free.contains(&r)
                {
                    free.push(r);
                }
            }
        }
    }

    /// The lines that are computed for each chunk.
    pub(super) fn computed(&self) -> Vec<usize> {
        let forms = self.program.forms().iter().zip(&self.places).enumerate();
        let computed = forms.filter(|(_, (form, place))| match (form, place) {
            (_, Place::Uniform | Place::Input | Place::Inside) => false,
            // It stays where it is until it is written over.
            (Form::Input(k), Place::Output(_)) => self.over(*k).is_none(),
            _ => true,
        });
        computed.map(|(line, _)| line).collect()
    }

    /// For each line, whether it is a product of a sum or difference that alone reads it: both are
    /// one loop. The product is rounded all the same, as on every device.
    fn products(&self, uniform: &[bool]) -> Vec<bool> {
        let forms = self.program.forms();
        let mut readers = vec![0; forms.len()];
        for form in forms {
            form.map(|operand| readers[operand as usize] += 1);
        }
        for &output in self.program.outputs() {
            readers[output as usize] += 1;
        }
        let mut inside = vec![false; forms.len()];
        for (line, form) in forms.iter().enumerate() {
            if let Form::Binary(Binary::Add | Binary::Sub, a, b) = *form
                && !uniform[line]
            {
                let product = [b, a].into_iter().find(|&o| {
                    let form = forms[o as usize];
                    let product = matches!(form, Form::Binary(Binary::Mul, ..));
                    product && !uniform[o as usize] && readers[o as usize] == 1
                });
                if let Some(product) = product {
                    inside[product as usize] = true;
                }
            }
        }
        inside
    }

    /// Whether a line may be computed where the old value of its output stands: it is the sum or
    /// difference of that value and something else, and nobody reads the value after it.
    fn goes_over(&self, line: usize, output: usize, inside: &[bool]) -> bool {
        let forms = self.program.forms();
        let Form::Binary(Binary::Add | Binary::Sub, a, b) = forms[line] else {
            return false;
        };
        let old =
            |o: u32| matches!(forms[o as usize], Form::Input(k) if self.over(k) == Some(output));
        let other = match (old(a), old(b)) {
            (true, false) => b,
            (false, true) => a,
            _ => return false,
        };
        let within = match inside[other as usize] {
            true => forms[other as usize].operands().to_vec(),
            false => vec![other],
        };
        // A product that has the old value inside is read while the new one is written.
        let apart = !within.into_iter().any(old);
        let later = forms[line + 1..].iter().enumerate().all(|(at, form)| {
            let reads = form.operands().into_iter();
            let inner = |o: u32| match inside[o as usize] {
                true => forms[o as usize].operands().to_vec(),
                false => vec![o],
            };
            inside[line + 1 + at] || !reads.flat_map(inner).any(old)
        });
        let results = self.program.outputs().iter();
        let once = results.filter(|&&o| o as usize == line).count() == 1;
        apart && later && once && !self.program.outputs().iter().any(|&o| old(o))
    }

    /// The output that is written over an input, where its elements can be read until it is.
    fn over(&self, input: u32) -> Option<usize> {
        let Operand {
            access,
            integer,
            updated_by,
            ..
        } = &self.inputs[input as usize];
        updated_by.filter(|_| *access == Layout::Each && !integer)
    }

    /// Whether an input's elements can be read where they are.
    pub(super) fn is_direct(&self, input: u32) -> bool {
        let Operand {
            access,
            integer,
            updated_by,
            ..
        } = &self.inputs[input as usize];
        let direct = matches!(access, Layout::Each | Layout::Given);
        direct && !integer && updated_by.is_none()
    }
}
