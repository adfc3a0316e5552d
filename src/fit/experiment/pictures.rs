//! Experiments on folders of pictures.

use std::path::Path;

use super::settings::{IMAGE, window};
use super::{Experiment, Format, Reading};
use crate::data::{Coding, Dataset, ImageFolder, PictureSchema, Pictures};
use crate::error::{Error, Result};
use crate::model::{Description, Model};

/// The column of their classes.
pub(super) const LABEL: &str = "label";
/// The layer that mirrors and moves pictures.
const AUGMENTED: &str = "augmented image";
/// The layer that changes pictures' colours.
const COLOURED: &str = "coloured image";
/// The layer that cuts a square out.
const CUT: &str = "cut image";
/// The layer that standardises channels.
const STANDARDISED: &str = "standardised image";

impl Experiment {
    /// Refuses settings that other data have, which would be passed over in silence.
    pub(super) fn check_format(&self) -> Result<()> {
        let data = &self.data;
        let of_pictures = [
            ("mean", !data.mean.is_empty()),
            ("deviation", !data.deviation.is_empty()),
            ("colour", data.colour.is_some()),
            ("size", data.size.is_some()),
            ("augment", data.augment.is_some()),
        ];
        let of_tables = [
            ("inputs", !data.inputs.is_empty()),
            ("targets", !data.targets.is_empty()),
            ("words", !data.words.is_empty()),
            ("classes", data.classes),
        ];
        let of_both = [
            ("standardise", !data.standardise),
            ("stratified", data.stratified),
            ("seed", data.seed != 0),
        ];
        let of_texts = [
            ("window", data.window != window()),
            ("apart", data.apart.is_some()),
        ];
        let of_arrays = [("columns", !data.columns.is_empty())];
        let arrays = "`format = \"arrays\"` beside it";
        let (tables, pictures) = ("a table, the default", "`format = \"images\"` beside it");
        let texts = "`format = \"text\"` beside it";
        let wrong: &[(&[(&str, bool)], &str)] = match data.format {
            Format::Images => &[
                (&of_tables, tables),
                (&of_texts, texts),
                (&of_arrays, arrays),
            ],
            Format::Csv => &[
                (&of_pictures, pictures),
                (&of_texts, texts),
                (&of_arrays, arrays),
            ],
            Format::Arrays => &[
                (&of_tables, tables),
                (&of_both[..1], "a table, or pictures"),
                (&of_pictures, pictures),
                (&of_texts, texts),
            ],
            Format::Text => &[
                (&of_arrays, arrays),
                (&of_tables, tables),
                (&of_both, "a table, or pictures"),
                (&of_pictures, pictures),
            ],
        };
        for (settings, wanted) in wrong {
            if let Some((name, _)) = settings.iter().find(|(_, given)| *given) {
                return Err(Error::setting("data", format!("`{name}`"), *wanted));
            }
        }
        Ok(())
    }

    /// Training, validation and test pictures. What is no folder of its own is drawn from `train`.
    pub(super) fn pictures(&self, path: &Path) -> Result<(Vec<Dataset>, Reading)> {
        let setting = &self.data;
        let mut folder = ImageFolder::new(path);
        if let Some(colour) = setting.colour {
            folder = folder.colour(colour);
        }
        if let Some(size) = setting.size {
            folder = folder.size(size);
        }
        let read = Pictures::of(&folder)?;
        let given = [Some(&read.train), read.valid.as_ref(), read.test.as_ref()];
        let drawn = (setting.split.iter().zip(given).enumerate())
            .filter(|(k, (_, given))| *k == 0 || given.is_none());
        let shares: Vec<f64> = drawn.map(|(_, (share, _))| *share).collect();
        let parts = match (shares.len(), setting.stratified) {
            (1, _) => vec![read.train],
            (_, true) => (read.train).split_stratified(LABEL, &shares, setting.seed)?,
            (_, false) => read.train.split(&shares, setting.seed)?,
        };
        let mut parts = parts.into_iter();
        let train = parts.next();
        let valid = read.valid.or_else(|| parts.next());
        let test = read.test.or_else(|| parts.next());
        let parts = [train, valid, test].into_iter().flatten().collect();
        Ok((parts, Reading::Pictures(read.schema)))
    }

