// Twin of `Rates` in src/ops/sgd.rs, for kernels that end in an update. The kernel's own
// file declares `hyper` (each replica's `HYPER` entries, then its table of learning
// rates) and `step`, at whatever binding.
const HYPER: u32 = 4u;
override DECAY: u32 = 0u;
override EPOCH_STEPS: u32 = 1u;
override SCHEDULE: u32 = 1u;

// Where the learning rate of a step stands in one replica's `hyper`.
fn rate_index(step: u32) -> u32 {
    return HYPER + min(step / EPOCH_STEPS, SCHEDULE - 1u);
}

// A replica's (momentum, l2, l1, eta) at this step.
fn sgd_rates(replica: u32) -> vec4<f32> {
    let at = replica * (HYPER + SCHEDULE);
    return vec4<f32>(hyper[at], hyper[at + 1u], hyper[at + 2u], hyper[at + rate_index(step[2u * replica + 1u])]);
}

// The new velocity; `rates` is (momentum, l2, l1, eta).
fn sgd_velocity(w: f32, v: f32, g: f32, rates: vec4<f32>) -> f32 {
    var slope = g;
    if DECAY == 1u {
        slope += rates.y * w + rates.z * sign(w);
    }
    return rates.x * v - rates.w * slope;
}
