// A mini-batch of rows of a resident column. Row r of the column begins at element
// r * STRIDE + START; which row stands at a place of the epoch is what `order` says. One
// thread per element of the mini-batch; z is the replica.

override BATCH: u32 = 1u;
override ROWS: u32 = 1u;
override SIZE: u32 = 1u;
override STRIDE: u32 = 1u;
override START: u32 = 0u;
override LENGTH: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;
override SCALE: f32 = 1.0;

@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;

// Where element i of the mini-batch stands in the column. Places past the end of the epoch
// give its last row again.
fn place(replica: u32, i: u32) -> u32 {
    let now = step[2u * replica + 1u] % EPOCH_STEPS;
    let position = min(now * BATCH + i / SIZE, ROWS - 1u);
    let row = min(order[replica * ROWS + position], ROWS - 1u);
    return min(row * STRIDE + START + i % SIZE, LENGTH - 1u);
}

@group(0) @binding(0) var<storage, read> floats: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < BATCH * SIZE {
        x[group.z * BATCH * SIZE + i] = floats[place(group.z, i)];
    }
}

@group(0) @binding(0) var<storage, read> integers: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn rows_integers(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < BATCH * SIZE {
        y[group.z * BATCH * SIZE + i] = integers[place(group.z, i)];
    }
}

// Four bytes to a word, the first lowest.
@compute @workgroup_size(64)
fn rows_bytes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < BATCH * SIZE {
        let at = place(group.z, i);
        let byte = (integers[at / 4u] >> (8u * (at % 4u))) & 255u;
        x[group.z * BATCH * SIZE + i] = SCALE * f32(byte);
    }
}
