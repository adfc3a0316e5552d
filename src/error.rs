//! The one error type of the crate.
//!
//! Every variant says what was found, what was wanted and what to do about it, in
//! words that make sense to the person who caused it. Library code returns these and
//! never panics on user input.

use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: what was found, what was wanted, what to do.
///
/// Its [`Debug`](fmt::Debug) form is its message too: `fn main() -> wgrad::Result<()>` prints
/// that form, and people read it. A message contains that of its source.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Sizes that do not fit together; raised while a network is described.
    #[error("{place}: found {found}; wanted {wanted}")]
    Shape {
        /// The layer or op, for example `layer 2 (conv2d)`.
        place: String,
        /// The sizes that were given.
        found: String,
        /// The relation that should hold between the sizes, by name.
        wanted: String,
    },
    /// A setting outside its range.
    #[error("{name}: found {found}; wanted {wanted}")]
    Setting {
        /// The setting's name as the user writes it.
        name: String,
        /// The value that was given.
        found: String,
        /// The range or form that is accepted.
        wanted: String,
    },
    /// A name that is not in the list it was looked up in.
    #[error("{}unknown {what} `{found}`{}; known: {known}", before(.place), nearest_hint(.nearest))]
    UnknownName {
        /// Where it was looked up or who wants it, for example `loss mse`; empty where the name says enough.
        place: String,
        /// What kind of thing was named, for example `network`.
        what: &'static str,
        /// The name that was given.
        found: String,
        /// The known name nearest to it, where one is near.
        nearest: Option<String>,
        /// All known names, comma separated; `none` for none.
        known: String,
    },
    /// A file whose content is not what it should be.
    #[error("{}: found {found}; wanted {wanted}. {fix}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        found: String,
        /// What should stand in it.
        wanted: String,
        /// What the user can do.
        fix: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}. {fix}", .path.display())]
    Io {
        /// What was tried: `read`, `write`, `create the folder`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the user can do.
        fix: String,
        /// The system's own answer.
        source: std::io::Error,
    },
    /// No adapter fits the request, or the adapter is too small for the plan.
    #[error("adapter: found {found}; wanted {wanted}. {fix}")]
    Adapter {
        /// What is there.
        found: String,
        /// What was asked for or is needed.
        wanted: String,
        /// What the user can do.
        fix: String,
    },
    /// The device failed while it worked: lost, out of memory, a shader refused.
    #[error("device failed while it was to {action}: {found}. {fix}")]
    Device {
        /// What was being done.
        action: String,
        /// What the driver or wgpu said.
        found: String,
        /// What the user can do.
        fix: String,
    },
    /// A value stopped being finite during training.
    #[error("{place}: a value stopped being finite in step {step} of replica {replica}. {fix}")]
    NotFinite {
        /// Where it was seen first.
        place: String,
        /// The training step, counted from 0: of losses of classes the first with such a loss, of others the last of
        /// the epoch that has one.
        step: u64,
        /// The replica, counted from 0.
        replica: usize,
        /// What the user can do.
        fix: String,
    },
    /// The sentinel found a launch that computed something else than its reference.
    #[error(
        "{}: found {found}; wanted {wanted}. This device computes something wrong: train on the \
         CPU, and please report the output of `wgrad doctor`", named(.launch, .kernel)
    )]
    Disagrees {
        /// Layer and pass of the launch.
        launch: String,
        /// Its kernel.
        kernel: &'static str,
        /// What the device computed, and where.
        found: String,
        /// What the reference computes.
        wanted: String,
    },
    /// A plan that breaks one of its rules; a bug in a lowering, caught before it runs.
    #[error("plan, {}: found {found}; wanted {wanted}", named(&format!("launch {launch}"), .label))]
    Plan {
        /// Index of the launch in its program.
        launch: usize,
        /// The launch's label.
        label: String,
        /// What the plan says.
        found: String,
        /// The rule.
        wanted: String,
    },
}

/// A place with what stands there in brackets; either may have no name.
fn named(place: &str, what: &str) -> String {
    match (place, what) {
        ("", what) => what.into(),
        (place, "") => place.into(),
        (place, what) => format!("{place} ({what})"),
    }
}

/// A place as the beginning of a message.
fn before(place: &str) -> String {
    match place {
        "" => String::new(),
        place => format!("{place}: "),
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn nearest_hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|n| format!(" (did you mean `{n}`?)"))
        .unwrap_or_default()
}

impl Error {
    /// A shape error at `place`.
    pub fn shape(
        place: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        Self::Shape {
            place: place.into(),
            found: found.into(),
            wanted: wanted.into(),
        }
    }

