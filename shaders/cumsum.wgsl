// y = cumulative sums of x along the middle axis of [outer, K, INNER], from its first element on
// or, REVERSE, from its last; N rows; z is the replica.

override N: u32 = 1u;
override K: u32 = 1u;
override INNER: u32 = 1u;
override REVERSE: u32 = 0u;

// Threads of a workgroup.
override LANES: u32 = 256u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Where the element of a row stands that comes k-th.
fn place(replica: u32, row: u32, k: u32) -> u32 {
    let along = select(k, K - 1u - k, REVERSE == 1u);
    return (replica * N + row / INNER * INNER) * K + along * INNER + row % INNER;
}

var<workgroup> sums: array<f32, LANES>;

// One workgroup per row: each thread adds up a run of it, then what its run and those before give
// is known, and it goes through the run again.
@compute @workgroup_size(LANES)
fn cumsum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= N {
        return;
    }
    let run = (K + LANES - 1u) / LANES;
    let first = lane * run;
    let end = min(first + run, K);
    var share = 0.0;
    for (var k = first; k < end; k++) {
        share += x[place(group.z, row, k)];
    }
    sums[lane] = share;
    workgroupBarrier();
    for (var reach = 1u; reach < LANES; reach *= 2u) {
        var before = 0.0;
        if lane >= reach {
            before = sums[lane - reach];
        }
        // Nobody may add while somebody still reads.
        workgroupBarrier();
        sums[lane] += before;
        workgroupBarrier();
    }
    var sum = 0.0;
    if lane > 0u {
        sum = sums[lane - 1u];
    }
    for (var k = first; k < end; k++) {
        sum += x[place(group.z, row, k)];
        y[place(group.z, row, k)] = sum;
    }
}

// One thread per row.
@compute @workgroup_size(64)
fn cumsum_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = item(group, groups, lane);
    if row >= N {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < K; k++) {
        sum += x[place(group.z, row, k)];
        y[place(group.z, row, k)] = sum;
    }
}
