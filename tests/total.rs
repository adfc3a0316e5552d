//! How many comparisons the suite has made: what each test has noted in its last whole run, and the
//! sum. A comparison is one tensor of one executor, all of its elements, held to another's. It runs
//! behind the tests that note something, since cargo goes by names, and prints without being asked.

use std::fs;
use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("comparisons");
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let noted = files.filter_map(|file| {
        let count: usize = fs::read_to_string(file.path()).ok()?.parse().ok()?;
        Some((file.file_name().to_string_lossy().into_owned(), count))
    });
    let mut noted: Vec<_> = noted.collect();
    noted.sort();
    for (test, count) in &noted {
        println!("{count:>9} {test}");
    }
    let total: usize = noted.iter().map(|(_, count)| count).sum();
    println!("{total:>9} comparisons");
}
