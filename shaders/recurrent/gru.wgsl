// The GRU: gates r and z, candidate n; saved are these and q, the candidate's recurrent product.

const GATES: u32 = 3u;
const SAVED: u32 = 4u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;

fn past(at: u32, unit: u32) -> f32 {
    return 0.0;
}

fn make(at: u32, unit: u32, given: Entered, first: bool) -> f32 {
    let r = opened(given.x.x + given.b.x + given.sums.x);
    let z = opened(given.x.y + given.b.y + given.sums.y);
    let q = given.b.z + given.sums.z;
    let n = squashed(given.x.z + r * q);
    let kept_to = at * SAVED * H + unit;
    saved[kept_to] = r;
    saved[kept_to + H] = z;
    saved[kept_to + 2u * H] = n;
    saved[kept_to + 3u * H] = q;
    return (1.0 - z) * n + z * given.h;
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> kept_h: array<f32>;
@group(0) @binding(3) var<storage, read> kept: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> previous: array<f32>;
@group(0) @binding(6) var<storage, read_write> dr: array<f32>;

fn kept_at(at: u32, unit: u32) -> Kept {
    let row = at * SAVED * H + unit;
    return Kept(vec4(kept[row], kept[row + H], kept[row + 2u * H], kept[row + 3u * H]), 0.0);
}

fn kept_past(at: u32, unit: u32) -> f32 {
    return 0.0;
}

fn back(was: Kept, before: Before, dh: f32, past: f32) -> Back {
    let r = was.gates.x;
    let z = was.gates.y;
    let n = was.gates.z;
    let q = was.gates.w;
    let dz = dh * (before.h - n) * (z * (1.0 - z));
    let dn = dh * (1.0 - z) * (1.0 - n * n);
    let open = dn * q * (r * (1.0 - r));
    return Back(vec4(open, dz, dn, 0.0), vec4(open, dz, dn * r, 0.0), dh * z);
}

fn onward(past: f32, carried: f32) -> f32 {
    return past + carried;
}

fn store_back(at: u32, unit: u32, made: Back) {
    let to = at * GATES * H + unit;
    dx[to] = made.dx.x;
    dx[to + H] = made.dx.y;
    dx[to + 2u * H] = made.dx.z;
    dr[to] = made.da.x;
    dr[to + H] = made.da.y;
    dr[to + 2u * H] = made.da.z;
}

// A slope of the recurrent products that a later step has stored.
fn slope_at(at: u32) -> f32 {
    return dr[at];
}

@compute @workgroup_size(LANES)
fn gru(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    forward(group, groups, lane);
}

@compute @workgroup_size(LANES)
fn gru_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    backward(group, groups, lane);
}

@compute @workgroup_size(LANES)
fn gru_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    step_forward(group, lane);
}

@compute @workgroup_size(LANES)
fn gru_step_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    step_backward(group, lane);
}
