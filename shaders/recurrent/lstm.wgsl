// The LSTM: gates i, f, g and o; saved are these and c.

const GATES: u32 = 4u;
const SAVED: u32 = 5u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;

@compute @workgroup_size(LANES)
fn lstm(
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
        let after = H - before;
        make_products(weights, before, lane);
        for (var unit = lane; unit < H; unit += LANES) {
            let sums = products_of(weights, unit, before);
            let row = at * GATES * H + unit;
            let bias = biases + unit;
            let i = opened(x[row] + b[bias] + sums.x);
            let f = opened(x[row + H] + b[bias + H] + sums.y);
            let g = squashed(x[row + 2u * H] + b[bias + 2u * H] + sums.z);
            let o = opened(x[row + 3u * H] + b[bias + 3u * H] + sums.w);
            var left = zero_times(f);
            if step > 0u {
                left = f * saved[place(sequence, step - 1u) * SAVED * H + 4u * H + unit];
            }
            let c = left + i * g;
            let kept = at * SAVED * H + unit;
            saved[kept] = i;
            saved[kept + H] = f;
            saved[kept + 2u * H] = g;
            saved[kept + 3u * H] = o;
            saved[kept + 4u * H] = c;
            let state = o * squashed(c);
            states[after + unit] = state;
            h[at * H + unit] = state;
        }
        workgroupBarrier();
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> kept_h: array<f32>;
@group(0) @binding(3) var<storage, read> kept: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> previous: array<f32>;

@compute @workgroup_size(LANES)
fn lstm_grad(
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
    // Of each unit of this thread what the step after has left of the gradient of h and of c.
    var left_h = array<f32, 4>();
    var left_c = array<f32, 4>();
    for (var steps = T; steps > 0u; steps--) {
        let at = place(sequence, steps - 1u);
        for (var unit = lane; unit < H; unit += LANES) {
            let part = unit / LANES;
            let row = at * SAVED * H + unit;
            let i = kept[row];
            let f = kept[row + H];
            let candidate = kept[row + 2u * H];
            let o = kept[row + 3u * H];
            let open = squashed(kept[row + 4u * H]);
            let dh = g[at * H + unit] + left_h[part];
            let dc = left_c[part] + dh * o * (1.0 - open * open);
            var forgetting = zero_times(dc);
            var h_before = 0.0;
            if steps > 1u {
                let earlier = place(sequence, steps - 2u);
                forgetting = dc * kept[earlier * SAVED * H + 4u * H + unit];
                h_before = kept_h[earlier * H + unit];
            }
            left_c[part] = dc * f;
            let di = dc * candidate * (i * (1.0 - i));
            let df = forgetting * (f * (1.0 - f));
            let dg = dc * i * (1.0 - candidate * candidate);
            let slope = dh * open * (o * (1.0 - o));
            slopes[unit] = di;
            slopes[H + unit] = df;
            slopes[2u * H + unit] = dg;
            slopes[3u * H + unit] = slope;
            let to = at * GATES * H + unit;
            dx[to] = di;
            dx[to + H] = df;
            dx[to + 2u * H] = dg;
            dx[to + 3u * H] = slope;
            previous[at * H + unit] = h_before;
        }
        workgroupBarrier();
        carry(weights, lane);
        for (var unit = lane; unit < H; unit += LANES) {
            left_h[unit / LANES] = carried_to(weights, unit);
        }
        workgroupBarrier();
    }
}
