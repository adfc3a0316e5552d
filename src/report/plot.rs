//! A [`Plot`] as SVG and as PNG.
//!
//! Our curves are lines, the book's values hollow points; a book's series that bears the
//! name of one of ours has its colour. A point that is not finite, or not positive on a
//! logarithmic axis, is left out and breaks its line, and the legend says how many those are.
//! The name of the vertical axis stands above it, not along it, so that on a phone the
//! width is the curves' own.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::Axis;
use super::bitmap::{Bitmap, LINE, text_width};
use super::html::clean;
use super::record::{Plot, Series};
use super::style::{
    ALARM, BACKGROUND, FINE, GRID, SERIES, SOFT, TEXT, finite_parts, font, short, svg_element,
    svg_file, text,
};
use crate::error::{Error, Result};

/// Width of a plot in CSS pixels: a phone's, so that letters keep their size there.
const WIDTH: u32 = 440;
/// Height of the part below the legend.
const CHART: u32 = 250;
/// Space to the left and right of words.
const EDGE: u32 = 14;
/// Heights of a line of the title, of the axis' name and of the legend.
const TITLE_LINE: u32 = 20;
const NAME_LINE: u32 = 20;
const LEGEND_LINE: u32 = 18;
/// Sizes of letters, in lines' heights as plotters counts them.
const LARGE: u32 = 18;
const SMALL: u32 = 15;
/// Up to this many points each gets a dot.
const MOST_DOTS: usize = 25;
/// Most lines that a title may take.
const TITLE_LINES: usize = 3;

/// What a PNG is larger than an SVG on a page: two pixels for a CSS pixel.
const SHARP: u32 = 2;

/// A plot as the text of an SVG file, readable on light and dark pages.
///
/// # Errors
/// [`Error::Setting`] if it cannot be drawn.
pub fn plot_svg(plot: &Plot) -> Result<String> {
    let (drawn, size) = drawn_svg(plot)?;
    Ok(svg_file(&drawn, size, &about(plot)))
}

/// [`plot_svg`] for a page that brings the style sheet itself.
pub(super) fn plot_element(plot: &Plot) -> Result<String> {
    let (drawn, size) = drawn_svg(plot)?;
    Ok(svg_element(&drawn, size, &about(plot)))
}

/// A plot as the bytes of a PNG, on background of its own.
///
/// # Errors
/// [`Error::Setting`] if it cannot be drawn.
pub fn plot_png(plot: &Plot) -> Result<Vec<u8>> {
    let layout = Layout::of(plot);
    let (width, height) = layout.size();
    let mut bitmap = Bitmap::new(width * FINE, height * FINE);
    draw(&(&mut bitmap).into_drawing_area(), plot, &layout).map_err(refused(plot))?;
    bitmap.png(FINE / SHARP)
}

fn drawn_svg(plot: &Plot) -> Result<(String, (u32, u32))> {
    let layout = Layout::of(plot);
    let (width, height) = layout.size();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width * FINE, height * FINE));
        draw(&root.into_drawing_area(), plot, &layout).map_err(refused(plot))?;
    }
    Ok((svg, (width, height)))
}

fn refused(plot: &Plot) -> impl Fn(String) -> Error {
    let place = format!("plot `{}`", short(&plot.title, 60));
    move |found| Error::setting(&place, found, "a plot that can be drawn")
}

/// What a screen reader says of it.
fn about(plot: &Plot) -> String {
    let names = plot.series.iter().map(legend_name).collect::<Vec<_>>();
    format!(
        "{}. {} over {}: {}",
        plot.title,
        plot.y_label,
        plot.x_label,
        names.join(", ")
    )
}

fn legend_name(series: &Series) -> String {
    if series.book && !series.name.to_lowercase().contains("book") {
        let gap = if series.name.is_empty() { "" } else { ", " };
        return format!("{}{gap}the book", series.name);
    }
    series.name.clone()
}

/// An entry of the legend and where it stands, in CSS pixels.
struct Entry {
    words: String,
    x: u32,
    line: u32,
    /// The series it names; none for the note on points left out.
    series: Option<usize>,
}

/// Where words stand: found before anything is drawn, since it decides the height.
struct Layout {
    title: Vec<String>,
    legend: Vec<Entry>,
    x: Axis,
    y: Axis,
}

