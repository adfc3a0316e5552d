// Convolutions by tiles of registers: a thread makes four places of 4 FOURS rows (filters forward, channels
// back), so that what is loaded of an image for a tap serves as many products as there are rows, and a weight
// out of workgroup memory four. A workgroup has the same rows at 256 places. Neighbouring threads have
// neighbouring places, so their loads and stores are neighbours in memory; what taps of the same pixels
// load again comes out of the near cache.
//
// The kernel's own file says what the rows are: it declares ROWS of a group, COLUMNS (places of all images)
// and DEPTH (what a sum runs over), `weight_of(replica, row, k)`, `hold(replica, places)`, which keeps what
// four places have in common for all k, `seen(k)`, what these see, and `store(replica, scalars, row, place,
// sum)`.

// Vec4s of rows.
override FOURS: u32 = 1u;

const THREADS: u32 = 64u;
// Vec4s of weights that are in memory at a time, and how far sums get with them: a multiple of four.
const KEPT: u32 = 1008u;
override CHUNK: u32 = KEPT / FOURS;

var<workgroup> kept: array<vec4<f32>, KEPT>;

// The group that this workgroup is in.
var<private> tile_group: u32;

// Of each vec4 of rows, row by row, four places. Indexed by constants alone, to stay in registers.
var<private> sums: array<mat4x4<f32>, 4>;

// What the thread's places see of four k.
struct Seen {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn seen_from(k: u32) -> Seen {
    return Seen(seen(k), seen(k + 1u), seen(k + 2u), seen(k + 3u));
}

// Brings the weights of CHUNK k from `first` on into memory, zeros behind the last.
fn keep(replica: u32, row: u32, first: u32, thread: u32) {
    for (var i = thread; i < FOURS * CHUNK; i += THREADS) {
        let k = first + i % CHUNK;
        let r = row + i / CHUNK * 4u;
        kept[i % CHUNK * FOURS + i / CHUNK] = vec4<f32>(
            weight_of(replica, r, k),
            weight_of(replica, r + 1u, k),
            weight_of(replica, r + 2u, k),
            weight_of(replica, r + 3u, k),
        );
    }
}

fn by_rows(rows: vec4<f32>, places: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(rows.x * places, rows.y * places, rows.z * places, rows.w * places);
}

// Adds the products of one k, whose weights stand at `at`.
fn add_products(at: u32, places: vec4<f32>) {
    sums[0] += by_rows(kept[at], places);
    if FOURS > 1u {
        sums[1] += by_rows(kept[at + 1u], places);
    }
    if FOURS > 2u {
        sums[2] += by_rows(kept[at + 2u], places);
        sums[3] += by_rows(kept[at + 3u], places);
    }
}

// Where this thread's tile is: its first row within its group, its first place.
fn tile_of(group: vec3<u32>, thread: u32) -> vec2<u32> {
    let blocks = (ROWS + 4u * FOURS - 1u) / (4u * FOURS);
    tile_group = group.y / blocks;
    return vec2<u32>(group.y % blocks * 4u * FOURS, group.x * 4u * THREADS + thread);
}

// Leaves the thread's tile in `sums`. Every thread of the workgroup must call it: it holds barriers.
fn add_up(replica: u32, tile: vec2<u32>, thread: u32) {
    let places = tile.y + vec4<u32>(0u, THREADS, 2u * THREADS, 3u * THREADS);
    hold(replica, min(places, vec4<u32>(COLUMNS - 1u)));
    var now = seen_from(0u);
    for (var first = 0u; first < DEPTH; first += CHUNK) {
        // Nobody may store the next weights while somebody still reads these.
        workgroupBarrier();
        keep(replica, tile.x, first, thread);
        workgroupBarrier();
        let end = min(first + CHUNK, DEPTH);
        for (var k = first; k < end; k += 4u) {
            // What the next four see is under way while these are multiplied.
            let next = seen_from(k + 4u);
            let at = (k - first) * FOURS;
            add_products(at, now.a);
            add_products(at + FOURS, now.b);
            add_products(at + 2u * FOURS, now.c);
            add_products(at + 3u * FOURS, now.d);
            now = next;
        }
    }
}

fn row_of_four(four: mat4x4<f32>, row: u32) -> vec4<f32> {
    switch row {
        case 0u: { return four[0]; }
        case 1u: { return four[1]; }
        case 2u: { return four[2]; }
        default: { return four[3]; }
    }
}

// The four places of row `row` of the tile.
fn row_of_tile(row: u32) -> vec4<f32> {
    switch row / 4u {
        case 0u: { return row_of_four(sums[0], row % 4u); }
        case 1u: { return row_of_four(sums[1], row % 4u); }
        case 2u: { return row_of_four(sums[2], row % 4u); }
        default: { return row_of_four(sums[3], row % 4u); }
    }
}

// Hands the tile over to `store`.
fn store_tile(replica: u32, tile: vec2<u32>) {
    let scalars = finish_scalars(replica);
    for (var r = 0u; r < 4u * FOURS; r++) {
        let row = tile.x + r;
        if row >= ROWS {
            break;
        }
        let four = row_of_tile(r);
        for (var n = 0u; n < 4u; n++) {
            let place = tile.y + n * THREADS;
            if place < COLUMNS {
                store(replica, scalars, row, place, four[n]);
            }
        }
    }
}
