//! What a device does beside computing: it keeps pipelines, times launches, picks variants.
//! None of it may change a result.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::gpu;
use sha2::{Digest, Sha256};
use wgrad::book::nn::Network;
use wgrad::book::train::{Settings, Trainer};
use wgrad::data::Split;
use wgrad::data::digits::{Part, generate};
use wgrad::doctor::harness::{Prepared, inputs, plan_of};
use wgrad::exec::profile::{Clock, Profile};
use wgrad::exec::{Cache, Choice, Device};
use wgrad::kernel::{Kernel, Target};
use wgrad::ops::{Case, TABLE};
use wgrad::plan::{Alternative, Plan};
use wgrad::run::Session;
use wgrad::tensor::Host;

fn data() -> Split {
    let part = |part, n| generate(5, part, n).unwrap();
    Split {
        train: part(Part::Train, 40),
        validation: part(Part::Validation, 10),
        test: part(Part::Test, 10),
        synthetic: true,
    }
}

fn network() -> Network {
    Network::new([1, 28, 28])
        .flatten()
        .dense(12)
        .relu()
        .dense(10)
        .softmax()
}

fn settings() -> Settings {
    Settings {
        replicas: 2,
        ..Settings::default()
    }
}

fn trainer(device: &Device) -> Trainer {
    let mut trainer = Trainer::new(&network(), &data(), &settings(), device).unwrap();
    trainer.prepare().unwrap();
    trainer
}

/// The weights after three steps.
fn trained(device: &Device) -> Vec<String> {
    let mut trainer = trainer(device);
    trainer.steps(3).unwrap();
    trainer.model().unwrap().sha256()
}

/// The files in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn cached_pipelines_change_no_bit_whatever_the_file_holds() {
    let Some(plain) = gpu() else { return };
    let wanted = trained(&plain);
    let folder = tempfile::tempdir().unwrap();
    let cached = |cache: &Cache| trained(&gpu().unwrap().with_cache(cache));
    let cache = Cache::at(&folder.path().join("deep/down"));
    assert_eq!(cached(&cache), wanted, "cold");
    if !plain.info().name.contains("(Vulkan") {
        return;
    }
    let [file] = &files(cache.folder().unwrap())[..] else {
        panic!("one file for the adapter");
    };
    let whole = fs::read(file).unwrap();
    assert_eq!(cached(&cache), wanted, "warm");
    assert_eq!(
        fs::read(file).unwrap(),
        whole,
        "nothing new, nothing written"
    );

    // A file as it must be, with a checksum that fits.
    let sealed = |content: &[u8]| {
        let mut hash = Sha256::new();
        hash.update(&plain.info().name);
        hash.update(content);
        let sum: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        [format!("{sum}\n").as_bytes(), content].concat()
    };
    let content = &whole[65..];
    assert_eq!(sealed(content), whole);
    // wgpu's header: magic, versions, backend; from byte 17 the adapter, from 32 the driver.
    let but = |at: usize| {
        let mut changed = content.to_vec();
        changed[at] ^= 1;
        changed
    };
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (what, bytes) in [
        ("empty", vec![]),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("a flipped bit", flipped),
        ("nonsense with a fitting checksum", sealed(b"nonsense")),
        ("nothing with a fitting checksum", sealed(b"")),
        ("another adapter's header", sealed(&but(20))),
        ("another driver's header", sealed(&but(32))),
        (
            "a header that is longer than the rest",
            sealed(&content[..content.len() - 1]),
        ),
    ] {
        fs::write(file, bytes).unwrap();
        assert_eq!(cached(&cache), wanted, "{what}");
        assert_eq!(fs::read(file).unwrap(), whole, "{what}: written anew");
    }
    // A folder that cannot be made, and none.
    assert_eq!(cached(&Cache::at(&file.join("below"))), wanted);
    assert_eq!(cached(&Cache::off()), wanted);
}

