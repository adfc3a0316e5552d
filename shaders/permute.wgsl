// y [E0, E1, .., E5] = x with its axes in another order: one step along axis k of y is S_k
// elements of x. One thread per four elements of y; z is the replica.

override N: u32 = 1u;
override E1: u32 = 1u;
override E2: u32 = 1u;
override E3: u32 = 1u;
override E4: u32 = 1u;
override E5: u32 = 1u;
override S0: u32 = 0u;
override S1: u32 = 0u;
override S2: u32 = 0u;
override S3: u32 = 0u;
override S4: u32 = 0u;
override S5: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Where element i of y stands in x.
fn origin(i: u32) -> u32 {
    var rest = i;
    var at = rest % E5 * S5;
    rest /= E5;
    at += rest % E4 * S4;
    rest /= E4;
    at += rest % E3 * S3;
    rest /= E3;
    at += rest % E2 * S2;
    rest /= E2;
    at += rest % E1 * S1;
    rest /= E1;
    return at + rest * S0;
}

fn moved(replica: u32, i: u32) -> f32 {
    return x[replica * N + origin(min(i, N - 1u))];
}

@compute @workgroup_size(64)
fn permute(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let values = vec4(moved(group.z, i.x), moved(group.z, i.y), moved(group.z, i.z), moved(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y[group.z * N + i[k]] = values[k];
        }
    }
}
