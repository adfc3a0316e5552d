// Max-pooling over planes of H x W, and its gradient, gathered per input; z is the
// replica. One thread per element.

override PLANES: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> argmax: array<u32>;

@compute @workgroup_size(64)
fn max_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= PLANES * HO * WO {
        return;
    }
    let col = i % WO;
    let row = i / WO % HO;
    let plane = (group.z * PLANES + i / (WO * HO)) * H * W;
    var best = NOWHERE;
    var largest = 0.0;
    for (var kh = 0u; kh < KH; kh++) {
        let h = image_row(row, kh);
        for (var kw = 0u; kw < KW; kw++) {
            let v = image_col(col, kw);
            if h != NOWHERE && v != NOWHERE {
                let candidate = x[plane + h * W + v];
                // The first of equal maxima stays.
                if best == NOWHERE || outdoes(candidate, largest) {
                    best = h * W + v;
                    largest = candidate;
                }
            }
        }
    }
    let at = group.z * PLANES * HO * WO + i;
    y[at] = finish(finish_scalars(group.z), group.z, i, largest);
    argmax[at] = best;
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_argmax: array<u32>;

// Element i of one replica's input gradient [PLANES, H, W]: what comes back from the
// windows that cover it and have their maximum in it.
fn returned(replica: u32, i: u32) -> f32 {
    let col = i % W;
    let row = i / W % H;
    let plane = (replica * PLANES + i / (W * H)) * HO * WO;
    var sum = 0.0;
    for (var kh = 0u; kh < KH; kh++) {
        let h = output_row(row, kh);
        for (var kw = 0u; kw < KW; kw++) {
            let v = output_col(col, kw);
            if h != NOWHERE && v != NOWHERE {
                let at = plane + h * WO + v;
                if saved_argmax[at] == row * W + col {
                    sum += g[at];
                }
            }
        }
    }
    return sum;
}

@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn max_pool2d_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    let size = PLANES * H * W;
    if i < size {
        dx[group.z * size + i] = finish(finish_scalars(group.z), group.z, i, returned(group.z, i));
    }
}
