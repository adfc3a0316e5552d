// The input gradient in blocks: rows are a group's channels, columns the pixels of all
// images, k runs over the taps of the group's filters.
override ROWS: u32 = C / GROUPS;
override COLUMNS: u32 = N * H * W;
override DEPTH: u32 = F / GROUPS * KH * KW;
const ACROSS_A: u32 = 0u;
const ACROSS_B: u32 = 1u;

fn element_a(replica: u32, c: u32, k: u32) -> f32 {
    if c >= ROWS || k >= DEPTH {
        return 0.0;
    }
    let f = conv_group * group_filters() + k / (KW * KH);
    return w[((replica * F + f) * ROWS + c) * KH * KW + k % (KW * KH)];
}

fn element_b(replica: u32, k: u32, pixel: u32) -> f32 {
    if k >= DEPTH || pixel >= COLUMNS {
        return 0.0;
    }
    let h = output_row(pixel / W % H, k / KW % KH);
    let v = output_col(pixel % W, k % KW);
    if h == NOWHERE || v == NOWHERE {
        return 0.0;
    }
    let f = conv_group * group_filters() + k / (KW * KH);
    return g[(((replica * N + pixel / (H * W)) * F + f) * HO + h) * WO + v];
}

// Where a channel's pixel stands in [N, C, H, W].
fn input_at(replica: u32, c: u32, pixel: u32) -> u32 {
    return ((replica * N + pixel / (H * W)) * C + c) * H * W + pixel % (H * W);
}

@compute @workgroup_size(256)
fn conv2d_implicit_input_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_of(group);
    block_product(block, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            dx[input_at(group.z, conv_group * ROWS + e.row, e.column)] = e.sum;
        }
    }
}

@compute @workgroup_size(256)
fn conv2d_implicit_input_grad_slope(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_of(group);
    block_product(block, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            let at = input_at(group.z, conv_group * ROWS + e.row, e.column);
            delta[at] = e.sum * activation_slope_of(saved_x[at]);
        }
    }
}
