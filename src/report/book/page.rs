//! Records as one HTML page.

use std::collections::HashSet;
use std::fmt::Write;

use super::super::html::{BASE_STYLE, base64, escaped, grouped, html_page};
use super::super::misses::MOST_SHOWN;
use super::super::plot::plot_element;
use super::super::record::{Picture, Record, Row};
use super::super::style::dark_rules;
use super::numbers::{
    Counts, Verdict, book_value, count, duration, epochs, one_value, our_value, seeds, shortened,
};
use super::sheet::{Sheet, picture_png, tile_png};
use crate::error::{Error, Result};

/// Up to this many seeds each one's value is shown.
const MOST_VALUES: usize = 10;

/// Records as one self-contained page: a section for each, in the order given, and before
/// them a table that leads to each. One record alone is a run's own page, without the
/// table. Every text of a record is escaped.
///
/// # Errors
/// [`Error::Setting`] for no records, and for two with the same id; [`Error::Shape`] for a
/// picture whose tiles have another size than it says.
pub fn page_html(records: &[Record]) -> Result<String> {
    let mut anchors = HashSet::new();
    for record in records {
        if !anchors.insert(anchor(record)) {
            return Err(Error::setting(
                "records",
                format!("two named `{}`", record.id),
                "one record of each experiment",
            ));
        }
    }
    let mut body = String::new();
    let title = match records {
        [] => return Err(Error::setting("records", "none", "at least one")),
        [one] => escaped(&one.title),
        _ => {
            let title = "Neural Networks and Deep Learning, reproduced";
            add_overview(&mut body, title, records);
            title.into()
        }
    };
    body += "<main>\n";
    for record in records {
        add_section(&mut body, record, if records.len() == 1 { 1 } else { 2 })?;
    }
    body += "</main>\n";
    let dark = dark_rules();
    let styles = [BASE_STYLE, include_str!("page.css"), &dark];
    Ok(html_page(&title, &styles, &body))
}

/// The id that a section is found by: letters, digits, points and dashes.
fn anchor(record: &Record) -> String {
    let safe = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '.' => c,
        _ => '-',
    };
    format!("x-{}", record.id.chars().map(safe).collect::<String>())
}

const RULE: &str = "A value of the book's agrees where it lies within our mean ± 3 standard \
    deviations over the seeds, or within a fixed slack (0.3 points for most accuracies).";

fn add_overview(body: &mut String, title: &str, records: &[Record]) {
    let counts = Counts::of(records);
    let mut text = format!(
        "<strong>{} experiments</strong> of Michael Nielsen’s book, run by wgrad. {} of its \
         numbers stand beside ours: <strong>{} agree</strong>, {} differ",
        records.len(),
        grouped(counts.compared()),
        grouped(counts.agree),
        grouped(counts.differ),
    );
    if counts.shortened > 0 {
        text += &format!(
            ", and {} differ in runs that were shorter than the book’s",
            grouped(counts.shortened)
        );
    }
    *body += &format!("<header>\n<h1>{title}</h1>\n<p>{text}.</p>\n<p class=\"soft\">{RULE}</p>\n");
    let synthetic = records.iter().filter(|r| r.synthetic).count();
    if synthetic > 0 {
        *body += &format!(
            "<p class=\"warning\">{synthetic} of these experiments ran on synthetic digits, drawn \
             by a program. Their numbers say nothing about the book’s.</p>\n"
        );
    }
    *body += "</header>\n<nav class=\"scroll\" aria-label=\"Experiments\" tabindex=\"0\">\n<table>\n\
              <thead><tr><th>Experiment</th><th>Agreement</th><th>Book</th><th>Ours</th>\
              <th>Epochs: ours / book</th><th>Time</th></tr></thead>\n<tbody>\n";
    let mut chapter = None;
    for record in records {
        if chapter != Some(record.chapter) {
            chapter = Some(record.chapter);
            *body += &format!(
                "<tr><th class=\"chapter\" colspan=\"6\">Chapter {}</th></tr>\n",
                record.chapter
            );
        }
        let counts = Counts::of([record]);
        let first = record.rows.iter().find(|r| r.book.is_some());
        let first = first.or(record.rows.first());
        let look = match (counts.compared(), counts.differ) {
            (0, _) => "plain",
            (_, 0) if counts.shortened == 0 => "good",
            (_, 0) => "plain",
            _ => "bad",
        };
        *body += &format!(
            "<tr><th><a href=\"#{}\">{}</a><small>{}</small></th>\
             <td class=\"{look}\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            anchor(record),
            escaped(&record.title),
            escaped(&record.id),
            counts.words(),
            first.map_or("—".into(), |r| escaped(&book_value(r))),
            first.map_or("—".into(), |r| escaped(&our_value(r))),
            epochs(record),
            duration(record.seconds),
        );
    }
    *body += "</tbody>\n</table>\n</nav>\n";
}

