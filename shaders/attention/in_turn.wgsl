// For processors, which go through both sides of a branch: a workgroup has queries, and then keys.

@compute @workgroup_size(THREADS)
fn attention_grad_in_turn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = job_of_both(group, groups);
    if job.none {
        return;
    }
    find(group.z, job.head);
    begin(lane);
    of_queries(lane, job.first);
    return_queries(lane, job, group.z);
    clear();
    of_keys(lane, job.first);
    return_keys(lane, job, group.z);
}

@compute @workgroup_size(THREADS)
fn attention_self_grad_in_turn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = job_of_both(group, groups);
    if job.none {
        return;
    }
    find(group.z, job.head);
    begin(lane);
    of_queries(lane, job.first);
    return_own_queries(lane, job, group.z);
    clear();
    of_keys(lane, job.first);
    return_own_keys(lane, job, group.z);
}
