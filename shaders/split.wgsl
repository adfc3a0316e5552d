// The parts of x along an axis: by turns runs of SIZE_0 elements to the first, SIZE_1 to the second,
// … RUN elements together. One thread per four elements; z is the replica. An entry point for each number
// of parts, since what an entry point names must be bound.

override N: u32 = 1u;
override RUN: u32 = 1u;
override SIZE_0: u32 = 1u;
override SIZE_1: u32 = 1u;
override SIZE_2: u32 = 1u;
override SIZE_3: u32 = 1u;
override SIZE_4: u32 = 1u;
override SIZE_5: u32 = 1u;
override SIZE_6: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y0: array<f32>;
@group(0) @binding(2) var<storage, read_write> y1: array<f32>;
@group(0) @binding(3) var<storage, read_write> y2: array<f32>;
@group(0) @binding(4) var<storage, read_write> y3: array<f32>;
@group(0) @binding(5) var<storage, read_write> y4: array<f32>;
@group(0) @binding(6) var<storage, read_write> y5: array<f32>;
@group(0) @binding(7) var<storage, read_write> y6: array<f32>;

// Stores the element `place` of a run, which is one of the first so many parts'.
fn to_1(run: u32, place: u32, value: f32) {
    y0[run * SIZE_0 + place] = value;
}

fn to_2(run: u32, place: u32, value: f32) {
    let seam = SIZE_0;
    if place < seam {
        to_1(run, place, value);
    } else {
        y1[run * SIZE_1 + place - seam] = value;
    }
}

fn to_3(run: u32, place: u32, value: f32) {
    let seam = SIZE_0 + SIZE_1;
    if place < seam {
        to_2(run, place, value);
    } else {
        y2[run * SIZE_2 + place - seam] = value;
    }
}

fn to_4(run: u32, place: u32, value: f32) {
    let seam = SIZE_0 + SIZE_1 + SIZE_2;
    if place < seam {
        to_3(run, place, value);
    } else {
        y3[run * SIZE_3 + place - seam] = value;
    }
}

fn to_5(run: u32, place: u32, value: f32) {
    let seam = SIZE_0 + SIZE_1 + SIZE_2 + SIZE_3;
    if place < seam {
        to_4(run, place, value);
    } else {
        y4[run * SIZE_4 + place - seam] = value;
    }
}

fn to_6(run: u32, place: u32, value: f32) {
    let seam = SIZE_0 + SIZE_1 + SIZE_2 + SIZE_3 + SIZE_4;
    if place < seam {
        to_5(run, place, value);
    } else {
        y5[run * SIZE_5 + place - seam] = value;
    }
}

fn to_7(run: u32, place: u32, value: f32) {
    let seam = SIZE_0 + SIZE_1 + SIZE_2 + SIZE_3 + SIZE_4 + SIZE_5;
    if place < seam {
        to_6(run, place, value);
    } else {
        y6[run * SIZE_6 + place - seam] = value;
    }
}

// The run of element i, and its place there. N is a multiple of a run, so a replica begins with a whole
// one.
fn place_of(replica: u32, i: u32) -> vec2<u32> {
    let at = replica * N + i;
    return vec2<u32>(at / RUN, at % RUN);
}

// Four elements, before the first store, which would keep later loads back.
fn four_of(replica: u32, i: vec4<u32>) -> vec4<f32> {
    let at = replica * N + min(i, vec4(N - 1u));
    return vec4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

@compute @workgroup_size(64)
fn split_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let v = four_of(group.z, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            let at = place_of(group.z, i[k]);
            to_2(at.x, at.y, v[k]);
        }
    }
}

@compute @workgroup_size(64)
fn split_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let v = four_of(group.z, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            let at = place_of(group.z, i[k]);
            to_3(at.x, at.y, v[k]);
        }
    }
}

@compute @workgroup_size(64)
fn split_4(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let v = four_of(group.z, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            let at = place_of(group.z, i[k]);
            to_4(at.x, at.y, v[k]);
        }
    }
}

@compute @workgroup_size(64)
fn split_5(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let v = four_of(group.z, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            let at = place_of(group.z, i[k]);
            to_5(at.x, at.y, v[k]);
        }
    }
}

@compute @workgroup_size(64)
fn split_6(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let v = four_of(group.z, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            let at = place_of(group.z, i[k]);
            to_6(at.x, at.y, v[k]);
        }
    }
}

@compute @workgroup_size(64)
fn split_7(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let v = four_of(group.z, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            let at = place_of(group.z, i[k]);
            to_7(at.x, at.y, v[k]);
        }
    }
}
