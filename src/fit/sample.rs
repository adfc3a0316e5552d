//! Text that a trained model goes on with, character by character.

use super::experiment::Reading;
use super::inference::Inference;
use super::trained::Trained;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::model::Input;
use crate::rng::{Stream, key, streams};

/// Characters of a sample, at most: each is a pass through the model.
const MOST_CHARACTERS: usize = 1_000_000;

/// How a model of a text goes on with a beginning ([`Trained::sample`]).
///
/// ```no_run
/// use wgrad::exec::{Choice, Device};
/// use wgrad::fit::{Sample, Trained};
/// use wgrad::model::Registry;
///
/// let trained = Trained::load("runs/char-transformer/model.safetensors", &Registry::standard())?;
/// let device = Device::open(Choice::Auto)?;
/// println!("{}", trained.sample(&Sample { temperature: 0.8, ..Sample::after("ROMEO:") }, &device)?);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What the text begins with; characters that the model knows.
    pub beginning: String,
    /// Characters to add.
    pub characters: usize,
    /// What scores are divided by before the softmax: 1 draws as the model believes, less draws what it holds for likely
    /// more often, 0 always takes the likeliest character, the first of equal ones.
    pub temperature: f64,
    /// What the draws follow from.
    pub seed: u64,
}

impl Sample {
    /// 400 characters behind a beginning, at temperature 1, of seed 0.
    pub fn after(beginning: impl Into<String>) -> Self {
        Self {
            beginning: beginning.into(),
            characters: 400,
            temperature: 1.0,
            seed: 0,
        }
    }
}

impl Trained {
    /// A beginning and what the model goes on with. Of a text longer than its window, the model sees the last window.
    /// A shorter one stands at the window's start, so the model must not see ahead (a causal one, or a recurrence that
    /// runs forward).
    ///
    /// # Errors
    /// [`Error::Setting`] for a model of other data, a beginning that is empty or has a character that the model does
    /// not know, a temperature that is not a number from 0 up, more than a million characters, a model without one output
    /// of scores `[T, K]` or whose scores are not finite; what the device says.
    pub fn sample(&self, sample: &Sample, device: &Device) -> Result<String> {
        let Reading::Text(known) = &self.reading else {
            let found = "one of a table or of pictures";
            return Err(Error::setting("model", found, "a model of a text"));
        };
        if !(sample.temperature >= 0.0 && sample.temperature.is_finite()) {
            let wanted = "a number from 0 up";
            return Err(Error::setting("temperature", sample.temperature, wanted));
        }
        if sample.characters > MOST_CHARACTERS {
            let wanted = format!("at most {MOST_CHARACTERS}");
            return Err(Error::setting("characters", sample.characters, wanted));
        }
        let mut numbers = Vec::new();
        for c in sample.beginning.chars() {
            let number = known.binary_search(&c).map_err(|_| {
                let all: String = known.iter().collect();
                let wanted = format!("characters of the text it learned, {all:?}");
                Error::setting("beginning", format!("{c:?}"), wanted)
            })?;
            numbers.push(number as u32);
        }
        if numbers.is_empty() {
            return Err(Error::setting(
                "beginning",
                "nothing",
                "at least one character",
            ));
        }
        let window = self.model.inputs().next();
        let window = window.and_then(|(_, input)| input.extents.first().copied());
        let window = window.filter(|window| *window > 0);
        let window = window.ok_or_else(|| Error::setting("model", "no window", "an input [T]"))?;
        let scores = self.scores(window, known.len())?;
        let net = Inference::new(&self.model, &self.weights, 1, device)?;
        let stream = Stream {
            seed: key(sample.seed),
            stream: streams::SAMPLE,
            replica: 0,
        };
        for step in 0..sample.characters {
            let seen = numbers.len().min(window);
            let mut row = vec![0; window];
            row[..seen].copy_from_slice(&numbers[numbers.len() - seen..]);
            let outputs = net.run(&[("input", row.as_slice().into())])?;
            let places = outputs.get(scores).and_then(|s| s.as_slice());
            let places = places.unwrap_or_default();
            let place = places.chunks(places.len() / window).nth(seen - 1);
            // A model may have more classes than the text has characters.
            let place = place.and_then(|scores| scores.get(..known.len()));
            let place = place.unwrap_or_default();
            let largest = place.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if !largest.is_finite() || place.iter().any(|score| score.is_nan()) {
                let found = format!(
                    "scores that are not finite after {} characters",
                    numbers.len()
                );
                return Err(Error::setting("model", found, "finite weights"));
            }
            let word = stream.words(step as u32, 0)[0];
            numbers.push(drawn(place, sample.temperature, word) as u32);
        }
        let text = numbers.iter().filter_map(|&n| known.get(n as usize));
        Ok(text.collect())
    }

    /// The name of the one output that has a score of each character for each place of the window.
    fn scores(&self, window: usize, characters: usize) -> Result<&str> {
        let fit = |(_, output): &(&str, &Input)| match output.extents.as_slice() {
            [places, scores] => *places == window && *scores >= characters,
            _ => false,
        };
        let fitting: Vec<&str> = self
            .model
            .outputs()
            .filter(fit)
            .map(|(name, _)| name)
            .collect();
        match fitting.as_slice() {
            [one] => Ok(one),
            others => {
                let found = format!("{} outputs of scores", others.len());
                let wanted = format!("one of [{window}, {characters}] or more scores");
                Err(Error::setting("model", found, wanted))
            }
        }
    }
}

/// A class by the softmax of scores over a temperature, by 32 random bits.
fn drawn(scores: &[f32], temperature: f64, bits: u32) -> usize {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let best = scores.iter().position(|&s| s == largest).unwrap_or(0);
    if temperature == 0.0 {
        return best;
    }
    let share = |&s: &f32| ((f64::from(s) - f64::from(largest)) / temperature).exp();
    let total: f64 = scores.iter().map(share).sum();
    let mut left = (f64::from(bits) + 0.5) / 2f64.powi(32) * total;
    for (class, score) in scores.iter().enumerate() {
        left -= share(score);
        if left < 0.0 {
            return class;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn classes_are_drawn_as_often_as_their_softmax_says() {
        let scores = [0.0f32, 3f32.ln(), f32::NEG_INFINITY];
        let count = |temperature: f64| {
            let mut counts = [0usize; 3];
            for k in 0..1000u32 {
                counts[drawn(&scores, temperature, k * 4_294_967 + 2_147_483)] += 1;
            }
            counts
        };
        assert_eq!(count(1.0), [250, 750, 0]);
        // At half the temperature odds are squared: one to nine.
        assert_eq!(count(0.5), [100, 900, 0]);
        assert_eq!(count(0.0), [0, 1000, 0]);
        assert_eq!(drawn(&scores, 1.0, u32::MAX), 1);
        assert_eq!(drawn(&[2.0, 2.0], 0.0, u32::MAX), 0);
    }
}
