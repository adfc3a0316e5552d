// h[t] = a[t] h[t - 1] + b[t] along the second axis of [N, T, C], and its gradient.
// One thread goes along one sequence and channel; z is the replica.

override N: u32 = 1u;
override T: u32 = 1u;
override C: u32 = 1u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;

// Where a sequence's channel begins.
fn first(replica: u32, i: u32) -> u32 {
    return (replica * N + i / C) * T * C + i % C;
}

fn forward(replica: u32, i: u32) {
    if i >= N * C {
        return;
    }
    var at = first(replica, i);
    let scalars = finish_scalars(replica);
    var state = 0.0;
    for (var t = 0u; t < T; t++) {
        state = a[at] * state + b[at];
        h[at] = finish(scalars, replica, at - replica * N * T * C, state);
        at += C;
    }
}

@compute @workgroup_size(64)
fn scan(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    forward(group.z, (group.y * groups.x + group.x) * 64u + lane);
}

// The same in workgroups of eight, one vector of a processor.
@compute @workgroup_size(8)
fn scan_narrow(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    forward(group.z, (group.y * groups.x + group.x) * 8u + lane);
}

@group(0) @binding(1) var<storage, read> saved_h: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_a: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_b: array<f32>;

@compute @workgroup_size(64)
fn scan_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= N * C {
        return;
    }
    var at = first(group.z, i) + T * C;
    // What comes back from the step after, times its a.
    var later = 0.0;
    for (var t = T; t > 0u; t--) {
        at -= C;
        let sum = g[at] + later;
        grad_b[at] = sum;
        // Before the first step the state is 0.
        var before = 0.0;
        if t > 1u {
            before = saved_h[at - C];
        }
        grad_a[at] = sum * before;
        later = a[at] * sum;
    }
}
