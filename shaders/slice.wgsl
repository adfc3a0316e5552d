// y = x from START on, PART elements of each run of WHOLE: every STEP-th group of INNER
// neighbours. One thread per four elements of y; z is the replica.

override N: u32 = 1u;
override WHOLE: u32 = 1u;
override START: u32 = 0u;
override PART: u32 = 1u;
override INNER: u32 = 1u;
override STEP: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn sliced(replica: u32, i: u32) -> f32 {
    // N is a multiple of PART, so a replica begins with a whole run.
    let at = replica * N + min(i, N - 1u);
    let k = at % PART / INNER;
    return x[at / PART * WHOLE + START + k * STEP * INNER + at % INNER];
}

@compute @workgroup_size(64)
fn slice(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let values = vec4(sliced(group.z, i.x), sliced(group.z, i.y), sliced(group.z, i.z), sliced(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y[group.z * N + i[k]] = values[k];
        }
    }
}
