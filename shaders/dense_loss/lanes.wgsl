// The same where a load costs more than arithmetic: the lanes of a subgroup share the sums
// of VECTOR outputs for ROWS examples, each all of them over its share of IN, in registers.

fn some_weights(replica: u32, first: u32, j: u32) -> Eight {
    var weights = Eight();
    for (var t = 0u; t < VECTOR; t++) {
        if first + t < K {
            weights[t / 4u][t % 4u] = w[(replica * K + first + t) * IN + j];
        }
    }
    return weights;
}

@compute @workgroup_size(VECTOR)
fn dense_loss_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let replica = group.z;
    for (var block = 0u; block < N; block += ROWS) {
        for (var first = 0u; first < K; first += VECTOR) {
            var sums: array<Eight, ROWS>;
            for (var i = 0u; i < min(N, ROWS); i++) {
                sums[i] = Eight();
            }
            for (var j = lane; j < IN; j += VECTOR) {
                let weights = some_weights(replica, first, j);
                for (var i = 0u; i < min(N, ROWS); i++) {
                    let value = a[(replica * N + min(block + i, N - 1u)) * IN + j];
                    sums[i][0] += value * weights[0];
                    sums[i][1] += value * weights[1];
                }
            }
            let k = first + lane;
            for (var i = 0u; i < min(N, ROWS); i++) {
                let sum = sum_over_lanes(sums[i], lane);
                if block + i < N && k < K {
                    scores[(block + i) * K + k] = activate(sum + b[replica * K + k]);
                }
            }
        }
    }
    workgroupBarrier();
    lose(replica, lane, VECTOR);
}
