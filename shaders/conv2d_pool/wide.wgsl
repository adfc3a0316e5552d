// The same work where a load costs more than arithmetic: WIDE threads that keep their sums
// in registers. Goes on from shaders/conv2d_pool.wgsl.
const WIDE: u32 = 8u;

// Winners beside each other that a thread has at a time, and the columns that they reach:
// the largest kernel's edge is 5.
const STRIP: u32 = 4u;
const STRIP_WIDTH: u32 = 12u;
const STRIP_FILTERS: u32 = 4u;

alias Pixels = array<f32, STRIP_WIDTH>;

// Columns of a row of an image from `left` on; beyond the last column, the last one.
fn pixels_of(row: u32, left: u32) -> Pixels {
    var pixels: Pixels;
    for (var j = 0u; j < 2u * STRIP + KW - 1u; j++) {
        pixels[j] = x[row + min(left + j, W - 1u)];
    }
    return pixels;
}

struct Winners {
    value: vec4<f32>,
    at: vec4<u32>,
}

// The first of equal maxima stays. NaN is looked for afterwards.
fn winners_of(best: Winners, candidate: vec4<f32>, at: u32) -> Winners {
    let wins = candidate > best.value;
    return Winners(select(best.value, candidate, wins), select(best.at, vec4<u32>(at), wins));
}

// The first of what is NaN wins.
fn winners_if_nan(best: Winners, candidate: vec4<f32>, at: u32) -> Winners {
    let wins = are_nan(candidate);
    return Winners(select(best.value, candidate, wins), select(best.at, vec4<u32>(at), wins));
}

// Where a strip of pooled places stands: replica and its image, filters, row, first column.
struct StripPlace {
    replica: u32,
    image: u32,
    first: u32,
    last: u32,
    p: u32,
    q: u32,
}

// Stores the winners of window number i of a strip among its four places.
fn store_winners(
    to: StripPlace,
    scalars: finish_once,
    i: u32,
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
) {
    let q = to.q + i;
    if q >= QO {
        return;
    }
    let at = 2u * to.p * WO + 2u * q;
    var best = Winners(a, vec4<u32>(at));
    best = winners_of(best, b, at + 1u);
    best = winners_of(best, c, at + WO);
    best = winners_of(best, d, at + WO + 1u);
    // A sum is NaN if a summand is, and seldom else: one look at four places.
    if any(are_nan(a + b + c + d)) {
        best = winners_if_nan(best, d, at + WO + 1u);
        best = winners_if_nan(best, c, at + WO);
        best = winners_if_nan(best, b, at + 1u);
        best = winners_if_nan(best, a, at);
    }
    for (var k = 0u; k < STRIP_FILTERS; k++) {
        if to.first + k <= to.last {
            let element = ((to.image * F + to.first + k) * PO + to.p) * QO + q;
            let at = to.replica * N * F * PO * QO + element;
            y[at] = finish(scalars, to.replica, element, best.value[k]);
            argmax[at] = best.at[k];
        }
    }
}

// A thread's strip: its pooled place among N * PO rows of them, its first column, its
// filters' block.
struct Strip {
    place: u32,
    q: u32,
    block: u32,
}

// Blocks of filters of a group.
fn strip_blocks() -> u32 {
    return (group_filters() + STRIP_FILTERS - 1u) / STRIP_FILTERS;
}

// That of a workgroup's thread.
fn strip_of(row: u32, thread: u32) -> Strip {
    let tiles = (N * PO + WIDE - 1u) / WIDE;
    let strips = (QO + STRIP - 1u) / STRIP;
    return Strip(row % tiles * WIDE + thread, row / tiles % strips * STRIP, row / (tiles * strips));
}

struct StripFilters {
    first: u32,
    last: u32,
}

// A block's filters and the group's last one, which stands in for those that are not there.
fn filters_of(block: u32) -> StripFilters {
    let first = block / strip_blocks() * group_filters() + block % strip_blocks() * STRIP_FILTERS;
    return StripFilters(first, (block / strip_blocks() + 1u) * group_filters() - 1u);
}

// For each place of the convolution that a strip covers, by rows, one sum a filter.
alias StripSums = array<vec4<f32>, 16>;

