//! What a workgroup of a kernel asks of a GPU: numbers by which a launch's time is predicted before it
//! runs (`plan/latency.rs`).

use super::extent;

/// What one workgroup asks for, each said by the launch's constants as in [`Bind::of`](super::Bind::of);
/// an empty text is 0. It stands beside the kernel, as [`Kernel::turns`](super::Kernel::turns) does.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Loads from memory that wait for the one before, of the thread that has most of them. Loads that a
    /// compiler may have under way together are one; it takes four turns of a plain loop together.
    pub rounds: &'static str,
    /// Rounds that are under way while the thread computes something else.
    pub ahead: &'static str,
    /// Barriers that it meets.
    pub barriers: &'static str,
    /// Instructions that a thread issues.
    pub issue: &'static str,
    /// Words of memory that the workgroup reads and writes; what its threads read together counts once.
    pub words: &'static str,
}

impl Demand {
    /// Nothing is said.
    pub const UNSTATED: Self = Self {
        rounds: "",
        ahead: "",
        barriers: "",
        issue: "",
        words: "",
    };
}

/// What [`Demand`] comes to, and the workgroup's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Threads.
    pub threads: u64,
    /// Rounds of loads that wait for each other.
    pub rounds: u64,
    /// Rounds behind other work.
    pub ahead: u64,
    /// Barriers.
    pub barriers: u64,
    /// Instructions of a thread.
    pub issue: u64,
    /// Words of memory of the workgroup.
    pub words: u64,
}

impl Asked {
    /// What `demand` comes to; `None` where it says nothing or names a constant that is not there.
    pub(super) fn of(demand: &Demand, threads: u64, constants: &[(&str, f64)]) -> Option<Self> {
        let value = |text: &str| match text {
            "" => Some(0),
            text => extent::value(text, constants),
        };
        Some(Self {
            threads,
            rounds: extent::value(demand.rounds, constants)?,
            ahead: value(demand.ahead)?,
            barriers: value(demand.barriers)?,
            issue: extent::value(demand.issue, constants)?,
            words: extent::value(demand.words, constants)?,
        })
    }
}

/// Threads of a workgroup of the entry point `name`: what its `@workgroup_size` comes to with these
/// constants, and with the module's own.
pub(super) fn threads(source: &str, name: &str, constants: &[(&str, f64)]) -> Option<u64> {
    let (before, _) = source.split_once(&format!("fn {name}("))?;
    let (_, sizes) = before.rsplit_once("@workgroup_size(")?;
    let (sizes, _) = sizes.split_once(')')?;
    let sizes = sizes.split(',');
    sizes
        .map(|size| number(source, size, constants, DEPTH))
        .try_fold(1u64, |all, size| all.checked_mul(size?))
}

/// Declarations that may refer to each other in a row.
const DEPTH: usize = 8;

/// A number of a module: digits, a constant of the launch, or a declaration `const` or `override`.
fn number(source: &str, text: &str, constants: &[(&str, f64)], depth: usize) -> Option<u64> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut plain = String::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_name(c) != is_name(first));
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        if first.is_ascii_digit() {
            plain += word.trim_end_matches('u');
        } else if is_name(first) {
            let given = constants.iter().find(|(name, _)| *name == word);
            let value = match given {
                Some((_, value)) => *value as u64,
                None => {
                    let kinds = ["const", "override"].iter();
                    let mut declared = kinds
                        .filter_map(|kind| source.split_once(&format!("{kind} {word}: u32 = ")));
                    let (_, declared) = declared.next()?;
                    let (declared, _) = declared.split_once(';')?;
                    number(source, declared, constants, depth.checked_sub(1)?)?
                }
            };
            plain += &value.to_string();
        } else {
            plain += word;
        }
    }
    extent::value(&plain, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "const WIDE: u32 = 8u;\noverride TEAMS: u32 = 2u;\nconst ALL: u32 = WIDE * TEAMS;\n\
                          @compute @workgroup_size(16, 16)\nfn two(a: u32) {}\n\
                          @compute @workgroup_size(ALL)\nfn all(a: u32) {}\n\
                          @compute @workgroup_size(NONE)\nfn none(a: u32) {}";

    #[test]
    fn a_workgroups_size_is_read_from_the_text() {
        let of = |name, constants: &[_]| threads(SOURCE, name, constants);
        assert_eq!(of("two", &[]), Some(256));
        assert_eq!(of("all", &[]), Some(16));
        assert_eq!(of("all", &[("TEAMS", 4.0)]), Some(32));
        assert_eq!(of("none", &[]), None);
        assert_eq!(of("none", &[("NONE", 64.0)]), Some(64));
        assert_eq!(of("missing", &[]), None);
    }

    #[test]
    fn a_demand_comes_to_numbers_or_to_nothing() {
        let demand = Demand {
            rounds: "K / 32 + 1",
            issue: "4 * K",
            words: "K",
            ..Demand::UNSTATED
        };
        let asked = Asked::of(&demand, 64, &[("K", 40.0)]).unwrap();
        let numbers = [
            asked.rounds,
            asked.ahead,
            asked.barriers,
            asked.issue,
            asked.words,
        ];
        assert_eq!((numbers, asked.threads), ([3, 0, 0, 160, 40], 64));
        assert_eq!(Asked::of(&demand, 64, &[]), None);
        assert_eq!(Asked::of(&Demand::UNSTATED, 64, &[]), None);
    }
}
