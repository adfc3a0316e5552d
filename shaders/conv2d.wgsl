// Convolution (cross-correlation), its input gradient and its weight gradient; z is the
// replica. Forward and input gradient: one thread per element. Weight gradient: one
// workgroup per weight, a tree over images and places.

override N: u32 = 1u;
override C: u32 = 1u;
override F: u32 = 1u;
override GROUPS: u32 = 1u;

const LANES: u32 = 64u;

// Channels and filters of one group.
fn group_channels() -> u32 {
    return C / GROUPS;
}

fn group_filters() -> u32 {
    return F / GROUPS;
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;

// Element i of one replica's output [N, F, HO, WO].
fn convolved(replica: u32, i: u32) -> f32 {
    let col = i % WO;
    let row = i / WO % HO;
    let f = i / (WO * HO) % F;
    let n = i / (WO * HO * F);
    let first_channel = f / group_filters() * group_channels();
    var sum = 0.0;
    for (var c = 0u; c < group_channels(); c++) {
        let image = ((replica * N + n) * C + first_channel + c) * H;
        let taps = ((replica * F + f) * group_channels() + c) * KH;
        for (var kh = 0u; kh < KH; kh++) {
            let h = image_row(row, kh);
            for (var kw = 0u; kw < KW; kw++) {
                let v = image_col(col, kw);
                let weight = w[(taps + kh) * KW + kw];
                if h != NOWHERE && v != NOWHERE {
                    sum += x[(image + h) * W + v] * weight;
                } else if PH + PW > 0u {
                    sum += zero_times(weight);
                }
            }
        }
    }
    return sum;
}

@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn conv2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    let size = N * F * HO * WO;
    if i < size {
        y[group.z * size + i] = finish(finish_scalars(group.z), group.z, i, convolved(group.z, i));
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;

// Element i of one replica's input gradient [N, C, H, W].
fn spread(replica: u32, i: u32) -> f32 {
    let col = i % W;
    let row = i / W % H;
    let c = i / (W * H) % C;
    let n = i / (W * H * C);
    let in_group = c % group_channels();
    let first_filter = c / group_channels() * group_filters();
    var sum = 0.0;
    for (var f = first_filter; f < first_filter + group_filters(); f++) {
        let plane = ((replica * N + n) * F + f) * HO;
        let taps = ((replica * F + f) * group_channels() + in_group) * KH;
        for (var kh = 0u; kh < KH; kh++) {
            let h = output_row(row, kh);
            if h == NOWHERE {
                continue;
            }
            for (var kw = 0u; kw < KW; kw++) {
                let v = output_col(col, kw);
                if v != NOWHERE {
                    sum += g[(plane + h) * WO + v] * w[(taps + kh) * KW + kw];
                }
            }
        }
    }
    return sum;
}

@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn conv2d_input_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    let size = N * C * H * W;
    if i < size {
        dx[group.z * size + i] = finish(finish_scalars(group.z), group.z, i, spread(group.z, i));
    }
}

@group(0) @binding(1) var<storage, read> upstream: array<f32>;

fn weights() -> u32 {
    return F * group_channels() * KH * KW;
}

// Element i of one replica's weight gradient [F, C / GROUPS, KH, KW]. Every thread of
// the workgroup must call it: it holds barriers.
fn correlated(replica: u32, i: u32, lane: u32) -> f32 {
    let kw = i % KW;
    let kh = i / KW % KH;
    let f = i / (KW * KH * group_channels());
    let c = f / group_filters() * group_channels() + i / (KW * KH) % group_channels();
    var sum = 0.0;
    for (var p = lane; p < N * HO * WO; p += LANES) {
        let n = p / (HO * WO);
        let h = image_row(p / WO % HO, kh);
        let v = image_col(p % WO, kw);
        let slope = upstream[((replica * N + n) * F + f) * HO * WO + p % (HO * WO)];
        if h != NOWHERE && v != NOWHERE {
            sum += slope * x[(((replica * N + n) * C + c) * H + h) * W + v];
        } else if PH + PW > 0u {
            sum += zero_times(slope);
        }
    }
    return tree_sum(lane, sum);
}

@group(0) @binding(2) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(LANES)
fn conv2d_weight_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= weights() {
        return;
    }
    let sum = correlated(group.z, i, lane);
    if lane == 0u {
        dw[group.z * weights() + i] = finish(finish_scalars(group.z), group.z, i, sum);
    }
}
