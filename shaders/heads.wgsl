// Two or three parts of rows [N T, PARTS C] as heads, each part [N, C / D, T, D], and back: x at row (n, t), part p,
// head h and place d goes to place (n, h, t, d) of part p. SIZE elements of a part. A thread has four of them of each
// part; z is the replica. An entry point for each number of parts, since what an entry point names must be bound.

override SIZE: u32 = 1u;
override T: u32 = 1u;
override HEADS: u32 = 1u;
override D: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y0: array<f32>;
@group(0) @binding(2) var<storage, read_write> y1: array<f32>;
@group(0) @binding(3) var<storage, read_write> y2: array<f32>;

// Where element i of part `part` of so many stands in x.
fn beside(parts: u32, part: u32, i: u32) -> u32 {
    let d = i % D;
    let t = i / D % T;
    let h = i / D / T % HEADS;
    let n = i / D / T / HEADS;
    return ((n * T + t) * parts + part) * HEADS * D + h * D + d;
}

fn four_of(replica: u32, parts: u32, part: u32, i: vec4<u32>) -> vec4<f32> {
    let first = replica * parts * SIZE;
    let at = min(i, vec4(SIZE - 1u));
    return vec4(
        x[first + beside(parts, part, at.x)],
        x[first + beside(parts, part, at.y)],
        x[first + beside(parts, part, at.z)],
        x[first + beside(parts, part, at.w)],
    );
}

@compute @workgroup_size(64)
fn heads_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let a = four_of(group.z, 2u, 0u, i);
    let b = four_of(group.z, 2u, 1u, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < SIZE {
            y0[group.z * SIZE + i[k]] = a[k];
            y1[group.z * SIZE + i[k]] = b[k];
        }
    }
}

@compute @workgroup_size(64)
fn heads_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let a = four_of(group.z, 3u, 0u, i);
    let b = four_of(group.z, 3u, 1u, i);
    let c = four_of(group.z, 3u, 2u, i);
    for (var k = 0u; k < 4u; k++) {
        if i[k] < SIZE {
            y0[group.z * SIZE + i[k]] = a[k];
            y1[group.z * SIZE + i[k]] = b[k];
            y2[group.z * SIZE + i[k]] = c[k];
        }
    }
}

@group(0) @binding(0) var<storage, read> x0: array<f32>;
@group(0) @binding(1) var<storage, read> x1: array<f32>;
@group(0) @binding(2) var<storage, read> x2: array<f32>;
@group(0) @binding(2) var<storage, read_write> of_two: array<f32>;
@group(0) @binding(3) var<storage, read_write> of_three: array<f32>;

@compute @workgroup_size(64)
fn heads_back_2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let at = group.z * SIZE + min(i, vec4(SIZE - 1u));
    let a = vec4(x0[at.x], x0[at.y], x0[at.z], x0[at.w]);
    let b = vec4(x1[at.x], x1[at.y], x1[at.z], x1[at.w]);
    let first = group.z * 2u * SIZE;
    for (var k = 0u; k < 4u; k++) {
        if i[k] < SIZE {
            of_two[first + beside(2u, 0u, i[k])] = a[k];
            of_two[first + beside(2u, 1u, i[k])] = b[k];
        }
    }
}

@compute @workgroup_size(64)
fn heads_back_3(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    let at = group.z * SIZE + min(i, vec4(SIZE - 1u));
    let a = vec4(x0[at.x], x0[at.y], x0[at.z], x0[at.w]);
    let b = vec4(x1[at.x], x1[at.y], x1[at.z], x1[at.w]);
    let c = vec4(x2[at.x], x2[at.y], x2[at.z], x2[at.w]);
    let first = group.z * 3u * SIZE;
    for (var k = 0u; k < 4u; k++) {
        if i[k] < SIZE {
            of_three[first + beside(3u, 0u, i[k])] = a[k];
            of_three[first + beside(3u, 1u, i[k])] = b[k];
            of_three[first + beside(3u, 2u, i[k])] = c[k];
        }
    }
}
