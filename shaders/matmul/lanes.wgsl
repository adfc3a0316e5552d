// Products with rows of B as they lie in memory (TRANS_A = 0, TRANS_B = 1, K a multiple of
// 8) where a load costs more than arithmetic and eight neighbours half of eight loads: the
// lanes of a subgroup share the sums of LANE_ROWS rows of B with up to FEW rows of A, each
// all of them over its share of K, in registers.
const LANE_ROWS: u32 = 16u;

@group(0) @binding(0) var<storage, read> a_octets: array<vec4<u64>>;
@group(0) @binding(1) var<storage, read> b_octets: array<vec4<u64>>;

alias FourRows = array<EightFloats, 4>;
alias LaneSums = array<array<vec4<f32>, 4>, FEW>;

fn four_rows(replica: u32, first: u32, p: u32) -> FourRows {
    var rows: FourRows;
    for (var t = 0u; t < 4u; t++) {
        // Beyond the last row stands the last one.
        rows[t] = octet_of(b_octets[(replica * N + min(first + t, N - 1u)) * (K / VECTOR) + p]);
    }
    return rows;
}

fn octet_product(a: EightFloats, b: EightFloats) -> f32 {
    return dot(a.even, b.even) + dot(a.odd, b.odd);
}

fn four_products(value: EightFloats, rows: FourRows) -> vec4<f32> {
    return vec4(octet_product(value, rows[0]), octet_product(value, rows[1]), octet_product(value, rows[2]), octet_product(value, rows[3]));
}

// LANE_ROWS rows of B at eight places of K.
struct Beside {
    first: FourRows,
    second: FourRows,
    third: FourRows,
    fourth: FourRows,
}

fn beside_of(replica: u32, first: u32, p: u32) -> Beside {
    return Beside(
        four_rows(replica, first, p),
        four_rows(replica, first + 4u, p),
        four_rows(replica, first + 8u, p),
        four_rows(replica, first + 12u, p),
    );
}

// Row i, counted from `above`, against these. A compiler unrolls short loops only, and what
// a longer one indexes leaves the registers: hence the calls one by one.
fn add_row(sums: ptr<function, LaneSums>, i: u32, replica: u32, above: u32, p: u32, beside: ptr<function, Beside>) {
    if i >= M {
        return;
    }
    let value = octet_of(a_octets[(replica * M + min(above + i, M - 1u)) * (K / VECTOR) + p]);
    (*sums)[i][0] += four_products(value, (*beside).first);
    (*sums)[i][1] += four_products(value, (*beside).second);
    (*sums)[i][2] += four_products(value, (*beside).third);
    (*sums)[i][3] += four_products(value, (*beside).fourth);
}

// Each lane's share of the products of rows of A from `above` on with rows of B from
// `first` on.
fn lane_products(replica: u32, above: u32, first: u32, lane: u32) -> LaneSums {
    var sums: LaneSums;
    for (var i = 0u; i < min(M, FEW); i++) {
        sums[i] = array<vec4<f32>, 4>();
    }
    for (var p = lane; p < K / VECTOR; p += VECTOR) {
        var beside = beside_of(replica, first, p);
        add_row(&sums, 0u, replica, above, p, &beside);
        add_row(&sums, 1u, replica, above, p, &beside);
        add_row(&sums, 2u, replica, above, p, &beside);
        add_row(&sums, 3u, replica, above, p, &beside);
        add_row(&sums, 4u, replica, above, p, &beside);
        add_row(&sums, 5u, replica, above, p, &beside);
        add_row(&sums, 6u, replica, above, p, &beside);
        add_row(&sums, 7u, replica, above, p, &beside);
        add_row(&sums, 8u, replica, above, p, &beside);
        add_row(&sums, 9u, replica, above, p, &beside);
        add_row(&sums, 10u, replica, above, p, &beside);
        add_row(&sums, 11u, replica, above, p, &beside);
        add_row(&sums, 12u, replica, above, p, &beside);
        add_row(&sums, 13u, replica, above, p, &beside);
        add_row(&sums, 14u, replica, above, p, &beside);
        add_row(&sums, 15u, replica, above, p, &beside);
    }
    return sums;
}

@compute @workgroup_size(VECTOR)
fn matmul_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let above = group.y * FEW;
    let first = group.x * LANE_ROWS;
    var sums = lane_products(group.z, above, first, lane);
    let scalars = finish_scalars(group.z);
    for (var i = 0u; i < min(M, FEW); i++) {
        for (var half = 0u; half < 2u; half++) {
            let j = first + half * VECTOR + lane;
            let sum = sum_over_lanes(Eight(sums[i][2u * half], sums[i][2u * half + 1u]), lane);
            if above + i < M && j < N {
                let at = (above + i) * N + j;
                c[group.z * M * N + at] = finish(scalars, group.z, at, sum);
            }
        }
    }
}
