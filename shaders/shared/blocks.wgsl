// C = A B by blocks of C, so that what a thread reads from workgroup memory serves 4 x 4
// products, or 8 x 8: workgroups of BLOCK = 64 (4 x 4) or 128 (8 x 8) and, where C is small
// and K long, BLOCK = 32 with SHARES = 4: four teams of 8 x 8 threads that each take every
// fourth step of K. Which when: src/ops/blocks.rs.
//
// The kernel's own file says what C is: it declares ROWS, COLUMNS and DEPTH (K) and which way
// neighbours lie in memory: ACROSS_A = 1 where those of one k do, 0 where those of one row do;
// ACROSS_B likewise. What a thread loads comes by `four_of_a(replica, row, k)`, of rows FOURS
// apart, and `four_of_b(replica, k, column)`, 0 outside; row and column are the same for every k
// and are told to `hold(first)` before. shared/elements.wgsl makes these of single elements.
//
// A tile is STEP rows (of K) by BLOCK; a step is as long as gives each thread one vec4 of
// A's tile and one of B's. Component c of a row's vec4 number v is element v + c * FOURS of
// the block. So whichever way a matrix lies, neighbours load (and in the end store)
// neighbouring elements and write whole vec4s. Rows are a vec4 longer than they need be:
// threads that write below each other meet different banks.
override BLOCK: u32 = 64u;
override SHARES: u32 = 1u;
override FOURS: u32 = BLOCK / 4u;
override STEP: u32 = 1024u / (BLOCK * SHARES);
override EDGE: u32 = min(FOURS, 16u);

const TILE_B: u32 = 288u;

// A's tiles, then B's: SHARES * STEP * (FOURS + 1) vec4s each, 288 at most.
var<workgroup> tiles: array<vec4<f32>, 576>;

// What this thread makes: of the block's quarters (BLOCK = 128; else one is all), rows by
// columns. Indexed by constants alone, to stay in registers.
var<private> sums: array<mat4x4<f32>, 4>;

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// Leaves the workgroup's block of C in `sums`. Every thread of the workgroup must call it:
// it holds barriers.
fn block_product(group: vec3<u32>, thread: u32) {
    let share = thread / (EDGE * EDGE);
    let lane = thread % (EDGE * EDGE);
    let tile = share * STEP * (FOURS + 1u);
    // The vec4 and the row of the tile that this thread loads.
    let along_k = vec2<u32>(lane / STEP, lane % STEP);
    let across_k = vec2<u32>(lane % FOURS, lane / FOURS);
    let from_a = select(along_k, across_k, ACROSS_A == 1u);
    let from_b = select(along_k, across_k, ACROSS_B == 1u);
    let first = group.yx * BLOCK + vec2<u32>(from_a.x, from_b.x);
    hold(first);
    let to_a = tile + from_a.y * (FOURS + 1u) + from_a.x;
    let to_b = TILE_B + tile + from_b.y * (FOURS + 1u) + from_b.x;
    let left = tile + lane / EDGE;
    let right = TILE_B + tile + lane % EDGE;
    var next_a = four_of_a(group.z, first.x, share * STEP + from_a.y);
    var next_b = four_of_b(group.z, share * STEP + from_b.y, first.y);
    for (var p = 0u; p < DEPTH; p += SHARES * STEP) {
        tiles[to_a] = next_a;
        tiles[to_b] = next_b;
        workgroupBarrier();
        // The next step's loads are under way while this one is multiplied.
        let next = p + (SHARES + share) * STEP;
        next_a = four_of_a(group.z, first.x, next + from_a.y);
        next_b = four_of_b(group.z, next + from_b.y, first.y);
        for (var q = 0u; q < STEP * (FOURS + 1u); q += FOURS + 1u) {
            let above = tiles[left + q];
            let beside = tiles[right + q];
            sums[0] += outer(above, beside);
            if BLOCK == 128u {
                let below = tiles[left + q + EDGE];
                let beyond = tiles[right + q + EDGE];
                sums[1] += outer(above, beyond);
                sums[2] += outer(below, beside);
                sums[3] += outer(below, beyond);
            }
        }
        // Nobody may store the next tiles while somebody still reads these.
        workgroupBarrier();
    }
    if SHARES > 1u {
        add_shares(share, lane, thread);
    }
}

// The sum of the teams' shares, in their order: team s leaves row s in `sums`.
fn add_shares(team: u32, lane: u32, thread: u32) {
    var sum = vec4<f32>();
    for (var row = 0u; row < 4u; row++) {
        tiles[thread] = four_results(row);
        workgroupBarrier();
        if team == row {
            for (var share = 0u; share < SHARES; share++) {
                sum += tiles[share * EDGE * EDGE + lane];
            }
        }
        workgroupBarrier();
    }
    sums[0][0] = sum;
}

fn row_of_quarter(quarter: mat4x4<f32>, row: u32) -> vec4<f32> {
    switch row {
        case 0u: { return quarter[0]; }
        case 1u: { return quarter[1]; }
        case 2u: { return quarter[2]; }
        default: { return quarter[3]; }
    }
}

fn four_results(n: u32) -> vec4<f32> {
    switch n / 4u {
        case 0u: { return row_of_quarter(sums[0], n % 4u); }
        case 1u: { return row_of_quarter(sums[1], n % 4u); }
        case 2u: { return row_of_quarter(sums[2], n % 4u); }
        default: { return row_of_quarter(sums[3], n % 4u); }
    }
}

// A thread's results, and one of them: its row and column of C, and whether C has these.
override RESULTS: u32 = BLOCK * BLOCK / 256u;

struct Result {
    inside: bool,
    row: u32,
    column: u32,
    sum: f32,
}

var<private> four: vec4<f32>;

// Result `r`; to be asked for in turn from 0.
fn result(group: vec3<u32>, thread: u32, r: u32) -> Result {
    let lane = thread % (EDGE * EDGE);
    let quarter = vec2<u32>(r / 32u, r / 16u % 2u);
    let within = vec2<u32>(r / 4u % 4u + thread / (EDGE * EDGE), r % 4u);
    let place = group.yx * BLOCK + quarter * EDGE + within * FOURS
        + vec2<u32>(lane / EDGE, lane % EDGE);
    if r % 4u == 0u {
        four = four_results(r / 4u);
    }
    let values = four;
    return Result(place.x < ROWS && place.y < COLUMNS, place.x, place.y, values[r % 4u]);
}
