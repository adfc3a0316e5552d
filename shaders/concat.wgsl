// y = its inputs, one after the other along an axis: by turns runs of SIZE_0 elements of the first,
// SIZE_1 of the second, … RUN elements together. One thread per four elements; z is the replica. An entry
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

// The run of element i, and its place there; of the last element for those past the end. N is a multiple
// of a run, so a replica begins with a whole one.
fn place_of(replica: u32, i: u32) -> vec2<u32> {
    let at = replica * N + min(i, N - 1u);
    return vec2<u32>(at / RUN, at % RUN);
}

fn at_2(replica: u32, i: u32) -> f32 {
    let at = place_of(replica, i);
    return of_2(at.x, at.y);
}

fn at_3(replica: u32, i: u32) -> f32 {
    let at = place_of(replica, i);
    return of_3(at.x, at.y);
}

fn at_4(replica: u32, i: u32) -> f32 {
    let at = place_of(replica, i);
    return of_4(at.x, at.y);
}

fn at_5(replica: u32, i: u32) -> f32 {
    let at = place_of(replica, i);
    return of_5(at.x, at.y);
}

fn at_6(replica: u32, i: u32) -> f32 {
    let at = place_of(replica, i);
    return of_6(at.x, at.y);
}

fn at_7(replica: u32, i: u32) -> f32 {
    let at = place_of(replica, i);
    return of_7(at.x, at.y);
}

@compute @workgroup_size(64)
fn concat(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let v = vec4(at_2(group.z, i.x), at_2(group.z, i.y), at_2(group.z, i.z), at_2(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y2[group.z * N + i[k]] = v[k];
        }
    }
}

@compute @workgroup_size(64)
fn concat_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let v = vec4(at_3(group.z, i.x), at_3(group.z, i.y), at_3(group.z, i.z), at_3(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y3[group.z * N + i[k]] = v[k];
        }
    }
}

@compute @workgroup_size(64)
fn concat_4(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let v = vec4(at_4(group.z, i.x), at_4(group.z, i.y), at_4(group.z, i.z), at_4(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y4[group.z * N + i[k]] = v[k];
        }
    }
}

@compute @workgroup_size(64)
fn concat_5(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let v = vec4(at_5(group.z, i.x), at_5(group.z, i.y), at_5(group.z, i.z), at_5(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y5[group.z * N + i[k]] = v[k];
        }
    }
}

@compute @workgroup_size(64)
fn concat_6(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let v = vec4(at_6(group.z, i.x), at_6(group.z, i.y), at_6(group.z, i.z), at_6(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y6[group.z * N + i[k]] = v[k];
        }
    }
}

@compute @workgroup_size(64)
fn concat_7(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let v = vec4(at_7(group.z, i.x), at_7(group.z, i.y), at_7(group.z, i.z), at_7(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y7[group.z * N + i[k]] = v[k];
        }
    }
}
