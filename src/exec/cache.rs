//! What was learned about a device, kept between runs: compiled pipelines, measured variants.
//!
//! Nothing depends on it. A file that is missing, damaged, of another device or of another
//! version is as good as none, and a folder that cannot be written to is no error. Since
//! such files are handed to a driver, each begins with a line that has the SHA-256 of what
//! it is good for and of all that follows: what the disk has damaged never gets there.
// Only a GPU has something to keep.
#![cfg_attr(not(feature = "gpu"), allow(dead_code))]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::files::{hex, read_limited, write_whole};

/// The variable that moves the cache, or switches it off where it is empty.
pub const VARIABLE: &str = "WGRAD_CACHE";
/// The largest file that is read or written.
const LARGEST: u64 = 64 << 20;
/// Bytes of the first line: a SHA-256 and the line's end.
const SUM: usize = 65;

/// A folder for files that only save time; or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// Nothing is kept. The default: a library writes no files that nobody asked for.
    pub fn off() -> Self {
        Self::default()
    }

    /// A folder, which need not exist yet.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_path_buf()),
        }
    }

    /// The user's: the folder in the variable `WGRAD_CACHE` (empty: none); else `wgrad` in
    /// `$XDG_CACHE_HOME`, `~/.cache`, `~/Library/Caches` (macOS) or `%LOCALAPPDATA%`
    /// (Windows). None where the system names no such place.
    pub fn of_user() -> Self {
        Self {
            folder: users(|name| std::env::var_os(name)),
        }
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What was stored under `name` for the same `good_for`.
    pub(super) fn load(&self, name: &str, good_for: &str) -> Option<Vec<u8>> {
        let mut bytes = read_limited(&self.folder()?.join(name), LARGEST).ok()?;
        let content = bytes.get(SUM..)?;
        if bytes[..SUM] != *sum(good_for, content).as_bytes() {
            tracing::debug!("{name} in the cache is damaged or of another device: ignored");
            return None;
        }
        bytes.drain(..SUM);
        Some(bytes)
    }

    /// Stores `content` under `name`, if that is possible.
    pub(super) fn store(&self, name: &str, good_for: &str, content: &[u8]) {
        let Some(folder) = self.folder() else { return };
        let bytes = [sum(good_for, content).as_bytes(), content].concat();
        if bytes.len() as u64 > LARGEST {
            return;
        }
        let stored = fs::create_dir_all(folder).map_err(|e| e.to_string());
        let written = |()| write_whole(&folder.join(name), &bytes).map_err(|e| e.to_string());
        if let Err(e) = stored.and_then(written) {
            tracing::debug!("{name} was not cached: {e}");
        }
    }
}

/// The user's cache folder by the variables of the environment.
fn users(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = variable(VARIABLE) {
        return (!folder.is_empty()).then(|| folder.into());
    }
    // A path that is not absolute would depend on where the program was started.
    let place = |name: &str| {
        let path = PathBuf::from(variable(name)?);
        path.is_absolute().then_some(path)
    };
    let caches = if cfg!(windows) {
        place("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        place("HOME").map(|home| home.join("Library/Caches"))
    } else {
        place("XDG_CACHE_HOME").or_else(|| Some(place("HOME")?.join(".cache")))
    };
    Some(caches?.join("wgrad"))
}

/// The first line of a file.
fn sum(good_for: &str, content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(good_for);
    hash.update(content);
    hex(&hash.finalize()) + "\n"
}

/// The first digits of a text's SHA-256: for names.
pub(super) fn digits(text: &str) -> String {
    hex(&Sha256::digest(text)[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("a/b"));
        assert_eq!(cache.load("x", "device"), None);
        cache.store("x", "device", b"content");
        assert_eq!(cache.load("x", "device").unwrap(), b"content");
        cache.store("x", "device", b"");
        assert_eq!(cache.load("x", "device").unwrap(), b"");
        Cache::off().store("x", "device", b"content");
        assert_eq!(Cache::off().load("x", "device"), None);
    }

    #[test]
    fn a_file_of_another_device_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.store("x", "device", b"content");
        assert_eq!(cache.load("x", "devic"), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache::at(folder.path()), folder.path().join("x"));
        cache.store("x", "device", b"content");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                fs::write(&path, damaged).unwrap();
                assert_eq!(cache.load("x", "device"), None, "byte {at}, bit {bit}");
            }
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(cache.load("x", "device"), None, "cut at {at}");
        }
        fs::write(&path, [whole, vec![0]].concat()).unwrap();
        assert_eq!(cache.load("x", "device"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"x").unwrap();
        let cache = Cache::at(&folder.path().join("file/below"));
        cache.store("x", "device", b"content");
        assert_eq!(cache.load("x", "device"), None);
    }

    #[test]
    fn the_user_says_where() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect();
            users(|name| Some(set.iter().find(|(n, _)| n == name)?.1.clone()))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(VARIABLE, "")]), None);
        assert_eq!(
            of(&[(VARIABLE, "here"), ("HOME", "/h")]),
            Some("here".into())
        );
        assert_eq!(of(&[(VARIABLE, ""), ("HOME", "/h")]), None);
        if cfg!(all(unix, not(target_os = "macos"))) {
            assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/wgrad".into()));
            let both = [("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
            assert_eq!(of(&both), Some("/x/wgrad".into()));
            let relative = [("XDG_CACHE_HOME", "x"), ("HOME", "/h")];
            assert_eq!(of(&relative), Some("/h/.cache/wgrad".into()));
        }
    }
}
