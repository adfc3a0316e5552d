// y = x from START on, PART elements of each run of WHOLE: every STEP-th group of INNER
// neighbours. One thread per element of y; z is the replica.

override N: u32 = 1u;
override WHOLE: u32 = 1u;
override START: u32 = 0u;
override PART: u32 = 1u;
override INNER: u32 = 1u;
override STEP: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn slice(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of PART, so a replica begins with a whole run.
        let at = group.z * N + i;
        let k = at % PART / INNER;
        y[at] = x[at / PART * WHOLE + START + k * STEP * INNER + at % INNER];
    }
}
