// The weight gradient in blocks: rows are a group's filters, columns their taps, k runs
// over the places of all images.
override ROWS: u32 = F / GROUPS;
override COLUMNS: u32 = C / GROUPS * KH * KW;
override DEPTH: u32 = N * HO * WO;
const ACROSS_A: u32 = 0u;
const ACROSS_B: u32 = 0u;

fn element_a(replica: u32, f: u32, place: u32) -> f32 {
    if f >= ROWS || place >= DEPTH {
        return 0.0;
    }
    let plane = (replica * N + place / (HO * WO)) * F + conv_group * ROWS + f;
    return upstream[plane * HO * WO + place % (HO * WO)];
}

fn element_b(replica: u32, place: u32, tap: u32) -> f32 {
    if place >= DEPTH || tap >= COLUMNS {
        return 0.0;
    }
    return seen(replica, tap, place);
}

// Where a filter's tap stands in [F, C / GROUPS, KH, KW].
fn weight_at(e: Result) -> u32 {
    return (conv_group * ROWS + e.row) * COLUMNS + e.column;
}

@compute @workgroup_size(256)
fn conv2d_implicit_weight_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_of(group);
    block_product(block, thread);
    let scalars = finish_scalars(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            let i = weight_at(e);
            dw[group.z * F * COLUMNS + i] = finish(scalars, group.z, i, e.sum);
        }
    }
}
