// Behind tiles.wgsl for any IN.

override PIECES: u32 = IN;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;

alias Piece = f32;

fn piece_of_a(row: u32, p: u32) -> Piece {
    return a[row * IN + p];
}

fn piece_of_w(row: u32, p: u32) -> Piece {
    return w[row * IN + p];
}

fn product(a: Piece, w: Piece) -> f32 {
    return a * w;
}

@compute @workgroup_size(LIVE)
fn dense_loss_tiles_any(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    by_tiles(group.z, thread);
}