impl Layout {
    fn of(plot: &Plot) -> Self {
        let points = || plot.series.iter().flat_map(|s| &s.points);
        let seen = |p: &&(f64, f64)| Axis::holds(p.0, plot.log_x) && Axis::holds(p.1, plot.log_y);
        let lost = points().count() - points().filter(seen).count();
        let x = Axis::around(points().filter(seen).map(|p| p.0), plot.log_x, 0.03);
        // Epochs, replicas, sizes.
        let whole = points().filter(seen).all(|p| p.0.fract() == 0.0);
        let x = if whole { x.of_whole_numbers() } else { x };
        let y = Axis::around(points().filter(seen).map(|p| p.1), plot.log_y, 0.06);

        let mut entries: Vec<_> = plot.series.iter().map(legend_name).map(Some).collect();
        // A curve alone is named by title and axis.
        if entries.len() == 1 && !plot.series[0].book && plot.series[0].name.is_empty() {
            entries.clear();
        }
        if lost > 0 {
            entries.push(None);
        }
        let mut legend = Vec::new();
        let (mut at, mut line) = (EDGE, 0);
        for (i, name) in entries.into_iter().enumerate() {
            let series = name.is_some().then_some(i);
            let plural = if lost == 1 { "" } else { "s" };
            let words = name.unwrap_or_else(|| format!("{lost} point{plural} left out"));
            let words = clean(&short(&words, 44));
            let wide = 28 + width_of(&words, SMALL) + 16;
            if at > EDGE && at + wide > WIDTH - EDGE + 16 {
                (at, line) = (EDGE, line + 1);
            }
            legend.push(Entry {
                words,
                x: at,
                line,
                series,
            });
            at += wide;
        }
        Self {
            title: wrapped(&clean(&plot.title), LARGE, WIDTH - 2 * EDGE),
            legend,
            x,
            y,
        }
    }

    /// Where the axis' name begins, from the top.
    fn name_top(&self) -> u32 {
        12 + self.title.len() as u32 * TITLE_LINE
    }

    fn legend_top(&self) -> u32 {
        self.name_top() + NAME_LINE
    }

    fn chart_top(&self) -> u32 {
        let lines = self.legend.last().map_or(0, |e| e.line + 1);
        self.legend_top() + lines * LEGEND_LINE
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, self.chart_top() + CHART)
    }
}

/// The width of words in CSS pixels, at a size as [`font`] takes it.
fn width_of(words: &str, size: u32) -> u32 {
    text_width(words, f64::from(size) / LINE).ceil() as u32
}