#[test]
fn a_device_takes_the_kernels_that_suit_it() {
    let kind = |device: Device| {
        let trainer = trainer(&device);
        let launches = &trainer.executed_plan().programs["train"];
        let takes = |ending| launches.iter().any(|l| l.kernel.name.ends_with(ending));
        match (takes("_lanes"), takes("_wide")) {
            (true, _) => Target::Lanes,
            (_, true) => Target::Processor,
            _ => Target::Gpu,
        }
    };
    let Some(Device::Gpu(opened)) = gpu() else {
        return;
    };
    let by_itself = kind(Device::Gpu(opened.clone()));
    assert_eq!(by_itself != Target::Gpu, opened.info().software);
    for target in [Target::Gpu, Target::Processor] {
        let device = Device::Gpu(opened.clone().preferring(target));
        assert_eq!(kind(device), target);
    }
    // Where there are no lanes of a vector, what suits any processor must do.
    let lanes = kind(Device::Gpu(opened.clone().preferring(Target::Lanes)));
    let plan = Trainer::plan(&network(), &data(), &settings(), opened.info()).unwrap();
    let able = opened.possible(plan);
    let mut able = able.programs["train"].iter().flat_map(|l| &l.alternatives);
    let able = able.any(|other| other.target == Target::Lanes);
    assert_eq!(
        lanes,
        if able {
            Target::Lanes
        } else {
            Target::Processor
        }
    );
}

#[test]
fn mixed_precision_is_asked_for_and_said() {
    let refused = Device::open_mixed(Choice::Cpu).unwrap_err();
    assert!(refused.to_string().contains("matrix units"), "{refused}");
    let Some(plain) = gpu() else { return };
    let row = TABLE.iter().find(|row| row.stem == "matmul").unwrap();
    let rounds = |device: &Device, case: &Case| {
        let executor = device.executor(plan_of(case, 2).unwrap()).unwrap();
        executor.plan().rounds_factors()
    };
    let cases = (row.cases)();
    assert!(!cases.iter().any(|case| rounds(&plain, case)));
    let mixed = match Device::open_mixed(Choice::Gpu) {
        Ok(mixed) => mixed,
        Err(e) => {
            let text = e.to_string();
            assert!(
                text.contains("matrix units") && text.contains(&plain.info().name),
                "{e}"
            );
            return;
        }
    };
    assert!(mixed.info().name.ends_with(", mixed precision"));
    let case = cases.iter().find(|case| rounds(&mixed, case)).unwrap();
    let outputs = |device: &Device| {
        let prepared = Prepared::new(case, 2).unwrap();
        let mut session = Session::open(&prepared.compiled, device).unwrap();
        let outputs = prepared.run(&mut session, &inputs(case, 2)).unwrap();
        // The reference that stands beside a run rounds the same factors.
        session.run_verified(prepared.program, 0).unwrap();
        outputs["output 0"].clone()
    };
    let (Host::F32(exact), Host::F32(rounded)) = (outputs(&plain), outputs(&mixed)) else {
        panic!("floats");
    };
    let apart = exact.iter().zip(&rounded).map(|(e, r)| (e - r).abs());
    let apart = apart.fold(0.0, f32::max);
    // 35 products of numbers below 1, each off by 2^-11 at most twice; and not by none.
    assert!(apart > 1e-6 && apart < 35.0 / 1024.0, "{apart}");
}

#[test]
fn a_profile_has_an_entry_for_each_launch_and_changes_no_bit() {
    let cpu = Device::open(Choice::Cpu).unwrap();
    for device in std::iter::once(cpu).chain(gpu()) {
        let mut trainer = trainer(&device);
        let launches = trainer.executed_plan().programs["train"].len();
        let profile = trainer.profile(3).unwrap();
        assert_eq!(profile.launches.len(), launches);
        assert_eq!(profile.gaps.len(), launches);
        let all = profile.launches.iter().chain(&profile.gaps);
        assert!(
            all.chain([&profile.whole])
                .all(|s| s.is_finite() && *s >= 0.0)
        );
        assert_eq!(profile.recording.is_none(), device.info().cpu);
        assert!(profile.recording.is_none_or(|s| s > 0.0 && s < 1.0));
        if device.info().cpu {
            assert_eq!(profile.clock, Clock::Host);
        }
        assert_eq!(trainer.model().unwrap().sha256(), trained(&device));
    }
}

