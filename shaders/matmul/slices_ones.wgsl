// Behind slices.wgsl for any K.

override PIECES: u32 = K;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;

alias Piece = f32;

fn piece_of_a(i: u32, p: u32) -> Piece {
    return a[i * K + p];
}

fn piece_of_b(j: u32, p: u32) -> Piece {
    return b[j * K + p];
}

fn product(a: Piece, b: Piece) -> f32 {
    return a * b;
}

@compute @workgroup_size(SLICES)
fn matmul_slices_any(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    by_slices(group, thread);
}
