//! The look that all drawings share: colours, fonts, and the frame of an SVG file.
//!
//! Colours come in pairs, for a light and for a dark page. A drawing is made in the light
//! ones; an SVG carries a style sheet that exchanges each for its partner where the reader
//! prefers dark pages. A bitmap keeps the light ones and brings its own background.

use plotters::prelude::*;

use super::html::escaped;
pub(super) use crate::markup::short;

/// Backends place points at whole units; drawing larger and shrinking the result makes
/// curves smooth.
pub(super) const FINE: u32 = 4;

pub(super) const BACKGROUND: RGBColor = RGBColor(252, 251, 248);
pub(super) const TEXT: RGBColor = RGBColor(38, 36, 32);
pub(super) const SOFT: RGBColor = RGBColor(110, 105, 96);
pub(super) const GRID: RGBColor = RGBColor(228, 224, 215);
pub(super) const ALARM: RGBColor = RGBColor(179, 38, 30);

/// Colours of curves and their partners on dark background. The first three are Okabe and Ito's
/// blue, vermilion and bluish green, the others differ from them in lightness as well as in
/// hue: told apart by any eye.
pub(super) const SERIES: [(RGBColor, RGBColor); 6] = [
    (RGBColor(0, 114, 178), RGBColor(86, 180, 233)),
    (RGBColor(213, 94, 0), RGBColor(255, 138, 76)),
    (RGBColor(0, 138, 101), RGBColor(47, 191, 147)),
    (RGBColor(170, 51, 119), RGBColor(232, 143, 198)),
    (RGBColor(171, 130, 0), RGBColor(232, 203, 94)),
    (RGBColor(74, 70, 64), RGBColor(203, 198, 188)),
];

/// The other colours' partners.
const PARTNERS: [(RGBColor, RGBColor); 5] = [
    (BACKGROUND, RGBColor(29, 30, 34)),
    (TEXT, RGBColor(236, 233, 226)),
    (SOFT, RGBColor(168, 163, 154)),
    (GRID, RGBColor(58, 60, 66)),
    (ALARM, RGBColor(255, 138, 122)),
];

/// The rules that turn a drawing of [`svg_file`] dark where the reader prefers it. They
/// reach drawings alone, so that they can stand in a page as well as in a file.
pub(super) fn dark_rules() -> String {
    let mut rules = String::from("@media (prefers-color-scheme: dark) {\n");
    for (light, dark) in PARTNERS.iter().chain(&SERIES) {
        let (light, dark) = (hex(light), hex(dark));
        rules += &format!(
            ".wgrad-plot [fill=\"{light}\"] {{ fill: {dark}; }}\n\
             .wgrad-plot [stroke=\"{light}\"] {{ stroke: {dark}; }}\n"
        );
    }
    rules + "}\n"
}

/// A colour as the SVG backend writes it.
fn hex(colour: &RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// What the backend drew, on a canvas [`FINE`] times `size`, as an SVG file of `size` CSS
/// pixels that tells a screen reader what it is about.
pub(super) fn svg_file(drawn: &str, size: (u32, u32), about: &str) -> String {
    let element = svg_element(drawn, size, about);
    match element.split_once('>') {
        Some((tag, body)) => format!("{tag}>\n<style>\n{}</style>{body}", dark_rules()),
        None => element,
    }
}

/// [`svg_file`] without the style sheet, for a page that has [`dark_rules`] once.
pub(super) fn svg_element(drawn: &str, size: (u32, u32), about: &str) -> String {
    // The backend's opening tag gives the canvas' size and says nothing to a screen reader.
    let body = drawn.split_once('>').map_or("", |(_, body)| body);
    let about = escaped(about);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"wgrad-plot\" width=\"{}\" \
         height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{about}\">\n\
         <title>{about}</title>{body}",
        size.0,
        size.1,
        size.0 * FINE,
        size.1 * FINE
    )
}

/// The stretches of a line between values that are not finite.
pub(super) fn finite_parts(line: impl Iterator<Item = (f64, f64)>) -> Vec<Vec<(f64, f64)>> {
    let mut parts = vec![Vec::new()];
    for point in line {
        if !point.1.is_finite() {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(point);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

pub(super) fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size * FINE).into_font().color(&colour)
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
