// y = 0 but for PART elements of each run of WHOLE, from START on, which are x: every STEP-th
// group of INNER neighbours. And x with its edges repeated or reflected around it, with the
// gradient of that. One thread per element of the result, or per four; z is the replica.

override N: u32 = 1u;
override WHOLE: u32 = 1u;
override START: u32 = 0u;
override PART: u32 = 1u;
override INNER: u32 = 1u;
override STEP: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn padded(replica: u32, i: u32) -> f32 {
    // N is a multiple of WHOLE, so a replica begins with a whole run.
    let at = replica * N + min(i, N - 1u);
    let place = at % WHOLE;
    // Groups from the first on; wrong where there is none before, but then not used.
    let groups_on = (place - START) / INNER;
    let k = groups_on / STEP;
    if place >= START && groups_on % STEP == 0u && k < PART / INNER {
        return x[at / WHOLE * PART + k * INNER + at % INNER];
    }
    return 0.0;
}

@compute @workgroup_size(64)
fn pad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = four_items(group, groups, lane);
    // All loads before the first store, which would keep later ones back.
    let values = vec4(padded(group.z, i.x), padded(group.z, i.y), padded(group.z, i.z), padded(group.z, i.w));
    for (var k = 0u; k < 4u; k++) {
        if i[k] < N {
            y[group.z * N + i[k]] = values[k];
        }
    }
}

override LENGTH: u32 = 1u;
override BEFORE: u32 = 0u;
override AFTER: u32 = 0u;
override REFLECT: u32 = 0u;

// The place of x along the axis that place p of y repeats.
fn origin(p: u32) -> u32 {
    let last = LENGTH - 1u;
    if p < BEFORE {
        return select(0u, BEFORE - p, REFLECT == 1u);
    }
    let at = p - BEFORE;
    if at > last {
        return select(last, 2u * last - at, REFLECT == 1u);
    }
    return at;
}

@compute @workgroup_size(64)
fn pad_edges(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        let at = group.z * N + i;
        let whole = BEFORE + LENGTH + AFTER;
        let outer = at / INNER / whole;
        y[at] = x[(outer * LENGTH + origin(at / INNER % whole)) * INNER + at % INNER];
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn pad_edges_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N {
        return;
    }
    let at = group.z * N + i;
    let j = at / INNER % LENGTH;
    let last = LENGTH - 1u;
    let first = at / INNER / LENGTH * (BEFORE + LENGTH + AFTER) * INNER + at % INNER;
    // What place j of x was repeated as, in order.
    var sum = 0.0;
    if REFLECT == 1u {
        if j > 0u && j <= BEFORE {
            sum += g[first + (BEFORE - j) * INNER];
        }
    } else if j == 0u {
        for (var p = 0u; p < BEFORE; p++) {
            sum += g[first + p * INNER];
        }
    }
    sum += g[first + (BEFORE + j) * INNER];
    if REFLECT == 1u {
        if j < last && last - j <= AFTER {
            sum += g[first + (BEFORE + 2u * last - j) * INNER];
        }
    } else if j == last {
        for (var p = 0u; p < AFTER; p++) {
            sum += g[first + (BEFORE + LENGTH + p) * INNER];
        }
    }
    dx[at] = sum;
}
