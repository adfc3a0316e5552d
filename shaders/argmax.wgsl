// index = argmax of each row of x [N, K]. One thread per row, which keeps the first of
// equal maxima without a rule for ties between threads; z is the replica.

override N: u32 = 1u;
override K: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> index: array<u32>;

@compute @workgroup_size(64)
fn argmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = item(group, groups, lane);
    if row < N {
        let at = group.z * N + row;
        var best = 0u;
        var largest = x[at * K];
        for (var k = 1u; k < K; k++) {
            let candidate = x[at * K + k];
            if outdoes(candidate, largest) {
                largest = candidate;
                best = k;
            }
        }
        index[at] = best;
    }
}
