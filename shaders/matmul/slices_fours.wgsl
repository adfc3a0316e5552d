// Behind slices.wgsl where K is a multiple of 4: four neighbours are one load.

override PIECES: u32 = K / 4u;

@group(0) @binding(0) var<storage, read> a_fours: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b_fours: array<vec4<f32>>;

alias Piece = vec4<f32>;

fn piece_of_a(i: u32, p: u32) -> Piece {
    return a_fours[i * PIECES + p];
}

fn piece_of_b(j: u32, p: u32) -> Piece {
    return b_fours[j * PIECES + p];
}

fn product(a: Piece, b: Piece) -> f32 {
    return dot(a, b);
}

@compute @workgroup_size(SLICES)
fn matmul_slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    by_slices(group, thread);
}
