// y = w * x in blocks: rows are a group's filters, columns the places of all images, k runs
// over the taps.
override ROWS: u32 = F / GROUPS;
override COLUMNS: u32 = N * HO * WO;
override DEPTH: u32 = C / GROUPS * KH * KW;
const ACROSS_A: u32 = 0u;
const ACROSS_B: u32 = 1u;

fn element_a(replica: u32, f: u32, tap: u32) -> f32 {
    if f >= ROWS || tap >= DEPTH {
        return 0.0;
    }
    return w[(replica * F + conv_group * ROWS + f) * DEPTH + tap];
}

fn element_b(replica: u32, tap: u32, place: u32) -> f32 {
    if tap >= DEPTH || place >= COLUMNS {
        return 0.0;
    }
    return seen(replica, tap, place);
}

// Where the output of a filter at a place stands in one replica's [N, F, HO, WO].
fn output_at(f: u32, place: u32) -> u32 {
    return (place / (HO * WO) * F + f) * HO * WO + place % (HO * WO);
}

@compute @workgroup_size(256)
fn conv2d_implicit(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_of(group);
    block_product(block, thread);
    let scalars = finish_scalars(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            let i = output_at(conv_group * ROWS + e.row, e.column);
            y[group.z * N * F * HO * WO + i] = finish(scalars, group.z, i, e.sum);
        }
    }
}
