// What the cells of src/ops/recurrent.rs share: one workgroup makes all T steps of one example, a
// thread one unit of H (or each LANES-th). A state before the first is 0. z is the replica. Needs
// shared/nan.wgsl.
//
// The cell says how many GATES its products have, H rows of W [GATES H, H] each, and has these functions of a unit:
// `past`, what is saved of the step before beside h; `make`, which saves a step and returns its h; `kept_at` and
// `kept_past`, what was saved; `back`, the gradients of a step; `onward`, what the state before gets of them;
// `store_back`.

override N: u32 = 1u;
override T: u32 = 1u;
override H: u32 = 1u;
override REVERSE: u32 = 0u;
// Threads of a workgroup.
override LANES: u32 = 256u;

// Two states of the example, the one before a step and the one that the step makes, in turn.
override STATES: u32 = 2u * H;
var<workgroup> states: array<f32, STATES>;

// Threads that share a row's product and a column's sum. One is a processor's way; hardware that has
// many threads reads the same words in a fraction of the rounds.
override SLICES: u32 = 1u;

// Memory for the threads' shares and for what they make together.
override SHARED: u32 = min(SLICES - 1u, 1u) * LANES + 1u;
override MADE: u32 = min(SLICES - 1u, 1u) * ROWS + 1u;
var<workgroup> shares: array<f32, SHARED>;
var<workgroup> made: array<f32, MADE>;

// A step's gradient of the recurrent products.
override ROWS: u32 = GATES * H;
var<workgroup> slopes: array<f32, ROWS>;

@group(0) @binding(1) var<storage, read> w: array<f32>;

// The example of this workgroup where those of x and y form one long row.
fn example(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

// What a unit's gates have at [replicas, N, T]: x of each, and b.
fn entering(at: u32, unit: u32) -> vec4<f32> {
    let row = at * GATES * H + unit;
    var entered = vec4(x[row], 0.0, 0.0, 0.0);
    if GATES > 1u {
        entered.y = x[row + H];
        entered.z = x[row + 2u * H];
    }
    if GATES > 3u {
        entered.w = x[row + 3u * H];
    }
    return entered;
}

fn biases_of(replica: u32, unit: u32) -> vec4<f32> {
    let row = replica * GATES * H + unit;
    var biases = vec4(b[row], 0.0, 0.0, 0.0);
    if GATES > 1u {
        biases.y = b[row + H];
        biases.z = b[row + 2u * H];
    }
    if GATES > 3u {
        biases.w = b[row + 3u * H];
    }
    return biases;
}

// What a step makes a unit's state of: x and b of the gates, the recurrent products, the state before and what was saved
// beside it.
struct Entered {
    x: vec4<f32>,
    b: vec4<f32>,
    sums: vec4<f32>,
    h: f32,
    past: f32,
}

// The step before, where there is one.
struct Before {
    h: f32,
    past: f32,
    none: bool,
}

// What the gradient needs of a step and unit: the gates, and what else is kept.
struct Kept {
    gates: vec4<f32>,
    state: f32,
}

// A step's gradients of a unit: of x, of the recurrent products, and what goes to the step before past W.
struct Back {
    dx: vec4<f32>,
    da: vec4<f32>,
    past: f32,
}

// Where the step's place stands in [replicas, N, T]: the last first in reverse.
fn place(sequence: u32, step: u32) -> u32 {
    return sequence * T + select(step, T - 1u - step, REVERSE == 1u);
}

// 1 / (1 + e^-x). Exponents are kept small; the clamped results round to the same f32 or to a
// number near its smallest.
fn opened(x: f32) -> f32 {
    return unless_nan(1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0))), x);
}

