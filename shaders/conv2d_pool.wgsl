// Convolution, bias, max-pooling and activation in one launch, and the gradients through
// them as sums over pooled places; z is the replica.

override N: u32 = 1u;
override C: u32 = 1u;
override F: u32 = 1u;
override GROUPS: u32 = 1u;

// The pool's window over the convolution's output of HO x WO; what it makes is PO x QO.
override PO: u32 = 1u;
override QO: u32 = 1u;
override PKH: u32 = 1u;
override PKW: u32 = 1u;
override PSH: u32 = 1u;
override PSW: u32 = 1u;
override PPH: u32 = 0u;
override PPW: u32 = 0u;

// Threads of a weight gradient's workgroup; `LANES` in src/ops/conv2d_pool.rs.
const LANES: u32 = 256u;

// Filters of one thread of the forward kernels; `THREAD_FILTERS` in
// src/ops/conv2d_pool.rs. A thread reads each pixel once for all of them.
const FILTERS: u32 = 8u;

// Channels and filters of one group.
fn group_channels() -> u32 {
    return C / GROUPS;
}

fn group_filters() -> u32 {
    return F / GROUPS;
}

// Weights of one filter.
fn taps() -> u32 {
    return group_channels() * KH * KW;
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> argmax: array<u32>;

// What the forward kernels' workgroups are: FILTERS filters of one group (fewer at its
// end) over as many pooled places of all images as there are threads. The filters do not
// depend on the thread, so that their weights are read once for many.
struct Tile {
    first: u32,
    filters: u32,
    // The thread's pooled place in [N, PO, QO].
    place: u32,
    // False in workgroups and threads beyond the last.
    valid: bool,
}

fn tile_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> Tile {
    let tiles = (N * PO * QO + ELEMENTWISE - 1u) / ELEMENTWISE;
    let blocks = (group_filters() + FILTERS - 1u) / FILTERS;
    let row = row_of(group, groups);
    let block = row / tiles;
    let within = block % blocks * FILTERS;
    let place = row % tiles * ELEMENTWISE + lane;
    return Tile(
        block / blocks * group_filters() + within,
        min(FILTERS, group_filters() - within),
        place,
        block < blocks * GROUPS && place < N * PO * QO,
    );
}

// Where the weights of a tile's filters begin; the last filter stands in for those that
// are not there.
fn weights_of(replica: u32, tile: Tile) -> array<u32, 8> {
    var at: array<u32, 8>;
    for (var k = 0u; k < FILTERS; k++) {
        at[k] = (replica * F + tile.first + min(k, tile.filters - 1u)) * taps();
    }
    return at;
}

struct Octet {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn bias_of(replica: u32, tile: Tile) -> Octet {
    let at = replica * F + tile.first;
    let last = tile.filters - 1u;
    return Octet(
        vec4<f32>(bias[at], bias[at + min(1u, last)], bias[at + min(2u, last)], bias[at + min(3u, last)]),
        vec4<f32>(
            bias[at + min(4u, last)],
            bias[at + min(5u, last)],
            bias[at + min(6u, last)],
            bias[at + min(7u, last)],
        ),
    );
}

// The maxima so far and where they stand.
struct Best {
    low: vec4<f32>,
    high: vec4<f32>,
    low_at: vec4<u32>,
    high_at: vec4<u32>,
}

// The first of equal maxima stays.
fn better(best: Best, candidate: Octet, at: u32) -> Best {
    let low = candidate.low > best.low;
    let high = candidate.high > best.high;
    return Best(
        select(best.low, candidate.low, low),
        select(best.high, candidate.high, high),
        select(best.low_at, vec4<u32>(at), low),
        select(best.high_at, vec4<u32>(at), high),
    );
}

fn store(replica: u32, tile: Tile, best: Best) {
    var maxima = array<f32, 8>(
        best.low.x, best.low.y, best.low.z, best.low.w,
        best.high.x, best.high.y, best.high.z, best.high.w,
    );
    var places = array<u32, 8>(
        best.low_at.x, best.low_at.y, best.low_at.z, best.low_at.w,
        best.high_at.x, best.high_at.y, best.high_at.z, best.high_at.w,
    );
    let n = tile.place / (PO * QO);
    for (var k = 0u; k < tile.filters; k++) {
        let at = ((replica * N + n) * F + tile.first + k) * PO * QO + tile.place % (PO * QO);
        y[at] = activate(maxima[k]);
        argmax[at] = places[k];
    }
}

// The convolution of the tile's filters at (row, col) of image n, without bias.
fn convolved(replica: u32, tile: Tile, w_at: array<u32, 8>, row: u32, col: u32) -> Octet {
    let n = tile.place / (PO * QO);
    let first_channel = tile.first / group_filters() * group_channels();
    var low = vec4<f32>(0.0);
    var high = vec4<f32>(0.0);
    for (var c = 0u; c < group_channels(); c++) {
        let image = ((replica * N + n) * C + first_channel + c) * H;
        for (var kh = 0u; kh < KH; kh++) {
            let h = image_row(row, kh);
            for (var kw = 0u; kw < KW; kw++) {
                let v = image_col(col, kw);
                if h != NOWHERE && v != NOWHERE {
                    let tap = (c * KH + kh) * KW + kw;
                    let value = x[(image + h) * W + v];
                    low += value * vec4<f32>(
                        w[w_at[0] + tap], w[w_at[1] + tap], w[w_at[2] + tap], w[w_at[3] + tap]
                    );
                    high += value * vec4<f32>(
                        w[w_at[4] + tap], w[w_at[5] + tap], w[w_at[6] + tap], w[w_at[7] + tap]
                    );
                }
            }
        }
    }
    return Octet(low, high);
}

@compute @workgroup_size(64)
fn conv2d_pool(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_of(group, groups, lane);
    if !tile.valid {
        return;
    }
    let w_at = weights_of(group.z, tile);
    let added = bias_of(group.z, tile);
    let top = tile.place / QO % PO * PSH;
    let left = tile.place % QO * PSW;
    var best: Best;
    var first = true;
    for (var kh = 0u; kh < PKH; kh++) {
        for (var kw = 0u; kw < PKW; kw++) {
            let row = top + kh - PPH;
            let col = left + kw - PPW;
            // Above and left of the plane these are larger than any place.
            if row < HO && col < WO {
                let sums = convolved(group.z, tile, w_at, row, col);
                let here = Octet(sums.low + added.low, sums.high + added.high);
                let at = row * WO + col;
                if first {
                    best = Best(here.low, here.high, vec4<u32>(at), vec4<u32>(at));
                    first = false;
                } else {
                    best = better(best, here, at);
                }
            }
        }
    }
    store(group.z, tile, best);
}

// Windows of 2 x 2 over a convolution of stride 1 without padding: every tap is inside,
// and neighbouring places share pixels. Two pixels are read for 4 FILTERS products.
@compute @workgroup_size(64)
fn conv2d_pool_pairs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_of(group, groups, lane);
    if !tile.valid {
        return;
    }
    let w_at = weights_of(group.z, tile);
    let n = tile.place / (PO * QO);
    let top = tile.place / QO % PO * PSH;
    let left = tile.place % QO * PSW;
    let first_channel = tile.first / group_filters() * group_channels();
    var low0 = vec4<f32>(0.0);
    var low1 = vec4<f32>(0.0);
    var low2 = vec4<f32>(0.0);
    var low3 = vec4<f32>(0.0);
    var high0 = vec4<f32>(0.0);
    var high1 = vec4<f32>(0.0);
    var high2 = vec4<f32>(0.0);
    var high3 = vec4<f32>(0.0);
    for (var c = 0u; c < group_channels(); c++) {
        let image = (((group.z * N + n) * C + first_channel + c) * H + top) * W + left;
        for (var kh = 0u; kh < KH; kh++) {
            let line = image + kh * W;
            let tap = (c * KH + kh) * KW;
            var above = x[line];
            var below = x[line + W];
            for (var kw = 0u; kw < KW; kw++) {
                let next_above = x[line + kw + 1u];
                let next_below = x[line + W + kw + 1u];
                let at = tap + kw;
                let low = vec4<f32>(
                    w[w_at[0] + at], w[w_at[1] + at], w[w_at[2] + at], w[w_at[3] + at]
                );
                let high = vec4<f32>(
                    w[w_at[4] + at], w[w_at[5] + at], w[w_at[6] + at], w[w_at[7] + at]
                );
                low0 += above * low;
                low1 += next_above * low;
                low2 += below * low;
                low3 += next_below * low;
                high0 += above * high;
                high1 += next_above * high;
                high2 += below * high;
                high3 += next_below * high;
                above = next_above;
                below = next_below;
            }
        }
    }
    let added = bias_of(group.z, tile);
    let at = top * WO + left;
    var best = Best(low0 + added.low, high0 + added.high, vec4<u32>(at), vec4<u32>(at));
    best = better(best, Octet(low1 + added.low, high1 + added.high), at + 1u);
    best = better(best, Octet(low2 + added.low, high2 + added.high), at + WO);
    best = better(best, Octet(low3 + added.low, high3 + added.high), at + WO + 1u);
    store(group.z, tile, best);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_argmax: array<u32>;
@group(0) @binding(2) var<storage, read> filters: array<f32>;

// Along one axis: the first pooled place whose window can hold a place of the convolution
// that sees image place i, and the end of these. `reach` is DH (KH - 1) or DW (KW - 1).
fn seen_by(i: u32, pad: u32, reach: u32, step: u32, pool: vec4<u32>, outputs: u32) -> vec2<u32> {
    // Places ceil((i + pad - reach) / step) to floor((i + pad) / step) see i.
    let low = select(0u, (i + pad - reach + step - 1u) / step, i + pad > reach);
    let high = (i + pad) / step;
    // pool is (window, step, ground, -): window a covers a step - ground and what follows.
    let begin = low + pool.z;
    let first = select(0u, (begin - pool.x) / pool.y + 1u, begin >= pool.x);
    return vec2<u32>(first, min((high + pool.z) / pool.y + 1u, outputs));
}

// Which tap of the convolution's place o lies on image place i, or NOWHERE.
fn tap_on(i: u32, pad: u32, o: u32, step: u32, dilation: u32, kernel: u32) -> u32 {
    let at = i + pad - o * step;
    let fits = i + pad >= o * step && at % dilation == 0u && at / dilation < kernel;
    return select(NOWHERE, at / dilation, fits);
}

// Channels of one thread of the input gradient; `THREAD_CHANNELS` in
// src/ops/conv2d_pool.rs. A thread looks at each winner once for all of them.
const CHANNELS: u32 = 4u;

// What a thread of the input gradient has: CHANNELS channels of one group (fewer at its
// end) at one pixel.
struct Pixel {
    n: u32,
    first: u32,
    channels: u32,
    row: u32,
    col: u32,
}

fn blocks_of_channels() -> u32 {
    return (group_channels() + CHANNELS - 1u) / CHANNELS;
}

fn pixels() -> u32 {
    return N * GROUPS * blocks_of_channels() * H * W;
}

fn pixel_of(i: u32) -> Pixel {
    let block = i / (W * H) % (GROUPS * blocks_of_channels());
    let within = block % blocks_of_channels() * CHANNELS;
    return Pixel(
        i / (W * H * GROUPS * blocks_of_channels()),
        block / blocks_of_channels() * group_channels() + within,
        min(CHANNELS, group_channels() - within),
        i / W % H,
        i % W,
    );
}

// The input gradient of a thread's channels: over the pooled places near the pixel, each
// of which has one winner.
fn returned(replica: u32, pixel: Pixel) -> vec4<f32> {
    let within = pixel.first % group_channels();
    let first_filter = pixel.first / group_channels() * group_filters();
    let rows = seen_by(pixel.row, PH, DH * (KH - 1u), SH, vec4<u32>(PKH, PSH, PPH, 0u), PO);
    let cols = seen_by(pixel.col, PW, DW * (KW - 1u), SW, vec4<u32>(PKW, PSW, PPW, 0u), QO);
    // The last channel stands in for those that are not there.
    let last = pixel.channels - 1u;
    let one = KH * KW * min(1u, last);
    let two = KH * KW * min(2u, last);
    let three = KH * KW * min(3u, last);
    var sum = vec4<f32>(0.0);
    for (var f = first_filter; f < first_filter + group_filters(); f++) {
        let plane = ((replica * N + pixel.n) * F + f) * PO;
        let weights = ((replica * F + f) * group_channels() + within) * KH * KW;
        for (var p = rows.x; p < rows.y; p++) {
            for (var q = cols.x; q < cols.y; q++) {
                let at = (plane + p) * QO + q;
                let slope = g[at];
                // A ReLU after the pool makes many of these.
                if slope == 0.0 {
                    continue;
                }
                let winner = saved_argmax[at];
                let above = winner / WO;
                let kh = tap_on(pixel.row, PH, above, SH, DH, KH);
                let kw = tap_on(pixel.col, PW, winner - above * WO, SW, DW, KW);
                if kh != NOWHERE && kw != NOWHERE {
                    let tap = weights + kh * KW + kw;
                    sum += slope * vec4<f32>(
                        filters[tap], filters[tap + one], filters[tap + two], filters[tap + three]
                    );
                }
            }
        }
    }
    return sum;
}

// Where channel k of a thread's pixel stands in [N, C, H, W].
fn pixel_at(replica: u32, pixel: Pixel, k: u32) -> u32 {
    return (((replica * N + pixel.n) * C + pixel.first + k) * H + pixel.row) * W + pixel.col;
}

@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn conv2d_pool_input_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= pixels() {
        return;
    }
    let pixel = pixel_of(i);
    let sum = returned(group.z, pixel);
    for (var k = 0u; k < pixel.channels; k++) {
        dx[pixel_at(group.z, pixel, k)] = sum[k];
    }
}

@group(0) @binding(3) var<storage, read> saved_x: array<f32>;
@group(0) @binding(4) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(64)
fn conv2d_pool_input_grad_slope(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= pixels() {
        return;
    }
    let pixel = pixel_of(i);
    let sum = returned(group.z, pixel);
    for (var k = 0u; k < pixel.channels; k++) {
        let at = pixel_at(group.z, pixel, k);
        delta[at] = sum[k] * activation_slope_of(saved_x[at]);
    }
}

// Threads that share the sum of one weight, a power of two; src/ops/conv2d_pool.rs
// chooses. Where it is 1, gradient and winner are the same for all threads of a
// workgroup.
override SHARES: u32 = 1u;

@group(0) @binding(1) var<storage, read> upstream: array<f32>;
@group(0) @binding(2) var<storage, read> winners: array<u32>;

// A thread of the weight gradients: its share of one of a filter's sums. A workgroup has
// LANES / SHARES of the `sums` that each filter has.
struct Slice {
    f: u32,
    // The weight within its filter; taps() is the bias, where it is one of the sums.
    tap: u32,
    share: u32,
}

fn slices(sums: u32) -> u32 {
    return (sums + LANES / SHARES - 1u) / (LANES / SHARES);
}

fn slice_of(row: u32, lane: u32, sums: u32) -> Slice {
    let width = LANES / SHARES;
    return Slice(row / slices(sums), row % slices(sums) * width + lane % width, lane / width);
}

// This thread's share of a sum over images and pooled places.
fn share_of(replica: u32, slice: Slice) -> f32 {
    let f = slice.f;
    let kw = slice.tap % KW;
    let kh = slice.tap / KW % KH;
    let c = f / group_filters() * group_channels() + slice.tap / (KW * KH);
    var sum = 0.0;
    for (var i = slice.share; i < N * PO * QO; i += SHARES) {
        let n = i / (PO * QO);
        let at = ((replica * N + n) * F + f) * PO * QO + i - n * (PO * QO);
        let slope = upstream[at];
        // A ReLU after the pool makes many of these.
        if slope == 0.0 {
            continue;
        }
        if slice.tap == taps() {
            sum += slope;
            continue;
        }
        let winner = winners[at];
        let above = winner / WO;
        let h = image_row(above, kh);
        let v = image_col(winner - above * WO, kw);
        if h != NOWHERE && v != NOWHERE {
            sum += slope * x[(((replica * N + n) * C + c) * H + h) * W + v];
        }
    }
    return sum;
}

// The whole sum, in the first share's threads; `sums` is how many a filter has. Every
// thread of the workgroup must call it: it holds a barrier.
fn summed(replica: u32, slice: Slice, lane: u32, sums: u32) -> f32 {
    var sum = 0.0;
    if slice.tap < sums {
        sum = share_of(replica, slice);
    }
    if SHARES == 1u {
        return sum;
    }
    partial[lane] = sum;
    workgroupBarrier();
    if slice.share == 0u {
        for (var share = 1u; share < SHARES; share++) {
            sum += partial[share * (LANES / SHARES) + lane];
        }
    }
    return sum;
}

@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(LANES)
fn conv2d_pool_weight_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups);
    if row >= F * slices(taps()) {
        return;
    }
    let slice = slice_of(row, lane, taps());
    let sum = summed(group.z, slice, lane, taps());
    if slice.share == 0u && slice.tap < taps() {
        dw[(group.z * F + slice.f) * taps() + slice.tap] = sum;
    }
}

