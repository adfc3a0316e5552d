// The input gradient by tiles: rows are a group's channels, columns the pixels of all images, k runs over
// the taps of the group's filters. Where a tap does not lie on a pixel the product is with 0, and that of a
// weight which is not finite would be NaN: a workgroup that has met one takes its sums from the direct kernel.
override ROWS: u32 = C / GROUPS;
override COLUMNS: u32 = N * H * W;
override DEPTH: u32 = F / GROUPS * KH * KW;

// Of each pixel: its row and column between the zeros, and how many rows of places stand before its group's
// first filter.
var<private> held_rows: vec4<u32>;
var<private> held_columns: vec4<u32>;
var<private> held_before: vec4<u32>;

fn hold(replica: u32, pixels: vec4<u32>) {
    held_rows = pixels / W % H + PH;
    held_columns = pixels % W + PW;
    held_before = ((replica * N + pixels / (H * W)) * F + tile_group * group_filters()) * HO;
}

fn weight_of(replica: u32, c: u32, k: u32) -> f32 {
    if c >= ROWS || k >= DEPTH {
        return 0.0;
    }
    let f = tile_group * group_filters() + k / (KW * KH);
    return met(w[((replica * F + f) * ROWS + c) * KH * KW + k % (KW * KH)]);
}

fn seen(k: u32) -> vec4<f32> {
    let down = vec4(k / KW % KH * DH);
    let along = vec4(k % KW * DW);
    let rows = (held_rows - down) / SH;
    let columns = (held_columns - along) / SW;
    let reached = (held_rows >= down) & (held_columns >= along) & vec4(k < DEPTH);
    let between = ((held_rows - down) % SH == vec4(0u)) & ((held_columns - along) % SW == vec4(0u));
    let there = reached & between & (rows < vec4(HO)) & (columns < vec4(WO));
    let at = (held_before + k / (KW * KH) * HO + rows) * WO + columns;
    let loads = select(vec4(0u), at, there);
    return select(vec4(0.0), vec4(g[loads.x], g[loads.y], g[loads.z], g[loads.w]), there);
}

// Whether the workgroup's weights are finite.
var<private> tile_is_finite: bool;

fn store(replica: u32, scalars: finish_once, row: u32, pixel: u32, sum: f32) {
    let c = tile_group * ROWS + row;
    let i = (pixel / (H * W) * C + c) * (H * W) + pixel % (H * W);
    var all = sum;
    if !tile_is_finite {
        all = spread(replica, i);
    }
    dx[replica * N * C * H * W + i] = finish(scalars, replica, i, all);
}

@compute @workgroup_size(THREADS)
fn conv2d_tiled_input_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_of(group, thread);
    add_up(group.z, tile, thread);
    tile_is_finite = met_finite_alone(thread);
    store_tile(group.z, tile);
}
