// softmax and its gradient of short rows that lie one behind the other (INNER = 1): a team of TEAM lanes has a row,
// a lane has HELD of its elements, which are read once and stay in registers. TEAMS rows a workgroup, of which a
// workgroup of its own for each would have more to start than to do; z is the replica. Needs shared/nan.wgsl and
// shared/softmax_rows.wgsl.

const TEAM: u32 = 32u;
const TEAMS: u32 = 8u;
const THREADS: u32 = TEAM * TEAMS;
// Elements of a lane, so rows have 128 at most.
const HELD: vec4<u32> = vec4(0u, 1u, 2u, 3u);

var<workgroup> shares: array<f32, THREADS>;

// Where a lane's elements stand, and which of them are there. What is not there stands where the last one does, so
// that every load is of the row.
struct Place {
    row: u32,
    first: u32,
    at: vec4<u32>,
    there: vec4<bool>,
}

fn place_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> Place {
    let row = (group.y * groups.x + group.x) * TEAMS + lane / TEAM;
    let first = first_of(group.z, min(row, N - 1u));
    let k = lane % TEAM + HELD * TEAM;
    return Place(row, first, first + min(k, vec4(K - 1u)), k < vec4(K));
}

// Barriers: every thread of the workgroup must call these.
fn team_sum(lane: u32, share: f32) -> f32 {
    shares[lane] = share;
    workgroupBarrier();
    for (var half = TEAM / 2u; half > 0u; half /= 2u) {
        if lane % TEAM < half {
            shares[lane] += shares[lane + half];
        }
        workgroupBarrier();
    }
    let sum = shares[lane / TEAM * TEAM];
    workgroupBarrier();
    return sum;
}

fn team_max(lane: u32, share: f32) -> f32 {
    shares[lane] = share;
    workgroupBarrier();
    for (var half = TEAM / 2u; half > 0u; half /= 2u) {
        if lane % TEAM < half {
            shares[lane] = larger(shares[lane], shares[lane + half]);
        }
        workgroupBarrier();
    }
    let largest = shares[lane / TEAM * TEAM];
    workgroupBarrier();
    return largest;
}

fn sum_of(held: vec4<f32>, there: vec4<bool>) -> f32 {
    let counted = select(vec4(0.0), held, there);
    return counted.x + counted.y + counted.z + counted.w;
}

@compute @workgroup_size(THREADS)
fn softmax_teams(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group, groups, lane);
    let at = place.at;
    let held = vec4(x[at.x], x[at.y], x[at.z], x[at.w]);
    let largest = team_max(lane, larger(larger(held.x, held.y), larger(held.z, held.w)));
    let raised = exp(held - largest);
    let sum = team_sum(lane, sum_of(raised, place.there));
    let scalars = finish_scalars(group.z);
    for (var i = 0u; i < 4u; i++) {
        if place.row < N && place.there[i] {
            let share = if_finite(raised[i] / sum, largest);
            y[at[i]] = finish(scalars, group.z, at[i] - group.z * N * K, share);
        }
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_y: array<f32>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(THREADS)
fn softmax_grad_teams(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group, groups, lane);
    let at = place.at;
    let upstream = vec4(g[at.x], g[at.y], g[at.z], g[at.w]);
    let held = vec4(saved_y[at.x], saved_y[at.y], saved_y[at.z], saved_y[at.w]);
    let sum = team_sum(lane, sum_of(upstream * held, place.there));
    let scalars = finish_scalars(group.z);
    for (var i = 0u; i < 4u; i++) {
        if place.row < N && place.there[i] {
            let slope = held[i] * (upstream[i] - sum);
            delta[at[i]] = finish(scalars, group.z, at[i] - group.z * N * K, slope);
        }
    }
}