@group(0) @binding(3) var<storage, read_write> parameter: array<f32>;
@group(0) @binding(4) var<storage, read> hyper: array<f32>;
@group(0) @binding(5) var<storage, read> step: array<u32>;
@group(0) @binding(6) var<storage, read_write> velocity: array<f32>;

@compute @workgroup_size(LANES)
fn conv2d_pool_weight_grad_sgd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups);
    if row >= F * slices(taps()) {
        return;
    }
    let slice = slice_of(row, lane, taps());
    let sum = summed(group.z, slice, lane, taps());
    if slice.share == 0u && slice.tap < taps() {
        let at = (group.z * F + slice.f) * taps() + slice.tap;
        parameter[at] += sgd_velocity(parameter[at], 0.0, sum, sgd_rates(group.z));
    }
}

@compute @workgroup_size(LANES)
fn conv2d_pool_weight_grad_sgd_momentum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups);
    if row >= F * slices(taps()) {
        return;
    }
    let slice = slice_of(row, lane, taps());
    let sum = summed(group.z, slice, lane, taps());
    if slice.share == 0u && slice.tap < taps() {
        let at = (group.z * F + slice.f) * taps() + slice.tap;
        velocity[at] = sgd_velocity(parameter[at], velocity[at], sum, sgd_rates(group.z));
        parameter[at] += velocity[at];
    }
}

