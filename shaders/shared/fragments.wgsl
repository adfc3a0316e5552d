// C = A B by the adapter's matrix units (cooperative matrices), in mixed precision: factors
// are rounded to f16, their products are exact in f32 and summed there (Micikevicius et al.
// 2018). A workgroup makes a block of SPAN x SPAN; each of its subgroups, here a crew, a
// square of 2 x 2 fragments, the matrices that the unit multiplies.
//
// The kernel's own file says what C is, as for shared/blocks.wgsl: ROWS, COLUMNS, DEPTH,
// ACROSS_A and ACROSS_B, and of elements `factor_a(replica, row, k)` and
// `factor_b(replica, k, column)`, 0 outside; its `store(group, thread)` writes C. Another one
// (shared/units16.wgsl) declares FRAGMENT, a fragment's rows and columns, and FragmentA,
// FragmentB, FragmentC; the adapter's subgroups must be as many as there are squares. The entry
// point (src/ops/fragments.rs) notes the crew.
const THREADS: u32 = 128u;
const SPAN: u32 = 64u;
// Elements of K in a step.
const DEEP: u32 = 32u;
// Elements of a tile from one row to the next, whichever way it lies. Eight more than there
// are: rows meet different banks and begin at 16 bytes, as the units want it.
const PITCH_ACROSS: u32 = SPAN + 8u;
const PITCH_ALONG: u32 = DEEP + 8u;

var<workgroup> half_a: array<f16, SPAN * PITCH_ALONG>;
var<workgroup> half_b: array<f16, SPAN * PITCH_ALONG>;

// The crew that this thread is in.
var<private> crew: u32;

var<private> sum_00: FragmentC;
var<private> sum_01: FragmentC;
var<private> sum_10: FragmentC;
var<private> sum_11: FragmentC;

// Where a tile has the element that stands at `i` of the block and `k` of the step.
fn place_in_tile(across: bool, i: u32, k: u32) -> u32 {
    return select(i * PITCH_ALONG + k, k * PITCH_ACROSS + i, across);
}

// Element `e` of a tile, in the order in which they lie in memory: its i and k.
fn element_of_tile(across: bool, e: u32) -> vec2<u32> {
    return select(vec2<u32>(e / DEEP, e % DEEP), vec2<u32>(e % SPAN, e / SPAN), across);
}

// A factor as a unit takes it. Beyond 65,504 it is infinite, whichever way a device rounds, so
// that a step whose gradients are too large is noticed.
fn rounded(x: f32) -> f16 {
    return f16(select(x, x * 1e38, abs(x) >= 65520.0));
}

fn fill_tiles(group: vec3<u32>, thread: u32, p: u32) {
    for (var e = thread; e < SPAN * DEEP; e += THREADS) {
        let at_a = element_of_tile(ACROSS_A == 1u, e);
        let at_b = element_of_tile(ACROSS_B == 1u, e);
        let a = factor_a(group.z, group.y * SPAN + at_a.x, p + at_a.y);
        let b = factor_b(group.z, p + at_b.y, group.x * SPAN + at_b.x);
        half_a[place_in_tile(ACROSS_A == 1u, at_a.x, at_a.y)] = rounded(a);
        half_b[place_in_tile(ACROSS_B == 1u, at_b.x, at_b.y)] = rounded(b);
    }
}

// coopLoadT takes rows that lie side by side, coopLoad columns.
fn fragment_a(i: u32, k: u32) -> FragmentA {
    let at = place_in_tile(ACROSS_A == 1u, i, k);
    if ACROSS_A == 1u {
        return coopLoad<FragmentA>(&half_a[at], PITCH_ACROSS);
    }
    return coopLoadT<FragmentA>(&half_a[at], PITCH_ALONG);
}

fn fragment_b(k: u32, j: u32) -> FragmentB {
    let at = place_in_tile(ACROSS_B == 1u, j, k);
    if ACROSS_B == 1u {
        return coopLoadT<FragmentB>(&half_b[at], PITCH_ACROSS);
    }
    return coopLoad<FragmentB>(&half_b[at], PITCH_ALONG);
}

// Row and column of a crew's square, in squares.
fn square_of(number: u32) -> vec2<u32> {
    let squares = SPAN / (2u * FRAGMENT);
    return vec2<u32>(number / squares, number % squares);
}

// Leaves the workgroup's block of C in its crews' fragments. Every thread of the workgroup
// must call it: it holds barriers.
fn block_product(group: vec3<u32>, thread: u32) {
    let corner = square_of(crew) * 2u * FRAGMENT;
    for (var p = 0u; p < DEPTH; p += DEEP) {
        fill_tiles(group, thread, p);
        workgroupBarrier();
        for (var k = 0u; k < DEEP; k += FRAGMENT) {
            let above = fragment_a(corner.x, k);
            let below = fragment_a(corner.x + FRAGMENT, k);
            let left = fragment_b(k, corner.y);
            let right = fragment_b(k, corner.y + FRAGMENT);
            sum_00 = coopMultiplyAdd(above, left, sum_00);
            sum_01 = coopMultiplyAdd(above, right, sum_01);
            sum_10 = coopMultiplyAdd(below, left, sum_10);
            sum_11 = coopMultiplyAdd(below, right, sum_11);
        }
        // Nobody may store the next tiles while somebody still reads these.
        workgroupBarrier();
    }
}

// A thread's results, and one of them: its row and column of C, and whether C has these.
const RESULTS: u32 = SPAN * SPAN / THREADS;

struct Result {
    inside: bool,
    row: u32,
    column: u32,
    sum: f32,
}

// One fragment of each crew's four.
const STAGE: u32 = SPAN * SPAN / 4u;
var<workgroup> stage: array<f32, STAGE>;

fn store_fragments(which: u32) {
    let at = crew * FRAGMENT * FRAGMENT;
    switch which {
        case 0u: { coopStoreT(sum_00, &stage[at], FRAGMENT); }
        case 1u: { coopStoreT(sum_01, &stage[at], FRAGMENT); }
        case 2u: { coopStoreT(sum_10, &stage[at], FRAGMENT); }
        default: { coopStoreT(sum_11, &stage[at], FRAGMENT); }
    }
}

// Result `r`; every thread must ask for each in turn from 0, since what a crew's fragments
// hold reaches its threads through workgroup memory.
fn result(group: vec3<u32>, thread: u32, r: u32) -> Result {
    let which = r * THREADS / STAGE;
    let at = r * THREADS % STAGE + thread;
    if r * THREADS % STAGE == 0u {
        // Nobody may store the next fragments while somebody still reads these.
        workgroupBarrier();
        store_fragments(which);
        workgroupBarrier();
    }
    let size = FRAGMENT * FRAGMENT;
    let fragment = square_of(at / size) * 2u + vec2<u32>(which / 2u, which % 2u);
    let within = vec2<u32>(at % size / FRAGMENT, at % FRAGMENT);
    let place = group.yx * SPAN + fragment * FRAGMENT + within;
    return Result(place.x < ROWS && place.y < COLUMNS, place.x, place.y, stage[at]);
}
