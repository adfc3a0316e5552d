// `conv2d_pool_strip` where four neighbours of an image cost less than four loads (W a
// multiple of 4) and what one lane has loaded reaches the others: the weights, which all of
// them need.

@group(0) @binding(0) var<storage, read> x_pairs: array<vec2<u64>>;

// The filters' weights for one channel and one row of taps: STRIP_FILTERS * KW, handed out
// to the lanes one by one.
alias Share = array<f32, 3>;

fn share_of_weights(replica: u32, first: u32, last: u32, row: u32, lane: u32) -> Share {
    var share: Share;
    for (var t = 0u; t < 3u; t++) {
        let k = (t * VECTOR + lane) / KW;
        let at = (replica * F + min(first + k, last)) * taps() + row * KW + (t * VECTOR + lane) % KW;
        share[t] = w[at];
    }
    return share;
}

fn weight_of(share: Share, i: u32) -> f32 {
    return subgroupShuffle(share[i / VECTOR], i % VECTOR);
}

// STRIP_WIDTH columns of a row of an image; beyond the last four, the last four.
fn fours_of(row: u32, left: u32) -> Pixels {
    var pixels: Pixels;
    for (var t = 0u; t < STRIP_WIDTH / 4u; t++) {
        let words = x_pairs[row / 4u + min(left / 4u + t, W / 4u - 1u)];
        let even = bitcast<vec2<f32>>(vec2<u32>(words));
        let odd = bitcast<vec2<f32>>(vec2<u32>(words >> vec2(32u)));
        pixels[4u * t] = even.x;
        pixels[4u * t + 1u] = odd.x;
        pixels[4u * t + 2u] = even.y;
        pixels[4u * t + 3u] = odd.y;
    }
    return pixels;
}

fn add_shared_tap(sums: ptr<function, StripSums>, above: Pixels, below: Pixels, share: Share, kw: u32) {
    if kw < KW {
        let weights = vec4<f32>(
            weight_of(share, kw),
            weight_of(share, KW + kw),
            weight_of(share, 2u * KW + kw),
            weight_of(share, 3u * KW + kw),
        );
        add_tap(sums, above, below, weights, kw);
    }
}

@compute @workgroup_size(WIDE)
fn conv2d_pool_lanes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let strip = strip_of(row_of(group, groups), lane);
    if strip.block >= strip_blocks() * GROUPS {
        return;
    }
    // Every lane works, since all need what each has loaded; but not all store.
    let n = min(strip.place, N * PO - 1u) / PO;
    let p = min(strip.place, N * PO - 1u) % PO;
    let own = filters_of(strip.block);
    var sums = StripSums();
    for (var c = 0u; c < group_channels(); c++) {
        let channel = (group.z * N + n) * C + strip.block / strip_blocks() * group_channels() + c;
        let image = (channel * H + 2u * p) * W;
        var above = fours_of(image, 2u * strip.q);
        for (var kh = 0u; kh < KH; kh++) {
            let below = fours_of(image + (kh + 1u) * W, 2u * strip.q);
            let share = share_of_weights(group.z, own.first, own.last, c * KH + kh, lane);
            add_shared_tap(&sums, above, below, share, 0u);
            add_shared_tap(&sums, above, below, share, 1u);
            add_shared_tap(&sums, above, below, share, 2u);
            add_shared_tap(&sums, above, below, share, 3u);
            add_shared_tap(&sums, above, below, share, 4u);
            above = below;
        }
    }
    if strip.place < N * PO {
        store_strip(StripPlace(group.z, n, own.first, own.last, p, strip.q), sums);
    }
}
