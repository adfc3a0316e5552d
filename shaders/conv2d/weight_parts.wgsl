// The weight gradient of each part of the mini-batch, in blocks (shared/blocks.wgsl): rows are a group's
// filters, columns their taps, k runs over the places of the part's images. The workgroups of y go through
// the blocks of rows of each group of each part. A thread's filters and taps are the same for every k, so
// what addresses have of them is computed once.
override IMAGES: u32 = 1u;
override PARTS: u32 = 1u;
override ROWS: u32 = F / GROUPS;
override COLUMNS: u32 = C / GROUPS * KH * KW;
override DEPTH: u32 = IMAGES * HO * WO;
const ACROSS_A: u32 = 0u;
const ACROSS_B: u32 = 0u;

// Where this workgroup is.
var<private> part: u32;
var<private> part_group: u32;

var<private> held_filters: vec4<u32>;
var<private> held_taps: vec4<u32>;
// Of each tap: how far its row and column are from those of the window's stride, and its channel.
var<private> tap_rows: vec4<u32>;
var<private> tap_columns: vec4<u32>;
var<private> tap_channels: vec4<u32>;

fn hold(first: vec2<u32>) {
    let fours = vec4<u32>(0u, FOURS, 2u * FOURS, 3u * FOURS);
    held_filters = first.x + fours;
    held_taps = first.y + fours;
    tap_rows = held_taps / KW % KH * DH - PH;
    tap_columns = held_taps % KW * DW - PW;
    tap_channels = part_group * group_channels() + held_taps / (KW * KH);
}

// The place of all images that is number k of this part, and whether there is one.
fn place_of_part(k: u32) -> u32 {
    return part * DEPTH + k;
}

fn is_of_part(k: u32) -> bool {
    return k < DEPTH && place_of_part(k) < N * HO * WO;
}

fn four_of_a(replica: u32, filter_row: u32, k: u32) -> vec4<f32> {
    let place = place_of_part(k);
    let inside = (held_filters < vec4(ROWS)) & vec4(is_of_part(k));
    let planes = (replica * N + place / (HO * WO)) * F + part_group * ROWS + held_filters;
    let loads = select(vec4(0u), planes * (HO * WO) + place % (HO * WO), inside);
    let slopes = vec4(upstream[loads.x], upstream[loads.y], upstream[loads.z], upstream[loads.w]);
    return select(vec4(0.0), slopes, inside);
}

fn four_of_b(replica: u32, k: u32, tap: u32) -> vec4<f32> {
    let place = place_of_part(k);
    let rows = tap_rows + place / WO % HO * SH;
    let columns = tap_columns + place % WO * SW;
    let there = (held_taps < vec4(COLUMNS)) & vec4(is_of_part(k));
    let inside = (rows < vec4(H)) & (columns < vec4(W)) & there;
    let at = (((replica * N + place / (HO * WO)) * C + tap_channels) * H + rows) * W + columns;
    let loads = select(vec4(0u), at, inside);
    return select(vec4(0.0), vec4(x[loads.x], x[loads.y], x[loads.z], x[loads.w]), inside);
}

@group(0) @binding(2) var<storage, read_write> parts: array<f32>;

@compute @workgroup_size(256)
fn conv2d_weight_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let blocks = (ROWS + BLOCK - 1u) / BLOCK;
    part = group.y / (blocks * GROUPS);
    part_group = group.y / blocks % GROUPS;
    let block = vec3<u32>(group.x, group.y % blocks, group.z);
    block_product(block, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            let f = (group.z * PARTS + part) * F + part_group * ROWS + e.row;
            parts[f * COLUMNS + e.column] = e.sum;
        }
    }
}
