// What a thread of a dense layer's way back has of four neighbouring columns of W: the inputs of all
// examples, the gradients of all examples and the weights of a row. The file that follows says how four
// neighbours are loaded and stored, and has THREADS.

// At most 16.
override N: u32 = 1u;
override IN: u32 = 1u;
override OUT: u32 = 1u;

@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

// By fours of examples: four columns of each. What is indexed by numbers stays in registers, so there
// is no loop over them.
alias Examples = array<mat4x4<f32>, 4>;

struct Row {
    weights: vec4<f32>,
    // Of the examples.
    deltas: array<vec4<f32>, 4>,
}

fn input_of(replica: u32, n: u32, column: u32) -> vec4<f32> {
    if n >= N {
        return vec4(0.0);
    }
    return inputs_at(replica, n, column);
}

fn four_inputs(replica: u32, n: u32, column: u32) -> mat4x4<f32> {
    return mat4x4(
        input_of(replica, n, column),
        input_of(replica, n + 1u, column),
        input_of(replica, n + 2u, column),
        input_of(replica, n + 3u, column),
    );
}

fn all_inputs(replica: u32, column: u32) -> Examples {
    return Examples(
        four_inputs(replica, 0u, column),
        four_inputs(replica, 4u, column),
        four_inputs(replica, 8u, column),
        four_inputs(replica, 12u, column),
    );
}

fn delta_of(replica: u32, n: u32, o: u32) -> f32 {
    if n >= N {
        return 0.0;
    }
    return g[(replica * N + n) * OUT + o];
}

fn four_deltas(replica: u32, n: u32, o: u32) -> vec4<f32> {
    return vec4(
        delta_of(replica, n, o),
        delta_of(replica, n + 1u, o),
        delta_of(replica, n + 2u, o),
        delta_of(replica, n + 3u, o),
    );
}

// Beyond the last row stands the last one.
fn row_of(replica: u32, o: u32, column: u32) -> Row {
    let row = min(o, OUT - 1u);
    return Row(
        weights_at(replica, row, column),
        array<vec4<f32>, 4>(
            four_deltas(replica, 0u, row),
            four_deltas(replica, 4u, row),
            four_deltas(replica, 8u, row),
            four_deltas(replica, 12u, row),
        ),
    );
}

fn slopes_of(inputs: Examples, row: Row) -> vec4<f32> {
    var slopes = inputs[0] * row.deltas[0];
    if N > 4u {
        slopes += inputs[1] * row.deltas[1];
    }
    if N > 8u {
        slopes += inputs[2] * row.deltas[2];
    }
    if N > 12u {
        slopes += inputs[3] * row.deltas[3];
    }
    return slopes;
}

fn update_biases(replica: u32, thread: u32) {
    let scalars = finish_bias_scalars(replica);
    for (var o = thread; o < OUT; o += THREADS) {
        var sum = 0.0;
        for (var n = 0u; n < N; n++) {
            sum += g[(replica * N + n) * OUT + o];
        }
        let at = replica * OUT + o;
        b[at] = finish_bias(scalars, replica, o, sum, b[at]);
    }
}
