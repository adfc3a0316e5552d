// now, next = now + 1: the device counts its own steps. One thread; z is the replica.

@group(0) @binding(0) var<storage, read_write> step: array<u32>;

@compute @workgroup_size(1)
fn advance(@builtin(workgroup_id) group: vec3<u32>) {
    let to_come = step[2u * group.z + 1u] + 1u;
    step[2u * group.z] = to_come;
    step[2u * group.z + 1u] = to_come;
}
