//! The variants that launches are done in on a GPU, held against what each variant took on one.

#[expect(dead_code, reason = "the benchmark also times what has one variant")]
#[path = "../benches/kernels/cases.rs"]
mod cases;

use std::collections::BTreeMap;

use wgrad::doctor::harness::plan_of;

/// `benches/kernels` on an NVIDIA H200: microseconds by launch and variant.
fn measured() -> BTreeMap<&'static str, BTreeMap<String, f64>> {
    let mut table: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for line in include_str!("../results/h200/kernels.txt").lines() {
        let Some((launch, rest)) = line.split_once(": ") else {
            continue;
        };
        // A name, a block's edge and a layout where it has them, the time, rates.
        let words: Vec<_> = rest.split_whitespace().collect();
        let named = 1 + usize::from(words[1].parse::<u32>().is_ok());
        let layout = words[named..].iter().take_while(|word| word.contains('='));
        let named = named + layout.count();
        if let Some(Ok(time)) = words.get(named).map(|word| word.parse()) {
            let variants = table.entry(launch).or_default();
            variants.insert(words[..named].join(" "), time);
        }
    }
    table
}

#[test]
fn the_way_taken_is_among_the_fastest() {
    let measured = measured();
    let mut all = [1024, 2048, 4096].map(cases::matmul).to_vec();
    all.extend(cases::convolutions(false));
    all.extend([10, 128].into_iter().flat_map(cases::workload_a));
    let mut slower = Vec::new();
    let mut count = 0;
    for (label, case) in all {
        let plan = plan_of(&case, 1).unwrap();
        let [launch] = &plan.programs["run"][..] else {
            continue;
        };
        if launch.variants() == 1 {
            continue;
        }
        let variants = &measured[label.as_str()];
        let taken = cases::name(&launch.done(launch.by_workgroups().map_or(0, |i| i + 1)));
        let Some(time) = variants.get(&taken) else {
            panic!("{label}: {taken} was not measured");
        };
        let fastest = variants.values().copied().fold(f64::INFINITY, f64::min);
        count += 1;
        println!("{label}: {:.3}", time / fastest);
        if time / fastest > 1.25 {
            slower.push(label);
        }
    }
    assert_eq!(count, measured.len());
    assert_eq!(slower, [""; 0]);
}
