// The plain recurrence h = tanh(x + b + W h) or, RELU, max(0, …); saved is h alone.

const GATES: u32 = 1u;

override RELU: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(LANES)
fn rnn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = example(group, groups);
    if n >= N {
        return;
    }
    let sequence = group.z * N + n;
    let weights = group.z * GATES * H * H;
    let biases = group.z * GATES * H;
    for (var unit = lane; unit < H; unit += LANES) {
        states[unit] = 0.0;
    }
    workgroupBarrier();
    for (var step = 0u; step < T; step++) {
        let at = place(sequence, step);
        let before = step % 2u * H;
        make_products(weights, before, lane);
        for (var unit = lane; unit < H; unit += LANES) {
            let sum = x[at * H + unit] + b[biases + unit] + products_of(weights, unit, before).x;
            var state = 0.0;
            if RELU == 1u {
                state = rectified(sum);
            } else {
                state = squashed(sum);
            }
            states[H - before + unit] = state;
            h[at * H + unit] = state;
        }
        workgroupBarrier();
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> kept_h: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> previous: array<f32>;

@compute @workgroup_size(LANES)
fn rnn_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = example(group, groups);
    if n >= N {
        return;
    }
    let sequence = group.z * N + n;
    let weights = group.z * GATES * H * H;
    // Of each unit of this thread what the step after has left of the gradient of h.
    var left = array<f32, 4>();
    for (var steps = T; steps > 0u; steps--) {
        let at = place(sequence, steps - 1u);
        for (var unit = lane; unit < H; unit += LANES) {
            let y = kept_h[at * H + unit];
            let dh = g[at * H + unit] + left[unit / LANES];
            var slope = 0.0;
            if RELU == 1u {
                slope = select(0.0, dh, (bitcast<i32>(y) > 0i) | is_nan(y));
            } else {
                slope = unless_nan(dh * (1.0 - y * y), y);
            }
            var h_before = 0.0;
            if steps > 1u {
                h_before = kept_h[place(sequence, steps - 2u) * H + unit];
            }
            slopes[unit] = slope;
            dx[at * H + unit] = slope;
            previous[at * H + unit] = h_before;
        }
        workgroupBarrier();
        carry(weights, lane);
        for (var unit = lane; unit < H; unit += LANES) {
            left[unit / LANES] = carried_to(weights, unit);
        }
        workgroupBarrier();
    }
}
