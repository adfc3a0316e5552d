// y = w * x by tiles: rows are a group's filters, columns the places of all images, k runs over the taps.
override ROWS: u32 = F / GROUPS;
override COLUMNS: u32 = N * HO * WO;
override DEPTH: u32 = C / GROUPS * KH * KW;

// Of each place: the row and column of its window's first tap, which may lie before the first, and how many
// rows of pixels stand before its group's first channel.
var<private> held_rows: vec4<u32>;
var<private> held_columns: vec4<u32>;
var<private> held_before: vec4<u32>;

fn hold(replica: u32, places: vec4<u32>) {
    held_rows = places / WO % HO * SH - PH;
    held_columns = places % WO * SW - PW;
    held_before = ((replica * N + places / (HO * WO)) * C + tile_group * group_channels()) * H;
}

fn weight_of(replica: u32, f: u32, tap: u32) -> f32 {
    if f >= ROWS || tap >= DEPTH {
        return 0.0;
    }
    return w[(replica * F + tile_group * ROWS + f) * DEPTH + tap];
}

fn seen(tap: u32) -> vec4<f32> {
    let rows = held_rows + tap / KW % KH * DH;
    let columns = held_columns + tap % KW * DW;
    let inside = (rows < vec4(H)) & (columns < vec4(W)) & vec4(tap < DEPTH);
    let at = (held_before + tap / (KW * KH) * H + rows) * W + columns;
    let loads = select(vec4(0u), at, inside);
    return select(vec4(0.0), vec4(x[loads.x], x[loads.y], x[loads.z], x[loads.w]), inside);
}

fn store(replica: u32, scalars: finish_once, row: u32, place: u32, sum: f32) {
    let f = tile_group * ROWS + row;
    let i = (place / (HO * WO) * F + f) * (HO * WO) + place % (HO * WO);
    y[replica * N * F * HO * WO + i] = finish(scalars, replica, i, sum);
}

@compute @workgroup_size(THREADS)
fn conv2d_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_of(group, thread);
    add_up(group.z, tile, thread);
    store_tile(group.z, tile);
}
