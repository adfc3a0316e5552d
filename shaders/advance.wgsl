// step += 1: the device counts its own steps. One thread in all.

@group(0) @binding(0) var<storage, read_write> step: array<u32>;

@compute @workgroup_size(1)
fn advance() {
    step[0] += 1u;
}
