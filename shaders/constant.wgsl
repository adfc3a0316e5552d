// y = VALUE. One thread per element; z is the replica.

override N: u32 = 1u;
override VALUE: f32 = 0.0;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn constant(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        y[group.z * N + i] = VALUE;
    }
}
