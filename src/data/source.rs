//! Where the book's images come from: a folder of IDX files, or a seed.

use std::ffi::OsString;
use std::path::PathBuf;

use super::digits::{self, Part};
use super::{Split, idx};
use crate::error::{Error, Result};

/// The seed of the synthetic digits where none is given.
pub const DEFAULT_SEED: u64 = 28;

/// The name of the source that needs no files.
const SYNTHETIC: &str = "synthetic";

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The embedded default: digits drawn by strokes.
    Synthetic {
        /// What the digits are generated from.
        seed: u64,
    },
    /// A folder with the four IDX files.
    Idx(PathBuf),
}

impl Source {
    /// The source that `arg` names: `synthetic`, or a folder. Without an argument, the
    /// environment variable `MNIST_DIR` is read in the same way; where that is not set
    /// or empty, the synthetic digits are the source.
    ///
    /// The folder's content is checked when it is loaded.
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty argument; [`Error::UnknownName`] for what looks
    /// like a misspelt `synthetic` and is no folder.
    pub fn resolve(arg: Option<&str>) -> Result<Self> {
        Self::choose(arg.map(OsString::from), std::env::var_os("MNIST_DIR"))
    }

    /// [`Source::resolve`] with the environment as an argument, so that it can be tested.
    fn choose(arg: Option<OsString>, env: Option<OsString>) -> Result<Self> {
        if arg.as_ref().is_some_and(|a| a.is_empty()) {
            let wanted = "a folder with IDX files, or `synthetic`";
            return Err(Error::setting("data source", "an empty name", wanted));
        }
        let Some(name) = arg.or(env).filter(|n| !n.is_empty()) else {
            return Ok(Self::Synthetic { seed: DEFAULT_SEED });
        };
        if name == SYNTHETIC {
            return Ok(Self::Synthetic { seed: DEFAULT_SEED });
        }
        let path = PathBuf::from(&name);
        if let Some(text) = name.to_str().filter(|_| !path.exists()) {
            let error = Error::unknown("data source", text, &[SYNTHETIC, "a folder"]);
            if matches!(&error, Error::UnknownName { nearest: Some(n), .. } if n == SYNTHETIC) {
                return Err(error);
            }
        }
        Ok(Self::Idx(path))
    }

    /// Loads the images. Synthetic: 10,000 for training, 2,000 for validation, 2,000 for
    /// test, `[N, 28, 28]`. IDX files: the last sixth of the training file is for
    /// validation, which for MNIST's 60,000 is the book's 50,000 and 10,000.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Io`] for files that are missing, truncated, corrupt
    /// or do not fit each other, each naming the file.
    pub fn load(&self) -> Result<Split> {
        match self {
            Self::Synthetic { seed } => {
                let part = |part: Part| digits::generate(*seed, part, part.default_len());
                Ok(Split {
                    train: part(Part::Train)?,
                    validation: part(Part::Validation)?,
                    test: part(Part::Test)?,
                    synthetic: true,
                })
            }
            Self::Idx(dir) => idx::load_dir(dir),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_resolved() {
        let choose = |arg: Option<&str>, env: Option<&str>| {
            Source::choose(arg.map(OsString::from), env.map(OsString::from))
        };
        let synthetic = Source::Synthetic { seed: DEFAULT_SEED };
        let folder = |p: &str| Source::Idx(p.into());
        assert_eq!(choose(None, None).unwrap(), synthetic);
        assert_eq!(choose(None, Some("")).unwrap(), synthetic);
        assert_eq!(choose(None, Some("mnist")).unwrap(), folder("mnist"));
        assert_eq!(choose(None, Some("synthetic")).unwrap(), synthetic);
        assert_eq!(choose(Some("synthetic"), Some("a")).unwrap(), synthetic);
        assert_eq!(choose(Some("b/c"), Some("a")).unwrap(), folder("b/c"));
        assert_eq!(
            choose(Some(""), None).unwrap_err().to_string(),
            "data source: found an empty name; wanted a folder with IDX files, or `synthetic`"
        );
        assert_eq!(
            choose(Some("sinthetic"), None).unwrap_err().to_string(),
            "unknown data source `sinthetic` (did you mean `synthetic`?); \
             known: synthetic, a folder"
        );
    }

    #[test]
    fn the_default_split_says_that_it_is_synthetic() {
        let split = Source::Synthetic { seed: 3 }.load().unwrap();
        assert!(split.synthetic);
        let sizes = [&split.train, &split.validation, &split.test].map(crate::data::Images::len);
        assert_eq!(sizes, [10_000, 2_000, 2_000]);
        assert_eq!(split.test.name, "synthetic digits");
    }
}
