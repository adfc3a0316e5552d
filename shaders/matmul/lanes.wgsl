// Products with rows of B as they lie in memory (TRANS_A = 0, TRANS_B = 1, K a multiple of
// 4) where a load costs more than arithmetic and four neighbours cost no more than one: the
// lanes of a subgroup share the sums of VECTOR rows of B with up to FEW rows of A, each all
// of them over its share of K, in registers.

@group(0) @binding(0) var<storage, read> a_fours: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b_fours: array<vec4<f32>>;

alias LaneSums = array<Eight, FEW>;

fn four_rows(replica: u32, first: u32, p: u32) -> array<vec4<f32>, 4> {
    var rows: array<vec4<f32>, 4>;
    for (var t = 0u; t < 4u; t++) {
        // Beyond the last row stands the last one.
        rows[t] = b_fours[(replica * N + min(first + t, N - 1u)) * (K / 4u) + p];
    }
    return rows;
}

fn four_products(value: vec4<f32>, rows: ptr<function, array<vec4<f32>, 4>>) -> vec4<f32> {
    return vec4(dot(value, (*rows)[0]), dot(value, (*rows)[1]), dot(value, (*rows)[2]), dot(value, (*rows)[3]));
}

// Each lane's share of the products of rows of A from `above` on with rows of B from
// `first` on.
fn lane_products(replica: u32, above: u32, first: u32, lane: u32) -> LaneSums {
    var sums: LaneSums;
    for (var i = 0u; i < min(M, FEW); i++) {
        sums[i] = Eight();
    }
    for (var p = lane; p < K / 4u; p += VECTOR) {
        var left = four_rows(replica, first, p);
        var right = four_rows(replica, first + 4u, p);
        for (var i = 0u; i < min(M, FEW); i++) {
            let value = a_fours[(replica * M + min(above + i, M - 1u)) * (K / 4u) + p];
            sums[i][0] += four_products(value, &left);
            sums[i][1] += four_products(value, &right);
        }
    }
    return sums;
}

@compute @workgroup_size(VECTOR)
fn matmul_lanes_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let above = group.y * FEW;
    let j = group.x * VECTOR + lane;
    var sums = lane_products(group.z, above, group.x * VECTOR, lane);
    for (var i = 0u; i < min(M, FEW); i++) {
        let sum = sum_over_lanes(sums[i], lane);
        if above + i < M && j < N {
            biased[(group.z * M + above + i) * N + j] = activate(sum + bias[group.z * N + j]);
        }
    }
}

@compute @workgroup_size(VECTOR)
fn matmul_lanes_bias_dropout(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let above = group.y * FEW;
    let j = group.x * VECTOR + lane;
    var sums = lane_products(group.z, above, group.x * VECTOR, lane);
    for (var i = 0u; i < min(M, FEW); i++) {
        let sum = sum_over_lanes(sums[i], lane);
        if above + i < M && j < N {
            let at = (above + i) * N + j;
            let value = activate(sum + bias[group.z * N + j]);
            dropped[group.z * M * N + at] = masked(group.z, at, value);
        }
    }
}
