//! Learning curves as SVG: the training cost above, the accuracies below, one value per
//! epoch. One above the other, since a telephone is 390 pixels wide and shrinks the picture
//! to that: side by side its letters would be half as large.
//!
//! With several replicas each has a faint line and their mean a bold one. The picture
//! brings its own background, so it reads the same on a light and on a dark page.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{Axis, accuracy_range, cost_range, epoch_ticks, nice_step, ticks};
use super::html::clean;
use super::style::{
    ALARM, BACKGROUND, FINE, GRID, SERIES, SOFT, TEXT, finite_parts, font, short, svg_file, text,
};
use super::{EpochReport, Report};
use crate::error::{Error, Result};

/// Width of the picture on a page, in CSS pixels.
const WIDTH: u32 = 560;
/// Height of a panel.
const PANEL: u32 = 320;
/// Space around the words at the top.
const MARGIN: u32 = 24;
/// Size of the letters of the title, and of all others, as the backend takes it: it writes
/// 1 / 1.24 of that.
const LETTERS: (u32, u32) = (23, 18);
/// Up to this many epochs each value gets a dot.
const MOST_DOTS: usize = 40;

const COST: RGBColor = SERIES[0].0;
const VALIDATION: RGBColor = SERIES[1].0;
const TEST: RGBColor = SERIES[2].0;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One measured quantity: a value per replica and epoch.
struct Curve {
    name: &'static str,
    colour: RGBColor,
    of: fn(&EpochReport) -> &[f64],
}

/// A panel: its curves and how its axis is to be read.
struct Panel {
    title: &'static str,
    axis: &'static str,
    curves: Vec<Curve>,
    range: Range<f64>,
}

/// The learning curves of a run as the text of an SVG file.
///
/// A value that is not finite breaks its line, and a cross at the top of the panel marks
/// the epoch. A list that is empty in every epoch (nothing was measured) has no curve.
///
/// # Errors
/// [`Error::Setting`] if the report has no epochs.
pub fn curves_svg(report: &Report) -> Result<String> {
    if report.epochs.is_empty() {
        return Err(Error::setting(
            "epochs",
            "a report of none",
            "at least one, to draw learning curves",
        ));
    }
    let mut svg = String::new();
    let head = head(report);
    let size = (WIDTH, head_height(&head) + 2 * PANEL);
    {
        let canvas = (size.0 * FINE, size.1 * FINE);
        let root = SVGBackend::with_string(&mut svg, canvas).into_drawing_area();
        draw(&root, report, &head).map_err(|found| {
            Error::setting("learning curves", found, "a report that can be drawn")
        })?;
    }
    let about = format!("Learning curves: {}", title(report));
    Ok(svg_file(&svg, size, &about))
}

/// A line of words at the top: what it says, the size of its letters, their colour.
type Line = (String, u32, RGBColor);

/// The lines at the top.
fn head(report: &Report) -> Vec<Line> {
    let title = title(report);
    let words: Vec<&str> = title.split(' ').collect();
    let above = wrapped(&words, " ", LETTERS.0).into_iter();
    let facts = facts(report);
    let facts: Vec<&str> = facts.iter().map(String::as_str).collect();
    let below = wrapped(&facts, "  ·  ", LETTERS.1).into_iter();
    let above = above.map(|line| (line, LETTERS.0, TEXT));
    above
        .chain(below.map(|line| (line, LETTERS.1, SOFT)))
        .collect()
}

/// Where a line ends and the next begins.
fn line_height(size: u32) -> u32 {
    size * 6 / 5
}

fn head_height(head: &[Line]) -> u32 {
    let lines = head.iter().map(|(_, size, _)| line_height(*size));
    MARGIN + lines.sum::<u32>()
}

/// About how wide words are: fonts differ from reader to reader, and 0.6 em is a generous
/// mean of a character's width.
fn width_of(words: &str, size: u32) -> f64 {
    words.chars().count() as f64 * f64::from(size) * 0.6 / 1.24
}

/// Parts put into as few lines as the picture's width allows.
fn wrapped(parts: &[&str], between: &str, size: u32) -> Vec<String> {
    let most = f64::from(WIDTH - 2 * MARGIN);
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if width_of(&format!("{line}{between}{part}"), size) <= most => {
                *line += between;
                *line += part;
            }
            _ => lines.push((*part).into()),
        }
    }
    lines
}

