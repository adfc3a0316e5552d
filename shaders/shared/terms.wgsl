// What the costs add up for one output z with target t. Twins of src/ops/quadratic.rs and
// src/ops/cross_entropy.rs. Needs shared/nan.wgsl.

// The target of output k of `outputs`: the label itself if there is but one.
fn target_among(outputs: u32, k: u32, label: u32) -> f32 {
    if outputs == 1u {
        return f32(label);
    }
    return select(0.0, 1.0, k == label);
}

// z times that target. Where the target is 0, nothing of z is left, not even of an infinity.
fn chosen_among(outputs: u32, k: u32, label: u32, z: f32) -> f32 {
    if outputs == 1u {
        return z * f32(label);
    }
    return select(0.0, z, k == label);
}

fn quadratic_term(z: f32, t: f32) -> f32 {
    let off = z - t;
    return 0.5 * off * off;
}

// `chosen` is z t.
fn cross_entropy_term(z: f32, chosen: f32) -> f32 {
    return rectified(z) - chosen + log(1.0 + exp(-abs(z)));
}

// The exponent is kept small because WGSL may assume that no infinity arises.
fn sigmoid(z: f32) -> f32 {
    return unless_nan(1.0 / (1.0 + exp(-clamp(z, -80.0, 80.0))), z);
}
