// A step of all examples in a launch: W is spread over the workgroups, each of which reads its part once for some
// examples, where a workgroup that makes whole examples reads all of W in every step. Needs recurrent.wgsl and the
// cell; H is a multiple of 4.
//
// A workgroup has UNITS units of 2 PAIRS examples. LANES = UNITS PAIRS SLICES threads forward: a thread has a pair of examples,
// a unit, and a slice of what is summed over, whose sums meet in workgroup memory. Backward a thread has four units,
// so SLICES is four times as large.

override UNITS: u32 = 8u;
override PAIRS: u32 = 4u;
// How many launches there are, one for each of T.
override DISPATCHES: u32 = T;

// x is how many launches of this one came before.
@group(1) @binding(0) var<uniform> dispatched: vec4<u32>;
@group(0) @binding(1) var<storage, read> w_fours: array<vec4<f32>>;

// Four sums of each of two examples. Two more than there are threads: what a thread adds up meets other banks.
override PITCH: u32 = LANES + 2u;
override PARTS: u32 = 8u * PITCH;
var<workgroup> parts: array<f32, PARTS>;

// The unit and example whose state a thread finishes, if it does.
struct Own {
    finishes: bool,
    unit: u32,
    // In [replicas, N].
    sequence: u32,
    // Where the sums of its example's pair begin, and of a unit's first gate or of the first of four units.
    pair: u32,
    which: u32,
}

fn own_of(group: vec3<u32>, lane: u32) -> Own {
    let example_of = lane / UNITS;
    let n = group.y * 2u * PAIRS + example_of;
    let unit = group.x * UNITS + lane % UNITS;
    let finishes = (example_of < 2u * PAIRS) & (n < N) & (unit < H);
    return Own(finishes, min(unit, H - 1u), group.z * N + min(n, N - 1u), example_of / 2u, example_of % 2u);
}

// The pair's first or second example in [replicas, N]; the last one where there is none.
fn of_pair(group: vec3<u32>, pair: u32, which: u32) -> u32 {
    return group.z * N + min((group.y * PAIRS + pair) * 2u + which, N - 1u);
}

fn store_parts(lane: u32, one: vec4<f32>, other: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        parts[i * PITCH + lane] = one[i];
        parts[(4u + i) * PITCH + lane] = other[i];
    }
}

// Four of h; of the state before the first, 0.
fn four_of_h(at: u32, begun: bool) -> vec4<f32> {
    return select(vec4<f32>(), vec4(h[at], h[at + 1u], h[at + 2u], h[at + 3u]), begun);
}

fn step_forward(group: vec3<u32>, lane: u32) {
    let step = dispatched.x;
    let begun = step > 0u;
    let earlier = max(step, 1u) - 1u;
    let own = own_of(group, lane);
    let at = place(own.sequence, step);
    // What the end needs is under way before the products.
    var entered = Entered();
    if own.finishes {
        entered.x = entering(at, own.unit);
        entered.b = biases_of(group.z, own.unit);
        if begun {
            let before = place(own.sequence, earlier);
            entered.h = h[before * H + own.unit];
            entered.past = past(before, own.unit);
        }
    }
    let pair = lane / UNITS % PAIRS;
    let one = place(of_pair(group, pair, 0u), earlier) * H;
    let other = place(of_pair(group, pair, 1u), earlier) * H;
    let row = (group.z * GATES * H + own.unit) * (H / 4u);
    let gate = H * (H / 4u);
    var sums_one = vec4<f32>();
    var sums_other = vec4<f32>();
    for (var four = lane / (UNITS * PAIRS); four < H / 4u; four += SLICES) {
        let h_one = four_of_h(one + 4u * four, begun);
        let h_other = four_of_h(other + 4u * four, begun);
        let w_first = w_fours[row + four];
        sums_one.x += dot(w_first, h_one);
        sums_other.x += dot(w_first, h_other);
        if GATES > 1u {
            let w_second = w_fours[row + gate + four];
            let w_third = w_fours[row + 2u * gate + four];
            sums_one.y += dot(w_second, h_one);
            sums_other.y += dot(w_second, h_other);
            sums_one.z += dot(w_third, h_one);
            sums_other.z += dot(w_third, h_other);
        }
        if GATES > 3u {
            let w_last = w_fours[row + 3u * gate + four];
            sums_one.w += dot(w_last, h_one);
            sums_other.w += dot(w_last, h_other);
        }
    }
    store_parts(lane, sums_one, sums_other);
    workgroupBarrier();
    if !own.finishes {
        return;
    }
    var first = own.which * 4u * PITCH + own.pair * UNITS + lane % UNITS;
    for (var slice = 0u; slice < SLICES; slice++) {
        entered.sums += vec4(parts[first], parts[first + PITCH], parts[first + 2u * PITCH], parts[first + 3u * PITCH]);
        first += UNITS * PAIRS;
    }
    h[at * H + own.unit] = make(at, own.unit, entered, !begun);
}

