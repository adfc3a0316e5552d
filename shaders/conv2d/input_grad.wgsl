// The input gradient in blocks: rows are a group's channels, columns the pixels of all
// images, k runs over the taps of the group's filters. Where a tap does not lie on a pixel the
// product is with 0, and that of a weight which is not finite would be NaN: a block that has met
// one takes its sums from the direct kernel.
override ROWS: u32 = C / GROUPS;
override COLUMNS: u32 = N * H * W;
override DEPTH: u32 = F / GROUPS * KH * KW;
const ACROSS_A: u32 = 0u;
const ACROSS_B: u32 = 1u;

// A result's place in one replica's [N, C, H, W], and its sum.
fn place_of(e: Result) -> u32 {
    let c = conv_group * ROWS + e.row;
    return (e.column / (H * W) * C + c) * H * W + e.column % (H * W);
}

fn sum_of(replica: u32, e: Result, finite: bool) -> f32 {
    if finite {
        return e.sum;
    }
    return spread(replica, place_of(e));
}

fn element_a(replica: u32, c: u32, k: u32) -> f32 {
    if c >= ROWS || k >= DEPTH {
        return 0.0;
    }
    let f = conv_group * group_filters() + k / (KW * KH);
    return met(w[((replica * F + f) * ROWS + c) * KH * KW + k % (KW * KH)]);
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

@compute @workgroup_size(256)
fn conv2d_implicit_input_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_of(group);
    block_product(block, thread);
    let finite = met_finite_alone(thread);
    let scalars = finish_scalars(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            let i = place_of(e);
            let sum = sum_of(group.z, e, finite);
            dx[group.z * N * C * H * W + i] = finish(scalars, group.z, i, sum);
        }
    }
}
