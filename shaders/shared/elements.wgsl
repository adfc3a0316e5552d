// What threads load for a block (shared/blocks.wgsl), element by element: the kernel's own file declares
// `element_a(replica, row, k)` and `element_b(replica, k, column)`, 0 outside.

fn hold(first: vec2<u32>) {}

fn four_of_a(replica: u32, i: u32, p: u32) -> vec4<f32> {
    return vec4<f32>(
        element_a(replica, i, p),
        element_a(replica, i + FOURS, p),
        element_a(replica, i + 2u * FOURS, p),
        element_a(replica, i + 3u * FOURS, p),
    );
}

fn four_of_b(replica: u32, p: u32, j: u32) -> vec4<f32> {
    return vec4<f32>(
        element_b(replica, p, j),
        element_b(replica, p, j + FOURS),
        element_b(replica, p, j + 2u * FOURS),
        element_b(replica, p, j + 3u * FOURS),
    );
}
