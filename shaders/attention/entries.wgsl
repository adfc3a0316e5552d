// A thread for each row: a workgroup has queries or keys.

@compute @workgroup_size(THREADS)
fn attention_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = job_of(group, groups);
    if job.none {
        return;
    }
    find(group.z, job.head);
    begin(lane);
    if job.keys {
        of_keys(lane, job.first);
        return_keys(lane, job, group.z);
    } else {
        of_queries(lane, job.first);
        return_queries(lane, job, group.z);
    }
}

@compute @workgroup_size(THREADS)
fn attention_self_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = job_of(group, groups);
    if job.none {
        return;
    }
    find(group.z, job.head);
    begin(lane);
    if job.keys {
        of_keys(lane, job.first);
        return_own_keys(lane, job, group.z);
    } else {
        of_queries(lane, job.first);
        return_own_queries(lane, job, group.z);
    }
}
