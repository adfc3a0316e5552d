// The same work for GPUs that have many threads to spare: a workgroup brings planes into its memory
// once, and TEAMS teams of its threads share the sum over them. What such a launch takes at a small
// mini-batch is the time of loads that wait for each other; here there are two rounds of them. Goes on
// from shaders/conv2d_pool.wgsl; for convolutions of stride 1 without padding or dilation.

override THREADS: u32 = 64u;
override TEAMS: u32 = 1u;
// Planes that stand in memory at a time.
override CHUNK: u32 = 1u;
// Pairs of results that a thread has at each of its places: of filters forward, of channels back.
override PAIRS: u32 = 1u;
// Squares of 2 x 2 places that a team's threads have, one each.
override SQUARES: u32 = 1u;
// Zeros before the first plane, and words of memory for planes or for the teams' shares.
override HEAD: u32 = 0u;
override MEMORY: u32 = 1u;
// Vectors of memory for weights.
override WEIGHTS: u32 = 1u;

// An odd stride: neighbours in different planes are in different banks.
override PLANE: u32 = (H * W) | 1u;

var<workgroup> memory: array<f32, MEMORY>;
var<workgroup> weights: array<vec2<f32>, WEIGHTS>;

// Results of a thread: two pairs at each of four places of a square.
struct Square {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
    more_a: vec2<f32>,
    more_b: vec2<f32>,
    more_c: vec2<f32>,
    more_d: vec2<f32>,
}

// Adds a team's planes of those in memory: what taps from `at` on see, for the four places of a
// square. Two words are read for 8 PAIRS products.
fn add_planes(sums: ptr<function, Square>, planes: u32, team: u32, at: u32) {
    for (var plane = team; plane < CHUNK; plane += TEAMS) {
        if plane >= planes { break; }
        for (var kh = 0u; kh < KH; kh++) {
            let line = HEAD + plane * PLANE + at + kh * W;
            let tap = (plane * KH + kh) * KW;
            var above = memory[line];
            var below = memory[line + W];
            for (var kw = 0u; kw < KW; kw++) {
                let next_above = memory[line + kw + 1u];
                let next_below = memory[line + W + kw + 1u];
                let pair = weights[(tap + kw) * PAIRS];
                (*sums).a += above * pair;
                (*sums).b += next_above * pair;
                (*sums).c += below * pair;
                (*sums).d += next_below * pair;
                if PAIRS > 1u {
                    let more = weights[(tap + kw) * PAIRS + 1u];
                    (*sums).more_a += above * more;
                    (*sums).more_b += next_above * more;
                    (*sums).more_c += below * more;
                    (*sums).more_d += next_below * more;
                }
                above = next_above;
                below = next_below;
            }
        }
    }
}

// Where the share of a team stands: result k at place 0 to 3 of a square.
fn share_at(team: u32, k: u32, place: u32, square: u32) -> u32 {
    return ((team * 2u * PAIRS + k) * 4u + place) * SQUARES + square;
}

fn share_pair(team: u32, square: u32, k: u32, a: vec2<f32>, b: vec2<f32>, c: vec2<f32>, d: vec2<f32>) {
    memory[share_at(team, k, 0u, square)] = a.x;
    memory[share_at(team, k, 1u, square)] = b.x;
    memory[share_at(team, k, 2u, square)] = c.x;
    memory[share_at(team, k, 3u, square)] = d.x;
    memory[share_at(team, k + 1u, 0u, square)] = a.y;
    memory[share_at(team, k + 1u, 1u, square)] = b.y;
    memory[share_at(team, k + 1u, 2u, square)] = c.y;
    memory[share_at(team, k + 1u, 3u, square)] = d.y;
}

// Leaves every team's sums in memory. Every thread must call it: it holds barriers.
fn share_sums_of(sums: ptr<function, Square>, team: u32, square: u32) {
    // Nobody may overwrite planes that somebody still reads.
    workgroupBarrier();
    if team < TEAMS {
        share_pair(team, square, 0u, (*sums).a, (*sums).b, (*sums).c, (*sums).d);
        if PAIRS > 1u {
            share_pair(team, square, 2u, (*sums).more_a, (*sums).more_b, (*sums).more_c, (*sums).more_d);
        }
    }
    workgroupBarrier();
}