// What tap kw of a row of taps adds, the rows of the image above and below. Kernels call it
// with constants, one by one: the loop would be too long for a compiler to unroll, and sums
// and pixels would leave the registers.
fn add_tap(sums: ptr<function, StripSums>, above: Pixels, below: Pixels, weights: vec4<f32>, kw: u32) {
    for (var j = 0u; j < 2u * STRIP; j++) {
        (*sums)[j] += above[j + kw] * weights;
        (*sums)[2u * STRIP + j] += below[j + kw] * weights;
    }
}

fn store_strip(to: StripPlace, sums: StripSums) {
    let f = to.replica * F + min(vec4<u32>(to.first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(to.last));
    let added = vec4<f32>(bias[f.x], bias[f.y], bias[f.z], bias[f.w]);
    // No loop: it would be too long for a compiler to unroll, and the sums would leave the
    // registers.
    let s = finish_scalars(to.replica);
    store_winners(to, s, 0u, sums[0] + added, sums[1] + added, sums[8] + added, sums[9] + added);
    store_winners(to, s, 1u, sums[2] + added, sums[3] + added, sums[10] + added, sums[11] + added);
    store_winners(to, s, 2u, sums[4] + added, sums[5] + added, sums[12] + added, sums[13] + added);
    store_winners(to, s, 3u, sums[6] + added, sums[7] + added, sums[14] + added, sums[15] + added);
}

fn add_loaded_tap(sums: ptr<function, StripSums>, above: Pixels, below: Pixels, row: vec4<u32>, kw: u32) {
    if kw < KW {
        let at = row + kw;
        add_tap(sums, above, below, vec4<f32>(w[at.x], w[at.y], w[at.z], w[at.w]), kw);
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
    let strip = strip_of(row_of(group, groups), thread);
    if strip.block >= strip_blocks() * GROUPS || strip.place >= N * PO {
        return;
    }
    let n = strip.place / PO;
    let p = strip.place % PO;
    let own = filters_of(strip.block);
    let f = min(vec4<u32>(own.first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(own.last));
    let w_at = (group.z * F + f) * taps();
    var sums = StripSums();
    for (var c = 0u; c < group_channels(); c++) {
        let channel = (group.z * N + n) * C + strip.block / strip_blocks() * group_channels() + c;
        let image = (channel * H + 2u * p) * W;
        var above = pixels_of(image, 2u * strip.q);
        for (var kh = 0u; kh < KH; kh++) {
            let below = pixels_of(image + (kh + 1u) * W, 2u * strip.q);
            let row = w_at + (c * KH + kh) * KW;
            add_loaded_tap(&sums, above, below, row, 0u);
            add_loaded_tap(&sums, above, below, row, 1u);
            add_loaded_tap(&sums, above, below, row, 2u);
            add_loaded_tap(&sums, above, below, row, 3u);
            add_loaded_tap(&sums, above, below, row, 4u);
            above = below;
        }
    }
    store_strip(StripPlace(group.z, n, own.first, own.last, p, strip.q), sums);
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

alias Taps = array<f32, MOST_TAPS>;

// What a winner's place adds to eight taps' sums. Kernels call it with constants: a loop would
// be too long for a compiler to unroll, and the sums would leave the registers.
fn add_place(sums: ptr<function, Taps>, first: u32, slope: f32, image: u32) {
    for (var tap = first; tap < first + 8u; tap++) {
        if tap < KH * KW {
            (*sums)[tap] += slope * x[image + tap / KW * W + tap % KW];
        }
    }
}

fn share_sums(sums: ptr<function, Taps>, first: u32, thread: u32) {
    for (var tap = first; tap < first + 8u; tap++) {
        if tap < KH * KW {
            wide_partial[tap * WIDE + thread] = (*sums)[tap];
        }
    }
}

// Leaves every thread's sums in `wide_partial`, the one of the slopes alone last. Every
// thread must call it: it holds a barrier.
fn wide_sums(replica: u32, span: Span, thread: u32) {
    let f = span.f;
    let within = min(span.first + thread % span.width, group_channels() - 1u);
    let c = f / group_filters() * group_channels() + within;
    var sums = Taps();
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
        add_place(&sums, 0u, slope, image);
        add_place(&sums, 8u, slope, image);
        add_place(&sums, 16u, slope, image);
        add_place(&sums, 24u, slope, image);
    }
    share_sums(&sums, 0u, thread);
    share_sums(&sums, 8u, thread);
    share_sums(&sums, 16u, thread);
    share_sums(&sums, 24u, thread);
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

// Stores the sums of a span among the weights.
fn store_sums(replica: u32, span: Span, thread: u32) {
    let scalars = finish_scalars(replica);
    let weights = F * group_channels() * KH * KW;
    for (var r = thread; r < span.width * KH * KW; r += WIDE) {
        let c = span.first + r % span.width;
        let i = (span.f * group_channels() + c) * KH * KW + r / span.width;
        if c < group_channels() {
            dw[replica * weights + i] = finish(scalars, replica, i, wide_sum(span, r));
        }
    }
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
    store_sums(group.z, span, thread);
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_weight_grad_bias_wide(
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
    store_sums(group.z, span, thread);
    if thread == 0u && span.first == 0u {
        let slopes = wide_sum(span, KH * KW * span.width);
        dbias[group.z * F + span.f] = finish_bias(finish_bias_scalars(group.z), group.z, span.f, slopes);
    }
}

// The input gradient, for pools of 2 x 2 that cover the convolution's output: a thread goes
// down an image's channel with the rows that a row of winners reaches, a strip at a time.
// Which of a window's four places has won is a factor 0 or 1, so that all places are known
// when the pipeline is made. A weight that is not finite makes NaN of such a zero: then the
// channel is done again, each pixel by itself.

// Six rows of STRIP_WIDTH; in vectors, three to a row, for a compiler unrolls short loops
// only, and an array that is indexed in another leaves the registers.
var<private> strip: array<vec4<f32>, 18>;
var<private> strip_filter: array<f32, 25>;
// The largest of all weights' bits without their signs.
var<private> largest_bits: u32;

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
            let weight = filters[taps_at + tap];
            largest_bits = max(largest_bits, bitcast<u32>(weight) << 1u);
            strip_filter[tap] = weight;
        }
        let at = (((replica * N + n) * F + f) * PO + p) * QO + q;
        // Beyond the last column stands the last one, which sends nothing: in a narrow image its
        // winner may have one of those places, a row further down.
        let last = QO - 1u - q;
        let one = at + min(1u, last);
        let two = at + min(2u, last);
        let three = at + min(3u, last);
        send_back(0u, g[at], saved_argmax[at], place);
        send_back(1u, select(0.0, g[one], last >= 1u), saved_argmax[one], place + 2u);
        send_back(2u, select(0.0, g[two], last >= 2u), saved_argmax[two], place + 4u);
        send_back(3u, select(0.0, g[three], last >= 3u), saved_argmax[three], place + 6u);
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

fn weights_were_finite() -> bool {
    return largest_bits < 0xFF000000u;
}

// What one pixel of a channel gets, as the usual kernel has it.
fn returned_to(replica: u32, plane: u32, place: u32) -> f32 {
    return returned(replica, Pixel(plane / C, plane % C, 1u, place / W, place % W)).x;
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

// What the strip before has left is a part of the sum, and what the next one joins is one.
fn store_row(replica: u32, scalars: finish_once, plane: u32, p: u32, q: u32, r: u32) {
    for (var j = 0u; j < STRIP_WIDTH; j++) {
        let i = strip_at(plane, p, q, r, j);
        var sum = strip[(r * STRIP_WIDTH + j) / 4u][j % 4u];
        if i != NOWHERE {
            let at = replica * N * C * H * W + i;
            if joins(q, j) {
                sum += dx[at];
            }
            if j < 2u * STRIP || q + STRIP >= QO {
                sum = finish(scalars, replica, i, sum);
            }
            dx[at] = sum;
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
    let scalars = finish_scalars(group.z);
    for (var q = 0u; q < QO; q += STRIP) {
        clear_strip();
        for (var p = 0u; p < strip_rows(); p++) {
            if p < PO {
                add_winners(group.z, plane / C, plane % C, p, q);
            }
            store_row(group.z, scalars, plane, p, q, 0u);
            store_row(group.z, scalars, plane, p, q, 1u);
            move_strip_down();
        }
    }
    if weights_were_finite() {
        return;
    }
    for (var place = 0u; place < H * W; place++) {
        let i = plane * H * W + place;
        let sum = returned_to(group.z, plane, place);
        dx[group.z * N * C * H * W + i] = finish(scalars, group.z, i, sum);
    }
}
