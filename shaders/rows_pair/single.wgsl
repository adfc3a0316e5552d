// rows_bytes_integers by one workgroup. Behind rows_pair.wgsl.

// Beyond the last element stands the last one.
fn byte_of(replica: u32, i: u32) -> f32 {
    return byte_at(place(replica, min(i, BATCH * SIZE - 1u)));
}

fn four_bytes_of(replica: u32, i: u32) -> vec4<f32> {
    return vec4(
        byte_of(replica, i),
        byte_of(replica, i + THREADS),
        byte_of(replica, i + 2u * THREADS),
        byte_of(replica, i + 3u * THREADS),
    );
}

fn keep_byte(replica: u32, i: u32, value: f32) {
    if i < BATCH * SIZE {
        x[replica * BATCH * SIZE + i] = value;
    }
}

fn keep_four(replica: u32, i: u32, values: vec4<f32>) {
    keep_byte(replica, i, values.x);
    keep_byte(replica, i + THREADS, values.y);
    keep_byte(replica, i + 2u * THREADS, values.z);
    keep_byte(replica, i + 3u * THREADS, values.w);
}

@compute @workgroup_size(THREADS)
fn rows_bytes_integers_single(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    // No load passes a store before it, so eight elements are loaded before one is stored.
    for (var i = thread; i < BATCH * SIZE; i += 8u * THREADS) {
        let low = four_bytes_of(replica, i);
        let high = four_bytes_of(replica, i + 4u * THREADS);
        keep_four(replica, i, low);
        keep_four(replica, i + 4u * THREADS, high);
    }
    for (var i = thread; i < BATCH * SIZE_2; i += THREADS) {
        take_second_integers(replica, i);
    }
    begin(replica, thread);
}
