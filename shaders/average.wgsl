// a += (w - a) / (k + 1) where k epochs are in the mean, a = w before. One thread per
// parameter; z is the replica.

override N: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;
override FROM: u32 = 1u;

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;

@compute @workgroup_size(64)
fn average(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N {
        return;
    }
    let at = group.z * N + i;
    let done = step[0] / EPOCH_STEPS;
    if done <= FROM {
        a[at] = w[at];
        return;
    }
    a[at] += (w[at] - a[at]) / f32(done - FROM + 1u);
}
