// Notes in the guard that one of the buffer's numbers is not finite, unless an earlier buffer
// was noted. One workgroup; z is the replica.

override N: u32 = 1u;
override NUMBER: u32 = 0u;

const LANES: u32 = 256u;
// Words of a guard, and the one that names the buffer; `KEPT` in src/ops/finite.rs.
const GUARD: u32 = 4u;
const KEPT: u32 = 2u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> guard: array<u32>;

var<workgroup> lost: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn finite(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // By exponents: WGSL may assume that nothing is infinite.
    var bad = 0u;
    for (var i = lane; i < N; i += LANES) {
        let exponent = bitcast<u32>(x[group.z * N + i]) & 0x7F800000u;
        bad |= select(0u, 1u, exponent == 0x7F800000u);
    }
    lost[lane] = bad;
    workgroupBarrier();
    if lane != 0u {
        return;
    }
    for (var j = 1u; j < LANES; j++) {
        bad |= lost[j];
    }
    let at = group.z * GUARD + KEPT;
    if NUMBER == 0u {
        guard[at] = 0u;
    }
    if bad == 1u && guard[at] == 0u {
        guard[at] = NUMBER + 1u;
    }
}
