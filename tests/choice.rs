//! The ways that launches are done in on a GPU, held against what each way took on one.

#[expect(dead_code, reason = "the benchmark also times what has one way")]
#[path = "../benches/kernels/cases.rs"]
mod cases;

use std::collections::BTreeMap;

use wgrad::doctor::harness::plan_of;
use wgrad::plan::Launch;

/// `benches/kernels` on an NVIDIA H200: microseconds by launch and way.
fn measured() -> BTreeMap<&'static str, BTreeMap<String, f64>> {
    let mut table: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for line in include_str!("../results/h200/kernels.txt").lines() {
        let Some((launch, rest)) = line.split_once(": ") else {
            continue;
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        // That build named kernels after what stands at their ends.
        let core = words[0].replace("_sgd", "");
        let core = match core.strip_prefix("matmul") {
            Some(rest) => format!(
                "matmul{}",
                rest.replace("_slope", "")
                    .replace("_dropout", "")
                    .replace("_bias", "")
            ),
            None if core.contains("input_grad") => core.replace("_slope", ""),
            None => core,
        };
        // A block's edge, where the kernel has one, stands between its name and the time.
        let named = 1 + usize::from(words[1].parse::<u32>().is_ok());
        if let Some(Ok(time)) = words.get(named).map(|word| word.parse()) {
            let ways = table.entry(launch).or_default();
            let name = [&[core.as_str()], &words[1..named]].concat();
            ways.insert(name.join(" "), time);
        }
    }
    table
}

/// What a way goes by in the table.
fn name(launch: &Launch) -> String {
    let block = launch.constants.iter().find(|(name, _)| *name == "BLOCK");
    let block = block.map_or(String::new(), |(_, block)| format!(" {block}"));
    format!("{}{block}", launch.kernel.name)
}

/// 15 workgroups of the kernel for GPUs leave most of one idle. The kernel for processors has more
/// and smaller ones: faster here, and not where there are images enough.
const KNOWN: &str = "conv2d_pool forward 10x20x12x12 to 40";

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
        if launch.ways() == 1 {
            continue;
        }
        let ways = &measured[label.as_str()];
        let taken = name(launch);
        let Some(time) = ways.get(&taken) else {
            panic!("{label}: {taken} was not measured");
        };
        let fastest = ways.values().copied().fold(f64::INFINITY, f64::min);
        count += 1;
        println!("{label}: {:.3}", time / fastest);
        if time / fastest > 1.25 {
            slower.push(label);
        }
    }
    assert_eq!(count, measured.len());
    assert_eq!(slower, [KNOWN]);
}
