// order[i] = the epoch's permutation of 0..N at i: a Feistel network over 2 HALF bits,
// walked along its cycle until the value is below N. One thread per element; z is the
// replica.

override N: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;
override HALF: u32 = 1u;

const STREAM: u32 = 0x0100u;
const ROUNDS: u32 = 6u;

@group(0) @binding(0) var<storage, read_write> order: array<u32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;

fn feistel(replica: u32, epoch: u32, value: u32) -> u32 {
    let mask = (1u << HALF) - 1u;
    var left = value >> HALF;
    var right = value & mask;
    for (var round = 0u; round < ROUNDS; round++) {
        let word = random_words(replica, STREAM + round, epoch, right).x;
        let mixed = left ^ (word & mask);
        left = right;
        right = mixed;
    }
    return (left << HALF) | right;
}

@compute @workgroup_size(64)
fn shuffle(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        let epoch = step[2u * group.z] / EPOCH_STEPS;
        var value = feistel(group.z, epoch, i);
        while value >= N {
            value = feistel(group.z, epoch, value);
        }
        order[group.z * N + i] = value;
    }
}
