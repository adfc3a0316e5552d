// The sum of the parts of a sum, [PARTS, SIZE]: a workgroup has 64 elements, and four teams of its threads a
// fourth of the parts each.
override PARTS: u32 = 1u;
override SIZE: u32 = 1u;

const TEAMS: u32 = 4u;

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> all: array<f32>;

var<workgroup> shares: array<f32, 256>;

// Adds up this workgroup's elements. Every thread of it must call this: it holds a barrier.
fn add_parts(group: vec3<u32>, groups: vec3<u32>, thread: u32) {
    let lane = thread % ELEMENTWISE;
    let team = thread / ELEMENTWISE;
    let i = item(group, groups, lane);
    var share = 0.0;
    if i < SIZE {
        for (var p = team; p < PARTS; p += TEAMS) {
            share += parts[(group.z * PARTS + p) * SIZE + i];
        }
    }
    shares[thread] = share;
    workgroupBarrier();
    if team == 0u && i < SIZE {
        var sum = shares[lane];
        for (var other = 1u; other < TEAMS; other++) {
            sum += shares[other * ELEMENTWISE + lane];
        }
        let scalars = finish_scalars(group.z);
        all[group.z * SIZE + i] = finish(scalars, group.z, i, sum);
    }
}