// One result from the teams' shares.
fn sum_of(k: u32, place: u32, square: u32) -> f32 {
    var sum = memory[share_at(0u, k, place, square)];
    for (var team = 1u; team < TEAMS; team++) {
        sum += memory[share_at(team, k, place, square)];
    }
    return sum;
}

// What a workgroup has: an image, and 2 PAIRS of a group's filters or channels, fewer at its end.
struct Share {
    n: u32,
    // The group; the first of the filters or channels among all; how many.
    group: u32,
    first: u32,
    count: u32,
    valid: bool,
}

fn share_of_image(row: u32, in_group: u32) -> Share {
    let blocks = (in_group + 2u * PAIRS - 1u) / (2u * PAIRS);
    let block = row / N;
    let within = block % blocks * 2u * PAIRS;
    return Share(
        row % N,
        block / blocks,
        block / blocks * in_group + within,
        min(2u * PAIRS, in_group - within),
        block < blocks * GROUPS,
    );
}

var<workgroup> biases: array<f32, 4>;

// The convolution with its pool of 2 x 2, forward: the planes are an image's channels, the squares
// are the pool's windows.
@compute @workgroup_size(THREADS)
fn conv2d_pool_staged(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = share_of_image(row_of(group, groups), group_filters());
    if !own.valid {
        return;
    }
    let scalars = finish_scalars(group.z);
    let team = thread / SQUARES;
    let square = thread % SQUARES;
    let top = square / QO * PSH;
    let left = square % QO * PSW;
    for (var k = thread; k < 2u * PAIRS; k += THREADS) {
        biases[k] = bias[group.z * F + own.first + min(k, own.count - 1u)];
    }
    var sums = Square();
    for (var first = 0u; first < group_channels(); first += CHUNK) {
        let planes = min(CHUNK, group_channels() - first);
        if first > 0u {
            // Nobody may load while somebody still reads what was loaded before.
            workgroupBarrier();
        }
        let image = ((group.z * N + own.n) * C + own.group * group_channels() + first) * H * W;
        for (var i = thread; i < planes * H * W; i += THREADS) {
            memory[i / (H * W) * PLANE + i % (H * W)] = x[image + i];
        }
        for (var i = thread; i < planes * KH * KW * PAIRS; i += THREADS) {
            let tap = first * KH * KW + i / PAIRS;
            let k = i % PAIRS * 2u;
            let one = group.z * F + own.first + min(k, own.count - 1u);
            let two = group.z * F + own.first + min(k + 1u, own.count - 1u);
            weights[i] = vec2<f32>(w[one * taps() + tap], w[two * taps() + tap]);
        }
        workgroupBarrier();
        if team < TEAMS {
            add_planes(&sums, planes, team, top * W + left);
        }
    }
    share_sums_of(&sums, team, square);
    for (var i = thread; i < own.count * SQUARES; i += THREADS) {
        let k = i / SQUARES;
        let window = i % SQUARES;
        let at = window / QO * PSH * WO + window % QO * PSW;
        var best = sum_of(k, 0u, window) + biases[k];
        var best_at = at;
        for (var place = 1u; place < 4u; place++) {
            let here = sum_of(k, place, window) + biases[k];
            let wins = outdoes(here, best);
            best = select(best, here, wins);
            best_at = select(best_at, at + place / 2u * WO + place % 2u, wins);
        }
        let element = (own.n * F + own.first + k) * PO * QO + window;
        let to = group.z * N * F * PO * QO + element;
        y[to] = finish(scalars, group.z, element, best);
        argmax[to] = best_at;
    }
}

var<workgroup> not_finite: atomic<u32>;

// Gradients that a thread loads ahead of the first barrier.
const AHEAD: u32 = 4u;

// Puts a gradient where its winner stands; the planes are HO x WO in rows of W, so that the zeros at
// the end of each row and plane stand before the next one too, as padding.
fn place_gradient(plane: u32, slope: f32, winner: u32) {
    // Memory is not checked, and winners may be anything where a caller made them.
    if winner < HO * WO {
        memory[HEAD + plane * PLANE + winner / WO * W + winner % WO] = slope;
    }
}

