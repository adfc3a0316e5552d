// C = A B^T of few rows of A or of B (TRANS_A = 0, TRANS_B = 1) where a launch takes as long as its loads wait
// for each other: a thread has COLUMNS rows of B against HEIGHT rows of A over its share of K, in
// registers. A workgroup of SLICES threads; z is the replica. The file that follows says what a piece
// of K is.

override M: u32 = 1u;
override N: u32 = 1u;
override K: u32 = 1u;
override TRANS_A: u32 = 0u;
override TRANS_B: u32 = 1u;
// Rows of A that a workgroup has, at most 16.
override HEIGHT: u32 = 16u;
// 1 or 4.
override COLUMNS: u32 = 1u;
// A power of two from 32 on: at most 256, of four columns at most 128.
override SLICES: u32 = 256u;

// Rows whose shares stand in workgroup memory at a time, sums of these, and threads that add up the
// shares of one.
override ROWS: u32 = select(8u, 4u, COLUMNS == 4u);
override VALUES: u32 = ROWS * COLUMNS;
override PARTS: u32 = SLICES / VALUES;

@group(0) @binding(2) var<storage, read_write> c: array<f32>;

var<workgroup> shares: array<f32, 2048>;
var<workgroup> parts: array<f32, 256>;

// By fours of rows of A: of each the columns' sums. What is indexed by numbers stays in registers, so
// there is no loop over them.
alias Sums = array<mat4x4<f32>, 4>;

alias Pieces = array<Piece, 4>;

// Beyond the last column stands the last one.
fn column(replica: u32, j: u32, p: u32) -> Piece {
    return piece_of_b(replica * N + min(j, N - 1u), p);
}

fn row(replica: u32, i: u32, p: u32) -> Piece {
    if i >= M {
        return Piece();
    }
    return piece_of_a(replica * M + i, p);
}

fn more(sum: vec4<f32>, a: Piece, b: Pieces) -> vec4<f32> {
    if COLUMNS == 1u {
        return vec4(sum.x + product(a, b[0]), 0.0, 0.0, 0.0);
    }
    return sum + vec4(product(a, b[0]), product(a, b[1]), product(a, b[2]), product(a, b[3]));
}

fn columns(replica: u32, j: u32, p: u32) -> Pieces {
    if COLUMNS == 1u {
        return Pieces(column(replica, j, p), Piece(), Piece(), Piece());
    }
    return Pieces(
        column(replica, j, p),
        column(replica, j + 1u, p),
        column(replica, j + 2u, p),
        column(replica, j + 3u, p),
    );
}

fn four_rows(replica: u32, i: u32, p: u32) -> Pieces {
    return Pieces(
        row(replica, i, p),
        row(replica, i + 1u, p),
        row(replica, i + 2u, p),
        row(replica, i + 3u, p),
    );
}

fn multiply_four(sums: mat4x4<f32>, a: Pieces, b: Pieces) -> mat4x4<f32> {
    return mat4x4(more(sums[0], a[0], b), more(sums[1], a[1], b), more(sums[2], a[2], b), more(sums[3], a[3], b));
}

fn multiply(sums: ptr<function, Sums>, replica: u32, i: u32, j: u32, p: u32) {
    // All loads before the first product.
    let b = columns(replica, j, p);
    let first = four_rows(replica, i, p);
    let second = four_rows(replica, i + 4u, p);
    let third = four_rows(replica, i + 8u, p);
    let fourth = four_rows(replica, i + 12u, p);
    (*sums)[0] = multiply_four((*sums)[0], first, b);
    if HEIGHT > 4u {
        (*sums)[1] = multiply_four((*sums)[1], second, b);
    }
    if HEIGHT > 8u {
        (*sums)[2] = multiply_four((*sums)[2], third, b);
    }
    if HEIGHT > 12u {
        (*sums)[3] = multiply_four((*sums)[3], fourth, b);
    }
}

// Where a thread's share of a value stands: turned, so that threads that read several values' shares
// at a time read different banks.
fn slot(value: u32, thread: u32) -> u32 {
    return value * SLICES + (thread + PARTS * value) % SLICES;
}

fn share(sum: vec4<f32>, row: u32, thread: u32) {
    let value = row * COLUMNS;
    shares[slot(value, thread)] = sum.x;
    if COLUMNS == 4u {
        shares[slot(value + 1u, thread)] = sum.y;
        shares[slot(value + 2u, thread)] = sum.z;
        shares[slot(value + 3u, thread)] = sum.w;
    }
}

fn share_four(sums: mat4x4<f32>, row: u32, thread: u32) {
    share(sums[0], row, thread);
    share(sums[1], row + 1u, thread);
    share(sums[2], row + 2u, thread);
    share(sums[3], row + 3u, thread);
}

// Adds up the shares of ROWS rows from `i` on, PARTS threads every PARTS-th share of a sum and then
// one theirs. Every thread must call it: it holds barriers.
fn add_up(replica: u32, scalars: finish_once, i: u32, corner: vec2<u32>, thread: u32) {
    workgroupBarrier();
    var part = 0.0;
    for (var slice = thread % PARTS; slice < SLICES; slice += PARTS) {
        part += shares[slot(thread / PARTS, slice)];
    }
    parts[thread] = part;
    // From here on the shares may be overwritten; the parts not before the next barrier.
    workgroupBarrier();
    let place = corner + vec2(i + thread / COLUMNS, thread % COLUMNS);
    if thread < VALUES && place.x < M && place.y < N {
        var sum = 0.0;
        for (var p = 0u; p < PARTS; p++) {
            sum += parts[thread * PARTS + p];
        }
        let at = place.x * N + place.y;
        c[replica * M * N + at] = finish(scalars, replica, at, sum);
    }
}

fn by_slices(group: vec3<u32>, thread: u32) {
    let replica = group.z;
    let corner = group.yx * vec2(HEIGHT, COLUMNS);
    let scalars = finish_scalars(replica);
    var sums = Sums();
    for (var p = thread; p < PIECES; p += SLICES) {
        multiply(&sums, replica, corner.x, corner.y, p);
    }
    share_four(sums[0], 0u, thread);
    if COLUMNS == 4u {
        add_up(replica, scalars, 0u, corner, thread);
        if HEIGHT <= 4u { return; }
        share_four(sums[1], 0u, thread);
        add_up(replica, scalars, 4u, corner, thread);
        if HEIGHT <= 8u { return; }
        share_four(sums[2], 0u, thread);
        add_up(replica, scalars, 8u, corner, thread);
        if HEIGHT <= 12u { return; }
        share_four(sums[3], 0u, thread);
        add_up(replica, scalars, 12u, corner, thread);
        return;
    }
    share_four(sums[1], 4u, thread);
    add_up(replica, scalars, 0u, corner, thread);
    if HEIGHT <= 8u { return; }
    share_four(sums[2], 0u, thread);
    share_four(sums[3], 4u, thread);
    add_up(replica, scalars, 8u, corner, thread);
}
