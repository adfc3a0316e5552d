// Convolution, bias and max-pooling in one launch, and the gradients through
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
    let low = outdo(candidate.low, best.low);
    let high = outdo(candidate.high, best.high);
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
    let scalars = finish_scalars(replica);
    for (var k = 0u; k < tile.filters; k++) {
        let i = (n * F + tile.first + k) * PO * QO + tile.place % (PO * QO);
        let at = replica * N * F * PO * QO + i;
        y[at] = finish(scalars, replica, i, maxima[k]);
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
                let tap = (c * KH + kh) * KW + kw;
                let low_w = vec4<f32>(
                    w[w_at[0] + tap], w[w_at[1] + tap], w[w_at[2] + tap], w[w_at[3] + tap]
                );
                let high_w = vec4<f32>(
                    w[w_at[4] + tap], w[w_at[5] + tap], w[w_at[6] + tap], w[w_at[7] + tap]
                );
                if h != NOWHERE && v != NOWHERE {
                    let value = x[(image + h) * W + v];
                    low += value * low_w;
                    high += value * high_w;
                } else if PH + PW > 0u {
                    low += zero_times_four(low_w);
                    high += zero_times_four(high_w);
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
    // pool is (window, step, padding, -): window a covers a step - padding and what follows.
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

// Where channel k of a thread's pixel stands in one replica's [N, C, H, W].
fn pixel_at(pixel: Pixel, k: u32) -> u32 {
    return ((pixel.n * C + pixel.first + k) * H + pixel.row) * W + pixel.col;
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
    let scalars = finish_scalars(group.z);
    for (var k = 0u; k < pixel.channels; k++) {
        let at = pixel_at(pixel, k);
        dx[group.z * N * C * H * W + at] = finish(scalars, group.z, at, sum[k]);
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
        } else if PH + PW > 0u {
            sum += zero_times(slope);
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
        let i = slice.f * taps() + slice.tap;
        dw[group.z * F * taps() + i] = finish(finish_scalars(group.z), group.z, i, sum);
    }
}

@group(0) @binding(4) var<storage, read_write> dbias: array<f32>;

@compute @workgroup_size(LANES)
fn conv2d_pool_weight_grad_bias(
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
        if slice.tap < taps() {
            let i = slice.f * taps() + slice.tap;
            dw[group.z * F * taps() + i] = finish(finish_scalars(group.z), group.z, i, sum);
        } else {
            dbias[group.z * F + slice.f] = finish_bias(finish_bias_scalars(group.z), group.z, slice.f, sum);
        }
    }
}
