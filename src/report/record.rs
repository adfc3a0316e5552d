//! What an experiment leaves behind: plain data that pages, tables and files are made of.
//!
//! A record knows nothing of networks or devices, so that it can be written as JSON by one
//! run and read by another that makes the report of the whole book. In JSON, a value that
//! is not finite is `null`, and `null` reads as not a number.

use serde::{Deserialize, Serialize};

/// The result of one experiment over one or more seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The experiment's id, `ch5-depth`.
    pub id: String,
    /// The book's chapter.
    pub chapter: u32,
    /// What it is called.
    pub title: String,
    /// What it asks, in a sentence or two.
    pub question: String,
    /// Network, cost, start and schedule, for people.
    pub setting: String,
    /// The command that repeats it.
    pub command: String,
    /// The data set's name; empty where none is used.
    pub data: String,
    /// Whether the data was drawn by a program and shows no real handwriting.
    pub synthetic: bool,
    /// The device it ran on, as people call it.
    pub device: String,
    /// The version of wgrad that ran.
    pub version: String,
    /// The seeds, in the order of [`Row::ours`].
    pub seeds: Vec<u64>,
    /// Epochs that were run, where the experiment has epochs.
    pub epochs: Option<usize>,
    /// Epochs that the book runs, where it says.
    pub book_epochs: Option<usize>,
    /// The numbers, beside the book's.
    pub rows: Vec<Row>,
    /// The plots.
    pub plots: Vec<Plot>,
    /// The pictures: filters, feature maps, misread digits.
    pub pictures: Vec<Picture>,
    /// What a reader should know: protocol, luck, shortened runs, explanations.
    pub notes: Vec<String>,
    /// Seconds from start to end.
    #[serde(with = "super::nullable_one")]
    pub seconds: f64,
}

/// One number of an experiment: the book's and ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// `%`, or empty for plain numbers.
    pub unit: String,
    /// What the book reports, where it does.
    pub book: Option<f64>,
    /// What we measured, one value per seed (or one alone, where nothing is random). Seeds
    /// that do not train are left out, and the notes name them.
    #[serde(with = "super::nullable")]
    pub ours: Vec<f64>,
    /// What each value is of, where a seed has several: `network`. Empty for one per seed.
    #[serde(default)]
    pub each: String,
    /// How far from our mean the book's value may lie at least (in the row's unit), however
    /// small our spread is: 0.3 for accuracies in percent.
    #[serde(with = "super::nullable_one")]
    pub slack: f64,
}

impl Row {
    /// The mean over all values; NaN of none.
    pub fn mean(&self) -> f64 {
        self.ours.iter().sum::<f64>() / self.ours.len() as f64
    }

    /// The standard deviation over all values (n − 1 in the denominator); 0 of one.
    pub fn deviation(&self) -> f64 {
        if self.ours.len() < 2 {
            return 0.0;
        }
        let mean = self.mean();
        let squares: f64 = self.ours.iter().map(|x| (x - mean).powi(2)).sum();
        (squares / (self.ours.len() - 1) as f64).sqrt()
    }

    /// Whether the book's value lies within our mean ± 3 standard deviations or within the
    /// slack; `None` where the book gives no value.
    pub fn agrees(&self) -> Option<bool> {
        let reach = (3.0 * self.deviation()).max(self.slack);
        // Rounding of the last printed digit must not decide.
        Some((self.book? - self.mean()).abs() <= reach + 1e-9)
    }
}

/// A plot of curves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x_label: String,
    /// The vertical axis.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic.
    pub log_y: bool,
    /// The curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Whether these are the book's values (drawn as points, not as a line).
    pub book: bool,
    /// The points (x, y) in order.
    #[serde(with = "super::nullable_points")]
    pub points: Vec<(f64, f64)>,
}

/// A grey picture, or several of one size in a row-major sheet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// What a reader should see in it.
    pub caption: String,
    /// Height of each tile in pixels.
    pub height: usize,
    /// Width of each tile in pixels.
    pub width: usize,
    /// The tiles in order.
    pub tiles: Vec<Tile>,
}

/// One tile of a picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tile {
    /// Grey values, height × width, row-major, 0 black.
    pub pixels: Vec<u8>,
    /// Text at its top right (a true label), or empty.
    pub top: String,
    /// Text at its bottom right (a prediction), or empty.
    pub bottom: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(book: Option<f64>, ours: &[f64], slack: f64) -> Row {
        Row {
            book,
            ours: ours.to_vec(),
            slack,
            ..Row::default()
        }
    }

    #[test]
    fn agreement_is_three_deviations_or_the_slack() {
        let spread = [95.0, 96.0, 97.0];
        assert_eq!(row(None, &spread, 0.3).agrees(), None);
        assert_eq!(row(Some(99.0), &spread, 0.3).agrees(), Some(true));
        assert_eq!(row(Some(99.1), &spread, 0.3).agrees(), Some(false));
        assert_eq!(row(Some(95.3), &[95.0], 0.3).agrees(), Some(true));
        assert_eq!(row(Some(95.4), &[95.0], 0.3).agrees(), Some(false));
    }
}