// Rows of W that a thread has under way together.
const TOGETHER: u32 = 8u;

// A step's gradients, the last step's first. Until a step writes its `previous`, the step after it has left there what goes past W.
fn step_backward(group: vec3<u32>, lane: u32) {
    let begun = dispatched.x > 0u;
    let step = T - 1u - dispatched.x;
    let later = min(step + 1u, T - 1u);
    let own = own_of(group, lane);
    let at = place(own.sequence, step);
    let earlier = place(own.sequence, max(step, 1u) - 1u);
    var kept_here = Kept();
    var before = Before(0.0, 0.0, step == 0u);
    var above = 0.0;
    var left = 0.0;
    if own.finishes {
        kept_here = kept_at(at, own.unit);
        above = g[at * H + own.unit];
        if begun {
            left = previous[at * H + own.unit];
        }
        if step > 0u {
            before.h = kept_h[earlier * H + own.unit];
            before.past = kept_past(earlier, own.unit);
        }
    }
    let quads = UNITS / 4u;
    var sums_one = vec4<f32>();
    var sums_other = vec4<f32>();
    if begun {
        let pair = lane / quads % PAIRS;
        let one = place(of_pair(group, pair, 0u), later) * ROWS;
        let other = place(of_pair(group, pair, 1u), later) * ROWS;
        let column = group.z * ROWS * (H / 4u) + min(group.x * quads + lane % quads, H / 4u - 1u);
        var row = lane / (quads * PAIRS);
        while row + (TOGETHER - 1u) * SLICES < ROWS {
            var slopes_one: array<f32, TOGETHER>;
            var slopes_other: array<f32, TOGETHER>;
            var fours: array<vec4<f32>, TOGETHER>;
            for (var i = 0u; i < TOGETHER; i++) {
                slopes_one[i] = slope_at(one + row + i * SLICES);
                slopes_other[i] = slope_at(other + row + i * SLICES);
                fours[i] = w_fours[column + (row + i * SLICES) * (H / 4u)];
            }
            for (var i = 0u; i < TOGETHER; i++) {
                sums_one += slopes_one[i] * fours[i];
                sums_other += slopes_other[i] * fours[i];
            }
            row += TOGETHER * SLICES;
        }
        while row < ROWS {
            let four = w_fours[column + row * (H / 4u)];
            sums_one += slope_at(one + row) * four;
            sums_other += slope_at(other + row) * four;
            row += SLICES;
        }
    }
    store_parts(lane, sums_one, sums_other);
    workgroupBarrier();
    if !own.finishes {
        return;
    }
    let unit = lane % UNITS;
    var first = (own.which * 4u + unit % 4u) * PITCH + own.pair * quads + unit / 4u;
    var sum = 0.0;
    for (var slice = 0u; slice < SLICES; slice++) {
        sum += parts[first];
        first += quads * PAIRS;
    }
    let gradients = back(kept_here, before, above + onward(left, sum), left);
    store_back(at, own.unit, gradients);
    previous[at * H + own.unit] = before.h;
    if step > 0u {
        previous[earlier * H + own.unit] = gradients.past;
    }
}
