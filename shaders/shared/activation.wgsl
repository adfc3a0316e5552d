// Twin of `Activation` in src/ops/activation.rs. Needs shared/nan.wgsl.
override ACTIVATION: u32 = 0u;

fn activate(x: f32) -> f32 {
    switch ACTIVATION {
        // WGSL may assume that no infinity arises, so exponents are kept small; the
        // clamped results round to the same f32 or to a number near its smallest.
        case 1u: { return unless_nan(1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0))), x); }
        case 2u: { return unless_nan(tanh(clamp(x, -10.0, 10.0)), x); }
        case 3u: { return rectified(x); }
        default: { return x; }
    }
}

// g times the slope where the output is y. ReLU lets g pass or gives 0, which no g changes; an
// output that is NaN lets it pass.
fn sloped(g: f32, y: f32) -> f32 {
    switch ACTIVATION {
        // Where g is known to be 0 a compiler makes 0 of the product.
        case 1u: { return unless_nan(g * (y * (1.0 - y)), y); }
        case 2u: { return unless_nan(g * (1.0 - y * y), y); }
        case 3u: { return select(0.0, g, (bitcast<i32>(y) > 0i) | is_nan(y)); }
        default: { return g; }
    }
}
