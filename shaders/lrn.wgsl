// y = x d^(-BETA) over x [N, C, S] with d = BIAS + ALPHA times the sum of squares over the SIZE
// channels around each one, and the gradient. One thread per element; z is the replica.

override N: u32 = 1u;
override C: u32 = 1u;
override S: u32 = 1u;
override SIZE: u32 = 1u;
override ALPHA: f32 = 1.0;
override BETA: f32 = 0.75;
override BIAS: f32 = 1.0;

// d^(-BETA): 0 of an infinite d, NaN of NaN.
fn lowered(d: f32) -> f32 {
    let infinite = (bitcast<u32>(d) == 0x7F800000u) & (BETA > 0.0);
    return unless_nan(select(exp(-BETA * log(d)), 0.0, infinite), d);
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> d: array<f32>;

@compute @workgroup_size(64)
fn lrn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * C * S {
        return;
    }
    let at = group.z * N * C * S + i;
    let c = i / S % C;
    let first = c - min(c, SIZE / 2u);
    let end = min(c + (SIZE - 1u) / 2u + 1u, C);
    var sum = 0.0;
    for (var other = first; other < end; other++) {
        let value = x[at - c * S + other * S];
        sum += value * value;
    }
    let scale = BIAS + times(ALPHA, sum);
    d[at] = scale;
    y[at] = x[at] * lowered(scale);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_x: array<f32>;
@group(0) @binding(2) var<storage, read> saved_d: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn lrn_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * C * S {
        return;
    }
    let at = group.z * N * C * S + i;
    let c = i / S % C;
    // The channels that this one is around: seen from the other side.
    let first = c - min(c, (SIZE - 1u) / 2u);
    let end = min(c + SIZE / 2u + 1u, C);
    var sum = 0.0;
    for (var other = first; other < end; other++) {
        let place = at - c * S + other * S;
        sum += g[place] * saved_x[place] * (lowered(saved_d[place]) / saved_d[place]);
    }
    dx[at] = g[at] * lowered(saved_d[at]) - times(2.0 * ALPHA * BETA, saved_x[at] * sum);
}
