// What the costs have in common: one workgroup per example, or one thread; z is the replica. Twin of
// src/ops/cost.rs.

override N: u32 = 1u;
override K: u32 = 1u;
override SMOOTHING: f32 = 0.0;

const LANES: u32 = 64u;

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;

@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;

// Of both at once.
@group(0) @binding(2) var<storage, read_write> slopes: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;

// A target of one class, smoothed.
fn smoothed(t: f32) -> f32 {
    if SMOOTHING == 0.0 {
        return t;
    }
    return t * (1.0 - SMOOTHING) + SMOOTHING / f32(K);
}

// The target of output k.
fn target_of(k: u32, label: u32) -> f32 {
    let t = target_among(K, k, label);
    if K == 1u {
        return t;
    }
    return smoothed(t);
}

// z times the target of output k.
fn chosen_of(k: u32, label: u32, z: f32) -> f32 {
    if SMOOTHING == 0.0 || K == 1u {
        return chosen_among(K, k, label, z);
    }
    return z * target_of(k, label);
}
