//! What the numbers of optimizers may be. Devices compute with them in f32: what that does not have would be 0 or
//! infinite there without a word.

use crate::error::{Error, Result};
use crate::tensor::held;

/// Holds a number to 0 or more.
pub(super) fn positive_or_0(name: &str, value: f64) -> Result<()> {
    let wanted = "0 or a positive number, 1.2e-38 to 3.4e38 as 32-bit floats have it";
    within(name, value, value >= 0.0, wanted)
}

/// Holds a number to more than 0.
pub(super) fn positive(name: &str, value: f64) -> Result<()> {
    let wanted = "a positive number, 1.2e-38 to 3.4e38 as 32-bit floats have it";
    within(name, value, value > 0.0, wanted)
}

/// Holds a number to `[0, 1)`.
pub(super) fn share(name: &str, value: f64) -> Result<()> {
    let wanted = "0 to below 1, as 32-bit floats have it";
    within(name, value, (0.0..1.0).contains(&value), wanted)
}

fn within(name: &str, value: f64, inside: bool, wanted: &str) -> Result<()> {
    match inside && held(value) {
        true => Ok(()),
        // As people write small numbers.
        false if value.is_finite() && value != 0.0 && value.abs() < 1e-6 => {
            Err(Error::setting(name, format!("{value:e}"), wanted))
        }
        false => Err(Error::setting(name, value, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use crate::optim::{Adam, Group, Optimizer, Schedule, Sgd};

    /// 1e-300 is 0 in f32, and a norm of 0 clips everything.
    #[test]
    fn numbers_that_f32_lacks_are_refused_by_name() {
        let sgd = || Optimizer::new(Sgd::default(), 0.1);
        let momentum = |momentum| Sgd {
            momentum,
            ..Sgd::default()
        };
        let epsilon = |epsilon| Adam {
            epsilon,
            ..Adam::default()
        };
        let group = |rate| Group {
            rate,
            ..Group::default()
        };
        for (optimizer, name) in [
            (Optimizer::new(Sgd::default(), 1e-300), "learning rate"),
            (Optimizer::new(Sgd::default(), 1e300), "learning rate"),
            (sgd().clip_value(1e-300), "bound of gradients' elements"),
            (sgd().clip_norm(1e-300), "norm of gradients"),
            (sgd().clip_norm(1e300), "norm of gradients"),
            (sgd().average(1e-300), "decay of the average"),
            (sgd().group(|_| true, group(1e-300)), "rate of a group"),
            (
                sgd().schedule(Schedule::step(3, 1e-300)),
                "factor of a schedule",
            ),
            (
                sgd().schedule(Schedule::table(3, &[1e-300])),
                "factor of a schedule",
            ),
            (Optimizer::new(momentum(1e-300), 0.1), "momentum of Sgd"),
            (Optimizer::new(epsilon(1e-300), 0.1), "ε of Adam"),
        ] {
            let told = optimizer.check().unwrap_err().to_string();
            assert!(
                told.starts_with(name) && told.contains("32-bit floats"),
                "{told}"
            );
        }
        sgd().clip_norm(1e-30).average(0.0).check().unwrap();
    }
}
