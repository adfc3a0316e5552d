// The plain recurrence h = tanh(x + b + W h) or, RELU, max(0, …); saved is h alone.

const GATES: u32 = 1u;

override RELU: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;

fn past(at: u32, unit: u32) -> f32 {
    return 0.0;
}

fn make(at: u32, unit: u32, given: Entered, first: bool) -> f32 {
    let sum = given.x.x + given.b.x + given.sums.x;
    if RELU == 1u {
        return rectified(sum);
    }
    return squashed(sum);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> kept_h: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> previous: array<f32>;

fn kept_at(at: u32, unit: u32) -> Kept {
    return Kept(vec4<f32>(), kept_h[at * H + unit]);
}

fn kept_past(at: u32, unit: u32) -> f32 {
    return 0.0;
}

fn back(was: Kept, before: Before, dh: f32, past: f32) -> Back {
    let y = was.state;
    var slope = 0.0;
    if RELU == 1u {
        slope = select(0.0, dh, (bitcast<i32>(y) > 0i) | is_nan(y));
    } else {
        slope = unless_nan(dh * (1.0 - y * y), y);
    }
    let all = vec4(slope, 0.0, 0.0, 0.0);
    return Back(all, all, 0.0);
}

fn onward(past: f32, carried: f32) -> f32 {
    return carried;
}

fn store_back(at: u32, unit: u32, made: Back) {
    dx[at * H + unit] = made.dx.x;
}

// A slope of the recurrent products that a later step has stored.
fn slope_at(at: u32) -> f32 {
    return dx[at];
}

@compute @workgroup_size(LANES)
fn rnn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    forward(group, groups, lane);
}

@compute @workgroup_size(LANES)
fn rnn_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    backward(group, groups, lane);
}

@compute @workgroup_size(LANES)
fn rnn_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    step_forward(group, lane);
}

@compute @workgroup_size(LANES)
fn rnn_step_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    step_backward(group, lane);
}
