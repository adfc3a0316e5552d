//! A model as a drawing: a box for each layer, from the inputs down, and the wires between them.

use std::fmt::Write as _;

use super::{Kind, Model};
use crate::markup::{escaped, grouped, short};

/// Sizes in CSS pixels: of a box, of the space below it, around everything, and between wires that
/// pass boxes.
const WIDTH: usize = 340;
const HEIGHT: usize = 44;
const GAP: usize = 18;
const MARGIN: usize = 12;
const LANE: usize = 14;

/// Characters of a name that fit beside the extents.
const MOST_OF_NAME: usize = 26;

/// Colours for light and dark pages. The rules reach such drawings alone, so that one can stand in a page.
const STYLE: &str = "\
.wgrad-model { font-family: system-ui, sans-serif; font-size: 13px; }
.wgrad-model rect { fill: #fff; stroke: #b9b2a4; }
.wgrad-model .page { fill: #fcfbf8; stroke: none; }
.wgrad-model .end { fill: #e8eef4; }
.wgrad-model text { fill: #26241f; }
.wgrad-model .name { font-weight: 600; }
.wgrad-model .soft { fill: #6e6960; font-size: 11px; }
.wgrad-model path { fill: none; stroke: #0072b2; stroke-width: 1.5; }
.wgrad-model .tip { fill: #0072b2; stroke: none; }
@media (prefers-color-scheme: dark) {
.wgrad-model rect { fill: #26272c; stroke: #5b5e66; }
.wgrad-model .page { fill: #1d1e22; }
.wgrad-model .end { fill: #22303c; }
.wgrad-model text { fill: #ece9e2; }
.wgrad-model .soft { fill: #a8a39a; }
.wgrad-model path { stroke: #56b4e9; }
.wgrad-model .tip { fill: #56b4e9; }
}
";

/// A box: an input, a layer or an output.
struct Row {
    name: String,
    /// What stands on the right of the name: the extents of one example.
    extents: String,
    kind: String,
    /// What stands on the right of the kind: the parameters.
    parameters: String,
    /// The rows whose values it takes.
    from: Vec<usize>,
    is_end: bool,
}

impl Model {
    /// The model as an SVG file: a box for each input, layer and output, in the order of their
    /// description, with the extents of one example and the number of trained parameters. A wire to the
    /// next box is straight; others pass on the right. It is readable on light and dark pages.
    ///
    /// ```
    /// use wgrad::model::{Model, layers::*};
    ///
    /// let model = Model::sequential([4]).then(Dense::new(8)).then(Relu).then(Dense::new(1)).build()?;
    /// assert!(model.to_svg().contains("40 parameters"));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn to_svg(&self) -> String {
        let rows = self.rows();
        let (lanes, wires) = lanes(&rows);
        let width = 2 * MARGIN + WIDTH + (lanes + 1) * LANE;
        let height = 2 * MARGIN + rows.len() * (HEIGHT + GAP) - GAP;
        let about = format!(
            "A model of {} layers with {} parameters",
            self.layers(),
            grouped(self.parameters())
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"wgrad-model\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{about}\">\n<title>{about}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n"
        );
        for (k, row) in rows.iter().enumerate() {
            draw(&mut svg, row, top(k));
        }
        for (from, to, lane) in wires {
            wire(&mut svg, from, to, lane);
        }
        svg += "</svg>\n";
        svg
    }

    fn rows(&self) -> Vec<Row> {
        let product = |extents: &[usize]| match extents {
            [] => "one number".to_string(),
            extents => {
                let extents: Vec<String> = extents.iter().map(|n| grouped(*n)).collect();
                extents.join(" × ")
            }
        };
        let mut counted: Vec<&str> = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for node in &self.nodes {
            let (kind, from, parameters) = match &node.kind {
                Kind::Input => ("input", vec![], String::new()),
                Kind::Layer {
                    layer,
                    weights,
                    inputs,
                } => {
                    let parameters = match (counted.contains(&weights.as_str()), weights) {
                        (true, weights) => format!("weights of {}", short(weights, MOST_OF_NAME)),
                        (false, weights) => match self.of_layer(weights) {
                            0 => String::new(),
                            1 => "1 parameter".into(),
                            n => format!("{} parameters", grouped(n)),
                        },
                    };
                    if self.of_layer(weights) > 0 {
                        counted.push(weights);
                    }
                    (layer.kind(), inputs.clone(), parameters)
                }
            };
            rows.push(Row {
                name: node.name.clone(),
                extents: product(&node.example.extents),
                kind: kind.into(),
                parameters,
                is_end: from.is_empty(),
                from,
            });
        }
        for (name, node) in &self.outputs {
            rows.push(Row {
                name: name.clone(),
                extents: product(&self.nodes[*node].example.extents),
                kind: "output".into(),
                parameters: String::new(),
                from: vec![*node],
                is_end: true,
            });
        }
        rows
    }
}

/// The upper edge of a row's box.
fn top(row: usize) -> usize {
    MARGIN + row * (HEIGHT + GAP)
}

/// Which lane each wire passes in, 0 for one that passes no box; lanes are as few as wires that pass
/// one place. A value that goes to several boxes has one lane.
fn lanes(rows: &[Row]) -> (usize, Vec<(usize, usize, usize)>) {
    let mut wires = Vec::new();
    for (to, row) in rows.iter().enumerate() {
        let mut from = row.from.clone();
        from.sort_unstable();
        from.dedup();
        wires.extend(from.into_iter().map(|from| (from, to)));
    }
    wires.sort_unstable();
    // Of each lane, who uses it and up to which row.
    let mut taken: Vec<(usize, usize)> = Vec::new();
    let mut drawn = Vec::new();
    for (from, to) in wires {
        if to == from + 1 {
            drawn.push((from, to, 0));
            continue;
        }
        let free = |&(whose, until): &(usize, usize)| whose == from || until <= from;
        let lane = taken.iter().position(free).unwrap_or_else(|| {
            taken.push((from, to));
            taken.len() - 1
        });
        taken[lane] = (from, to);
        drawn.push((from, to, lane + 1));
    }
    (taken.len(), drawn)
}

fn draw(svg: &mut String, row: &Row, y: usize) {
    let class = if row.is_end { " class=\"end\"" } else { "" };
    let (left, right) = (MARGIN + 10, MARGIN + WIDTH - 10);
    let (upper, lower) = (y + 18, y + 35);
    let [name, extents, kind, parameters] = [
        short(&row.name, MOST_OF_NAME),
        row.extents.clone(),
        row.kind.clone(),
        row.parameters.clone(),
    ]
    .map(|text| escaped(&text));
    let whole = escaped(&row.name);
    // A string takes what is written.
    let _ = write!(
        svg,
        "<rect{class} x=\"{MARGIN}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\">\
         <title>{whole}</title></rect>\n\
         <text class=\"name\" x=\"{left}\" y=\"{upper}\">{name}</text>\n\
         <text x=\"{right}\" y=\"{upper}\" text-anchor=\"end\">{extents}</text>\n\
         <text class=\"soft\" x=\"{left}\" y=\"{lower}\">{kind}</text>\n\
         <text class=\"soft\" x=\"{right}\" y=\"{lower}\" text-anchor=\"end\">{parameters}</text>\n"
    );
}

fn wire(svg: &mut String, from: usize, to: usize, lane: usize) {
    if lane == 0 {
        let (x, y, tip) = (MARGIN + WIDTH / 2, top(from) + HEIGHT, top(to));
        let (left, right, base) = (x - 4, x + 4, tip - 7);
        let _ = write!(
            svg,
            "<path d=\"M{x} {y}V{base}\"/>\n\
             <path class=\"tip\" d=\"M{left} {base}H{right}L{x} {tip}Z\"/>\n"
        );
        return;
    }
    // Out of the box in its lower half and into one in its upper half, so that the two do not touch.
    let edge = MARGIN + WIDTH;
    let x = edge + lane * LANE;
    let (y, tip) = (top(from) + HEIGHT - 12, top(to) + 12);
    let (turn, down, up, base) = (x - 5, y + 5, tip - 5, edge + 7);
    let (upper, lower) = (tip - 4, tip + 4);
    let _ = write!(
        svg,
        "<path d=\"M{edge} {y}H{turn}Q{x} {y} {x} {down}V{up}Q{x} {tip} {turn} {tip}H{base}\"/>\n\
         <path class=\"tip\" d=\"M{base} {upper}V{lower}L{edge} {tip}Z\"/>\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::layers::*;

    fn row(from: &[usize]) -> Row {
        Row {
            name: String::new(),
            extents: String::new(),
            kind: String::new(),
            parameters: String::new(),
            from: from.to_vec(),
            is_end: from.is_empty(),
        }
    }

    #[test]
    fn wires_that_pass_one_place_have_lanes_of_their_own() {
        // 0 goes to 1, 3 and 4; 1 goes past it to 5; 3 to 5; 5 to 7.
        let rows = [
            row(&[]),
            row(&[0]),
            row(&[1]),
            row(&[2, 0, 0]),
            row(&[0, 3]),
            row(&[1, 3]),
            row(&[5]),
            row(&[5, 6]),
        ];
        let (lanes, wires) = lanes(&rows);
        assert_eq!(lanes, 3);
        let passing: Vec<_> = wires.into_iter().filter(|w| w.2 > 0).collect();
        let wanted = [(0, 3, 1), (0, 4, 1), (1, 5, 2), (3, 5, 3), (5, 7, 1)];
        assert_eq!(passing, wanted);
    }

    #[test]
    fn a_drawing_has_a_box_of_each_layer_and_names_are_harmless() {
        let model = Model::build(|m| {
            let x = m.input("image", [3, 8, 8]);
            let h = x.layer("stem", Conv2d::new(4, 3).padding(1)).relu();
            let r = h.layer(
                "a name of many characters and more",
                Conv2d::new(4, 3).padding(1),
            );
            m.output("sum", h + r);
        });
        let model = model.unwrap();
        let svg = model.to_svg();
        let boxes = svg.matches("rx=\"6\"").count();
        assert_eq!(boxes, model.nodes.len() + 1);
        assert!(svg.contains(">a name of many characters …<"), "{svg}");
        assert!(svg.contains("112 parameters") && svg.contains("148 parameters"));
        assert!(svg.contains("3 × 8 × 8"));
        for outside in ["http:", "https:", "<script", "url("] {
            let found = svg.matches(outside).count();
            // The name of SVG itself.
            assert_eq!(found, usize::from(outside == "http:"), "{outside}");
        }
        // A layer of another crate calls its kind what it likes.
        let mut drawn = String::new();
        let kind = "<image & co>".into();
        draw(&mut drawn, &Row { kind, ..row(&[]) }, 0);
        assert!(drawn.contains("&lt;image &amp; co&gt;") && !drawn.contains("<image"));
    }

    #[test]
    fn weights_that_are_shared_are_counted_once() {
        let model = Model::build(|m| {
            let (a, b) = (m.input("a", [4]), m.input("b", [4]));
            let twin = m.shared("twin", Dense::new(3));
            m.output("distance", a.shared(&twin) - b.shared(&twin));
        });
        let svg = model.unwrap().to_svg();
        assert_eq!(svg.matches("15 parameters").count(), 3); // the box; the total, twice
        assert_eq!(svg.matches("weights of twin").count(), 1);
    }
}
