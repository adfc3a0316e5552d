// Mini-batches of rows of two resident columns, which begin the step. Row r of a column begins at element
// r * STRIDE + START; which row stands at a place of the epoch is what `order` says. One thread per element of
// the first mini-batch, then of the second; z is the replica.

override BATCH: u32 = 1u;
override ROWS: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;
override SCALE: f32 = 1.0;
override SIZE: u32 = 1u;
override STRIDE: u32 = 1u;
override START: u32 = 0u;
override LENGTH: u32 = 1u;
override SIZE_2: u32 = 1u;
override STRIDE_2: u32 = 1u;
override START_2: u32 = 0u;
override LENGTH_2: u32 = 1u;

@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> step: array<u32>;

// The launch's first thread begins the step. Nobody in this launch reads what it writes.
fn begin(replica: u32, i: u32) {
    if i == 0u {
        step[2u * replica + 1u] = step[2u * replica];
    }
}

// The row that example n is. Places past the end of the epoch give its last row again.
fn row(replica: u32, n: u32) -> u32 {
    let now = step[2u * replica] % EPOCH_STEPS;
    let position = min(now * BATCH + n, ROWS - 1u);
    return min(order[replica * ROWS + position], ROWS - 1u);
}

// Where element i of a mini-batch stands in its column.
fn place(replica: u32, i: u32) -> u32 {
    return min(row(replica, i / SIZE) * STRIDE + START + i % SIZE, LENGTH - 1u);
}

fn second_place(replica: u32, i: u32) -> u32 {
    return min(row(replica, i / SIZE_2) * STRIDE_2 + START_2 + i % SIZE_2, LENGTH_2 - 1u);
}

@group(0) @binding(0) var<storage, read> floats: array<f32>;
@group(0) @binding(0) var<storage, read> integers: array<u32>;
@group(0) @binding(1) var<storage, read> second_floats: array<f32>;
@group(0) @binding(1) var<storage, read> second_integers: array<u32>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> x_integers: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> y_integers: array<u32>;

fn take_floats(replica: u32, i: u32) {
    x[replica * BATCH * SIZE + i] = floats[place(replica, i)];
}

fn take_integers(replica: u32, i: u32) {
    x_integers[replica * BATCH * SIZE + i] = integers[place(replica, i)];
}

// Four bytes to a word, the first lowest.
fn byte_at(at: u32) -> f32 {
    return SCALE * f32((integers[at / 4u] >> (8u * (at % 4u))) & 255u);
}

fn take_bytes(replica: u32, i: u32) {
    x[replica * BATCH * SIZE + i] = byte_at(place(replica, i));
}

fn take_second_floats(replica: u32, i: u32) {
    y[replica * BATCH * SIZE_2 + i] = second_floats[second_place(replica, i)];
}

fn take_second_integers(replica: u32, i: u32) {
    y_integers[replica * BATCH * SIZE_2 + i] = second_integers[second_place(replica, i)];
}

@compute @workgroup_size(64)
fn rows_floats_floats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * SIZE {
        take_floats(group.z, i);
    } else if i < BATCH * (SIZE + SIZE_2) {
        take_second_floats(group.z, i - BATCH * SIZE);
    }
}

@compute @workgroup_size(64)
fn rows_floats_integers(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * SIZE {
        take_floats(group.z, i);
    } else if i < BATCH * (SIZE + SIZE_2) {
        take_second_integers(group.z, i - BATCH * SIZE);
    }
}

@compute @workgroup_size(64)
fn rows_integers_floats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * SIZE {
        take_integers(group.z, i);
    } else if i < BATCH * (SIZE + SIZE_2) {
        take_second_floats(group.z, i - BATCH * SIZE);
    }
}

@compute @workgroup_size(64)
fn rows_integers_integers(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * SIZE {
        take_integers(group.z, i);
    } else if i < BATCH * (SIZE + SIZE_2) {
        take_second_integers(group.z, i - BATCH * SIZE);
    }
}

@compute @workgroup_size(64)
fn rows_bytes_floats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * SIZE {
        take_bytes(group.z, i);
    } else if i < BATCH * (SIZE + SIZE_2) {
        take_second_floats(group.z, i - BATCH * SIZE);
    }
}

@compute @workgroup_size(64)
fn rows_bytes_integers(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * SIZE {
        take_bytes(group.z, i);
    } else if i < BATCH * (SIZE + SIZE_2) {
        take_second_integers(group.z, i - BATCH * SIZE);
    }
}
