// Twin of `Activation` in src/ops/activation.rs.
override ACTIVATION: u32 = 0u;

fn activate(x: f32) -> f32 {
    switch ACTIVATION {
        // WGSL may assume that no infinity arises, so exponents are kept small; the
        // clamped results round to the same f32 or to a number near its smallest.
        case 1u: { return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0))); }
        case 2u: { return tanh(clamp(x, -10.0, 10.0)); }
        case 3u: { return max(x, 0.0); }
        default: { return x; }
    }
}

fn activation_slope_of(y: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return y * (1.0 - y); }
        case 2u: { return 1.0 - y * y; }
        case 3u: { return select(0.0, 1.0, y > 0.0); }
        default: { return 1.0; }
    }
}