    /// A setting outside its range.
    pub fn setting(
        name: impl Into<String>,
        found: impl ToString,
        wanted: impl Into<String>,
    ) -> Self {
        Self::Setting {
            name: name.into(),
            found: found.to_string(),
            wanted: wanted.into(),
        }
    }

    /// A file with the wrong content.
    pub fn file(
        path: &Path,
        found: impl Into<String>,
        wanted: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::File {
            path: path.into(),
            found: found.into(),
            wanted: wanted.into(),
            fix: fix.into(),
        }
    }

    /// A refusal of the operating system.
    pub fn io(
        action: &'static str,
        path: &Path,
        source: std::io::Error,
        fix: impl Into<String>,
    ) -> Self {
        Self::Io {
            action,
            path: path.into(),
            fix: fix.into(),
            source,
        }
    }

    /// An unknown name, with the nearest known one.
    pub fn unknown(what: &'static str, found: &str, known: &[&str]) -> Self {
        let nearest = known
            .iter()
            .map(|k| (strsim::damerau_levenshtein(found, k), k))
            .min()
            .filter(|(distance, k)| *distance <= 2.max(k.len() / 3))
            .map(|(_, k)| k.to_string());
        Self::UnknownName {
            place: String::new(),
            what,
            found: found.into(),
            nearest,
            known: match known {
                [] => "none".into(),
                known => known.join(", "),
            },
        }
    }

    /// The same error with `outer` before its place, so that a message names the layer
    /// as well as the op inside it. What has no name, as ops of a graph without labels, adds
    /// nothing.
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Shape {
                place,
                found,
                wanted,
            } if !outer.is_empty() => Self::Shape {
                place: format!("{outer}, {place}"),
                found,
                wanted,
            },
            Self::UnknownName {
                place,
                what,
                found,
                nearest,
                known,
            } if !outer.is_empty() => Self::UnknownName {
                place: match place.is_empty() {
                    true => outer.into(),
                    false => format!("{outer}, {place}"),
                },
                what,
                found,
                nearest,
                known,
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_offer_the_nearest() {
        let known = ["mlp-30", "mlp-100", "conv"];
        let near = Error::unknown("network", "mpl-30", &known).to_string();
        assert!(near.contains("did you mean `mlp-30`"), "{near}");
        let far = Error::unknown("network", "transformer", &known).to_string();
        assert!(
            !far.contains("did you mean") && far.contains("mlp-100"),
            "{far}"
        );
    }

    #[test]
    fn within_names_layer_and_op() {
        let e = Error::shape("conv2d", "[1, 2]", "[C, H, W]").within("layer 3 (conv2d)");
        assert_eq!(
            e.to_string(),
            "layer 3 (conv2d), conv2d: found [1, 2]; wanted [C, H, W]"
        );
    }

    #[test]
    fn an_unknown_name_says_where_it_was_wanted() {
        let e = Error::unknown("column", "target", &["input", "label"]);
        assert_eq!(
            e.within("loss mse").within("test data").to_string(),
            "test data, loss mse: unknown column `target`; known: input, label"
        );
        let e = Error::unknown("column", "target", &[]).within("");
        assert_eq!(e.to_string(), "unknown column `target`; known: none");
    }

    #[test]
    fn what_has_no_name_leaves_no_marks() {
        let e = Error::shape("conv2d", "[1, 2]", "[C, H, W]").within("");
        assert_eq!(e.to_string(), "conv2d: found [1, 2]; wanted [C, H, W]");
        let plan = |label: &str| {
            let e = Error::Plan {
                launch: 3,
                label: label.into(),
                found: "2 bindings".into(),
                wanted: "3".into(),
            };
            e.to_string()
        };
        assert_eq!(plan(""), "plan, launch 3: found 2 bindings; wanted 3");
        assert_eq!(
            plan("add"),
            "plan, launch 3 (add): found 2 bindings; wanted 3"
        );
        let wrong = Error::Disagrees {
            launch: String::new(),
            kernel: "add",
            found: "1 at 0".into(),
            wanted: "2".into(),
        };
        let text = wrong.to_string();
        assert!(text.starts_with("add: found 1 at 0; wanted 2. "), "{text}");
    }

    /// What `fn main() -> wgrad::Result<()>` and `unwrap` print.
    #[test]
    fn the_debug_form_is_the_message_with_its_source() {
        let path = Path::new("a/b");
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for e in [
            Error::setting("epochs", 0, "1 to 9"),
            Error::io("read", path, denied, "Check the file's permissions."),
        ] {
            assert_eq!(format!("{e:?}"), e.to_string());
            assert_eq!(format!("{e:#?}"), e.to_string());
            if let Some(source) = std::error::Error::source(&e) {
                assert!(e.to_string().contains(&source.to_string()), "{e}");
            }
        }
    }
}
