// Behind tiles.wgsl in a launch of its own.

var<workgroup> shares: array<f32, VALUES * LIVE>;