// tanh x, near 0 by its series.
fn squashed(x: f32) -> f32 {
    let x2 = x * x;
    let near = x * (1.0 + x2 * (-0.33333333 + x2 * (0.13333333 + x2 * (-0.053968254 + x2 * 0.021869489))));
    let e = exp(-2.0 * min(abs(x), 20.0));
    let far = sign(x) * ((1.0 - e) / (1.0 + e));
    return unless_nan(select(far, near, abs(x) < 0.25), x);
}

fn four_weights(at: u32) -> vec4<f32> {
    return vec4(w[at], w[at + 1u], w[at + 2u], w[at + 3u]);
}

fn four_states(at: u32) -> vec4<f32> {
    return vec4(states[at], states[at + 1u], states[at + 2u], states[at + 3u]);
}

// Four terms of each gate's product.
fn four_terms(at: u32, h: vec4<f32>) -> vec4<f32> {
    var terms = vec4(dot(four_weights(at), h), 0.0, 0.0, 0.0);
    if GATES > 1u {
        terms.y = dot(four_weights(at + H * H), h);
        terms.z = dot(four_weights(at + 2u * H * H), h);
    }
    if GATES > 3u {
        terms.w = dot(four_weights(at + 3u * H * H), h);
    }
    return terms;
}

// A unit's rows of W, one of each gate, times the state that begins at `before`.
fn products(weights: u32, unit: u32, before: u32) -> vec4<f32> {
    let row = weights + unit * H;
    var sums = vec4<f32>();
    for (var k = 0u; k < H / 8u * 8u; k += 8u) {
        sums += four_terms(row + k, four_states(before + k));
        sums += four_terms(row + k + 4u, four_states(before + k + 4u));
    }
    for (var k = H / 8u * 8u; k < H; k++) {
        let h = states[before + k];
        sums.x += w[row + k] * h;
        if GATES > 1u {
            sums.y += w[row + k + H * H] * h;
            sums.z += w[row + k + 2u * H * H] * h;
        }
        if GATES > 3u {
            sums.w += w[row + k + 3u * H * H] * h;
        }
    }
    return sums;
}

fn four_slopes(at: u32) -> vec4<f32> {
    return vec4(slopes[at], slopes[at + 1u], slopes[at + 2u], slopes[at + 3u]);
}

fn four_below(at: u32) -> vec4<f32> {
    return vec4(w[at], w[at + H], w[at + 2u * H], w[at + 3u * H]);
}

// The slopes times a unit's column of W: what the state before gets of the gradient.
fn carried(weights: u32, unit: u32) -> f32 {
    var sum = 0.0;
    for (var j = 0u; j < ROWS / 16u * 16u; j += 16u) {
        let at = weights + j * H + unit;
        sum += dot(four_slopes(j), four_below(at));
        sum += dot(four_slopes(j + 4u), four_below(at + 4u * H));
        sum += dot(four_slopes(j + 8u), four_below(at + 8u * H));
        sum += dot(four_slopes(j + 12u), four_below(at + 12u * H));
    }
    for (var j = ROWS / 16u * 16u; j < ROWS; j++) {
        sum += slopes[j] * w[weights + j * H + unit];
    }
    return sum;
}

// Where threads share sums: leaves all products of the state that begins at `before` in memory.
// Neighbours have one row's neighbouring words. Every thread must call it: it holds barriers.
fn make_products(weights: u32, before: u32, lane: u32) {
    if SLICES == 1u {
        return;
    }
    let at_once = LANES / SLICES;
    for (var first = 0u; first < ROWS; first += at_once) {
        let row = weights + min(first + lane / SLICES, ROWS - 1u) * H;
        var sum = 0.0;
        for (var k = lane % SLICES; k < H; k += SLICES) {
            sum += w[row + k] * states[before + k];
        }
        shares[lane] = sum;
        workgroupBarrier();
        if lane < at_once && first + lane < ROWS {
            var product = 0.0;
            for (var slice = 0u; slice < SLICES; slice++) {
                product += shares[lane * SLICES + slice];
            }
            made[first + lane] = product;
        }
        workgroupBarrier();
    }
}

