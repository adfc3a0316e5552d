//! How training steps are timed.

use std::time::Instant;

use wgrad::Result;

/// Rounds of a measurement, of which the median counts.
pub const ROUNDS: u64 = 5;

/// Microseconds per step, or whatever is timed.
pub struct Rounds {
    pub median: f64,
    pub fastest: f64,
    pub slowest: f64,
    /// Steps of each round.
    pub steps: u64,
}

/// Times steps for about `seconds`, at least `least` in each round; before that, twice as many warm up and
/// say how long a step takes. `run` takes so many of them.
pub fn measure(seconds: f64, least: u64, mut run: impl FnMut(u64) -> Result<()>) -> Result<Rounds> {
    run(least)?;
    let begun = Instant::now();
    run(least)?;
    let one = begun.elapsed().as_secs_f64() / least as f64;
    let steps = ((seconds / ROUNDS as f64 / one) as u64).clamp(least, 100_000);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        run(steps)?;
        rounds.push(begun.elapsed().as_secs_f64() * 1e6 / steps as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(Rounds {
        median: rounds[rounds.len() / 2],
        fastest: rounds[0],
        slowest: rounds[rounds.len() - 1],
        steps,
    })
}
