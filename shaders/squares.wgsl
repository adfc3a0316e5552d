// The squares of several values summed up: a workgroup adds up a run of RUN elements of one of them, those of the first
// value first. y has the runs' sums. z is the replica. An entry point for each number of values, since what an entry
// point names must be bound.

override SIZE_0: u32 = 1u;
override SIZE_1: u32 = 1u;
override SIZE_2: u32 = 1u;
override SIZE_3: u32 = 1u;
override SIZE_4: u32 = 1u;
override SIZE_5: u32 = 1u;
override SIZE_6: u32 = 1u;
// All runs.
override RUNS: u32 = 1u;

// `RUN` in src/ops/squares.rs.
const RUN: u32 = 4096u;
const THREADS: u32 = 256u;

@group(0) @binding(0) var<storage, read> x0: array<f32>;
@group(0) @binding(1) var<storage, read> x1: array<f32>;
@group(0) @binding(2) var<storage, read> x2: array<f32>;
@group(0) @binding(3) var<storage, read> x3: array<f32>;
@group(0) @binding(4) var<storage, read> x4: array<f32>;
@group(0) @binding(5) var<storage, read> x5: array<f32>;
@group(0) @binding(6) var<storage, read> x6: array<f32>;
@group(0) @binding(1) var<storage, read_write> y1: array<f32>;
@group(0) @binding(2) var<storage, read_write> y2: array<f32>;
@group(0) @binding(3) var<storage, read_write> y3: array<f32>;
@group(0) @binding(4) var<storage, read_write> y4: array<f32>;
@group(0) @binding(5) var<storage, read_write> y5: array<f32>;
@group(0) @binding(6) var<storage, read_write> y6: array<f32>;
@group(0) @binding(7) var<storage, read_write> y7: array<f32>;

var<workgroup> shares: array<f32, THREADS>;

fn runs_of(size: u32) -> u32 {
    return (size + RUN - 1u) / RUN;
}

// A thread's share of a run's sum, of the first so many values.
fn of_1(replica: u32, run: u32, thread: u32) -> f32 {
    let first = run * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_0); i += THREADS) {
        let x = x0[replica * SIZE_0 + i];
        sum += x * x;
    }
    return sum;
}

fn of_2(replica: u32, run: u32, thread: u32) -> f32 {
    let before = runs_of(SIZE_0);
    if run < before {
        return of_1(replica, run, thread);
    }
    let first = (run - before) * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_1); i += THREADS) {
        let x = x1[replica * SIZE_1 + i];
        sum += x * x;
    }
    return sum;
}

fn of_3(replica: u32, run: u32, thread: u32) -> f32 {
    let before = runs_of(SIZE_0) + runs_of(SIZE_1);
    if run < before {
        return of_2(replica, run, thread);
    }
    let first = (run - before) * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_2); i += THREADS) {
        let x = x2[replica * SIZE_2 + i];
        sum += x * x;
    }
    return sum;
}

fn of_4(replica: u32, run: u32, thread: u32) -> f32 {
    let before = runs_of(SIZE_0) + runs_of(SIZE_1) + runs_of(SIZE_2);
    if run < before {
        return of_3(replica, run, thread);
    }
    let first = (run - before) * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_3); i += THREADS) {
        let x = x3[replica * SIZE_3 + i];
        sum += x * x;
    }
    return sum;
}

fn of_5(replica: u32, run: u32, thread: u32) -> f32 {
    let before = runs_of(SIZE_0) + runs_of(SIZE_1) + runs_of(SIZE_2) + runs_of(SIZE_3);
    if run < before {
        return of_4(replica, run, thread);
    }
    let first = (run - before) * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_4); i += THREADS) {
        let x = x4[replica * SIZE_4 + i];
        sum += x * x;
    }
    return sum;
}

fn of_6(replica: u32, run: u32, thread: u32) -> f32 {
    let before = runs_of(SIZE_0) + runs_of(SIZE_1) + runs_of(SIZE_2) + runs_of(SIZE_3) + runs_of(SIZE_4);
    if run < before {
        return of_5(replica, run, thread);
    }
    let first = (run - before) * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_5); i += THREADS) {
        let x = x5[replica * SIZE_5 + i];
        sum += x * x;
    }
    return sum;
}

fn of_7(replica: u32, run: u32, thread: u32) -> f32 {
    let before = runs_of(SIZE_0) + runs_of(SIZE_1) + runs_of(SIZE_2) + runs_of(SIZE_3) + runs_of(SIZE_4) + runs_of(SIZE_5);
    if run < before {
        return of_6(replica, run, thread);
    }
    let first = (run - before) * RUN;
    var sum = 0.0;
    for (var i = first + thread; i < min(first + RUN, SIZE_6); i += THREADS) {
        let x = x6[replica * SIZE_6 + i];
        sum += x * x;
    }
    return sum;
}

// What the shares come to. Every thread must call it: it holds barriers.
fn total(share: f32, thread: u32) -> f32 {
    shares[thread] = share;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            shares[thread] += shares[thread + half];
        }
    }
    return shares[0];
}

// The run of this workgroup where those of x and y form one long row.
fn run_of(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

@compute @workgroup_size(THREADS)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_1(group.z, run, thread), thread);
    if thread == 0u {
        y1[group.z * RUNS + run] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn squares_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_2(group.z, run, thread), thread);
    if thread == 0u {
        y2[group.z * RUNS + run] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn squares_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_3(group.z, run, thread), thread);
    if thread == 0u {
        y3[group.z * RUNS + run] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn squares_4(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_4(group.z, run, thread), thread);
    if thread == 0u {
        y4[group.z * RUNS + run] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn squares_5(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_5(group.z, run, thread), thread);
    if thread == 0u {
        y5[group.z * RUNS + run] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn squares_6(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_6(group.z, run, thread), thread);
    if thread == 0u {
        y6[group.z * RUNS + run] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn squares_7(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let run = run_of(group, groups);
    if run >= RUNS {
        return;
    }
    let sum = total(of_7(group.z, run, thread), thread);
    if thread == 0u {
        y7[group.z * RUNS + run] = sum;
    }
}