// A unit's products: those that were made, or its own.
fn products_of(weights: u32, unit: u32, before: u32) -> vec4<f32> {
    if SLICES == 1u {
        return products(weights, unit, before);
    }
    var sums = vec4(made[unit], 0.0, 0.0, 0.0);
    if GATES > 1u {
        sums.y = made[unit + H];
        sums.z = made[unit + 2u * H];
    }
    if GATES > 3u {
        sums.w = made[unit + 3u * H];
    }
    return sums;
}

// Where threads share sums: leaves what the state before gets of the gradient in memory. Neighbours
// have neighbouring columns. Every thread must call it: it holds barriers.
fn carry(weights: u32, lane: u32) {
    if SLICES == 1u {
        return;
    }
    let at_once = LANES / SLICES;
    for (var first = 0u; first < H; first += at_once) {
        let column = weights + min(first + lane % at_once, H - 1u);
        var sum = 0.0;
        for (var j = lane / at_once; j < ROWS; j += SLICES) {
            sum += slopes[j] * w[column + j * H];
        }
        shares[lane] = sum;
        workgroupBarrier();
        if lane < at_once && first + lane < H {
            var total = 0.0;
            for (var slice = 0u; slice < SLICES; slice++) {
                total += shares[slice * at_once + lane];
            }
            made[first + lane] = total;
        }
        workgroupBarrier();
    }
}

fn carried_to(weights: u32, unit: u32) -> f32 {
    if SLICES == 1u {
        return carried(weights, unit);
    }
    return made[unit];
}

// All steps of an example.
fn forward(group: vec3<u32>, groups: vec3<u32>, lane: u32) {
    let n = example(group, groups);
    if n >= N {
        return;
    }
    let sequence = group.z * N + n;
    let weights = group.z * GATES * H * H;
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
            var left = 0.0;
            if step > 0u {
                left = past(place(sequence, step - 1u), unit);
            }
            let made_of = Entered(entering(at, unit), biases_of(group.z, unit), sums, states[before + unit], left);
            let state = make(at, unit, made_of, step == 0u);
            states[after + unit] = state;
            h[at * H + unit] = state;
        }
        workgroupBarrier();
    }
}

// Their gradients.
fn backward(group: vec3<u32>, groups: vec3<u32>, lane: u32) {
    let n = example(group, groups);
    if n >= N {
        return;
    }
    let sequence = group.z * N + n;
    let weights = group.z * GATES * H * H;
    // Of each unit of this thread what the step after has left of the gradient of h, and past W.
    var left = array<f32, 4>();
    var left_past = array<f32, 4>();
    for (var steps = T; steps > 0u; steps--) {
        let at = place(sequence, steps - 1u);
        for (var unit = lane; unit < H; unit += LANES) {
            let part = unit / LANES;
            let dh = g[at * H + unit] + left[part];
            var h_before = 0.0;
            var kept_before = 0.0;
            if steps > 1u {
                let earlier = place(sequence, steps - 2u);
                h_before = kept_h[earlier * H + unit];
                kept_before = kept_past(earlier, unit);
            }
            let gradients = back(kept_at(at, unit), Before(h_before, kept_before, steps == 1u), dh, left_past[part]);
            left_past[part] = gradients.past;
            slopes[unit] = gradients.da.x;
            if GATES > 1u {
                slopes[H + unit] = gradients.da.y;
                slopes[2u * H + unit] = gradients.da.z;
            }
            if GATES > 3u {
                slopes[3u * H + unit] = gradients.da.w;
            }
            store_back(at, unit, gradients);
            previous[at * H + unit] = h_before;
        }
        workgroupBarrier();
        carry(weights, lane);
        for (var unit = lane; unit < H; unit += LANES) {
            let part = unit / LANES;
            left[part] = onward(left_past[part], carried_to(weights, unit));
        }
        workgroupBarrier();
    }
}
