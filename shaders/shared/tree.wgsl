// Reductions within a workgroup: a tree over LANES partial results, so that the order
// of additions never changes. The kernel's own file says how many LANES there are (a
// power of two, all of its threads). Every thread of the workgroup must call these: they
// hold barriers. Needs shared/nan.wgsl.

var<workgroup> partial: array<f32, LANES>;

// What the workgroup works on where the workgroups of x and y form one long row.
fn row_of(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

fn tree_sum(lane: u32, share: f32) -> f32 {
    partial[lane] = share;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            partial[lane] += partial[lane + half];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    // Nobody may begin the next tree while somebody still reads this one's root.
    workgroupBarrier();
    return sum;
}

fn tree_max(lane: u32, share: f32) -> f32 {
    partial[lane] = share;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            partial[lane] = larger(partial[lane], partial[lane + half]);
        }
        workgroupBarrier();
    }
    let largest = partial[0];
    workgroupBarrier();
    return largest;
}