@group(0) @binding(6) var<storage, read_write> bias_parameter: array<f32>;

@compute @workgroup_size(LANES)
fn conv2d_pool_weight_grad_sgd_bias(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The bias is one more tap of each filter, over an image of ones.
    let row = row_of(group, groups);
    if row >= F * slices(taps() + 1u) {
        return;
    }
    let slice = slice_of(row, lane, taps() + 1u);
    let sum = summed(group.z, slice, lane, taps() + 1u);
    if slice.share == 0u && slice.tap <= taps() {
        let f = group.z * F + slice.f;
        let rates = sgd_rates(group.z);
        if slice.tap < taps() {
            let at = f * taps() + slice.tap;
            parameter[at] += sgd_velocity(parameter[at], 0.0, sum, rates);
        } else {
            // At w = 0 there is nothing to decay.
            bias_parameter[f] += sgd_velocity(0.0, 0.0, sum, rates);
        }
    }
}

// What follows is for devices where a load costs more than arithmetic: WIDE threads that
// keep their sums in registers.
const WIDE: u32 = 8u;

// Winners beside each other that a thread has at a time, and the columns that they reach:
// the largest kernel's edge is 5.
const STRIP: u32 = 4u;
const STRIP_WIDTH: u32 = 12u;
const STRIP_FILTERS: u32 = 4u;

