//! Experiments on texts.

use std::path::Path;

use super::{Experiment, Reading};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::read_limited;
use crate::model::Description;

/// What the parts of a text are called, in the order of their shares.
const PARTS: [&str; 3] = ["training", "validation", "test"];
/// Longest text that is read.
const MAX_TEXT: u64 = 1 << 30;

impl Experiment {
    pub(super) fn text(&self, path: &Path) -> Result<(Vec<Dataset>, Reading)> {
        let mut bytes = read_limited(path, MAX_TEXT)?;
        if path.extension().is_some_and(|e| e == "gz") {
            use std::io::Read;
            let mut plain = Vec::new();
            let unpacked = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            let read = unpacked.take(MAX_TEXT + 1).read_to_end(&mut plain);
            read.map_err(|e| Error::io("unpack", path, e, "Check that it is a gzip file."))?;
            if plain.len() as u64 > MAX_TEXT {
                let wanted = format!("at most {MAX_TEXT} bytes");
                return Err(Error::file(
                    path,
                    "a longer text",
                    wanted,
                    "Take a part of it.",
                ));
            }
            bytes = plain;
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            let fix = "Save the text as UTF-8.";
            Error::file(path, e.to_string(), "text in UTF-8", fix)
        })?;
        let mut characters: Vec<char> = text.chars().collect();
        let all = characters.clone();
        characters.sort_unstable();
        characters.dedup();
        let number = |c: &char| characters.binary_search(c).unwrap_or(0) as u32;
        let numbers: Vec<u32> = all.iter().map(number).collect();
        if self
            .data
            .split
            .iter()
            .any(|share| !(*share > 0.0 && share.is_finite()))
        {
            let found = format!("{:?}", self.data.split);
            return Err(Error::setting("split", found, "positive numbers"));
        }
        let apart = self.data.apart.unwrap_or(self.data.window);
        for (name, value) in [("window", self.data.window), ("apart", apart)] {
            if value == 0 {
                return Err(Error::setting(name, 0, "at least 1"));
            }
        }
        let total: f64 = self.data.split.iter().sum();
        let (mut from, mut sum, mut parts) = (0, 0.0, Vec::new());
        for (k, share) in self.data.split.iter().enumerate() {
            sum += share;
            let to = (numbers.len() as f64 * sum / total).round() as usize;
            let part = numbers.get(from..to.min(numbers.len())).unwrap_or_default();
            let apart = match k {
                0 => self.data.apart.unwrap_or(self.data.window),
                _ => self.data.window,
            };
            let windows = Dataset::windows_apart(part.to_vec(), self.data.window, apart);
            parts.push(windows.map_err(|e| match PARTS.get(k) {
                Some(name) => e.within(&format!("{name} part of the text")),
                None => e,
            })?);
            from = to;
        }
        Ok((parts, Reading::Text(characters)))
    }
}

/// Holds embeddings of a text to its characters: a number of no row would be passed over in silence.
pub(super) fn enough_rows(description: &Description, characters: usize) -> Result<()> {
    for (number, layer) in description.layers.iter().enumerate() {
        let rows = layer.get("rows").and_then(serde_json::Value::as_u64);
        let named = layer.get("inputs").and_then(|inputs| inputs.get(0));
        let of_text = number == 0 || named.is_some_and(|name| name == "input");
        let embeds = layer.get("kind").is_some_and(|kind| kind == "embedding");
        if let (true, true, Some(rows)) = (embeds, of_text, rows)
            && rows < characters as u64
        {
            let wanted = format!("at least the {characters} different characters of the text");
            return Err(Error::setting(
                format!("rows of layer {number}"),
                rows,
                wanted,
            ));
        }
    }
    Ok(())
}
