// gather_shuffled by one workgroup. No load passes a store before it, so a thread loads several words before
// it stores a pixel. Behind gather.wgsl.

// The word with four pixels of a mini-batch, beyond the last word the last one.
fn word_of(replica: u32, word: u32) -> u32 {
    let words = max(C * H * W / 4u, 1u);
    let found = min(word, BATCH * words - 1u);
    return images[shuffled_example(replica, found / words) * words + found % words];
}

fn keep_word(replica: u32, word: u32, four: u32) {
    let all = BATCH * C * H * W;
    if 4u * word < all {
        let values = four_pixels(four);
        let at = replica * all + 4u * word;
        shuffled_x[at] = values.x;
        shuffled_x[at + 1u] = values.y;
        shuffled_x[at + 2u] = values.z;
        shuffled_x[at + 3u] = values.w;
    }
}

fn four_pixels_of(replica: u32, i: u32) -> vec4<f32> {
    return vec4(
        pixel_of(replica, i),
        pixel_of(replica, i + THREADS),
        pixel_of(replica, i + 2u * THREADS),
        pixel_of(replica, i + 3u * THREADS),
    );
}

// Beyond the last element stands the last one.
fn pixel_of(replica: u32, i: u32) -> f32 {
    let size = C * H * W;
    let element = min(i, BATCH * size - 1u);
    let example = shuffled_example(replica, element / size);
    return pixel(example % IMAGES, element % size, example / IMAGES);
}

fn keep_pixel(replica: u32, i: u32, value: f32) {
    let all = BATCH * C * H * W;
    if i < all {
        shuffled_x[replica * all + i] = value;
    }
}

fn keep_four(replica: u32, i: u32, values: vec4<f32>) {
    keep_pixel(replica, i, values.x);
    keep_pixel(replica, i + THREADS, values.y);
    keep_pixel(replica, i + 2u * THREADS, values.z);
    keep_pixel(replica, i + 3u * THREADS, values.w);
}

@compute @workgroup_size(THREADS)
fn gather_shuffled_single(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    // Where a word has four pixels of one image.
    if EXPANSION == 1u && (C * H * W) % 4u == 0u {
        for (var word = thread; word < BATCH * (C * H * W / 4u); word += 2u * THREADS) {
            let first = word_of(replica, word);
            let second = word_of(replica, word + THREADS);
            keep_word(replica, word, first);
            keep_word(replica, word + THREADS, second);
        }
    } else {
        for (var i = thread; i < BATCH * C * H * W; i += 8u * THREADS) {
            let low = four_pixels_of(replica, i);
            let high = four_pixels_of(replica, i + 4u * THREADS);
            keep_four(replica, i, low);
            keep_four(replica, i + 4u * THREADS, high);
        }
    }
    for (var n = thread; n < BATCH; n += THREADS) {
        shuffled_y[replica * BATCH + n] = labels[shuffled_example(replica, n) % IMAGES];
    }
    begin(replica, thread);
}
