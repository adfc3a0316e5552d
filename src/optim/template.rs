//! One update for optimizers that differ in numbers.
//!
//! Each of several optimizers writes its update as expressions. Where these are the same but for
//! numbers, one of them serves all: numbers that differ are read from a table on the device, which has
//! an entry for each such number. The arithmetic is that of an optimizer alone, and so are the bits.
//!
//! What a number that changes nothing would stand in, such as w · 0 for no decay or · 1, is left out
//! when expressions are simplified; it is put back here.

use crate::expr::{Binary, Expr, Form, Node, Program, Unary};
use std::sync::Arc;

/// Nodes that the trees of an update may have, without sharing.
const MOST_NODES: usize = 1 << 16;

/// An expression without sharing, so that a number's place is its own.
#[derive(Clone, Debug)]
struct Tree {
    form: Form<u32>,
    operands: Vec<Tree>,
    /// The place of a number.
    place: usize,
}

/// The numbers of an expression by their places, as far as they are known.
type Found = Vec<(usize, f64)>;

/// Expressions of one optimizer that stand for those of others.
#[derive(Clone, Debug)]
pub(super) struct Template {
    outputs: Vec<Tree>,
    places: usize,
}

impl Template {
    /// The expressions of one of several optimizers that all others fit, and the numbers of each by their
    /// places; `None` if they differ in more than numbers.
    pub fn of(variants: &[Vec<Expr>]) -> Option<(Self, Vec<Vec<f64>>)> {
        let trees: Option<Vec<(Vec<Tree>, usize)>> = variants.iter().map(|v| trees(v)).collect();
        let mut sized: Vec<(usize, Vec<Tree>, usize)> = trees?
            .into_iter()
            .map(|(trees, places)| (trees.iter().map(Tree::size).sum(), trees, places))
            .collect();
        sized.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
        let (_, outputs, places) = sized.into_iter().next()?;
        let template = Self { outputs, places };
        let values: Option<Vec<Vec<f64>>> = variants.iter().map(|v| template.values(v)).collect();
        values.map(|values| (template, values))
    }

    /// The numbers of an optimizer's expressions by their places; `None` for expressions of another form.
    pub fn values(&self, outputs: &[Expr]) -> Option<Vec<f64>> {
        let (trees, _) = trees(outputs)?;
        if trees.len() != self.outputs.len() {
            return None;
        }
        let mut found = Found::new();
        let fits = |(own, other): (&Tree, &Tree)| own.meet(other, &mut found);
        if !self.outputs.iter().zip(&trees).all(fits) {
            return None;
        }
        let mut values = vec![f64::NAN; self.places];
        for (place, value) in found {
            values[place] = value;
        }
        Some(values)
    }

    /// The expressions with entries of a table, which is input `table`, in place of some numbers.
    pub fn over(&self, table: usize, entry: &dyn Fn(usize) -> Option<usize>) -> Vec<Expr> {
        let outputs = self.outputs.iter();
        outputs.map(|tree| Expr(tree.node(table, entry))).collect()
    }
}

/// The trees of simplified expressions, and how many numbers they have; `None` for far too many nodes.
fn trees(outputs: &[Expr]) -> Option<(Vec<Tree>, usize)> {
    let program = Program::of(outputs);
    let forms = program.forms();
    // Sizes first: shared lines may unfold into more than there is memory for.
    let mut sizes: Vec<usize> = Vec::with_capacity(forms.len());
    for form in forms {
        let operands = form.operands();
        let below = operands.iter().map(|&o| sizes[o as usize]);
        sizes.push(below.fold(1, usize::saturating_add));
    }
    let lines = program.outputs();
    let all = lines.iter().map(|&line| sizes[line as usize]);
    if all.fold(0, usize::saturating_add) > MOST_NODES {
        return None;
    }
    let mut places = 0;
    let trees = lines.iter();
    let trees = trees.map(|&line| unfolded(forms, line, &mut places));
    Some((trees.collect(), places))
}

fn unfolded(forms: &[Form<u32>], line: u32, places: &mut usize) -> Tree {
    let form = forms[line as usize];
    let operands = form.operands();
    let operands = operands.iter().map(|&o| unfolded(forms, o, places));
    let operands = operands.collect();
    let place = *places;
    *places += usize::from(matches!(form, Form::Constant(_)));
    // Operands by their places in the list.
    let mut next = 0;
    let form = form.map(|_| {
        next += 1;
        next - 1
    });
    Tree {
        form,
        operands,
        place,
    }
}

impl Tree {
    fn size(&self) -> usize {
        1 + self.operands.iter().map(Self::size).sum::<usize>()
    }

    fn node(&self, table: usize, entry: &dyn Fn(usize) -> Option<usize>) -> Arc<Node> {
        if let (Form::Constant(_), Some(entry)) = (self.form, self.entry(entry)) {
            return Expr::at(table, entry as f64).0;
        }
        let operands = self.operands.iter();
        let operands = operands.map(|operand| operand.node(table, entry));
        Arc::new(Node(self.form, operands.collect()))
    }

    fn entry(&self, entry: &dyn Fn(usize) -> Option<usize>) -> Option<usize> {
        match self.form {
            Form::Constant(_) => entry(self.place),
            _ => None,
        }
    }