/// A record's section, its heading of this level.
fn add_section(body: &mut String, record: &Record, level: usize) -> Result<()> {
    *body += &format!(
        "<section id=\"{}\">\n<h{level}>{}</h{level}>\n<p class=\"meta\">Chapter {} · <code>{}</code></p>\n",
        anchor(record),
        escaped(&record.title),
        record.chapter,
        escaped(&record.id),
    );
    add_badges(body, record);
    add_text(body, "question", "", &record.question);
    add_text(body, "setting", "<b>Setting.</b> ", &record.setting);
    if record.synthetic {
        *body += "<p class=\"warning\">Synthetic data: the digits were drawn by a program and show \
                  no real handwriting. The numbers cannot be compared with the book’s.</p>\n";
    }
    if let Some(epochs) = shortened(record) {
        *body += &format!(
            "<p class=\"warning\">Shortened run: {epochs}. A difference to the book may come from \
             that alone.</p>\n"
        );
    }
    add_rows(body, record);
    // Where there is an overview, the rule stands there.
    if level == 1 && Counts::of([record]).compared() > 0 {
        *body += &format!("<p class=\"soft\">{RULE}</p>\n");
    }
    if !record.plots.is_empty() {
        *body += "<div class=\"plots\">\n";
        for plot in &record.plots {
            *body += &format!("<figure>{}</figure>\n", plot_element(plot)?);
        }
        *body += "</div>\n";
    }
    for picture in &record.pictures {
        add_picture(body, picture)?;
    }
    if !record.notes.is_empty() {
        *body += "<h3>Notes</h3>\n<ul>\n";
        for note in &record.notes {
            *body += &format!("<li>{}</li>\n", escaped(note));
        }
        *body += "</ul>\n";
    }
    add_facts(body, record);
    *body += "</section>\n";
    Ok(())
}

fn add_text(body: &mut String, class: &str, before: &str, text: &str) {
    if !text.is_empty() {
        *body += &format!("<p class=\"{class}\">{before}{}</p>\n", escaped(text));
    }
}

fn add_badges(body: &mut String, record: &Record) {
    let counts = Counts::of([record]);
    let mut badges = Vec::new();
    if counts.compared() > 0 {
        let look = if counts.differ > 0 {
            "bad"
        } else if counts.shortened > 0 {
            "plain"
        } else {
            "good"
        };
        badges.push((look, counts.words()));
    }
    if record.synthetic {
        badges.push(("bad", "synthetic data".into()));
    }
    if let Some(epochs) = shortened(record) {
        badges.push(("bad", format!("shortened: {epochs}")));
    }
    if badges.is_empty() {
        return;
    }
    *body += "<p>";
    for (look, words) in badges {
        *body += &format!("<span class=\"badge {look}\">{words}</span>");
    }
    *body += "</p>\n";
}

fn add_rows(body: &mut String, record: &Record) {
    if record.rows.is_empty() {
        return;
    }
    let strips: Vec<_> = record.rows.iter().map(|r| strip(record, r)).collect();
    let drawn = strips.iter().any(|s| !s.is_empty());
    let place = if drawn {
        "<th>Seeds and <span class=\"bad\">book</span></th>"
    } else {
        ""
    };
    *body += &format!(
        "<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr><th>What</th><th>Book</th>\
         <th>Ours</th><th>Verdict</th>{place}</tr></thead>\n<tbody>\n"
    );
    for (row, strip) in record.rows.iter().zip(strips) {
        let verdict = Verdict::of(record, row);
        let look = match verdict {
            Verdict::Agrees => "good",
            Verdict::Differs | Verdict::NotMeasured => "bad",
            _ => "plain",
        };
        let mut values = String::new();
        if (2..=MOST_VALUES).contains(&row.ours.len()) {
            let all = row.ours.iter().map(|v| one_value(*v, &row.unit));
            values = format!("<small>{}</small>", all.collect::<Vec<_>>().join(" · "));
        } else if row.ours.len() > MOST_VALUES {
            let of = if row.each.is_empty() { " seeds" } else { "" };
            values = format!("<small>{}{of}</small>", escaped(&count(row)));
        }
        let cell = if drawn {
            format!("<td>{strip}</td>")
        } else {
            String::new()
        };
        *body += &format!(
            "<tr><th>{}</th><td>{}</td><td>{}{values}</td><td class=\"verdict {look}\">{}</td>{cell}</tr>\n",
            escaped(&row.what),
            escaped(&book_value(row)),
            escaped(&our_value(row)),
            verdict.words(),
        );
    }
    *body += "</tbody>\n</table>\n</div>\n";
}

