//! The library says what is wrong and what it is called there. Which flag that is, only the
//! command knows.

use clap::CommandFactory;
use wgrad::Error;

use super::Cli;

/// Settings and places that the library names, and the flags that are about them.
const SETTINGS: [(&str, &str); 14] = [
    ("batch", "batch"),
    ("classes", "classes"),
    ("data source", "data"),
    ("device", "device"),
    ("epochs", "epochs"),
    ("first epoch averaged", "average-from"),
    ("first replica", "first-replica"),
    ("halve after", "halve-after"),
    ("learning rate", "lr"),
    ("learning rates", "lr"),
    ("momentum", "momentum"),
    ("output", "classes"),
    ("replicas", "replicas"),
    ("stop after", "stop-after"),
];

/// What the library advises, the flag for it, and how to use that.
const ADVICE: [(&str, &str, &str); 7] = [
    ("fewer replicas", "replicas", "--replicas N"),
    ("smaller batch", "batch", "--batch N"),
    ("learning rate", "lr", "--lr X"),
    ("MNIST_DIR", "data", "--data DIR, --data synthetic"),
    (
        "adapter",
        "device",
        "--device with a number of `wgrad devices`",
    ),
    ("the CPU", "device", "--device cpu"),
    ("mixed precision", "mixed-precision", "no --mixed-precision"),
];

/// What a command is called and which flags it has.
struct Called {
    /// Set where none was given and a hint must name it.
    name: &'static str,
    flags: Vec<String>,
}

/// The flags that an error is about, of those that the command given has.
pub fn of(error: &Error) -> Option<String> {
    hint(error, &called(std::env::args().skip(1)))
}

fn called(arguments: impl Iterator<Item = String>) -> Called {
    let all = Cli::command();
    let mut command = &all;
    for word in arguments {
        match command.find_subcommand(word) {
            Some(inner) => command = inner,
            None => break,
        }
    }
    // Left out, the command is `train`, whose flags would help.
    let mut name = "";
    if let (true, Some(train)) = (command.has_subcommands(), all.find_subcommand("train")) {
        (command, name) = (train, "wgrad train ");
    }
    let flags = command.get_arguments().filter_map(|a| a.get_long());
    Called {
        name,
        flags: flags.map(str::to_owned).collect(),
    }
}

fn hint(error: &Error, called: &Called) -> Option<String> {
    let has = |flag: &str| called.flags.iter().any(|f| f == flag);
    let place = match error {
        Error::Setting { name, .. } => name,
        Error::Shape { place, .. } => place,
        _ => "",
    };
    let mut settings = SETTINGS.iter().filter(|(_, flag)| has(flag));
    if let Some((name, flag)) = settings.find(|(name, _)| *name == place) {
        let does = match *name {
            "output" => "gives the data more classes than its labels show",
            _ => "sets it",
        };
        return Some(format!("--{flag} {does}"));
    }
    let advice = match error {
        Error::File { fix, .. }
        | Error::Io { fix, .. }
        | Error::Adapter { fix, .. }
        | Error::Device { fix, .. }
        | Error::NotFinite { fix, .. } => fix,
        Error::Disagrees { .. } => "the CPU",
        _ => return None,
    };
    // The command's own advice names its flags.
    if advice.contains("--") {
        return None;
    }
    let fits = |(words, flag, _): &&(&str, &str, &str)| advice.contains(words) && has(flag);
    let flags: Vec<&str> = ADVICE.iter().filter(fits).map(|a| a.2).collect();
    (!flags.is_empty()).then(|| format!("{}{}", called.name, flags.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &Error, command: &str) -> Option<String> {
        hint(
            error,
            &called(command.split_whitespace().map(str::to_owned)),
        )
    }

    #[test]
    fn a_hint_names_flags_that_the_command_has() {
        let epochs = Error::setting("epochs", 0, "1 to 9");
        let sets = Some("--epochs sets it".to_owned());
        assert_eq!(said(&epochs, "train --net conv --epochs 0"), sets);
        assert_eq!(said(&epochs, "book run ch1 --epochs 0"), sets);
        assert_eq!(said(&epochs, "eval --model m"), None);
        let lost = Error::Device {
            action: "run".into(),
            found: "lost".into(),
            fix: "Go on on the CPU, or with fewer replicas or a smaller batch.".into(),
        };
        let all = "--replicas N; --batch N; --device cpu";
        assert_eq!(said(&lost, "train"), Some(all.into()));
        assert_eq!(said(&lost, "eval --model m"), Some("--device cpu".into()));
        assert_eq!(said(&lost, ""), Some(format!("wgrad train {all}")));
        assert_eq!(said(&lost, "book list"), None);
    }

    #[test]
    fn every_flag_is_one_of_train() {
        let train = called(["train".to_owned()].into_iter());
        let settings = SETTINGS.iter().map(|(_, flag)| flag);
        for flag in settings.chain(ADVICE.iter().map(|(_, flag, _)| flag)) {
            assert!(train.flags.iter().any(|f| f == flag), "{flag}");
        }
    }
}