// The input gradient as a convolution of the gradients among their zeros with the filters turned round;
// the planes are filters, the squares cover the image. For pools whose windows do not overlap. A weight
// that is not finite makes NaN of a zero: then each pixel is done by itself.
@compute @workgroup_size(THREADS)
fn conv2d_pool_input_grad_staged(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = share_of_image(row_of(group, groups), group_channels());
    if !own.valid {
        return;
    }
    let scalars = finish_scalars(group.z);
    let team = thread / SQUARES;
    let square = thread % SQUARES;
    let across = (W + 1u) / 2u;
    let places = PO * QO;
    if thread == 0u {
        atomicStore(&not_finite, 0u);
    }
    var sums = Square();
    for (var first = 0u; first < group_filters(); first += CHUNK) {
        let planes = min(CHUNK, group_filters() - first);
        let filter_at = own.group * group_filters() + first;
        let upstream_at = ((group.z * N + own.n) * F + filter_at) * places;
        var slopes: array<f32, AHEAD>;
        var winners_ahead: array<u32, AHEAD>;
        for (var j = 0u; j < AHEAD; j++) {
            let at = upstream_at + min(thread + j * THREADS, planes * places - 1u);
            slopes[j] = g[at];
            winners_ahead[j] = saved_argmax[at];
        }
        // Nobody may load while somebody still reads what was loaded before.
        workgroupBarrier();
        for (var i = thread; i < HEAD + planes * PLANE + W + 2u; i += THREADS) {
            memory[i] = 0.0;
        }
        var lost = false;
        for (var i = thread; i < planes * KH * KW * PAIRS; i += THREADS) {
            let tap = i / PAIRS % (KH * KW);
            let plane = i / (PAIRS * KH * KW);
            let k = i % PAIRS * 2u;
            let within = own.first - own.group * group_channels();
            let at = (group.z * F + filter_at + plane) * taps() + KH * KW - 1u - tap;
            let one = at + (within + min(k, own.count - 1u)) * KH * KW;
            let two = at + (within + min(k + 1u, own.count - 1u)) * KH * KW;
            let pair = vec2<f32>(filters[one], filters[two]);
            weights[i] = pair;
            lost |= any((bitcast<vec2<u32>>(pair) << vec2(1u)) >= vec2(0xFF000000u));
        }
        if lost {
            atomicStore(&not_finite, 1u);
        }
        workgroupBarrier();
        for (var j = 0u; j < AHEAD; j++) {
            let i = thread + j * THREADS;
            if i < planes * places {
                place_gradient(i / places, slopes[j], winners_ahead[j]);
            }
        }
        for (var i = thread + AHEAD * THREADS; i < planes * places; i += THREADS) {
            place_gradient(i / places, g[upstream_at + i], saved_argmax[upstream_at + i]);
        }
        workgroupBarrier();
        if team < TEAMS {
            add_planes(&sums, planes, team, square / across * 2u * W + square % across * 2u - HEAD);
        }
    }
    share_sums_of(&sums, team, square);
    let by_itself = atomicLoad(&not_finite) != 0u;
    for (var i = thread; i < own.count * H * W; i += THREADS) {
        let k = i / (H * W);
        let row = i / W % H;
        let col = i % W;
        var sum = 0.0;
        if by_itself {
            sum = returned(group.z, Pixel(own.n, own.first + k, 1u, row, col)).x;
        } else {
            sum = sum_of(k, row % 2u * 2u + col % 2u, row / 2u * across + col / 2u);
        }
        let element = (own.n * C + own.first) * H * W + i;
        dx[group.z * N * C * H * W + element] = finish(scalars, group.z, element, sum);
    }
}

// Rows of a filter's taps that a workgroup of the weight gradient has, and threads that first add up
// parts of each sum. A row of taps costs one address a winner and KW loads beside each other.
override ROWS: u32 = 1u;
override PARTS: u32 = 1u;

// The longest row.
const MOST_COLUMNS: u32 = 8u;

var<workgroup> parts: array<f32, WEIGHTS>;

fn row_blocks() -> u32 {
    return (group_channels() * KH + ROWS - 1u) / ROWS;
}

