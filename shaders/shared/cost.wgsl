// What the costs have in common: one workgroup per example; z is the replica. Twin of
// src/ops/cost.rs.

override N: u32 = 1u;
override K: u32 = 1u;

const LANES: u32 = 64u;

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;

@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;

// The target of output k.
fn target_of(k: u32, label: u32) -> f32 {
    return target_among(K, k, label);
}

// z times the target of output k.
fn chosen_of(k: u32, label: u32, z: f32) -> f32 {
    return chosen_among(K, k, label, z);
}
