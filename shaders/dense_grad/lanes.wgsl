// The same where a load costs more than arithmetic and four neighbours cost no more than
// one (IN a multiple of 4): a lane owns 2 x 4 columns for all rows, their inputs and sums
// in registers. The gradients of VECTOR rows are loaded at a time, a row by each lane,
// and handed round.

@group(0) @binding(0) var<storage, read> x_fours: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> w_fours: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx_fours: array<vec4<f32>>;

override FOURS: u32 = IN / 4u;

alias Gradients = array<f32, MOST>;
alias Columns = array<vec4<f32>, MOST>;

// Where a lane's first or second four columns stand, the last four where there are none.
fn place_of_columns(group: u32, lane: u32, second: u32) -> u32 {
    return min((2u * group + second) * VECTOR + lane, FOURS - 1u);
}

fn has_columns(group: u32, lane: u32, second: u32) -> bool {
    return (2u * group + second) * VECTOR + lane < FOURS;
}

fn inputs_of(replica: u32, place: u32) -> Columns {
    var columns: Columns;
    for (var n = 0u; n < N; n++) {
        columns[n] = x_fours[(replica * N + n) * FOURS + place];
    }
    return columns;
}

// Those of row `first` + lane.
fn gradients_of(replica: u32, first: u32, lane: u32) -> Gradients {
    var gradients: Gradients;
    for (var n = 0u; n < N; n++) {
        gradients[n] = g[(replica * N + n) * OUT + min(first + lane, OUT - 1u)];
    }
    return gradients;
}

fn update_bias(gradients: ptr<function, Gradients>, replica: u32, row: u32, rates: vec4<f32>) {
    var sum = 0.0;
    for (var n = 0u; n < N; n++) {
        sum += (*gradients)[n];
    }
    if row < OUT {
        b[replica * OUT + row] -= rates.w * sum;
    }
}

// The lane's first or second four columns of a row.
fn update_columns(group: u32, lane: u32, second: u32, row: u32, weights: vec4<f32>, slopes: vec4<f32>, rates: vec4<f32>) {
    if has_columns(group, lane, second) {
        w_fours[row + place_of_columns(group, lane, second)] = weights + vec4(
            sgd_velocity(weights.x, 0.0, slopes.x, rates),
            sgd_velocity(weights.y, 0.0, slopes.y, rates),
            sgd_velocity(weights.z, 0.0, slopes.z, rates),
            sgd_velocity(weights.w, 0.0, slopes.w, rates),
        );
    }
}

@compute @workgroup_size(VECTOR)
fn dense_update_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let replica = group.z;
    let rates = sgd_rates(replica);
    let place = place_of_columns(group.x, lane, 0u);
    let place_2 = place_of_columns(group.x, lane, 1u);
    let inputs = inputs_of(replica, place);
    let inputs_2 = inputs_of(replica, place_2);
    for (var first = 0u; first < OUT; first += VECTOR) {
        var gradients = gradients_of(replica, first, lane);
        if group.x == 0u {
            update_bias(&gradients, replica, first + lane, rates);
        }
        for (var r = 0u; r < VECTOR; r++) {
            if first + r >= OUT { break; }
            let row = (replica * OUT + first + r) * FOURS;
            var slopes = vec4(0.0);
            var slopes_2 = vec4(0.0);
            for (var n = 0u; n < N; n++) {
                let delta = subgroupShuffle(gradients[n], r);
                slopes += delta * inputs[n];
                slopes_2 += delta * inputs_2[n];
            }
            let weights = w_fours[row + place];
            let weights_2 = w_fours[row + place_2];
            update_columns(group.x, lane, 0u, row, weights, slopes, rates);
            update_columns(group.x, lane, 1u, row, weights_2, slopes_2, rates);
        }
    }
}

fn store_input_gradient(inputs: Columns, sums: Columns, replica: u32, place: u32) {
    for (var n = 0u; n < N; n++) {
        let y = inputs[n] / SCALE;
        let slopes = vec4(
            activation_slope_of(y.x),
            activation_slope_of(y.y),
            activation_slope_of(y.z),
            activation_slope_of(y.w),
        );
        dx_fours[(replica * N + n) * FOURS + place] = sums[n] * SCALE * slopes;
    }
}

@compute @workgroup_size(VECTOR)
fn dense_grad_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let replica = group.z;
    let rates = sgd_rates(replica);
    let place = place_of_columns(group.x, lane, 0u);
    let place_2 = place_of_columns(group.x, lane, 1u);
    let inputs = inputs_of(replica, place);
    let inputs_2 = inputs_of(replica, place_2);
    var sums: Columns;
    var sums_2: Columns;
    for (var n = 0u; n < N; n++) {
        sums[n] = vec4(0.0);
        sums_2[n] = vec4(0.0);
    }
    for (var first = 0u; first < OUT; first += VECTOR) {
        var gradients = gradients_of(replica, first, lane);
        if group.x == 0u {
            update_bias(&gradients, replica, first + lane, rates);
        }
        for (var r = 0u; r < VECTOR; r++) {
            if first + r >= OUT { break; }
            let row = (replica * OUT + first + r) * FOURS;
            let weights = w_fours[row + place];
            let weights_2 = w_fours[row + place_2];
            var slopes = vec4(0.0);
            var slopes_2 = vec4(0.0);
            for (var n = 0u; n < N; n++) {
                let delta = subgroupShuffle(gradients[n], r);
                sums[n] += delta * weights;
                sums_2[n] += delta * weights_2;
                slopes += delta * inputs[n];
                slopes_2 += delta * inputs_2[n];
            }
            update_columns(group.x, lane, 0u, row, weights, slopes, rates);
            update_columns(group.x, lane, 1u, row, weights_2, slopes_2, rates);
        }
    }
    if has_columns(group.x, lane, 0u) {
        store_input_gradient(inputs, sums, replica, place);
    }
    if has_columns(group.x, lane, 1u) {
        store_input_gradient(inputs_2, sums_2, replica, place_2);
    }
}
