// Whether the weights that a workgroup has used are finite: where they are not, zeros that only fill up a
// block must not meet them.

// The largest of the weights' bits without their signs that this thread has met.
var<private> largest_bits: u32;

var<workgroup> met_others: atomic<u32>;

fn met(weight: f32) -> f32 {
    largest_bits = max(largest_bits, bitcast<u32>(weight) << 1u);
    return weight;
}

// Whether the workgroup's threads have met finite weights alone. Every thread of it must call this: it
// holds barriers.
fn met_finite_alone(thread: u32) -> bool {
    if thread == 0u {
        atomicStore(&met_others, 0u);
    }
    workgroupBarrier();
    if largest_bits >= 0xFF000000u {
        atomicStore(&met_others, 1u);
    }
    workgroupBarrier();
    return atomicLoad(&met_others) == 0u;
}
