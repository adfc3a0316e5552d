// Twin of `Rates` in src/ops/sgd.rs. A kernel that ends in an update reads the four
// rates of its replica (`HYPER` entries, then the table of learning rates).
const HYPER: u32 = 4u;
override DECAY: u32 = 0u;
override EPOCH_STEPS: u32 = 1u;
override SCHEDULE: u32 = 1u;

// Where the learning rate of a step stands in one replica's `hyper`.
fn rate_index(step: u32) -> u32 {
    return HYPER + min(step / EPOCH_STEPS, SCHEDULE - 1u);
}

// The new velocity; `rates` is (momentum, l2, l1, eta).
fn sgd_velocity(w: f32, v: f32, g: f32, rates: vec4<f32>) -> f32 {
    var slope = g;
    if DECAY == 1u {
        slope += rates.y * w + rates.z * sign(w);
    }
    return rates.x * v - rates.w * slope;
}
