// Planes of H x W in the size HO x WO, by the nearest pixel or, BILINEAR, by a mixture of four,
// and the gradient, gathered per pixel; z is the replica. One thread per element. Twins of
// src/ops/upsample.rs.

override PLANES: u32 = 1u;
override H: u32 = 1u;
override W: u32 = 1u;
override HO: u32 = 1u;
override WO: u32 = 1u;
override BILINEAR: u32 = 0u;

// Two pixels of an axis, and the second one's weight.
struct Taps {
    first: u32,
    second: u32,
    share: f32,
}

// What place o of `to` mixes, of `source` pixels.
fn taps(o: u32, source: u32, to: u32) -> Taps {
    // The place over 2 `to`.
    let at = (2u * o + 1u) * source - min((2u * o + 1u) * source, to);
    let first = at / (2u * to);
    return Taps(first, min(first + 1u, source - 1u), f32(at % (2u * to)) / f32(2u * to));
}

// The first place that may see pixel i, and the end of these.
fn seeing(i: u32, source: u32, to: u32) -> vec2<u32> {
    if BILINEAR == 0u {
        return vec2<u32>((i * to + source - 1u) / source, ((i + 1u) * to + source - 1u) / source);
    }
    // Places before the first pixel see it and, with weight 0, its next.
    let before = select(2u * i - 1u, 0u, i < 2u);
    let first = to * before / source / 2u;
    return vec2<u32>(first - min(first, 1u), min(to, to * (2u * i + 3u) / source / 2u + 2u));
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn upsample(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= PLANES * HO * WO {
        return;
    }
    let col = i % WO;
    let row = i / WO % HO;
    let plane = (group.z * PLANES + i / (WO * HO)) * H * W;
    let at = group.z * PLANES * HO * WO + i;
    if BILINEAR == 0u {
        y[at] = x[plane + row * H / HO * W + col * W / WO];
        return;
    }
    let r = taps(row, H, HO);
    let c = taps(col, W, WO);
    let above = (1.0 - c.share) * x[plane + r.first * W + c.first]
        + times(c.share, x[plane + r.first * W + c.second]);
    let below = (1.0 - c.share) * x[plane + r.second * W + c.first]
        + times(c.share, x[plane + r.second * W + c.second]);
    y[at] = (1.0 - r.share) * above + times(r.share, below);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn upsample_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= PLANES * H * W {
        return;
    }
    let col = i % W;
    let row = i / W % H;
    let plane = (group.z * PLANES + i / (W * H)) * HO * WO;
    let rows = seeing(row, H, HO);
    let columns = seeing(col, W, WO);
    var sum = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        let r = taps(h, H, HO);
        for (var v = columns.x; v < columns.y; v++) {
            let value = g[plane + h * WO + v];
            if BILINEAR == 0u {
                sum += value;
                continue;
            }
            let c = taps(v, W, WO);
            // A pixel may be both of a place's: at the edge it is its own next.
            if r.first == row {
                if c.first == col {
                    sum += (1.0 - r.share) * ((1.0 - c.share) * value);
                }
                if c.second == col {
                    sum += (1.0 - r.share) * times(c.share, value);
                }
            }
            if r.second == row {
                if c.first == col {
                    sum += times(r.share, (1.0 - c.share) * value);
                }
                if c.second == col {
                    sum += times(r.share, times(c.share, value));
                }
            }
        }
    }
    dx[group.z * PLANES * H * W + i] = sum;
}
