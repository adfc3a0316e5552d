//! What the documents say of files that are here: links lead somewhere, the code of
//! docs/extending.md stands in the crate that is tested, and the numbers of README's tables of speed
//! are those of the result files.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Markdown file of the repository.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "runs" && !name.starts_with('.') {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// What stands between each `](` and its `)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    documents(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    let mut count = 0;
    for document in &found {
        let text = fs::read_to_string(document).unwrap();
        for link in links(&text).filter(|l| !l.contains("://") && !l.starts_with('#')) {
            let file = link.split('#').next().unwrap();
            let target = document.parent().unwrap().join(file);
            assert!(target.exists(), "{}: {link}", document.display());
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// The files of a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, endings, found);
        } else if endings
            .iter()
            .any(|e| path.extension().is_some_and(|x| x == *e))
        {
            found.push(path);
        }
    }
}

/// Whether the parts of a block of code, between lines `// …`, stand in a text in their order.
fn stands_in(block: &str, text: &str) -> bool {
    let mut rest = text;
    block.split("// …\n").all(|part| {
        // Whole lines.
        let found = rest.match_indices(part);
        let at = found
            .map(|(at, _)| at)
            .find(|&at| rest[..at].is_empty() || rest[..at].ends_with('\n'));
        rest = at.map_or("", |at| &rest[at + part.len()..]);
        at.is_some() && !part.trim().is_empty()
    })
}

#[test]
fn the_page_on_extending_shows_code_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let foreign = root.join("tests/foreign");
    files(&foreign.join("src"), &["rs", "wgsl"], &mut found);
    files(&foreign.join("tests"), &["rs"], &mut found);
    found.push(foreign.join("Cargo.toml"));
    let texts: Vec<String> = found
        .iter()
        .map(|f| fs::read_to_string(f).unwrap())
        .collect();
    let page = fs::read_to_string(root.join("docs/extending.md")).unwrap();
    // Every other part between fences is code, after the line that says which.
    let blocks: Vec<&str> = page.split("```").skip(1).step_by(2).collect();
    assert!(blocks.len() > 10, "{}", blocks.len());
    for block in blocks {
        let (_, code) = block.split_once('\n').unwrap();
        assert!(
            texts.iter().any(|text| stands_in(code, text)),
            "nowhere in tests/foreign:\n{code}"
        );
    }
    // The check itself.
    let text = "one\n  two\nthree\n";
    assert!(stands_in("one\n// …\nthree\n", text) && stands_in("  two\n", text));
    for wrong in [
        "two\n",
        "three\n// …\none\n",
        "one\nthree\n",
        "",
        "one\n// …\n",
    ] {
        assert!(!stands_in(wrong, text), "{wrong}");
    }
}

/// Names and versions of a lock file's packages.
fn locked(text: &str) -> Vec<(&str, &str)> {
    text.split("[[package]]")
        .skip(1)
        .map(|package| {
            let field = |key: &str| {
                let (_, rest) = package.split_once(key).unwrap();
                rest.split('"').next().unwrap()
            };
            (field("name = \""), field("version = \""))
        })
        .collect()
}

/// The crate outside shares a folder of compiled crates with this one, which saves time as long as
/// both stand on the same versions.
#[test]
fn the_foreign_crate_stands_on_the_same_versions() {
    let own = locked(include_str!("../Cargo.lock"));
    let foreign = locked(include_str!("foreign/Cargo.lock"));
    assert!(foreign.len() > 50, "{}", foreign.len());
    for package in foreign.iter().filter(|(name, _)| *name != "foreign") {
        assert!(
            own.contains(package),
            "{package:?} is not in Cargo.lock; copy that file to tests/foreign and build there"
        );
    }
}

/// The cells of the first row that begins so, after the heading, without the first.
fn row<'a>(text: &'a str, heading: &str, begins: &str) -> Vec<&'a str> {
    let (_, section) = text.split_once(heading).expect(heading);
    let mut lines = section.lines();
    let line = lines.find(|line| line.starts_with(begins)).expect(begins);
    let cells = line.trim_matches('|').split('|').skip(1);
    cells.map(str::trim).collect()
}

/// `| A | gpu | 1 | 442.7 | …` of a comparison: µs a step.
fn steps(file: &str, workload: &str, who: &str, networks: usize) -> f64 {
    let begins = format!("| {who} | {networks} |");
    let cells = row(file, &format!("\n## {workload}\n"), &begins);
    cells[2].replace(',', "").parse().unwrap()
}

const NETWORKS: [(&str, &str); 3] = [
    ("A", "| the book's final network |"),
    ("B", "| two convolutions, 100 units |"),
    ("D", "| 784-30-10 |"),
];

#[test]
fn readme_has_the_gpu_s_numbers() {
    let readme = include_str!("../README.md");
    let compared = include_str!("../results/h200/compare.md");
    for (workload, begins) in NETWORKS {
        let found = row(readme, "**On a GPU**", begins);
        let wanted = [
            ("wgrad | gpu", 1),
            ("PyTorch graph | cuda", 1),
            ("wgrad | gpu", 5),
            ("PyTorch ensemble | cuda", 5),
        ];
        let wanted = wanted.map(|(who, n)| match steps(compared, workload, who, n) {
            time if time < 100.0 => format!("{time:.1}"),
            time => time.round().to_string(),
        });
        assert_eq!(found, wanted, "{workload}");
    }
}

/// `**2.60 ×**` of the comparison's summary.
fn ratio(file: &str, workload: &str, summary: &str) -> f64 {
    let (_, section) = file.split_once(&format!("\n## {workload}\n")).unwrap();
    let line = section
        .lines()
        .find(|line| line.starts_with(summary))
        .expect(summary);
    line.split("**")
        .nth(1)
        .unwrap()
        .trim_end_matches(" ×")
        .parse()
        .unwrap()
}

#[test]
fn readme_has_the_processor_s_numbers() {
    let readme = include_str!("../README.md");
    let cpu = include_str!("../results/compare-cpu.md");
    let lavapipe = include_str!("../results/compare-lavapipe.md");
    for (workload, begins) in NETWORKS {
        let found = row(readme, "**On two CPU cores**", begins);
        let one = |device, whose| format!("On {device}, networks 1: the best of {whose}");
        let wanted = [
            ratio(cpu, workload, &one("cpu", "PyTorch")),
            ratio(cpu, workload, &one("cpu", "Burn")),
            ratio(lavapipe, workload, &one("gpu", "Burn")),
        ];
        let wanted = wanted.map(|times| format!("{times:.1} ×"));
        assert_eq!(found, wanted, "{workload}");
    }
}
