// y = FACTOR x, repeated along all axes of [outer, C, INNER] but the middle one. One
// thread per element; z is the replica.

override N: u32 = 1u;
override C: u32 = 1u;
override INNER: u32 = 1u;
override FACTOR: f32 = 1.0;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn broadcast(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        y[group.z * N + i] = times(FACTOR, x[group.z * C + (i / INNER) % C]);
    }
}