    /// The description with first layers that augment pictures and standardise their channels, which is
    /// so kept with the model.
    pub(super) fn with_first_layers(
        &self,
        mut description: Description,
        data: &Dataset,
    ) -> Result<Description> {
        let (mut first, mut last) = (Vec::new(), IMAGE);
        let augment = self.data.augment.clone().unwrap_or_default();
        if augment.flip || augment.crop > 0 {
            first.push(serde_json::json!({
                "kind": "augment",
                "name": AUGMENTED,
                "inputs": [last],
                "flip": augment.flip,
                "crop": augment.crop,
            }));
            last = AUGMENTED;
        }
        let strengths = [augment.brightness, augment.contrast, augment.saturation];
        if strengths != [0.0; 3] {
            first.push(serde_json::json!({
                "kind": "colour_jitter",
                "name": COLOURED,
                "inputs": [last],
                "brightness": augment.brightness,
                "contrast": augment.contrast,
                "saturation": augment.saturation,
            }));
            last = COLOURED;
        }
        if let Some(statistics) = self.channels(data)? {
            first.push(serde_json::json!({
                "kind": "affine",
                "name": STANDARDISED,
                "inputs": [last],
                "axis": 0,
                "scale": statistics.iter().map(|s| 1.0 / s.1).collect::<Vec<_>>(),
                "shift": statistics.iter().map(|s| -s.0 / s.1).collect::<Vec<_>>(),
            }));
            last = STANDARDISED;
        }
        // Behind the standardisation, so that its zeros are the mean.
        if augment.cutout > 0 {
            first.push(serde_json::json!({
                "kind": "cutout",
                "name": CUT,
                "inputs": [last],
                "size": augment.cutout,
            }));
            last = CUT;
        }
        for layer in &mut description.layers {
            let names = layer.get_mut("inputs").and_then(|i| i.as_array_mut());
            for name in names.into_iter().flatten().filter(|name| *name == IMAGE) {
                *name = last.into();
            }
        }
        let first = first.iter().filter_map(|layer| layer.as_object().cloned());
        description.layers.splice(0..0, first);
        Ok(description)
    }

    /// Mean and deviation by which each channel is standardised, if it is.
    fn channels(&self, data: &Dataset) -> Result<Option<Vec<(f64, f64)>>> {
        let setting = &self.data;
        let (mean, deviation) = (&setting.mean, &setting.deviation);
        let channels = data.column(IMAGE)?.extents[0];
        let statistics = match (mean.is_empty(), deviation.is_empty()) {
            (true, true) if !setting.standardise => return Ok(None),
            (true, true) => data.channel_statistics(IMAGE)?,
            _ if mean.len() != channels || deviation.len() != channels => {
                let found = format!("{} and {}", mean.len(), deviation.len());
                let wanted = format!("{channels} of both, one of each channel");
                return Err(Error::setting("mean and deviation", found, wanted));
            }
            _ if !setting.standardise => {
                let wanted = "no mean and deviation, or `standardise = true`";
                return Err(Error::setting("standardise", false, wanted));
            }
            _ => mean
                .iter()
                .copied()
                .zip(deviation.iter().copied())
                .collect(),
        };
        for (channel, (mean, deviation)) in statistics.iter().enumerate() {
            // A picture of one grey has rounding for a deviation.
            if !(*deviation > 1e-6 && deviation.is_finite() && mean.is_finite()) {
                let place = format!("channel {channel} of the pictures");
                let found = format!("mean {mean}, deviation {deviation}");
                let wanted = "pixels that differ, to be standardised";
                return Err(Error::setting(place, found, wanted));
            }
        }
        Ok(Some(statistics))
    }
}

/// What is known of the pictures, in words.
pub(super) fn words(schema: &PictureSchema, model: &Model) -> String {
    let [channels, height, width] = schema.extents();
    let classes = Coding::Class(schema.classes.clone());
    let mut text = format!(
        "  input  {IMAGE:<24} {channels} × {height} × {width} bytes{}\n  target {LABEL:<24} {classes}\n",
        if schema.resize { ", resized" } else { "" },
    );
    let layers = model.describe().map(|d| d.layers).unwrap_or_default();
    let layer = layers
        .iter()
        .find(|l| l.get("name").is_some_and(|n| n == STANDARDISED));
    let numbers = |name: &str| {
        let numbers = layer.and_then(|l| l.get(name)).and_then(|n| n.as_array());
        numbers
            .into_iter()
            .flatten()
            .filter_map(|n| n.as_f64())
            .collect::<Vec<_>>()
    };
    for (channel, (scale, shift)) in numbers("scale").iter().zip(numbers("shift")).enumerate() {
        let coding = Coding::Number {
            mean: -shift / scale,
            deviation: 1.0 / scale,
        };
        text += &format!(
            "  input  {:<24} {coding}\n",
            format!("{IMAGE}, channel {channel}")
        );
    }
    text
}
