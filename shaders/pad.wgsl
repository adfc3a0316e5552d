// y = 0 but for PART elements of each run of WHOLE, from START on, which are x. One
// thread per element of y; z is the replica.

override N: u32 = 1u;
override WHOLE: u32 = 1u;
override START: u32 = 0u;
override PART: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn pad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of WHOLE, so a replica begins with a whole run.
        let at = group.z * N + i;
        let place = at % WHOLE;
        var value = 0.0;
        if place >= START && place < START + PART {
            value = x[at / WHOLE * PART + place - START];
        }
        y[at] = value;
    }
}
