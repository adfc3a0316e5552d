// Behind tiles.wgsl where IN is a multiple of 4: four neighbours are one load.

override PIECES: u32 = IN / 4u;

@group(0) @binding(0) var<storage, read> a_fours: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w_fours: array<vec4<f32>>;

alias Piece = vec4<f32>;

fn piece_of_a(row: u32, p: u32) -> Piece {
    return a_fours[row * PIECES + p];
}

fn piece_of_w(row: u32, p: u32) -> Piece {
    return w_fours[row * PIECES + p];
}

fn product(a: Piece, w: Piece) -> f32 {
    return dot(a, w);
}

@compute @workgroup_size(LIVE)
fn dense_loss_tiles(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    by_tiles(group.z, thread);
}