fn draw(root: &Canvas, report: &Report, head: &[Line]) -> std::result::Result<(), String> {
    root.fill(&BACKGROUND).map_err(text)?;
    let mut y = MARGIN * 3 / 4;
    for (words, size, colour) in head {
        let at = ((MARGIN * FINE) as i32, (y * FINE) as i32);
        root.draw_text(&clean(words), &font(*size, *colour), at)
            .map_err(text)?;
        y += line_height(*size);
    }

    let measured = |of: fn(&EpochReport) -> &[f64]| report.epochs.iter().any(|e| !of(e).is_empty());
    let mut accuracies = vec![
        Curve {
            name: "validation",
            colour: VALIDATION,
            of: |e| &e.validation_accuracy,
        },
        Curve {
            name: "test",
            colour: TEST,
            of: |e| &e.test_accuracy,
        },
    ];
    accuracies.retain(|c| measured(c.of));
    let costs = vec![Curve {
        name: "training",
        colour: COST,
        of: |e| &e.training_cost,
    }];
    let (_, panels) = root.split_vertically(head_height(head) * FINE);
    let (above, below) = panels.split_vertically(PANEL * FINE);
    let range = cost_range(values(report, &costs));
    let cost = Panel {
        title: "Cost",
        axis: "training cost (mean per image)",
        curves: costs,
        range,
    };
    let range = accuracy_range(values(report, &accuracies));
    let accuracy = Panel {
        title: "Accuracy",
        axis: "images read correctly (%)",
        curves: accuracies,
        range,
    };
    draw_panel(&above, report, &cost)?;
    draw_panel(&below, report, &accuracy)?;
    root.present().map_err(text)
}

fn draw_panel(area: &Canvas, report: &Report, panel: &Panel) -> std::result::Result<(), String> {
    let epochs = &report.epochs;
    let (first, last) = epochs.iter().fold((usize::MAX, 0), |(lo, hi), e| {
        (lo.min(e.epoch), hi.max(e.epoch))
    });
    let pad = ((last - first) as f64 * 0.03).max(0.15);
    let across = first as f64 - pad..last as f64 + pad;
    let (bottom, top) = (panel.range.start, panel.range.end);
    let step = nice_step((top - bottom) / 5.0);
    let ticks = ticks(bottom, top, step);
    // A step of 2 needs no decimals, one of 0.05 needs two.
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let mut chart = ChartBuilder::on(area)
        .margin_left(18 * FINE)
        .margin_right(22 * FINE)
        .margin_top(38 * FINE)
        .margin_bottom(10 * FINE)
        .x_label_area_size(48 * FINE)
        .y_label_area_size(66 * FINE)
        .build_cartesian_2d(
            Axis {
                range: across,
                ticks: epoch_ticks(first, last),
                log: false,
            },
            Axis {
                range: bottom..top,
                ticks,
                log: false,
            },
        )
        .map_err(text)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID.stroke_width(FINE))
        .light_line_style(TRANSPARENT)
        .axis_style(SOFT.stroke_width(FINE))
        .set_all_tick_mark_size(4 * FINE)
        .x_desc("epoch")
        .y_desc(panel.axis)
        .axis_desc_style(font(LETTERS.1, SOFT))
        .label_style(font(LETTERS.1, TEXT))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| {
            if y.abs() >= 1e5 {
                format!("{y:.0e}")
            } else {
                format!("{y:.decimals$}")
            }
        })
        .draw()
        .map_err(text)?;

    let replicas = panel
        .curves
        .iter()
        .flat_map(|c| epochs.iter().map(|e| (c.of)(e).len()))
        .max()
        .unwrap_or(0);
    let several = replicas > 1;
    let mut lost = Vec::new();
    for curve in &panel.curves {
        let at = |e: &EpochReport, r: usize| (curve.of)(e).get(r).copied().unwrap_or(f64::NAN);
        for e in epochs {
            if (curve.of)(e).iter().any(|v| !v.is_finite()) {
                lost.push((e.epoch as f64, top));
            }
        }
        for replica in (0..replicas).filter(|_| several) {
            let line = epochs.iter().map(|e| (e.epoch as f64, at(e, replica)));
            let style = curve.colour.mix(0.28).stroke_width(FINE);
            for part in finite_parts(line) {
                // One value alone makes no line.
                if let [point] = part[..] {
                    let dot = Circle::new(point, 2 * FINE, curve.colour.mix(0.35).filled());
                    chart.draw_series([dot]).map_err(text)?;
                } else {
                    chart
                        .draw_series(LineSeries::new(part, style))
                        .map_err(text)?;
                }
            }
        }
        // The mean of those that did not diverge would look better than the run was.
        let mean = epochs.iter().map(|e| {
            let sum: f64 = (0..replicas).map(|r| at(e, r)).sum();
            (e.epoch as f64, sum / replicas as f64)
        });
        for part in finite_parts(mean) {
            let dots = part.len() == 1 || epochs.len() <= MOST_DOTS;
            if dots {
                let dot = |p: &(f64, f64)| Circle::new(*p, 3 * FINE, curve.colour.filled());
                chart.draw_series(part.iter().map(dot)).map_err(text)?;
            }
            let style = curve.colour.stroke_width(9 * FINE / 4);
            chart
                .draw_series(LineSeries::new(part, style))
                .map_err(text)?;
        }
    }
    let cross = |p: &(f64, f64)| Cross::new(*p, 5 * FINE, ALARM.stroke_width(2 * FINE));
    chart.draw_series(lost.iter().map(cross)).map_err(text)?;
    drop(chart);
    draw_legend(area, panel, !lost.is_empty())
}