// Leaves ROWS x KW sums of a filter, and the sum of its gradients as one more, as PARTS parts of each in
// `parts`. Every thread must call it: it holds barriers.
fn staged_weight_sums(replica: u32, f: u32, first: u32, thread: u32) {
    let share = thread % SHARES;
    // Beyond the last row stands the last one.
    let row = min(first + thread / SHARES, group_channels() * KH - 1u);
    let c = f / group_filters() * group_channels() + row / KH;
    let image = (replica * N * C + c) * H * W + row % KH * W;
    let places = PO * QO;
    var sums: array<f32, MOST_COLUMNS>;
    for (var kw = 0u; kw < KW; kw++) {
        sums[kw] = 0.0;
    }
    var total = 0.0;
    for (var i = share; i < N * places; i += 4u * SHARES) {
        // Four winners are under way at a time.
        let all = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u) * SHARES;
        let here = min(all, vec4<u32>(N * places - 1u));
        let n = here / places;
        let at = (replica * N * F + f) * places + n * (F - 1u) * places + here;
        let loaded = vec4<f32>(upstream[at.x], upstream[at.y], upstream[at.z], upstream[at.w]);
        let won = vec4<u32>(winners[at.x], winners[at.y], winners[at.z], winners[at.w]);
        let slopes = select(vec4<f32>(0.0), loaded, all < vec4<u32>(N * places));
        let pixel = image + n * (C * H * W) + won / WO * W + won % WO;
        // A winner whose gradient is 0 is passed over. What is not a number is not equal to it.
        let none = slopes == vec4<f32>(0.0);
        for (var kw = 0u; kw < KW; kw++) {
            let pixels = vec4<f32>(x[pixel.x + kw], x[pixel.y + kw], x[pixel.z + kw], x[pixel.w + kw]);
            let products = select(slopes * pixels, vec4<f32>(0.0), none);
            sums[kw] += (products.x + products.y) + (products.z + products.w);
        }
        total += (slopes.x + slopes.y) + (slopes.z + slopes.w);
    }
    for (var kw = 0u; kw < KW; kw++) {
        memory[(thread / SHARES * KW + kw) * SHARES + share] = sums[kw];
    }
    if thread < SHARES {
        memory[ROWS * KW * SHARES + share] = total;
    }
    workgroupBarrier();
    for (var i = thread; i < (ROWS * KW + 1u) * PARTS; i += THREADS) {
        var part = 0.0;
        for (var other = i % PARTS; other < SHARES; other += PARTS) {
            part += memory[i / PARTS * SHARES + other];
        }
        parts[i] = part;
    }
    workgroupBarrier();
}

fn staged_weight_sum(i: u32) -> f32 {
    var sum = parts[i * PARTS];
    for (var part = 1u; part < PARTS; part++) {
        sum += parts[i * PARTS + part];
    }
    return sum;
}

fn store_weight_sums(replica: u32, scalars: finish_once, f: u32, first: u32, thread: u32) {
    for (var i = thread; i < ROWS * KW; i += THREADS) {
        let tap = first * KW + i;
        if tap < taps() {
            let element = f * taps() + tap;
            dw[replica * F * taps() + element] = finish(scalars, replica, element, staged_weight_sum(i));
        }
    }
}

@compute @workgroup_size(THREADS)
fn conv2d_pool_weight_grad_staged(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    if row >= F * row_blocks() {
        return;
    }
    let scalars = finish_scalars(group.z);
    let f = row / row_blocks();
    let first = row % row_blocks() * ROWS;
    staged_weight_sums(group.z, f, first, thread);
    store_weight_sums(group.z, scalars, f, first, thread);
}

@compute @workgroup_size(THREADS)
fn conv2d_pool_weight_grad_bias_staged(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, groups);
    if row >= F * row_blocks() {
        return;
    }
    let scalars = finish_scalars(group.z);
    let bias_scalars = finish_bias_scalars(group.z);
    let f = row / row_blocks();
    let first = row % row_blocks() * ROWS;
    staged_weight_sums(group.z, f, first, thread);
    store_weight_sums(group.z, scalars, f, first, thread);
    if first == 0u && thread == THREADS - 1u {
        let sum = staged_weight_sum(ROWS * KW);
        dbias[group.z * F + f] = finish_bias(bias_scalars, group.z, f, sum);
    }
}
