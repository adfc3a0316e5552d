//! Records as Markdown tables.

use super::super::html::clean;
use super::super::record::Record;
use super::numbers::{Verdict, book_value, count, duration, epochs, our_value, seeds};
use crate::error::{Error, Result};

/// Records as Markdown: a table with one line for each number (the book's value, ours, how
/// many seeds or what else its values are of, epochs, the verdict), then each experiment's
/// command and notes.
///
/// # Errors
/// [`Error::Setting`] for no records.
pub fn table_markdown(records: &[Record]) -> Result<String> {
    if records.is_empty() {
        return Err(Error::setting("records", "none", "at least one"));
    }
    let mut text = String::from(
        "# Neural Networks and Deep Learning, reproduced\n\n\
         Written by `wgrad book report`. The book's value agrees where it lies within our mean \u{b1} 3 \
         standard deviations over the seeds, or within a fixed slack (0.3 points for most \
         accuracies). Commands and notes are below the table.\n\n\
         | experiment | what | book | ours | seeds | epochs: ours / book | verdict |\n\
         |---|---|---:|---:|---:|---:|---|\n",
    );
    for record in records {
        if record.rows.is_empty() {
            text += &format!(
                "| {} | see its page | — | — | — | {} | — |\n",
                plain(&record.id),
                epochs(record)
            );
        }
        for row in &record.rows {
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                plain(&record.id),
                plain(&row.what),
                plain(&book_value(row)),
                plain(&our_value(row)),
                plain(&count(row)),
                epochs(record),
                Verdict::of(record, row).words(),
            );
        }
    }
    for record in records {
        text += &format!("\n### {}: {}\n\n", plain(&record.id), plain(&record.title));
        if record.synthetic {
            text += "**Synthetic data**: drawn by a program, not comparable with the book.\n\n";
        }
        text += &format!(
            "{}\n\nSeeds: {}; {}; {} on {}, wgrad {}.\n",
            code(&record.command),
            seeds(record),
            plain(if record.data.is_empty() {
                "no data"
            } else {
                &record.data
            }),
            duration(record.seconds),
            plain(&record.device),
            plain(&record.version),
        );
        for (i, note) in record.notes.iter().enumerate() {
            let gap = if i == 0 { "\n" } else { "" };
            text += &format!("{gap}- {}\n", plain(note));
        }
    }
    Ok(text)
}

/// Text that Markdown takes for text, on one line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A command as code; the fence is longer than any row of backticks in it.
fn code(command: &str) -> String {
    let command = clean(command);
    let longest = command.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}sh\n{command}\n{fence}")
}
