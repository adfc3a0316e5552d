// The LSTM: gates i, f, g and o; saved are these and c.

const GATES: u32 = 4u;
const SAVED: u32 = 5u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;

fn past(at: u32, unit: u32) -> f32 {
    return saved[at * SAVED * H + 4u * H + unit];
}

fn make(at: u32, unit: u32, given: Entered, first: bool) -> f32 {
    let i = opened(given.x.x + given.b.x + given.sums.x);
    let f = opened(given.x.y + given.b.y + given.sums.y);
    let g = squashed(given.x.z + given.b.z + given.sums.z);
    let o = opened(given.x.w + given.b.w + given.sums.w);
    var left = zero_times(f);
    if !first {
        left = f * given.past;
    }
    let c = left + i * g;
    let kept = at * SAVED * H + unit;
    saved[kept] = i;
    saved[kept + H] = f;
    saved[kept + 2u * H] = g;
    saved[kept + 3u * H] = o;
    saved[kept + 4u * H] = c;
    return o * squashed(c);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> kept_h: array<f32>;
@group(0) @binding(3) var<storage, read> kept: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> previous: array<f32>;

fn kept_at(at: u32, unit: u32) -> Kept {
    let row = at * SAVED * H + unit;
    return Kept(vec4(kept[row], kept[row + H], kept[row + 2u * H], kept[row + 3u * H]), kept[row + 4u * H]);
}

fn kept_past(at: u32, unit: u32) -> f32 {
    return kept[at * SAVED * H + 4u * H + unit];
}

// `past` is what the step after has left of the gradient of c.
fn back(was: Kept, before: Before, dh: f32, past: f32) -> Back {
    let i = was.gates.x;
    let f = was.gates.y;
    let candidate = was.gates.z;
    let o = was.gates.w;
    let open = squashed(was.state);
    let dc = past + dh * o * (1.0 - open * open);
    var forgetting = zero_times(dc);
    if !before.none {
        forgetting = dc * before.past;
    }
    let di = dc * candidate * (i * (1.0 - i));
    let df = forgetting * (f * (1.0 - f));
    let dg = dc * i * (1.0 - candidate * candidate);
    let slope = dh * open * (o * (1.0 - o));
    let all = vec4(di, df, dg, slope);
    return Back(all, all, dc * f);
}

fn onward(past: f32, carried: f32) -> f32 {
    return carried;
}

fn store_back(at: u32, unit: u32, made: Back) {
    let to = at * GATES * H + unit;
    dx[to] = made.dx.x;
    dx[to + H] = made.dx.y;
    dx[to + 2u * H] = made.dx.z;
    dx[to + 3u * H] = made.dx.w;
}

// A slope of the recurrent products that a later step has stored.
fn slope_at(at: u32) -> f32 {
    return dx[at];
}

@compute @workgroup_size(LANES)
fn lstm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    forward(group, groups, lane);
}

@compute @workgroup_size(LANES)
fn lstm_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    backward(group, groups, lane);
}

@compute @workgroup_size(LANES)
fn lstm_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    step_forward(group, lane);
}

@compute @workgroup_size(LANES)
fn lstm_step_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    step_backward(group, lane);
}