/// Where the seeds' values lie, what counts as agreement, and the book's value in it; empty
/// where there is nothing to compare.
fn strip(record: &Record, row: &Row) -> String {
    const WIDTH: f64 = 120.0;
    let (Some(book), Verdict::Agrees | Verdict::Differs | Verdict::DiffersShortened) =
        (row.book, Verdict::of(record, row))
    else {
        return String::new();
    };
    let (mean, reach) = (row.mean(), (3.0 * row.deviation()).max(row.slack));
    let all = row
        .ours
        .iter()
        .copied()
        .chain([book, mean - reach, mean + reach]);
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return String::new();
    }
    let at = |v: f64| 6.0 + (v - low) / span * (WIDTH - 12.0);
    let (from, to) = (at(mean - reach), at(mean + reach));
    let mut svg = format!(
        "<svg class=\"strip\" viewBox=\"0 0 {WIDTH} 20\" aria-hidden=\"true\">\
         <path class=\"axis\" d=\"M0 10H{WIDTH}\"/>\
         <rect class=\"band\" x=\"{from:.1}\" y=\"4\" width=\"{:.1}\" height=\"12\" rx=\"2\"/>",
        to - from
    );
    for value in &row.ours {
        svg += &format!(
            "<circle class=\"seed\" cx=\"{:.1}\" cy=\"10\" r=\"3\"/>",
            at(*value)
        );
    }
    svg + &format!("<path class=\"book\" d=\"M{:.1} 1V19\"/></svg>", at(book))
}

fn add_picture(body: &mut String, picture: &Picture) -> Result<()> {
    *body += &format!(
        "<div class=\"picture\">\n<h3>{}</h3>\n",
        escaped(&picture.title)
    );
    add_text(body, "caption", "", &picture.caption);
    let labelled = |t: &super::super::record::Tile| !(t.top.is_empty() && t.bottom.is_empty());
    if picture.tiles.is_empty() {
        *body += "<p class=\"soft\">There are none.</p>\n";
    } else if picture.tiles.iter().any(labelled) {
        add_tiles(body, picture)?;
    } else {
        let png = picture_png(picture)?;
        let sheet = Sheet::of(picture)?;
        *body += &format!(
            "<img class=\"sheet\" width=\"{}\" height=\"{}\" loading=\"lazy\" \
             alt=\"{}: {} pictures side by side\" src=\"data:image/png;base64,{}\">\n",
            sheet.width,
            sheet.height,
            escaped(&picture.title),
            picture.tiles.len(),
            base64(&png)
        );
    }
    *body += "</div>\n";
    Ok(())
}

/// Tiles with labels, as in the book: what it is at the top right, what was read at the
/// bottom right.
fn add_tiles(body: &mut String, picture: &Picture) -> Result<()> {
    let shown = picture.tiles.len().min(MOST_SHOWN);
    *body += "<div class=\"tiles narrow\">\n";
    for (i, tile) in picture.tiles.iter().take(shown).enumerate() {
        let png = tile_png(picture, i)?;
        let (top, bottom) = (escaped(&tile.top), escaped(&tile.bottom));
        // The caption repeats the alternative text for the eye, so a screen reader skips it.
        write!(
            body,
            "<figure>\n<img width=\"{}\" height=\"{}\" loading=\"lazy\" \
             alt=\"top right: {top}; bottom right: {bottom}\" \
             src=\"data:image/png;base64,{}\">\n<figcaption aria-hidden=\"true\"><b>{top}</b>\
             <span class=\"read\">{bottom}</span></figcaption>\n</figure>\n",
            picture.width,
            picture.height,
            base64(&png)
        )
        .map_err(|e| Error::setting("page", e, "text"))?;
    }
    *body += "</div>\n";
    if shown < picture.tiles.len() {
        *body += &format!(
            "<p class=\"soft\">The first {shown} of {} are shown.</p>\n",
            grouped(picture.tiles.len())
        );
    }
    Ok(())
}

fn add_facts(body: &mut String, record: &Record) {
    let data = match (record.data.is_empty(), record.synthetic) {
        (true, _) => "none".into(),
        (_, true) if !record.data.to_lowercase().contains("synthetic") => {
            format!("{} (synthetic)", record.data)
        }
        _ => record.data.clone(),
    };
    if !record.command.is_empty() {
        *body += &format!(
            "<p class=\"command\" tabindex=\"0\"><code>{}</code></p>\n",
            escaped(&record.command)
        );
    }
    *body += "<dl>\n";
    let facts = [
        ("Data", escaped(&data)),
        ("Seeds", seeds(record)),
        ("Epochs", epochs(record).replace(" / ", " of the book’s ")),
        ("Device", escaped(&record.device)),
        ("Time", duration(record.seconds)),
        ("Version", format!("wgrad {}", escaped(&record.version))),
    ];
    for (name, value) in facts {
        *body += &format!("<dt>{name}</dt><dd>{value}</dd>\n");
    }
    *body += "</dl>\n";
}
