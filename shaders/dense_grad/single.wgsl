// A dense layer's way back by one workgroup: first the inputs' gradients, an element a thread, by the
// weights as they are; then the weights, of which a thread has four neighbouring columns of every
// LANES-th row. z is the replica. Behind rows.wgsl and ones.wgsl.

// Fours of columns, and how many of them at a time.
override FOURS: u32 = (IN + 3u) / 4u;
override WIDE: u32 = min(FOURS, THREADS);
// Threads that share the rows of a four.
override LANES: u32 = THREADS / WIDE;

fn input_gradients(replica: u32, thread: u32) {
    let scalars = finish_input_scalars(replica);
    for (var i = thread; i < N * IN; i += THREADS) {
        let deltas = (replica * N + i / IN) * OUT;
        let column = replica * OUT * IN + i % IN;
        var sum = 0.0;
        for (var o = 0u; o < OUT; o++) {
            sum += g[deltas + o] * w[column + o * IN];
        }
        dx[replica * N * IN + i] = finish_input(scalars, replica, i, sum, input_at(replica, i));
    }
    // Nobody may change a weight that somebody has not read yet.
    storageBarrier();
    workgroupBarrier();
}

fn update_weights(replica: u32, thread: u32) {
    let scalars = finish_weight_scalars(replica);
    for (var first = 0u; first < FOURS; first += WIDE) {
        let four = first + thread % WIDE;
        if four < FOURS && thread < WIDE * LANES {
            let column = 4u * four;
            let inputs = all_inputs(replica, column);
            // No load passes a store before it, so two rows are loaded before either is stored.
            for (var o = thread / WIDE; o < OUT; o += 2u * LANES) {
                let row = row_of(replica, o, column);
                let next = row_of(replica, o + LANES, column);
                finish_weights(scalars, replica, o, column, slopes_of(inputs, row), row.weights);
                if o + LANES < OUT {
                    finish_weights(scalars, replica, o + LANES, column, slopes_of(inputs, next), next.weights);
                }
            }
        }
    }
}

@compute @workgroup_size(THREADS)
fn dense_grad_single(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    input_gradients(group.z, thread);
    update_weights(group.z, thread);
    update_biases(group.z, thread);
}

@compute @workgroup_size(THREADS)
fn dense_update_single(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    update_weights(group.z, thread);
    update_biases(group.z, thread);
}