// Columns of a row of an image from `left` on; beyond the last column, the last one.
fn pixels_of(row: u32, left: u32) -> array<f32, 12> {
    var pixels: array<f32, 12>;
    for (var j = 0u; j < 2u * STRIP + KW - 1u; j++) {
        pixels[j] = x[row + min(left + j, W - 1u)];
    }
    return pixels;
}

struct Winners {
    value: vec4<f32>,
    at: vec4<u32>,
}

// The first of equal maxima stays.
fn winners_of(best: Winners, candidate: vec4<f32>, at: u32) -> Winners {
    let wins = candidate > best.value;
    return Winners(select(best.value, candidate, wins), select(best.at, vec4<u32>(at), wins));
}

// Where a strip of pooled places stands: image, filters, row, first column.
struct StripPlace {
    image: u32,
    first: u32,
    last: u32,
    p: u32,
    q: u32,
}

// Stores the winners of window number i of a strip among its four places.
fn store_winners(to: StripPlace, i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    let q = to.q + i;
    if q >= QO {
        return;
    }
    let at = 2u * to.p * WO + 2u * q;
    var best = Winners(a, vec4<u32>(at));
    best = winners_of(best, b, at + 1u);
    best = winners_of(best, c, at + WO);
    best = winners_of(best, d, at + WO + 1u);
    for (var k = 0u; k < STRIP_FILTERS; k++) {
        if to.first + k <= to.last {
            let element = ((to.image * F + to.first + k) * PO + to.p) * QO + q;
            y[element] = activate(best.value[k]);
            argmax[element] = best.at[k];
        }
    }
}

