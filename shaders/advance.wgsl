// next = now + 1: the device counts its own steps. One thread; z is the replica.

@group(0) @binding(0) var<storage, read_write> step: array<u32>;

@compute @workgroup_size(1)
fn advance(@builtin(workgroup_id) group: vec3<u32>) {
    step[2u * group.z] = step[2u * group.z + 1u] + 1u;
}