/// The panel's name and, to its right, what its lines and marks mean.
fn draw_legend(area: &Canvas, panel: &Panel, lost: bool) -> std::result::Result<(), String> {
    let unit = FINE as i32;
    let baseline = 16 * unit;
    let middle = |size, colour| font(size, colour).pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = 84 * unit;
    let say = |words: &str, size: u32, colour: RGBColor, x: &mut i32| {
        area.draw_text(words, &middle(size, colour), (*x, baseline))
            .map_err(text)?;
        *x += width_of(words, size * FINE) as i32 + 16 * unit;
        Ok::<(), String>(())
    };
    say(panel.title, LETTERS.1 + 2, TEXT, &mut x)?;
    let sample = |colour: RGBAColor, width: u32, x: &mut i32| {
        let line = vec![(*x, baseline), (*x + 22 * unit, baseline)];
        *x += 28 * unit;
        area.draw(&PathElement::new(line, colour.stroke_width(width)))
            .map_err(text)
    };
    for curve in &panel.curves {
        sample(curve.colour.to_rgba(), 9 * FINE / 4, &mut x)?;
        say(curve.name, LETTERS.1, TEXT, &mut x)?;
    }
    if lost {
        let mark = Cross::new((x, baseline), 5 * unit, ALARM.stroke_width(2 * FINE));
        area.draw(&mark).map_err(text)?;
        x += 10 * unit;
        say("not finite", LETTERS.1, ALARM, &mut x)?;
    }
    Ok(())
}

/// What was trained on what; says so if the data is synthetic.
fn title(report: &Report) -> String {
    format!(
        "{} on {}",
        short(&report.net, 40),
        short(&report.data_title(), 45)
    )
}

/// How it was trained and how it went.
fn facts(report: &Report) -> Vec<String> {
    let mut parts = vec![format!("mini-batch {}", report.batch)];
    parts.push(format!("learning rate {}", report.learning_rate));
    parts.push(format!("seed {}", report.seed));
    let finals = &report.test_accuracy;
    if !finals.is_empty() {
        let mean = finals.iter().sum::<f64>() / finals.len() as f64;
        if finals.len() > 1 {
            parts.push(format!("{} replicas (bold: their mean)", finals.len()));
            parts.push(format!("test accuracy {mean:.2} % in the mean"));
        } else {
            parts.push(format!("test accuracy {mean:.2} %"));
        }
    }
    if let Some(vote) = report.ensemble_accuracy {
        parts.push(format!("{vote:.2} % by vote"));
    }
    parts.push(short(&report.device, 48));
    parts
}

fn values<'a>(report: &'a Report, curves: &'a [Curve]) -> impl Iterator<Item = f64> + 'a {
    curves
        .iter()
        .flat_map(|c| report.epochs.iter().flat_map(|e| (c.of)(e)))
        .copied()
        .filter(|v| v.is_finite())
}

#[cfg(test)]
mod tests;
