// Convolutions as products in blocks (shared/blocks.wgsl) whose matrix of patches is never
// made: `element_b` finds an element of it where it stands in the image (Chetlur et al.
// 2014). The workgroups of y go through the blocks of rows of each group of channels.

// The group that this workgroup is in.
var<private> conv_group: u32;

// The place of this workgroup's block within its group, which is noted.
fn block_of(group: vec3<u32>) -> vec3<u32> {
    let blocks = (ROWS + BLOCK - 1u) / BLOCK;
    conv_group = group.y / blocks;
    return vec3<u32>(group.x, group.y % blocks, group.z);
}

// What tap `tap` of the group's filters sees at place `place` of N images' outputs.
fn seen(replica: u32, tap: u32, place: u32) -> f32 {
    let h = image_row(place / WO % HO, tap / KW % KH);
    let v = image_col(place % WO, tap % KW);
    if h == NOWHERE || v == NOWHERE {
        return 0.0;
    }
    let c = conv_group * group_channels() + tap / (KW * KH);
    return x[(((replica * N + place / (HO * WO)) * C + c) * H + h) * W + v];
}
