// Behind rows.wgsl for any IN. Beyond the last column stands the last one, of which nothing is stored.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;

fn four_columns(column: u32) -> vec4<u32> {
    return min(vec4(column) + vec4(0u, 1u, 2u, 3u), vec4(IN - 1u));
}

fn inputs_at(replica: u32, n: u32, column: u32) -> vec4<f32> {
    let at = vec4((replica * N + n) * IN) + four_columns(column);
    return vec4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn input_at(replica: u32, i: u32) -> f32 {
    return x[replica * N * IN + i];
}

fn weights_at(replica: u32, o: u32, column: u32) -> vec4<f32> {
    let at = vec4((replica * OUT + o) * IN) + four_columns(column);
    return vec4(w[at.x], w[at.y], w[at.z], w[at.w]);
}

fn finish_one(
    scalars: finish_weight_once,
    replica: u32,
    o: u32,
    column: u32,
    slope: f32,
    weight: f32,
) {
    if column < IN {
        let i = o * IN + column;
        w[replica * OUT * IN + i] = finish_weight(scalars, replica, i, slope, weight);
    }
}

fn finish_weights(
    scalars: finish_weight_once,
    replica: u32,
    o: u32,
    column: u32,
    slopes: vec4<f32>,
    weights: vec4<f32>,
) {
    finish_one(scalars, replica, o, column, slopes.x, weights.x);
    finish_one(scalars, replica, o, column + 1u, slopes.y, weights.y);
    finish_one(scalars, replica, o, column + 2u, slopes.z, weights.z);
    finish_one(scalars, replica, o, column + 3u, slopes.w, weights.w);
}
