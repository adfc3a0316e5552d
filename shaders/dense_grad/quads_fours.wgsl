// Behind quads.wgsl where IN is a multiple of 4: four neighbours are one load.

@group(0) @binding(0) var<storage, read> x_fours: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> w_fours: array<vec4<f32>>;

fn inputs_at(replica: u32, n: u32, column: u32) -> vec4<f32> {
    return x_fours[((replica * N + n) * IN + column) / 4u];
}

fn input_at(replica: u32, i: u32) -> f32 {
    let at = replica * N * IN + i;
    return x_fours[at / 4u][at % 4u];
}

fn weights_at(replica: u32, o: u32, column: u32) -> vec4<f32> {
    return w_fours[((replica * OUT + o) * IN + column) / 4u];
}

fn finish_weights(
    scalars: finish_weight_once,
    replica: u32,
    o: u32,
    column: u32,
    slopes: vec4<f32>,
    weights: vec4<f32>,
) {
    let i = o * IN + column;
    w_fours[(replica * OUT * IN + i) / 4u] = vec4(
        finish_weight(scalars, replica, i, slopes.x, weights.x),
        finish_weight(scalars, replica, i + 1u, slopes.y, weights.y),
        finish_weight(scalars, replica, i + 2u, slopes.z, weights.z),
        finish_weight(scalars, replica, i + 3u, slopes.w, weights.w),
    );
}

@compute @workgroup_size(THREADS)
fn dense_grad_quads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    way_back(group, thread);
}

@compute @workgroup_size(THREADS)
fn dense_update_quads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    updates(group, thread);
}
