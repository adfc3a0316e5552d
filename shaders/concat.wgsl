// y = its inputs, one after the other along an axis: by turns runs of SIZE_0 elements of the first,
// SIZE_1 of the second, … RUN elements together. One thread per element; z is the replica. An entry
// point for each number of inputs, since what an entry point names must be bound.

override N: u32 = 1u;
override RUN: u32 = 1u;
override SIZE_0: u32 = 1u;
override SIZE_1: u32 = 1u;
override SIZE_2: u32 = 1u;
override SIZE_3: u32 = 1u;
override SIZE_4: u32 = 1u;
override SIZE_5: u32 = 1u;
override SIZE_6: u32 = 1u;

@group(0) @binding(0) var<storage, read> x0: array<f32>;
@group(0) @binding(1) var<storage, read> x1: array<f32>;
@group(0) @binding(2) var<storage, read> x2: array<f32>;
@group(0) @binding(3) var<storage, read> x3: array<f32>;
@group(0) @binding(4) var<storage, read> x4: array<f32>;
@group(0) @binding(5) var<storage, read> x5: array<f32>;
@group(0) @binding(6) var<storage, read> x6: array<f32>;
@group(0) @binding(2) var<storage, read_write> y2: array<f32>;
@group(0) @binding(3) var<storage, read_write> y3: array<f32>;
@group(0) @binding(4) var<storage, read_write> y4: array<f32>;
@group(0) @binding(5) var<storage, read_write> y5: array<f32>;
@group(0) @binding(6) var<storage, read_write> y6: array<f32>;
@group(0) @binding(7) var<storage, read_write> y7: array<f32>;

// The element `place` of a run, among the first so many inputs.
fn of_1(run: u32, place: u32) -> f32 {
    return x0[run * SIZE_0 + place];
}

fn of_2(run: u32, place: u32) -> f32 {
    let seam = SIZE_0;
    if place < seam {
        return of_1(run, place);
    }
    return x1[run * SIZE_1 + place - seam];
}

fn of_3(run: u32, place: u32) -> f32 {
    let seam = SIZE_0 + SIZE_1;
    if place < seam {
        return of_2(run, place);
    }
    return x2[run * SIZE_2 + place - seam];
}

fn of_4(run: u32, place: u32) -> f32 {
    let seam = SIZE_0 + SIZE_1 + SIZE_2;
    if place < seam {
        return of_3(run, place);
    }
    return x3[run * SIZE_3 + place - seam];
}

fn of_5(run: u32, place: u32) -> f32 {
    let seam = SIZE_0 + SIZE_1 + SIZE_2 + SIZE_3;
    if place < seam {
        return of_4(run, place);
    }
    return x4[run * SIZE_4 + place - seam];
}

fn of_6(run: u32, place: u32) -> f32 {
    let seam = SIZE_0 + SIZE_1 + SIZE_2 + SIZE_3 + SIZE_4;
    if place < seam {
        return of_5(run, place);
    }
    return x5[run * SIZE_5 + place - seam];
}

fn of_7(run: u32, place: u32) -> f32 {
    let seam = SIZE_0 + SIZE_1 + SIZE_2 + SIZE_3 + SIZE_4 + SIZE_5;
    if place < seam {
        return of_6(run, place);
    }
    return x6[run * SIZE_6 + place - seam];
}

@compute @workgroup_size(64)
fn concat(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        y2[at] = of_2(at / RUN, at % RUN);
    }
}

@compute @workgroup_size(64)
fn concat_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        y3[at] = of_3(at / RUN, at % RUN);
    }
}

@compute @workgroup_size(64)
fn concat_4(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        y4[at] = of_4(at / RUN, at % RUN);
    }
}

@compute @workgroup_size(64)
fn concat_5(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        y5[at] = of_5(at / RUN, at % RUN);
    }
}

@compute @workgroup_size(64)
fn concat_6(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        y6[at] = of_6(at / RUN, at % RUN);
    }
}

@compute @workgroup_size(64)
fn concat_7(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        y7[at] = of_7(at / RUN, at % RUN);
    }
}
