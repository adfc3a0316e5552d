// The GRU: gates r and z, candidate n; saved are these and q, the candidate's recurrent product.

const GATES: u32 = 3u;
const SAVED: u32 = 4u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;

@compute @workgroup_size(LANES)
fn gru(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let of_replica = example(group, groups);
    if of_replica >= N {
        return;
    }
    let sequence = group.z * N + of_replica;
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
            let r = opened(x[row] + b[bias] + sums.x);
            let z = opened(x[row + H] + b[bias + H] + sums.y);
            let q = b[bias + 2u * H] + sums.z;
            let n = squashed(x[row + 2u * H] + r * q);
            let kept_at = at * SAVED * H + unit;
            saved[kept_at] = r;
            saved[kept_at + H] = z;
            saved[kept_at + 2u * H] = n;
            saved[kept_at + 3u * H] = q;
            let state = (1.0 - z) * n + z * states[before + unit];
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
@group(0) @binding(6) var<storage, read_write> dr: array<f32>;

@compute @workgroup_size(LANES)
fn gru_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let of_replica = example(group, groups);
    if of_replica >= N {
        return;
    }
    let sequence = group.z * N + of_replica;
    let weights = group.z * GATES * H * H;
    // Of each unit of this thread what the step after has left of the gradient of h.
    var left = array<f32, 4>();
    for (var steps = T; steps > 0u; steps--) {
        let at = place(sequence, steps - 1u);
        for (var unit = lane; unit < H; unit += LANES) {
            let row = at * SAVED * H + unit;
            let r = kept[row];
            let z = kept[row + H];
            let n = kept[row + 2u * H];
            let q = kept[row + 3u * H];
            var h_before = 0.0;
            if steps > 1u {
                h_before = kept_h[place(sequence, steps - 2u) * H + unit];
            }
            let dh = g[at * H + unit] + left[unit / LANES];
            left[unit / LANES] = dh * z;
            let dz = dh * (h_before - n) * (z * (1.0 - z));
            let dn = dh * (1.0 - z) * (1.0 - n * n);
            let open = dn * q * (r * (1.0 - r));
            slopes[unit] = open;
            slopes[H + unit] = dz;
            slopes[2u * H + unit] = dn * r;
            let to = at * GATES * H + unit;
            dx[to] = open;
            dx[to + H] = dz;
            dx[to + 2u * H] = dn;
            dr[to] = open;
            dr[to + H] = dz;
            dr[to + 2u * H] = dn * r;
            previous[at * H + unit] = h_before;
        }
        workgroupBarrier();
        carry(weights, lane);
        for (var unit = lane; unit < H; unit += LANES) {
            left[unit / LANES] += carried_to(weights, unit);
        }
        workgroupBarrier();
    }
}