// The convolution with its pool of 2 x 2, stride 1 and no padding: a thread has
// STRIP_FILTERS filters of a strip of pooled places.
@compute @workgroup_size(WIDE)
fn conv2d_pool_strip(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    let tiles = (N * PO + WIDE - 1u) / WIDE;
    let strips = (QO + STRIP - 1u) / STRIP;
    let blocks = (group_filters() + STRIP_FILTERS - 1u) / STRIP_FILTERS;
    let place = row % tiles * WIDE + thread;
    let block = row / (tiles * strips);
    if block >= blocks * GROUPS || place >= N * PO {
        return;
    }
    let n = place / PO;
    let p = place % PO;
    let q = row / tiles % strips * STRIP;
    let first = block / blocks * group_filters() + block % blocks * STRIP_FILTERS;
    // The last filter stands in for those that are not there.
    let last = (block / blocks + 1u) * group_filters() - 1u;
    let f = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    let w_at = (group.z * F + f) * taps();
    var sums: array<vec4<f32>, 16>;
    for (var i = 0u; i < 4u * STRIP; i++) {
        sums[i] = vec4<f32>(0.0);
    }
    for (var c = 0u; c < group_channels(); c++) {
        let channel = (group.z * N + n) * C + block / blocks * group_channels() + c;
        let image = (channel * H + 2u * p) * W;
        var above = pixels_of(image, 2u * q);
        for (var kh = 0u; kh < KH; kh++) {
            let below = pixels_of(image + (kh + 1u) * W, 2u * q);
            for (var kw = 0u; kw < KW; kw++) {
                let at = w_at + (c * KH + kh) * KW + kw;
                let weights = vec4<f32>(w[at.x], w[at.y], w[at.z], w[at.w]);
                for (var j = 0u; j < 2u * STRIP; j++) {
                    sums[j] += above[j + kw] * weights;
                    sums[2u * STRIP + j] += below[j + kw] * weights;
                }
            }
            above = below;
        }
    }
    let added = vec4<f32>(
        bias[group.z * F + f.x], bias[group.z * F + f.y], bias[group.z * F + f.z], bias[group.z * F + f.w]
    );
    // No loop: it would be too long for a compiler to unroll, and the sums would leave the
    // registers.
    let to = StripPlace(group.z * N + n, first, last, p, q);
    store_winners(to, 0u, sums[0] + added, sums[1] + added, sums[8] + added, sums[9] + added);
    store_winners(to, 1u, sums[2] + added, sums[3] + added, sums[10] + added, sums[11] + added);
    store_winners(to, 2u, sums[4] + added, sums[5] + added, sums[12] + added, sums[13] + added);
    store_winners(to, 3u, sums[6] + added, sums[7] + added, sums[14] + added, sums[15] + added);
}