/// Words broken into lines of `width`, at most [`TITLE_LINES`].
fn wrapped(words: &str, size: u32, width: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // A word that fills a line alone is cut: there is nowhere to break it.
    for word in words.split_whitespace().map(|w| short(w, 40)) {
        let full = lines.len() == TITLE_LINES;
        match lines.last_mut() {
            Some(line) if width_of(&format!("{line} {word}"), size) <= width => {
                *line += " ";
                *line += &word;
            }
            Some(line) if full => {
                *line += "…";
                break;
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// The colour of a series, and whether all colours are taken and its line is dashed.
fn colour(plot: &Plot, index: usize) -> (RGBColor, bool) {
    let series = &plot.series[index];
    let twin = |s: &Series| !s.book && s.name == series.name;
    if series.book
        && let Some(ours) = plot.series.iter().position(twin)
    {
        return colour(plot, ours);
    }
    // Twins take no colour of their own.
    let before = plot.series[..index].iter();
    let taken =
        before.filter(|s| !s.book || !plot.series.iter().any(|o| !o.book && o.name == s.name));
    let place = taken.count();
    (
        SERIES[place % SERIES.len()].0,
        (place / SERIES.len()) % 2 == 1,
    )
}

fn draw<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    plot: &Plot,
    layout: &Layout,
) -> std::result::Result<(), String> {
    root.fill(&BACKGROUND).map_err(text)?;
    let unit = FINE as i32;
    let put = |x: u32, y: u32, size: u32, colour: RGBColor, words: &str| {
        let style = font(size, colour).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(words, &style, (x as i32 * unit, y as i32 * unit))
            .map_err(text)
    };
    for (i, line) in layout.title.iter().enumerate() {
        put(EDGE, 20 + i as u32 * TITLE_LINE, LARGE, TEXT, line)?;
    }
    let name = clean(&short(&plot.y_label, 60));
    put(EDGE, layout.name_top() + 9, SMALL, SOFT, &name)?;
    for entry in &layout.legend {
        let y = layout.legend_top() + entry.line * LEGEND_LINE + 8;
        let ink = if entry.series.is_some() { TEXT } else { ALARM };
        put(entry.x + 28, y, SMALL, ink, &entry.words)?;
        draw_sample(root, plot, entry, (entry.x as i32 * unit, y as i32 * unit))?;
    }
    let (_, area) = root.split_vertically(layout.chart_top() * FINE);
    draw_chart(&area, plot, layout)?;
    root.present().map_err(text)
}

/// A piece of a line, or a point, before its name in the legend.
fn draw_sample<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    plot: &Plot,
    entry: &Entry,
    (x, y): (i32, i32),
) -> std::result::Result<(), String> {
    let unit = FINE as i32;
    let middle = (x + 11 * unit, y);
    let Some(index) = entry.series else {
        let mark = Cross::new(middle, 4 * unit, ALARM.stroke_width(2 * FINE));
        return root.draw(&mark).map_err(text);
    };
    let (colour, dashed) = colour(plot, index);
    if plot.series[index].book {
        for circle in ring(middle, colour) {
            root.draw(&circle).map_err(text)?;
        }
        return Ok(());
    }
    let pieces: &[(i32, i32)] = if dashed {
        &[(0, 6), (9, 15), (18, 22)]
    } else {
        &[(0, 22)]
    };
    for (from, to) in pieces {
        let line = vec![(x + from * unit, y), (x + to * unit, y)];
        let path = PathElement::new(line, colour.stroke_width(9 * FINE / 4));
        root.draw(&path).map_err(text)?;
    }
    Ok(())
}

/// A hollow point: a disc of the background's colour over what lies below, and its edge.
fn ring<C>(at: C, colour: RGBColor) -> [Circle<C, u32>; 2]
where
    C: Clone,
{
    [
        Circle::new(at.clone(), 5 * FINE, colour.filled()),
        Circle::new(at, 3 * FINE, BACKGROUND.filled()),
    ]
}

fn draw_chart<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    plot: &Plot,
    layout: &Layout,
) -> std::result::Result<(), String> {
    let axis = |axis: &Axis| Axis {
        range: axis.range.clone(),
        ticks: axis.ticks.clone(),
        log: axis.log,
    };
    let (x, y) = (&layout.x, &layout.y);
    let widest = y.ticks.iter().map(|t| width_of(&y.label(*t), SMALL)).max();
    let mut chart = ChartBuilder::on(area)
        .margin_left(8 * FINE)
        .margin_right(18 * FINE)
        .margin_top(10 * FINE)
        .margin_bottom(8 * FINE)
        .x_label_area_size(44 * FINE)
        .y_label_area_size((widest.unwrap_or(0) + 14) * FINE)
        .build_cartesian_2d(axis(x), axis(y))
        .map_err(text)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(FINE))
        .light_line_style(TRANSPARENT)
        .axis_style(SOFT.stroke_width(FINE))
        .set_all_tick_mark_size(4 * FINE)
        .x_desc(clean(&short(&plot.x_label, 60)))
        .axis_desc_style(font(SMALL, SOFT))
        .label_style(font(SMALL, TEXT))
        .x_label_formatter(&|v| x.label(*v))
        .y_label_formatter(&|v| y.label(*v))
        .draw()
        .map_err(text)?;

    // The book's points last: they must not vanish below our lines.
    let ours_first =
        |book: bool| (0..plot.series.len()).filter(move |i| plot.series[*i].book == book);
    for index in ours_first(false).chain(ours_first(true)) {
        let series = &plot.series[index];
        let (colour, dashed) = colour(plot, index);
        let placed = series.points.iter().map(|&(px, py)| {
            let seen = Axis::holds(px, plot.log_x) && Axis::holds(py, plot.log_y);
            (px, if seen { py } else { f64::NAN })
        });
        for part in finite_parts(placed) {
            if series.book {
                let rings = part.iter().flat_map(|p| ring(*p, colour));
                chart.draw_series(rings).map_err(text)?;
                continue;
            }
            if part.len() == 1 || series.points.len() <= MOST_DOTS {
                let dot = |p: &(f64, f64)| Circle::new(*p, 3 * FINE, colour.filled());
                chart.draw_series(part.iter().map(dot)).map_err(text)?;
            }
            let style = colour.stroke_width(2 * FINE);
            if dashed {
                let line = DashedLineSeries::new(part, 6 * FINE, 4 * FINE, style);
                chart.draw_series(line).map_err(text)?;
            } else {
                chart
                    .draw_series(LineSeries::new(part, style))
                    .map_err(text)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
