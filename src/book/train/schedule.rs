//! Rules that watch the validation accuracy: when to stop and when to halve the learning
//! rate (Nielsen, chapter 3, "How to choose a neural network's hyper-parameters?").
//!
//! Both follow from the accuracies of the epochs so far and nothing else, so a run that
//! was killed and resumed goes on by the same rule at the same place.

use super::Settings;

/// Halvings after which the schedule ends the run: the rate has dropped to η/128.
pub const MOST_HALVINGS: u32 = 7;

/// Where one replica stands under the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How often its learning rate has been halved.
    pub halvings: u32,
    /// The epoch, counted from 1, after which it learns no more.
    pub stopped: Option<usize>,
}

/// One replica under the rules, epoch by epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Where it stands.
    pub standing: Standing,
    best: f64,
    since_best: usize,
    since_change: usize,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            standing: Standing::default(),
            best: f64::NEG_INFINITY,
            since_best: 0,
            since_change: 0,
        }
    }
}

impl Watch {
    /// Takes in the validation accuracy after the epoch number `epoch`; see
    /// [`Standing::after`].
    pub(super) fn see(
        &mut self,
        epoch: usize,
        accuracy: f64,
        stop_after: Option<usize>,
        halve_after: Option<usize>,
    ) {
        if self.standing.stopped.is_some() {
            return;
        }
        (self.since_best, self.since_change) = if accuracy > self.best {
            self.best = accuracy;
            (0, 0)
        } else {
            (self.since_best + 1, self.since_change + 1)
        };
        if halve_after.is_some_and(|n| self.since_change >= n) {
            self.standing.halvings += 1;
            self.since_change = 0;
        }
        let worn_out = self.standing.halvings >= MOST_HALVINGS;
        if worn_out || stop_after.is_some_and(|n| self.since_best >= n) {
            self.standing.stopped = Some(epoch);
        }
    }
}

impl Standing {
    /// The standing after epochs of these validation accuracies.
    ///
    /// An epoch improves if its accuracy is above every one before it. After `stop_after`
    /// epochs in a row that do not, the replica stops. After `halve_after` such epochs its
    /// rate is halved and the count begins anew; the seventh halving stops it.
    pub fn after(
        accuracies: &[f64],
        stop_after: Option<usize>,
        halve_after: Option<usize>,
    ) -> Self {
        let mut watch = Watch::default();
        for (index, &accuracy) in accuracies.iter().enumerate() {
            watch.see(index + 1, accuracy, stop_after, halve_after);
        }
        watch.standing
    }

    /// What the learning rates are multiplied by.
    pub fn factor(self) -> f64 {
        match self.stopped {
            Some(_) => 0.0,
            None => 0.5f64.powi(self.halvings as i32),
        }
    }
}

impl Settings {
    /// The learning rate of a replica in an epoch, counted from 0.
    pub(super) fn rate(&self, replica: usize, epoch: usize, standing: Standing) -> f64 {
        let own = self.replica_rates.get(replica).copied().unwrap_or(1.0);
        let last = self.learning_rates.len().saturating_sub(1);
        let rate = self.learning_rates.get(epoch.min(last));
        rate.copied().unwrap_or(0.0) * own * standing.factor()
    }

    /// Whether a rule may change learning rates or end the run.
    pub(super) fn has_rules(&self) -> bool {
        self.stop_after.is_some() || self.halve_after.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_as_many_epochs_without_a_new_best() {
        let stop = |accuracies: &[f64], n| Standing::after(accuracies, Some(n), None).stopped;
        assert_eq!(stop(&[0.5, 0.6, 0.7], 1), None);
        assert_eq!(stop(&[0.5, 0.4], 1), Some(2));
        // An equal accuracy is no improvement; a new best starts the count anew.
        assert_eq!(stop(&[0.5, 0.5, 0.4, 0.6, 0.6, 0.6], 3), None);
        assert_eq!(stop(&[0.5, 0.5, 0.4, 0.6, 0.6, 0.6, 0.1, 0.9], 3), Some(7));
    }

    #[test]
    fn halves_and_ends_at_the_128th() {
        let flat = |n| Standing::after(&vec![0.5; n], None, Some(2));
        let running = |halvings| Standing {
            halvings,
            stopped: None,
        };
        assert_eq!(flat(2), running(0));
        assert_eq!(flat(3), running(1));
        assert_eq!(flat(5), running(2));
        assert_eq!(flat(5).factor(), 0.25);
        assert_eq!(flat(14), running(6));
        assert_eq!(flat(15).stopped, Some(15));
        assert_eq!(flat(40), flat(15));
        assert_eq!(flat(15).factor(), 0.0);
    }

    #[test]
    fn each_replica_has_its_own_rates() {
        let settings = Settings {
            learning_rates: vec![0.5, 0.25],
            replica_rates: vec![1.0, 4.0],
            ..Settings::default()
        };
        let halved = Standing {
            halvings: 1,
            stopped: None,
        };
        let rates = |replica, standing| [0, 1, 7].map(|e| settings.rate(replica, e, standing));
        assert_eq!(rates(0, Standing::default()), [0.5, 0.25, 0.25]);
        assert_eq!(rates(1, halved), [1.0, 0.5, 0.5]);
        let over = Standing {
            halvings: 0,
            stopped: Some(3),
        };
        assert_eq!(rates(0, over), [0.0; 3]);
    }
}
