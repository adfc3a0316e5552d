// Average pooling over planes of H x W, padding counted, and its gradient, gathered per
// input; z is the replica. One thread per element.

override PLANES: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn avg_pool2d(
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
    var sum = 0.0;
    for (var kh = 0u; kh < KH; kh++) {
        let h = image_row(row, kh);
        for (var kw = 0u; kw < KW; kw++) {
            let v = image_col(col, kw);
            if h != NOWHERE && v != NOWHERE {
                sum += x[plane + h * W + v];
            }
        }
    }
    y[group.z * PLANES * HO * WO + i] = sum / f32(KH * KW);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn avg_pool2d_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= PLANES * H * W {
        return;
    }
    let col = i % W;
    let row = i / W % H;
    let plane = (group.z * PLANES + i / (W * H)) * HO * WO;
    var sum = 0.0;
    for (var kh = 0u; kh < KH; kh++) {
        let h = output_row(row, kh);
        for (var kw = 0u; kw < KW; kw++) {
            let v = output_col(col, kw);
            if h != NOWHERE && v != NOWHERE {
                sum += g[plane + h * WO + v];
            }
        }
    }
    dx[group.z * PLANES * H * W + i] = sum / f32(KH * KW);
}
