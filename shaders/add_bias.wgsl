// y = x + bias along axis 1 of [outer, C, INNER]. One thread per element; z is the
// replica.

override N: u32 = 1u;
override C: u32 = 1u;
override INNER: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn add_bias(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        let at = group.z * N + i;
        y[at] = x[at] + bias[group.z * C + (i / INNER) % C];
    }
}