// The weight gradients, of convolutions of stride 1 without padding or dilation.
const MOST_TAPS: u32 = 32u;

var<workgroup> wide_partial: array<f32, (MOST_TAPS + 1u) * WIDE>;

// WIDE / SHARES neighbouring channels of filter f from `first` on; the threads of a channel
// share the places.
struct Span {
    f: u32,
    first: u32,
    width: u32,
}

fn spans() -> u32 {
    let width = WIDE / SHARES;
    return (group_channels() + width - 1u) / width;
}

fn span_of(row: u32) -> Span {
    let width = WIDE / SHARES;
    return Span(row / spans(), row % spans() * width, width);
}

// Leaves every thread's sums in `wide_partial`, the one of the slopes alone last. Every
// thread must call it: it holds a barrier.
fn wide_sums(replica: u32, span: Span, thread: u32) {
    let f = span.f;
    let within = min(span.first + thread % span.width, group_channels() - 1u);
    let c = f / group_filters() * group_channels() + within;
    var sums: array<f32, MOST_TAPS>;
    for (var tap = 0u; tap < KH * KW; tap++) {
        sums[tap] = 0.0;
    }
    var slopes = 0.0;
    for (var i = thread / span.width; i < N * PO * QO; i += SHARES) {
        let n = i / (PO * QO);
        let at = ((replica * N + n) * F + f) * PO * QO + i - n * (PO * QO);
        let slope = upstream[at];
        if slope == 0.0 {
            continue;
        }
        slopes += slope;
        let winner = winners[at];
        let above = winner / WO;
        let image = (((replica * N + n) * C + c) * H + above) * W + winner - above * WO;
        for (var kh = 0u; kh < KH; kh++) {
            for (var kw = 0u; kw < KW; kw++) {
                sums[kh * KW + kw] += slope * x[image + kh * W + kw];
            }
        }
    }
    for (var tap = 0u; tap < KH * KW; tap++) {
        wide_partial[tap * WIDE + thread] = sums[tap];
    }
    wide_partial[KH * KW * WIDE + thread] = slopes;
    workgroupBarrier();
}

