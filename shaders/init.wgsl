// w = VALUE (KIND 0), uniform within ±VALUE (KIND 1), or normal with deviation VALUE
// (KIND 2). One thread per four elements, which share a Philox block; z is the replica.

override N: u32 = 1u;
override KIND: u32 = 0u;
override VALUE: f32 = 0.0;
override STREAM: u32 = 0u;

@group(0) @binding(0) var<storage, read_write> w: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;

@compute @workgroup_size(64)
fn init(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = item(group, groups, lane);
    if block * 4u >= N {
        return;
    }
    let words = random_words(group.z, STREAM, 0u, block);
    var values = vec4<f32>(VALUE);
    if KIND == 1u {
        for (var j = 0u; j < 4u; j++) {
            values[j] = VALUE * (2.0 * uniform_of(words[j]) - 1.0);
        }
    } else if KIND == 2u {
        values = VALUE * vec4<f32>(normal_pair(words.x, words.y), normal_pair(words.z, words.w));
    }
    for (var j = 0u; j < 4u; j++) {
        let i = block * 4u + j;
        if i < N {
            w[group.z * N + i] = values[j];
        }
    }
}