#[test]
fn many_timed_runs_take_several_submits() {
    let Some(device) = gpu() else { return };
    let mut executor = device.executor(case("add").plan().clone()).unwrap();
    for buffer in 0..executor.plan().buffers.len() {
        let total = executor.plan().buffers[buffer].total(executor.plan().replicas);
        executor
            .write(buffer, &Host::F32(vec![1.0; total]))
            .unwrap();
    }
    // More than the queries of one set.
    let spans = executor.timed("run", 5000).unwrap();
    if let Some(spans) = spans {
        assert_eq!(spans.len(), 5000);
        for run in spans {
            assert_eq!(run.len(), 1);
            assert_eq!(run[0].begin, 0.0);
            assert!(run[0].end >= 0.0 && run[0].end < 60.0, "{run:?}");
        }
    }
    assert!(executor.timed("walk", 1).is_err());
    assert!(Profile::measure(executor.as_mut(), "walk", 1).is_err());
}

/// An op's first case, for two replicas.
fn case(stem: &str) -> Prepared {
    let row = TABLE.iter().find(|row| row.stem == stem).unwrap();
    Prepared::new(&(row.cases)()[0], 2).unwrap()
}

/// `add`, done in a wasteful way and a thrifty one.
fn wasteful_first() -> (Prepared, Plan, [u32; 3]) {
    let prepared = case("add");
    let mut plan = prepared.plan().clone();
    let launch = &mut plan.programs.get_mut("run").unwrap()[0];
    let thrifty = launch.grid;
    launch.alternatives.push(Alternative {
        kernel: launch.kernel,
        target: Target::Gpu,
        constants: launch.constants.clone(),
        grid: thrifty,
    });
    // Threads past the end do nothing, and there are a hundred thousand workgroups of them.
    launch.grid[1] = 50_000;
    (prepared, plan, thrifty)
}

#[test]
fn a_tuned_device_takes_the_faster_way_and_says_so() {
    let Some(plain) = gpu() else { return };
    let name = plain.info().name.clone();
    let tuned = gpu().unwrap().tuned();
    assert_eq!(tuned.info().name, format!("{name}, tuned"));
    let (prepared, plan, thrifty) = wasteful_first();
    let row = TABLE.iter().find(|row| row.stem == "add").unwrap();
    let host = inputs(&(row.cases)()[0], 2);
    let run = |device: &Device| {
        let executor = device.executor(plan.clone()).unwrap();
        let mut session = prepared.session(executor).unwrap();
        prepared.write(&mut session, &host).unwrap();
        session.run(prepared.program, 1).unwrap();
        let values = session.read(prepared.outputs[0]).unwrap();
        let grid = session.plan().programs["run"][0].grid;
        (session.device().name.clone(), grid, values)
    };
    let (plain_name, plain_grid, wanted) = run(&plain);
    assert_eq!((plain_name, plain_grid[1]), (name.clone(), 50_000));
    let (tuned_name, tuned_grid, found) = run(&tuned);
    assert_eq!((tuned_grid, &found), (thrifty, &wanted));
    let number = tuned_name.strip_prefix(&format!("{name}, tuned ")).unwrap();
    assert_eq!(number.len(), 8);
    // What was measured is kept, for tuned devices.
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let kept = || {
        files(folder.path())
            .into_iter()
            .find(|f| f.to_string_lossy().contains("tuning"))
    };
    assert_eq!(run(&gpu().unwrap().with_cache(&cache)).1[1], 50_000);
    assert_eq!(kept(), None);
    assert_eq!(run(&gpu().unwrap().tuned().with_cache(&cache)).1, thrifty);
    let text = fs::read_to_string(kept().unwrap()).unwrap();
    assert!(text.contains("\"variant\": 1"), "{text}");
    assert_eq!(run(&gpu().unwrap().with_cache(&cache).tuned()).1, thrifty);
    assert_eq!(run(&gpu().unwrap().with_cache(&cache)).1[1], 50_000);
}

/// Adds as `add` does, but for the last element of a replica: there it forgets one summand.
const ALMOST: &str = "
override N: u32 = 1u;
@group(0) @binding(0) var<storage, read> x0: array<f32>;
@group(0) @binding(1) var<storage, read> x1: array<f32>;
@group(0) @binding(2) var<storage, read_write> y0: array<f32>;

@compute @workgroup_size(64)
fn almost(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * 64u + lane;
    if i < N {
        let at = group.z * N + i;
        y0[at] = select(x0[at] + x1[at], x0[at], i == N - 1u);
    }
}
";

