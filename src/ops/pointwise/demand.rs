//! What a workgroup of an expression's kernel asks of a GPU, told by the expression's lines.

use super::ELEMENTWISE;
use super::blueprint::{Blueprint, Four, kept};
use crate::expr::{DRAW, Form, Layout, instructions};
use crate::kernel::Demand;

/// Instructions of a thread before its first line and after its last: which elements are its own, and how many.
const AROUND: u64 = 24;
/// A load or a store with its address.
const ACCESS: u64 = 4;
/// Finding a place along an axis, by two divisions.
const AXIS: u64 = 11;

impl Blueprint {
    /// By the launch's constants: how far apart the elements of a broadcast input stand is one of them.
    pub(super) fn demand(&self) -> Demand {
        Demand {
            rounds: kept(&self.rounds().to_string()),
            issue: kept(&self.issue().to_string()),
            words: kept(&self.words()),
            ..Demand::UNSTATED
        }
    }

    /// All inputs are loaded at once, but for the elements of a table, which wait for their index. Random words wait for
    /// keys and step.
    fn rounds(&self) -> u64 {
        let mut depths: Vec<u64> = Vec::new();
        for &form in self.program.forms() {
            let operands = form.operands();
            let before = operands.iter().map(|&line| depths[line as usize]).max();
            let before = before.unwrap_or(0);
            depths.push(match form {
                Form::At(..) => before + 1,
                Form::Input(_) | Form::Step | Form::Uniform(_) | Form::Chance(..) => 1,
                _ => before,
            });
        }
        depths.into_iter().max().unwrap_or(0)
    }

    fn issue(&self) -> u64 {
        let width = self.width as u64;
        let uniform = self.uniform();
        let lines = self.program.forms().iter().zip(&uniform);
        let lines = lines.map(|(&form, &uniform)| match form {
            Form::Input(place) => self.load(place as usize),
            form if uniform => instructions(form),
            form => width * instructions(form),
        });
        let draws = DRAW * self.constants[1] as u64;
        AROUND + lines.sum::<u64>() + draws + ACCESS * self.outputs as u64
    }

    /// Of the loads of a thread's elements of an input.
    fn load(&self, place: usize) -> u64 {
        let input = &self.inputs[place];
        match (&input.access, input.four) {
            (Layout::Each, _) => ACCESS,
            (Layout::One | Layout::Given | Layout::Table, _) => 2,
            (Layout::Along(axes), four) => {
                let loads = match four {
                    Four::Apart => self.width as u64,
                    Four::Same | Four::Neighbours => 1,
                };
                loads * (ACCESS + AXIS * *axes as u64)
            }
        }
    }

    fn words(&self) -> String {
        let each = (ELEMENTWISE * self.width).to_string();
        let mut terms = vec![each.clone(); self.outputs];
        let forms = self.program.forms();
        for (place, input) in self.inputs.iter().enumerate() {
            let number = place as u32;
            let reads =
                |form: &Form<u32>| matches!(*form, Form::Input(k) | Form::At(k, _) if k == number);
            if !forms.iter().any(reads) {
                continue;
            }
            terms.push(match input.access {
                Layout::Each | Layout::Table => each.clone(),
                Layout::One | Layout::Given => "1".into(),
                // Elements that follow each other in the results have one of this input together, until the innermost of
                // its axes goes on.
                Layout::Along(_) => match self.axes(place).last() {
                    Some([apart, ..]) => format!("{each} / {apart} + 1"),
                    None => "1".into(),
                },
            });
        }
        terms.join(" + ")
    }
}
