//! The report of the book: every experiment's [`Record`] as a page, as a table and as files.
//!
//! One page holds everything, so that it can be sent or kept: no network, no script, no
//! second file.

mod numbers;
mod page;
mod sheet;
mod table;

pub use page::page_html;
pub use sheet::picture_png;
pub use table::table_markdown;

use std::path::Path;

use super::plot::{plot_png, plot_svg};
use super::record::Record;
use crate::error::{Error, Result};
use crate::files::{create_folder, read_limited, write_whole};

/// The file that holds a run's numbers.
pub const RECORD_FILE: &str = "record.json";
/// Longest record that is read; the longest of the book's has a few hundred kilobytes.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// Writes what a run leaves behind into `folder`, which is created where it is missing:
/// `record.json`, `index.html`, `plot-1.svg` and `plot-1.png` of each plot and
/// `picture-1.png` of each picture that has tiles. Each file appears whole or not at all;
/// the record, from which all others can be made again, is written first.
///
/// # Errors
/// [`Error::Io`] and [`Error::File`] when a file cannot be written; those of [`page_html`].
pub fn write_run(folder: &Path, record: &Record) -> Result<()> {
    create_folder(folder)?;
    let mut json = serde_json::to_string_pretty(record)
        .map_err(|e| Error::setting("record", e, "values that JSON can hold"))?;
    json.push('\n');
    write_whole(&folder.join(RECORD_FILE), json.as_bytes())?;
    let page = page_html(std::slice::from_ref(record))?;
    write_whole(&folder.join("index.html"), page.as_bytes())?;
    for (i, plot) in (1..).zip(&record.plots) {
        let svg = plot_svg(plot)?;
        write_whole(&folder.join(format!("plot-{i}.svg")), svg.as_bytes())?;
        write_whole(&folder.join(format!("plot-{i}.png")), &plot_png(plot)?)?;
    }
    for (i, picture) in (1..).zip(&record.pictures) {
        if !picture.tiles.is_empty() {
            let png = picture_png(picture)?;
            write_whole(&folder.join(format!("picture-{i}.png")), &png)?;
        }
    }
    Ok(())
}

/// Reads the record that [`write_run`] left in `folder`.
///
/// # Errors
/// [`Error::Io`] if there is none, [`Error::File`] if it is not a record.
pub fn read_run(folder: &Path) -> Result<Record> {
    let path = folder.join(RECORD_FILE);
    let bytes = read_limited(&path, MAX_RECORD_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::file(
            &path,
            format!("no record ({e})"),
            "a record as `wgrad book run` writes it",
            "Run the experiment again, or name another folder.",
        )
    })
}

#[cfg(test)]
mod tests;
