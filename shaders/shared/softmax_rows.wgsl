// Rows of [outer, K, INNER] along its middle axis: their largest number and the sum of their
// exponentials, for softmax and log_softmax. Needs shared/nan.wgsl.

override N: u32 = 1u;
override K: u32 = 1u;
override INNER: u32 = 1u;

const LANES: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Where the first element of a row stands.
fn first_of(replica: u32, row: u32) -> u32 {
    return (replica * N + row / INNER * INNER) * K + row % INNER;
}

// A thread's share of a row: its elements `start`, `start` + `step`, ..
fn largest_share(first: u32, start: u32, step: u32) -> f32 {
    var largest = x[first];
    for (var k = start; k < K; k += step) {
        largest = larger(largest, x[first + k * INNER]);
    }
    return largest;
}

fn sum_share(first: u32, start: u32, step: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var k = start; k < K; k += step) {
        let at = first + k * INNER;
        sum += exp(x[at] - largest);
    }
    return sum;
}
