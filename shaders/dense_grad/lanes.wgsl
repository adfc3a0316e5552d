// The same where a load costs more than arithmetic and eight neighbours half of
// eight loads (IN a multiple of 8): a lane owns eight columns for all rows, their inputs and sums
// in registers. The gradients of VECTOR rows are loaded at a time, a row by each lane,
// and handed round.

@group(0) @binding(0) var<storage, read> x_octets: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read_write> w_octets: array<vec4<u64>>;
@group(0) @binding(4) var<storage, read_write> dx_octets: array<vec4<u64>>;

override OCTETS: u32 = IN / VECTOR;

alias Gradients = array<f32, MOST>;

// A lane's columns, for each example.
struct Columns {
    even: array<vec4<f32>, MOST>,
    odd: array<vec4<f32>, MOST>,
}

// Where a lane's columns stand, the last ones where there are none.
fn place_of_columns(group: u32, lane: u32) -> u32 {
    return min(group * VECTOR + lane, OCTETS - 1u);
}

fn has_columns(group: u32, lane: u32) -> bool {
    return group * VECTOR + lane < OCTETS;
}

fn inputs_of(replica: u32, place: u32) -> Columns {
    var columns: Columns;
    for (var n = 0u; n < N; n++) {
        let octet = octet_of(x_octets[(replica * N + n) * OCTETS + place]);
        columns.even[n] = octet.even;
        columns.odd[n] = octet.odd;
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

fn update_bias_of(gradients: ptr<function, Gradients>, replica: u32, row: u32) {
    var sum = 0.0;
    for (var n = 0u; n < N; n++) {
        sum += (*gradients)[n];
    }
    if row < OUT {
        update_bias(replica, row, sum);
    }
}

@compute @workgroup_size(VECTOR)
fn dense_update_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let replica = group.z;
    let scalars = finish_weight_scalars(replica);
    let place = place_of_columns(group.x, lane);
    let inputs = inputs_of(replica, place);
    for (var first = 0u; first < OUT; first += VECTOR) {
        var gradients = gradients_of(replica, first, lane);
        if group.x == 0u {
            update_bias_of(&gradients, replica, first + lane);
        }
        for (var r = 0u; r < VECTOR; r++) {
            if first + r >= OUT { break; }
            let at = (replica * OUT + first + r) * OCTETS + place;
            var slopes = EightFloats();
            for (var n = 0u; n < N; n++) {
                let delta = subgroupShuffle(gradients[n], r);
                slopes.even += delta * inputs.even[n];
                slopes.odd += delta * inputs.odd[n];
            }
            let weights = octet_of(w_octets[at]);
            if has_columns(group.x, lane) {
                let i = ((first + r) * OCTETS + place) * VECTOR;
                w_octets[at] = words_of(EightFloats(
                    vec4(
                        finish_weight(scalars, replica, i, slopes.even.x, weights.even.x),
                        finish_weight(scalars, replica, i + 2u, slopes.even.y, weights.even.y),
                        finish_weight(scalars, replica, i + 4u, slopes.even.z, weights.even.z),
                        finish_weight(scalars, replica, i + 6u, slopes.even.w, weights.even.w),
                    ),
                    vec4(
                        finish_weight(scalars, replica, i + 1u, slopes.odd.x, weights.odd.x),
                        finish_weight(scalars, replica, i + 3u, slopes.odd.y, weights.odd.y),
                        finish_weight(scalars, replica, i + 5u, slopes.odd.z, weights.odd.z),
                        finish_weight(scalars, replica, i + 7u, slopes.odd.w, weights.odd.w),
                    ),
                ));
            }
        }
    }
}

// Of every other column from element i on.
fn input_gradient(scalars: finish_input_once, replica: u32, i: u32, sums: vec4<f32>, inputs: vec4<f32>) -> vec4<f32> {
    return vec4(
        finish_input(scalars, replica, i, sums.x, inputs.x),
        finish_input(scalars, replica, i + 2u, sums.y, inputs.y),
        finish_input(scalars, replica, i + 4u, sums.z, inputs.z),
        finish_input(scalars, replica, i + 6u, sums.w, inputs.w),
    );
}

// A loop of this length would stay one, and what it indexes would leave the registers: hence
// the calls one by one.
fn store_input_gradient(
    sums: ptr<function, Columns>,
    inputs: Columns,
    scalars: finish_input_once,
    n: u32,
    replica: u32,
    place: u32,
) {
    if n >= N {
        return;
    }
    let i = (n * OCTETS + place) * VECTOR;
    dx_octets[(replica * N + n) * OCTETS + place] = words_of(EightFloats(
        input_gradient(scalars, replica, i, (*sums).even[n], inputs.even[n]),
        input_gradient(scalars, replica, i + 1u, (*sums).odd[n], inputs.odd[n]),
    ));
}

@compute @workgroup_size(VECTOR)
fn dense_grad_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let replica = group.z;
    let scalars = finish_weight_scalars(replica);
    let place = place_of_columns(group.x, lane);
    let inputs = inputs_of(replica, place);
    var sums: Columns;
    for (var n = 0u; n < N; n++) {
        sums.even[n] = vec4(0.0);
        sums.odd[n] = vec4(0.0);
    }
    for (var first = 0u; first < OUT; first += VECTOR) {
        var gradients = gradients_of(replica, first, lane);
        if group.x == 0u {
            update_bias_of(&gradients, replica, first + lane);
        }
        for (var r = 0u; r < VECTOR; r++) {
            if first + r >= OUT { break; }
            let at = (replica * OUT + first + r) * OCTETS + place;
            let weights = octet_of(w_octets[at]);
            var slopes = EightFloats();
            for (var n = 0u; n < N; n++) {
                let delta = subgroupShuffle(gradients[n], r);
                slopes.even += delta * inputs.even[n];
                slopes.odd += delta * inputs.odd[n];
                sums.even[n] += delta * weights.even;
                sums.odd[n] += delta * weights.odd;
            }
            if has_columns(group.x, lane) {
                let i = ((first + r) * OCTETS + place) * VECTOR;
                w_octets[at] = words_of(EightFloats(
                    vec4(
                        finish_weight(scalars, replica, i, slopes.even.x, weights.even.x),
                        finish_weight(scalars, replica, i + 2u, slopes.even.y, weights.even.y),
                        finish_weight(scalars, replica, i + 4u, slopes.even.z, weights.even.z),
                        finish_weight(scalars, replica, i + 6u, slopes.even.w, weights.even.w),
                    ),
                    vec4(
                        finish_weight(scalars, replica, i + 1u, slopes.odd.x, weights.odd.x),
                        finish_weight(scalars, replica, i + 3u, slopes.odd.y, weights.odd.y),
                        finish_weight(scalars, replica, i + 5u, slopes.odd.z, weights.odd.z),
                        finish_weight(scalars, replica, i + 7u, slopes.odd.w, weights.odd.w),
                    ),
                ));
            }
        }
    }
    if has_columns(group.x, lane) {
        let input_scalars = finish_input_scalars(replica);
        store_input_gradient(&sums, inputs, input_scalars, 0u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 1u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 2u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 3u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 4u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 5u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 6u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 7u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 8u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 9u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 10u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 11u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 12u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 13u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 14u, replica, place);
        store_input_gradient(&sums, inputs, input_scalars, 15u, replica, place);
    }
}