    /// Whether another expression is this one with other numbers, which are added to `found`.
    fn meet(&self, other: &Self, found: &mut Found) -> bool {
        if let (Form::Constant(_), Form::Constant(bits)) = (self.form, other.form) {
            found.push((self.place, f64::from_bits(bits)));
            return true;
        }
        let begun = found.len();
        let mut attempt = |tried: &mut dyn FnMut(&mut Found) -> bool| {
            let met = tried(found);
            if !met {
                found.truncate(begun);
            }
            met
        };
        if self.form == other.form {
            let all = |found: &mut Found, turned: bool| {
                let theirs: Vec<&Self> = match turned {
                    false => other.operands.iter().collect(),
                    true => other.operands.iter().rev().collect(),
                };
                let own = self.operands.iter();
                own.zip(theirs).all(|(own, other)| own.meet(other, found))
            };
            if attempt(&mut |found| all(found, false)) {
                return true;
            }
            let turns = matches!(self.form, Form::Binary(Binary::Add | Binary::Mul, ..));
            if turns && attempt(&mut |found| all(found, true)) {
                return true;
            }
        }
        let [a, b] = &self.operands[..] else {
            return false;
        };
        // The other one may lack an operand that changes nothing.
        let (neutral, either) = match self.form {
            Form::Binary(Binary::Add, ..) => (0.0, true),
            Form::Binary(Binary::Sub, ..) => (0.0, false),
            Form::Binary(Binary::Mul, ..) => (1.0, true),
            Form::Binary(Binary::Div, ..) => (1.0, false),
            _ => return false,
        };
        let mut without = |kept: &Self, gone: &Self| {
            attempt(&mut |f| gone.set(neutral, f) && kept.meet(other, f))
        };
        if without(a, b) || (either && without(b, a)) {
            return true;
        }
        let (Form::Binary(Binary::Mul, ..), Form::Unary(Unary::Neg, _)) = (self.form, other.form)
        else {
            return false;
        };
        let inner = &other.operands[0];
        let mut negative =
            |kept: &Self, gone: &Self| attempt(&mut |f| gone.set(-1.0, f) && kept.meet(inner, f));
        negative(a, b) || negative(b, a)
    }

    /// Makes the numbers of this expression such that its value is `value`, whatever its inputs are.
    fn set(&self, value: f64, found: &mut Found) -> bool {
        let begun = found.len();
        let done = match (self.form, &self.operands[..]) {
            (Form::Constant(_), _) => {
                found.push((self.place, value));
                true
            }
            (Form::Binary(Binary::Mul, ..), [a, b]) if value == 0.0 => {
                (a.set(0.0, found) && b.keep(found)) || (b.set(0.0, found) && a.keep(found))
            }
            (Form::Binary(Binary::Div, ..), [a, b]) if value == 0.0 => {
                a.set(0.0, found) && b.keep(found)
            }
            (Form::Unary(Unary::Neg, _), [a]) if value == 0.0 => a.set(0.0, found),
            // 1 − η λ.
            (Form::Binary(Binary::Sub | Binary::Add, ..), [a, b]) if value == 1.0 => {
                a.form == Form::Constant(1f64.to_bits()) && a.keep(found) && b.set(0.0, found)
            }
            _ => false,
        };
        if !done {
            found.truncate(begun);
        }
        done
    }

    /// Leaves the numbers of this expression as they are.
    fn keep(&self, found: &mut Found) -> bool {
        if let Form::Constant(bits) = self.form {
            found.push((self.place, f64::from_bits(bits)));
        }
        self.operands.iter().all(|operand| operand.keep(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(variants: &[Expr]) -> Option<Vec<Vec<f64>>> {
        let variants: Vec<Vec<Expr>> = variants.iter().map(|e| vec![e.clone()]).collect();
        let (template, values) = Template::of(&variants)?;
        // Each variant's numbers in the template give its value again.
        for (variant, values) in variants.iter().zip(&values) {
            let filled = template.outputs[0].filled(values);
            let inputs = [0.7, -1.3];
            let (a, b) = (variant[0].value(&inputs), filled.value(&inputs));
            assert_eq!(a.unwrap(), b.unwrap());
        }
        Some(values)
    }

    impl Tree {
        fn filled(&self, values: &[f64]) -> Expr {
            match self.form {
                Form::Constant(_) => Expr::constant(values[self.place]),
                form => {
                    let operands = self.operands.iter().map(|o| o.filled(values).0);
                    Expr(Arc::new(Node(form, operands.collect())))
                }
            }
        }
    }

    #[test]
    fn expressions_that_differ_in_numbers_meet_whatever_simplifying_left_out() {
        let (w, g) = (Expr::input(0), Expr::input(1));
        let step = |rate: f64, decay: f64| &w * (1.0 - Expr::constant(rate) * decay) - &g * rate;
        let values = met(&[step(0.1, 0.3), step(1.0, 0.0), step(0.0, 0.5)]).unwrap();
        assert_ne!(values[0], values[1]);
        let sgd = |decay: f64| match decay {
            0.0 => &w - &g * 0.1,
            decay => &w - (&g + &w * decay) * 0.1,
        };
        assert!(met(&[sgd(0.0), sgd(0.2), sgd(1.0), sgd(-1.0)]).is_some());
        // The same number in two places of one, other numbers of the other.
        let two = |a: f64, b: f64| &w * a + &g * b;
        assert!(met(&[two(0.5, 0.5), two(0.5, 0.25), two(-1.0, 1.0)]).is_some());
    }

    #[test]
    fn expressions_that_differ_in_more_do_not_meet() {
        let (w, g) = (Expr::input(0), Expr::input(1));
        assert!(met(&[&w * 2.5, &w + 2.5]).is_none());
        assert!(met(&[&w * 2.5, &g * 2.5]).is_none());
        assert!(met(&[&w * 0.3 + &g, &w * 0.3 + w.tanh()]).is_none());
        let deep = (0..40).fold(&w * 0.3, |x, _| &x * &x + 0.1);
        assert!(met(&[deep.clone(), deep]).is_none(), "a tree of 2^40 nodes");
    }
}
