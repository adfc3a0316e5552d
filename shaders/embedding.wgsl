// The rows of w [V, D] that an index names, zeros for an index of no row, and the gradient: each
// row's sum over the places that have read it, in their order. z is the replica.

override N: u32 = 1u;
override V: u32 = 1u;
override D: u32 = 1u;

@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// One thread per element of y, of which there are N.
@compute @workgroup_size(64)
fn embedding(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N {
        let row = index[group.z * (N / D) + i / D];
        var value = 0.0;
        if row < V {
            value = w[(group.z * V + row) * D + i % D];
        }
        y[group.z * N + i] = value;
    }
}

const LANES: u32 = 64u;
// Columns of a workgroup, four for each thread.
const COLUMNS: u32 = 256u;
// Indices that a thread looks at before all add up what was found.
const RUN: u32 = 32u;

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> read_index: array<u32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;

// Which of a thread's indices are the row's number, lowest bit first.
var<workgroup> found: array<u32, LANES>;
// Which threads have found something: two words, and two for the next time.
var<workgroup> finders: array<atomic<u32>, 4>;

fn given(place: u32, column: u32) -> f32 {
    if column >= D {
        return 0.0;
    }
    return g[place * D + column];
}

fn keep(row: u32, column: u32, sum: f32) {
    if column < D {
        dw[row * D + column] = sum;
    }
}

@compute @workgroup_size(LANES)
fn embedding_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = group.y * groups.x + group.x;
    let blocks = (D + COLUMNS - 1u) / COLUMNS;
    if job >= V * blocks {
        return;
    }
    let row = job / blocks;
    let column = job % blocks * COLUMNS + lane;
    let replica = group.z * N;
    var sum = vec4<f32>();
    var now = 0u;
    if lane < 4u {
        atomicStore(&finders[lane], 0u);
    }
    workgroupBarrier();
    for (var start = 0u; start < N; start += LANES * RUN) {
        let mine = start + lane * RUN;
        var mask = 0u;
        for (var j = 0u; j < RUN; j++) {
            if mine + j < N {
                mask |= select(0u, 1u << j, read_index[replica + mine + j] == row);
            }
        }
        found[lane] = mask;
        if mask != 0u {
            atomicOr(&finders[now + lane / 32u], 1u << (lane % 32u));
        }
        workgroupBarrier();
        if lane < 2u {
            atomicStore(&finders[2u - now + lane], 0u);
        }
        for (var half = 0u; half < 2u; half++) {
            var lanes = atomicLoad(&finders[now + half]);
            while lanes != 0u {
                let finder = half * 32u + firstTrailingBit(lanes);
                lanes &= lanes - 1u;
                var left = found[finder];
                while left != 0u {
                    let place = replica + start + finder * RUN + firstTrailingBit(left);
                    sum += vec4<f32>(
                        given(place, column),
                        given(place, column + LANES),
                        given(place, column + 2u * LANES),
                        given(place, column + 3u * LANES),
                    );
                    left &= left - 1u;
                }
            }
        }
        now = 2u - now;
        // Nobody may note the next ones while somebody still reads these.
        workgroupBarrier();
    }
    keep(group.z * V + row, column, sum.x);
    keep(group.z * V + row, column + LANES, sum.y);
    keep(group.z * V + row, column + 2u * LANES, sum.z);
    keep(group.z * V + row, column + 3u * LANES, sum.w);
}
