//! What a program is recognised by: its ops and how they hang together.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{Graph, Kind, Program};
use crate::files::hex;

impl Graph {
    /// A hash of a program's ops, their inputs and the variables that they read and write, with the numbers of those that
    /// stay as they are, by node; equal in every process that writes the same program, whatever else its graph has.
    pub(crate) fn fingerprint(
        &self,
        program: Program,
        constants: &HashMap<usize, &[f32]>,
    ) -> String {
        let mut numbers = HashMap::new();
        let mut text = String::new();
        let mut read = BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Kind::Op(op) = &node.kind else {
                continue;
            };
            if node.program != Some(program.index) {
                continue;
            }
            let number = numbers.len();
            numbers.insert(index, number);
            // Writing to a text does not fail.
            let _ = write!(text, "{number}: {} ", without_addresses(&format!("{op:?}")));
            for input in &node.inputs {
                read.extend(constants.contains_key(&input.node).then_some(input.node));
                let _ = match (&self.nodes[input.node].kind, numbers.get(&input.node)) {
                    (Kind::Variable(name), _) => {
                        write!(
                            text,
                            "{name} {} ",
                            self.nodes[input.node].outputs[input.output]
                        )
                    }
                    (_, Some(number)) => write!(text, "{number}.{} ", input.output),
                    // Of another program.
                    (_, None) => write!(text, "{} ", self.nodes[input.node].label),
                };
            }
            text.push('\n');
        }
        let mut hash = Sha256::new().chain_update(text);
        for node in read {
            hash.update(bytemuck::cast_slice(constants[&node]));
        }
        hex(&hash.finalize())
    }
}

/// A text without the addresses of functions, which are others in every process.
pub(crate) fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut without = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        without.push_str("0x");
        without.push_str(if digits >= 6 { &part[digits..] } else { part });
    }
    without
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Expr;
    use crate::ops::pointwise::pointwise;
    use crate::shape::Type;

    fn program(number: f64, before: bool) -> String {
        with_constant(number, before, 1.0)
    }

    fn with_constant(number: f64, before: bool, constant: f32) -> String {
        let mut graph = Graph::new();
        if before {
            let own = graph
                .variable("other", Type::f32("other", &[3]).unwrap())
                .unwrap();
            graph.begin("other");
            pointwise(&mut graph, [own], |[x]| x.exp()).unwrap();
        }
        let x = graph.variable("x", Type::f32("x", &[2]).unwrap()).unwrap();
        let program = graph.begin("train");
        let y = pointwise(&mut graph, [x], |[x]| x * Expr::constant(number)).unwrap();
        pointwise(&mut graph, [y, x], |[y, x]| y + x).unwrap();
        let numbers = [constant; 2];
        let constants = HashMap::from([(x.node, &numbers[..])]);
        graph.fingerprint(program, &constants)
    }

    #[test]
    fn a_program_is_known_by_what_it_computes() {
        assert_eq!(program(2.0, false), program(2.0, false));
        assert_eq!(program(2.0, false), program(2.0, true));
        assert_ne!(program(2.0, false), program(2.5, false));
        assert_ne!(program(2.0, false), with_constant(2.0, false, 3.0));
    }

    #[test]
    fn addresses_are_left_out_and_numbers_are_not() {
        let text = "Own { f: 0x55d01e7c, mask: 0xff } 10x";
        assert_eq!(without_addresses(text), "Own { f: 0x, mask: 0xff } 10x");
    }
}
