// Threads of an elementwise kernel's workgroup; `ELEMENTWISE` in src/ops/mod.rs.
const ELEMENTWISE: u32 = 64u;

// The work item of this thread where the workgroups of x and y form one long row
// (x alone ends at 65,535). `z` is the replica and takes no part.
fn item(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * ELEMENTWISE + lane;
}

// Four work items of this thread, so far apart that neighbouring threads have neighbours each time.
fn four_items(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> vec4<u32> {
    let first = (group.y * groups.x + group.x) * (4u * ELEMENTWISE) + lane;
    return first + vec4(0u, 1u, 2u, 3u) * ELEMENTWISE;
}