// Sum number r of a span: channels beside each other, then taps.
fn wide_sum(span: Span, r: u32) -> f32 {
    let first = r / span.width * WIDE + r % span.width;
    var sum = 0.0;
    for (var share = 0u; share < SHARES; share++) {
        sum += wide_partial[first + share * span.width];
    }
    return sum;
}

// Where sum number r of a span stands among the weights, or NOWHERE.
fn weight_at(replica: u32, span: Span, r: u32) -> u32 {
    let c = span.first + r % span.width;
    let at = ((replica * F + span.f) * group_channels() + c) * KH * KW + r / span.width;
    return select(NOWHERE, at, c < group_channels());
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_weight_grad_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    if row >= F * spans() {
        return;
    }
    let span = span_of(row);
    wide_sums(group.z, span, thread);
    for (var r = thread; r < span.width * KH * KW; r += WIDE) {
        let at = weight_at(group.z, span, r);
        if at != NOWHERE {
            dw[at] = wide_sum(span, r);
        }
    }
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_weight_grad_sgd_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    if row >= F * spans() {
        return;
    }
    let span = span_of(row);
    wide_sums(group.z, span, thread);
    for (var r = thread; r < span.width * KH * KW; r += WIDE) {
        let at = weight_at(group.z, span, r);
        if at != NOWHERE {
            parameter[at] += sgd_velocity(parameter[at], 0.0, wide_sum(span, r), sgd_rates(group.z));
        }
    }
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_weight_grad_sgd_momentum_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    if row >= F * spans() {
        return;
    }
    let span = span_of(row);
    wide_sums(group.z, span, thread);
    for (var r = thread; r < span.width * KH * KW; r += WIDE) {
        let at = weight_at(group.z, span, r);
        if at != NOWHERE {
            velocity[at] = sgd_velocity(parameter[at], velocity[at], wide_sum(span, r), sgd_rates(group.z));
            parameter[at] += velocity[at];
        }
    }
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_weight_grad_sgd_bias_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    if row >= F * spans() {
        return;
    }
    let span = span_of(row);
    let rates = sgd_rates(group.z);
    wide_sums(group.z, span, thread);
    for (var r = thread; r < span.width * KH * KW; r += WIDE) {
        let at = weight_at(group.z, span, r);
        if at != NOWHERE {
            parameter[at] += sgd_velocity(parameter[at], 0.0, wide_sum(span, r), rates);
        }
    }
    if thread == 0u && span.first == 0u {
        let slopes = wide_sum(span, KH * KW * span.width);
        bias_parameter[group.z * F + span.f] += sgd_velocity(0.0, 0.0, slopes, rates);
    }
}

// The input gradient, for pools of 2 x 2 that cover the convolution's output: a thread goes
// down an image's channel with the rows that a row of winners reaches, a strip at a time.
// Which of a window's four places has won is a factor 0 or 1, so that all places are known
// when the pipeline is made.

// In vectors, for a compiler unrolls short loops only.
var<private> strip: array<vec4<f32>, 18>;
var<private> strip_filter: array<f32, 25>;

fn send_from(row: u32, col: u32, slope: f32) {
    for (var kh = 0u; kh < KH; kh++) {
        for (var kw = 0u; kw < KW; kw++) {
            let at = (row + kh) * STRIP_WIDTH + col + kw;
            strip[at / 4u][at % 4u] += slope * strip_filter[kh * KW + kw];
        }
    }
}

// Adds what winner number q of a strip sends back. No loop: it would be too long for a
// compiler to unroll, and the strip would leave the registers.
fn send_back(q: u32, slope: f32, winner: u32, place: u32) {
    send_from(0u, 2u * q, select(0.0, slope, winner == place));
    send_from(0u, 2u * q + 1u, select(0.0, slope, winner == place + 1u));
    send_from(1u, 2u * q, select(0.0, slope, winner == place + WO));
    send_from(1u, 2u * q + 1u, select(0.0, slope, winner == place + WO + 1u));
}

