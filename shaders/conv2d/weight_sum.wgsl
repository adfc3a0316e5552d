// dw, the sum of the parts' weight gradients [PARTS, SIZE]: a workgroup has 64 weights, and four teams of
// its threads a fourth of the parts each.
override PARTS: u32 = 1u;
override SIZE: u32 = 1u;

const TEAMS: u32 = 4u;

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> dw: array<f32>;

var<workgroup> shares: array<f32, 256>;

@compute @workgroup_size(256)
fn conv2d_weight_sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
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
        dw[group.z * SIZE + i] = finish(finish_scalars(group.z), group.z, i, sum);
    }
}