#[test]
fn a_wrong_variant_does_not_win_however_fast_it_is() {
    if gpu().is_none() {
        return;
    }
    let (prepared, mut plan, thrifty) = wasteful_first();
    let launch = &mut plan.programs.get_mut("run").unwrap()[0];
    let add = launch.kernel;
    assert_eq!((add.constants, add.bindings.len()), (&["N"][..], 3));
    // The thrifty variant is wrong now; only the wasteful one is right.
    let (bindings, constants) = (add.bindings, add.constants);
    let almost = Kernel::new("almost", ALMOST, bindings, constants, add.reference);
    launch.alternatives[0].kernel = Box::leak(Box::new(almost));
    launch.alternatives[0].grid = [
        prepared.plan().programs["run"][0].grid[0] * 4,
        1,
        thrifty[2],
    ];
    let folder = tempfile::tempdir().unwrap();
    let device = gpu().unwrap().tuned().with_cache(&Cache::at(folder.path()));
    let taken = |plan: &Plan| {
        let executor = device.executor(plan.clone()).unwrap();
        executor.plan().programs["run"][0].kernel.name
    };
    assert_eq!(taken(&plan), add.name);
    let kept = files(folder.path());
    let kept = kept.iter().find(|f| f.to_string_lossy().contains("tuning"));
    let text = fs::read_to_string(kept.unwrap()).unwrap();
    let told = ["\"variant\": 0", "null", "almost", "in replica 0"];
    assert!(told.iter().all(|part| text.contains(part)), "{text}");
    // Where nothing is right, nothing is taken.
    let launch = &mut plan.programs.get_mut("run").unwrap()[0];
    let wrong = launch.alternatives[0].clone();
    (launch.kernel, launch.grid) = (wrong.kernel, wrong.grid);
    let said = device.executor(plan).err().unwrap().to_string();
    assert!(said.contains("almost"), "{said}");
}

/// A trial's buffers hold made-up values; the ways back of a pool take no winner but one of its window.
#[test]
fn a_trial_has_winners_that_a_pool_makes() {
    let Some(device) = gpu() else { return };
    let row = TABLE.iter().find(|row| row.stem == "conv2d_pool").unwrap();
    let plans = (row.cases)().into_iter().map(|c| plan_of(&c, 2).unwrap());
    let several = |plan: &Plan| {
        let launch = &plan.programs["run"][0];
        launch.kernel.name.contains("grad") && launch.variants() > 1
    };
    let plans: Vec<Plan> = plans.filter(several).take(12).collect();
    assert_eq!(plans.len(), 12);
    let device = device.tuned();
    for plan in plans {
        device.executor(plan).map(|_| ()).unwrap();
    }
}

#[test]
fn the_cpu_has_nothing_to_tune() {
    let cpu = || Device::open(Choice::Cpu).unwrap();
    assert_eq!(cpu().tuned().info(), cpu().info());
    let folder = tempfile::tempdir().unwrap();
    let tuned = cpu().with_cache(&Cache::at(folder.path())).tuned();
    assert_eq!(trained(&tuned), trained(&cpu()));
    assert!(files(folder.path()).is_empty());
}

/// Whoever waits calls the callbacks of all that wait: a readback of one thread may be answered
/// in another's.
#[test]
fn threads_that_share_a_device_read_what_is_theirs() {
    let Some(device) = gpu() else { return };
    let prepared = case("add");
    let sessions = (0..4).map(|_| Session::open(&prepared.compiled, &device).unwrap());
    let mut sessions: Vec<Session> = sessions.collect();
    std::thread::scope(|scope| {
        for (own, session) in sessions.iter_mut().enumerate() {
            let prepared = &prepared;
            scope.spawn(move || {
                let given = prepared.inputs.iter();
                let given = given.map(|&input| session.elements(input).unwrap());
                let given: Vec<Host> = given.map(|n| Host::F32(vec![own as f32; n])).collect();
                prepared.write(session, &given).unwrap();
                let wanted = vec![2.0 * own as f32; given[0].len()];
                for _ in 0..200 {
                    session.run(prepared.program, 1).unwrap();
                    let found = session.read(prepared.outputs[0]).unwrap();
                    assert_eq!(found, Host::F32(wanted.clone()));
                }
            });
        }
    });
}
