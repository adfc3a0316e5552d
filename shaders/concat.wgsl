// y = a, then b along an axis: runs of FROM_A and of FROM_B elements by turns. One
// thread per element; z is the replica.

override N: u32 = 1u;
override FROM_A: u32 = 1u;
override FROM_B: u32 = 1u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn concat(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        // N is a multiple of a run, so a replica begins with a whole one.
        let at = group.z * N + i;
        let run = at / (FROM_A + FROM_B);
        let place = at % (FROM_A + FROM_B);
        if place < FROM_A {
            y[at] = a[run * FROM_A + place];
        } else {
            y[at] = b[run * FROM_B + place - FROM_A];
        }
    }
}
