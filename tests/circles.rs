//! No two files of `src` import each other, however many others stand between: but for an op and the op that is its
//! gradient. A file and those in the folder of its name are one matter and may.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module by its path from the crate's root.
type Module = Vec<String>;

/// Ops that are each other's gradients.
const DUALS: [[&str; 2]; 3] = [
    ["broadcast", "reduce"],
    ["pad", "slice"],
    ["concat", "split"],
];

/// The sources below a folder, without tests and comments, by module.
fn sources(folder: &Path, at: &Module, all: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
        let module = match stem.as_str() {
            "mod" | "lib" | "main" => at.clone(),
            _ => [at.clone(), vec![stem.clone()]].concat(),
        };
        if path.is_dir() {
            sources(&path, &module, all);
        } else if path.extension().is_some_and(|e| e == "rs") && !stem.ends_with("tests") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = code.lines().map(|line| line.split("//").next().unwrap());
            all.entry(module)
                .or_default()
                .push_str(&lines.collect::<Vec<_>>().join(" "));
        }
    }
}

/// The paths of what stands behind `use`, its braces resolved.
fn paths(before: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        found.push(format!("{before}{tree}"));
        return;
    };
    let (before, body) = (format!("{before}{}", &tree[..open]), &tree[open + 1..]);
    let (mut depth, mut from) = (0, 0);
    for (k, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths(&before, &body[from..k], found);
                from = k + 1;
            }
            _ => {}
        }
    }
}

/// The modules that a module imports from.
fn imports(module: &Module, code: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = Vec::new();
    for statement in code.split("use ").skip(1) {
        if let Some((tree, _)) = statement.split_once(';') {
            paths("", tree, &mut found);
        }
    }
    // Those that are written out where they are used, too.
    for prefix in ["crate::", "super::"] {
        for (start, _) in code.match_indices(prefix) {
            let rest = &code[start..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            found.push(rest[..end.unwrap_or(rest.len())].to_string());
        }
    }
    let of = |path: &String| {
        let mut parts = path.split("::").map(str::trim).peekable();
        let mut base = module.clone();
        match parts.peek() {
            Some(&"crate") => base.clear(),
            Some(&"super") => {}
            _ => return None,
        }
        while let Some(&("crate" | "super")) = parts.peek() {
            if parts.next() == Some("super") {
                base.pop();
            }
        }
        base.extend(parts.map(String::from));
        (0..=base.len())
            .rev()
            .map(|n| base[..n].to_vec())
            .find(|m| all.contains_key(m))
    };
    let near = |other: &Module| other.starts_with(module) || module.starts_with(other);
    found
        .iter()
        .filter_map(of)
        .filter(|other| !near(other))
        .collect()
}

/// Pairs of modules from which each is reached from the other.
fn circles(all: &BTreeMap<Module, String>) -> Vec<[Module; 2]> {
    let direct: BTreeMap<&Module, BTreeSet<Module>> = all
        .iter()
        .map(|(m, code)| (m, imports(m, code, all)))
        .collect();
    let reached = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for other in &direct[module] {
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&Module, BTreeSet<&Module>> = all.keys().map(|m| (m, reached(m))).collect();
    let pairs = all
        .iter()
        .flat_map(|(a, to)| to.iter().map(move |b| (*a, *b)));
    let back = pairs.filter(|(a, b)| a < b && all[b].contains(a));
    back.map(|(a, b)| [a.clone(), b.clone()]).collect()
}

#[test]
fn no_files_import_each_other() {
    let mut all = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root, &vec![], &mut all);
    // The command is a crate of its own, which imports the library by its name.
    assert!(all.len() > 200, "{} modules", all.len());
    let found: Vec<String> = circles(&all).iter().map(|[a, b]| shown(a, b)).collect();
    let duals: Vec<String> = DUALS
        .iter()
        .map(|[a, b]| format!("ops::{a} and ops::{b}"))
        .collect();
    let (mut found, mut duals) = (found, duals);
    found.sort();
    duals.sort();
    assert_eq!(found, duals);
}

/// The rooms of `ARCHITECTURE.md`, each with its line in the table there.
fn rooms() -> BTreeMap<String, usize> {
    let text = include_str!("../ARCHITECTURE.md");
    let lines = text.lines().skip_while(|line| !line.starts_with("| room"));
    let lines = lines.skip(2).take_while(|line| line.starts_with('|'));
    let mut rooms = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let names = line.split('|').nth(1).unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            let name = name.trim_end_matches('/').trim_end_matches(".rs");
            rooms.insert(name.to_string(), number);
        }
    }
    rooms
}

#[test]
fn rooms_import_from_rooms_above() {
    let mut all = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root, &vec![], &mut all);
    let rooms = rooms();
    // Files with the crate's root and the command have no room of their own.
    let room = |module: &Module| module.first().map(|name| rooms.get(name).copied());
    let mut wrong = BTreeSet::new();
    for (module, code) in all
        .iter()
        .filter(|(m, _)| m.first().is_some_and(|m| m != "cli"))
    {
        let Some(Some(own)) = room(module) else {
            wrong.insert(format!("{} has no room", module.join("::")));
            continue;
        };
        for other in imports(module, code, &all) {
            if room(&other).is_some_and(|other| other.is_none_or(|other| other > own)) {
                wrong.insert(format!("{} from {}", module.join("::"), other.join("::")));
            }
        }
    }
    assert_eq!(wrong, BTreeSet::new());
}

fn shown(a: &Module, b: &Module) -> String {
    format!("{} and {}", a.join("::"), b.join("::"))
}

#[test]
fn circles_are_found() {
    let module = |path: &str| path.split("::").map(String::from).collect::<Module>();
    let tree = |files: &[(&str, &str)]| -> BTreeMap<Module, String> {
        files
            .iter()
            .map(|(m, code)| (module(m), code.to_string()))
            .collect()
    };
    let line = [
        ("a", "use crate::b::{self, Deep, inner::{One, Two}};"),
        ("b", "use crate::c;"),
        ("b::inner", "use super::Deep;"),
        ("c", "fn f() {}"),
    ];
    assert!(circles(&tree(&line)).is_empty());
    let round = [&line[..3], &[("c", "fn f() { crate::a::g() }")]].concat();
    let found = circles(&tree(&round));
    let found: Vec<String> = found.iter().map(|[a, b]| shown(a, b)).collect();
    assert_eq!(found, ["a and b", "a and c", "b and c"]);
    let through = [
        ("a", "use crate::b::inner::One;"),
        ("b::inner", "use crate::a::Two;"),
    ];
    assert_eq!(circles(&tree(&through)).len(), 1);
}