// Adds all filters' share to the strip for the winners of row p from column q on.
fn add_winners(replica: u32, n: u32, c: u32, p: u32, q: u32) {
    let first_filter = c / group_channels() * group_filters();
    let place = 2u * p * WO + 2u * q;
    for (var f = first_filter; f < first_filter + group_filters(); f++) {
        let taps_at = ((replica * F + f) * group_channels() + c % group_channels()) * KH * KW;
        for (var tap = 0u; tap < KH * KW; tap++) {
            strip_filter[tap] = filters[taps_at + tap];
        }
        let at = (((replica * N + n) * F + f) * PO + p) * QO + q;
        // Beyond the last column stands the last one; its winner has none of those places.
        let one = at + min(1u, QO - 1u - q);
        let two = at + min(2u, QO - 1u - q);
        let three = at + min(3u, QO - 1u - q);
        send_back(0u, g[at], saved_argmax[at], place);
        send_back(1u, g[one], saved_argmax[one], place + 2u);
        send_back(2u, g[two], saved_argmax[two], place + 4u);
        send_back(3u, g[three], saved_argmax[three], place + 6u);
    }
}

// Where column j of the strip's row r stands in an image's channel, once rows 2p and 2p + 1
// have all they get, or NOWHERE.
fn strip_at(plane: u32, p: u32, q: u32, r: u32, j: u32) -> u32 {
    let h = 2u * p + r;
    let v = 2u * q + j;
    let inside = h < H && v < W && j < 2u * STRIP + KW - 1u;
    return select(NOWHERE, (plane * H + h) * W + v, inside);
}

// Whether the strip before has left something at column j.
fn joins(q: u32, j: u32) -> bool {
    return q > 0u && j < KW - 1u;
}

fn clear_strip() {
    for (var i = 0u; i < 18u; i++) {
        strip[i] = vec4<f32>(0.0);
    }
}

fn move_strip_down() {
    for (var i = 0u; i < 12u; i++) {
        strip[i] = strip[i + 6u];
    }
    for (var i = 12u; i < 18u; i++) {
        strip[i] = vec4<f32>(0.0);
    }
}

// Rows of winners, and as many again as the last one's taps reach further.
fn strip_rows() -> u32 {
    return PO + KH / 2u;
}

fn store_row(plane: u32, p: u32, q: u32, r: u32) {
    for (var j = 0u; j < STRIP_WIDTH; j++) {
        let at = strip_at(plane, p, q, r, j);
        let sum = strip[(r * STRIP_WIDTH + j) / 4u][j % 4u];
        if at != NOWHERE {
            if joins(q, j) {
                dx[at] += sum;
            } else {
                dx[at] = sum;
            }
        }
    }
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_input_grad_strip(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let plane = row_of(group, groups) * WIDE + thread;
    if plane >= N * C {
        return;
    }
    for (var q = 0u; q < QO; q += STRIP) {
        clear_strip();
        for (var p = 0u; p < strip_rows(); p++) {
            if p < PO {
                add_winners(group.z, plane / C, plane % C, p, q);
            }
            store_row(group.z * N * C + plane, p, q, 0u);
            store_row(group.z * N * C + plane, p, q, 1u);
            move_strip_down();
        }
    }
}

fn store_sloped_row(plane: u32, p: u32, q: u32, r: u32) {
    for (var j = 0u; j < STRIP_WIDTH; j++) {
        let at = strip_at(plane, p, q, r, j);
        let sum = strip[(r * STRIP_WIDTH + j) / 4u][j % 4u];
        if at != NOWHERE {
            let sloped = sum * activation_slope_of(saved_x[at]);
            if joins(q, j) {
                delta[at] += sloped;
            } else {
                delta[at] = sloped;
            }
        }
    }
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_input_grad_slope_strip(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let plane = row_of(group, groups) * WIDE + thread;
    if plane >= N * C {
        return;
    }
    for (var q = 0u; q < QO; q += STRIP) {
        clear_strip();
        for (var p = 0u; p < strip_rows(); p++) {
            if p < PO {
                add_winners(group.z, plane / C, plane % C, p, q);
            }
            store_sloped_row(group.z * N * C + plane, p, q, 0u);
            store_sloped_row(group.z * N * C + plane, p, q, 1u);
            move_strip_down();
        }
    }
}
