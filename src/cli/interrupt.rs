//! Ctrl-C. The first one ends a run at its next sign of progress, between two files, and says
//! how to go on; the second one ends it at once.

use std::path::Path;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use super::say;

static ASKED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// From now on, the first Ctrl-C asks and the second ends.
pub fn watch() {
    let handler = || {
        if ASKED.swap(true, Ordering::Relaxed) {
            exit(INTERRUPTED);
        }
        say("\nstopping at the next sign of progress; Ctrl-C again stops at once\n");
    };
    // Where there can be no handler, Ctrl-C ends the run as it always has: files appear whole
    // or not at all.
    if let Err(e) = ctrlc::set_handler(handler) {
        tracing::debug!("no handler of Ctrl-C: {e}");
    }
}

/// Whether Ctrl-C was pressed.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Ends the program with a line.
pub fn stop(line: &str) -> ! {
    say(&format!("{line}\n"));
    exit(INTERRUPTED)
}

/// What to say of a run that writes to `folder` and was stopped in `epoch`, counted from 1.
pub fn of_training(epoch: usize, folder: &Path) -> String {
    line(epoch, folder, std::env::args().skip(1))
}

fn line(epoch: usize, folder: &Path, arguments: impl Iterator<Item = String>) -> String {
    if epoch == 1 {
        return "stopped in epoch 1, before there was anything to go on from".into();
    }
    let mut words: Vec<String> = arguments.collect();
    if words.is_empty() {
        words.push("train".into());
    }
    let given = |words: &[String], flag: &str| {
        let with_value = format!("{flag}=");
        words
            .iter()
            .any(|w| w == flag || w.starts_with(&with_value))
    };
    if !given(&words, "--out") {
        words.extend(["--out".into(), folder.display().to_string()]);
    }
    if !given(&words, "--resume") {
        words.push("--resume".into());
    }
    let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
    let done = epoch - 1;
    format!(
        "stopped in epoch {epoch}; `wgrad {}` goes on after epoch {done}",
        words.join(" ")
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_command_that_goes_on() {
        let said = |epoch, words: &[&str]| {
            let words = words.iter().map(|w| w.to_string());
            line(epoch, Path::new("runs/conv-relu"), words)
        };
        assert_eq!(
            said(3, &[]),
            "stopped in epoch 3; `wgrad train --out runs/conv-relu --resume` goes on after epoch 2"
        );
        assert_eq!(
            said(2, &["train", "--out=a", "--data", "my images", "--resume"]),
            "stopped in epoch 2; `wgrad train --out=a --data 'my images' --resume` goes on after \
             epoch 1"
        );
        assert!(!said(1, &["train"]).contains("--resume"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
