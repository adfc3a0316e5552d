//! Whether a plan fits into the memory that this process may use.
//!
//! Linux hands out more memory than there is and kills whoever uses it, so a plan that is
//! too large must be found before it is allocated. What may be used is the least of what the
//! machine has and of what each control group allows that the process is in: a container's
//! limit is such a group's, and the machine's free memory says nothing about it. Elsewhere
//! nothing is known and nothing refused.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::plan::Plan;

/// The names of a control group's files.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// What the group and those in it keep of files, which is given back when it is needed.
    files: [&'static str; 2],
}

/// The two versions of control groups; both may be there at once.
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};
const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    files: ["inactive_file", "active_file"],
};

/// Free memory in bytes, where the system tells; its files are below `root`.
fn available(root: &Path) -> Option<u64> {
    let read = |path: &Path| {
        let below = path.strip_prefix("/").unwrap_or(path);
        std::fs::read_to_string(root.join(below)).ok()
    };
    let process = |name: &str| read(&Path::new("/proc/self").join(name)).unwrap_or_default();
    let machine = machine(&read(Path::new("/proc/meminfo"))?)?;
    let levels = levels(&process("cgroup"), &process("mountinfo"));
    let rooms = levels.into_iter().filter_map(|(folder, names)| {
        let text = |name: &str| read(&folder.join(name));
        let stat = text("memory.stat").unwrap_or_default();
        room(&text(names.limit)?, &text(names.usage)?, &stat, names)
    });
    Some(rooms.fold(machine, u64::min))
}

/// What the machine has, from the text of `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// What a group leaves, from the texts of its files; `None` where it has no limit.
fn room(limit: &str, usage: &str, stat: &str, names: &Names) -> Option<u64> {
    // Version 2 says `max` for none, version 1 some number near 2^63.
    let limit: u64 = limit.trim().parse().ok()?;
    let usage: u64 = usage.trim().parse().ok()?;
    let kept = stat.lines().filter_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        names.files.contains(&name).then_some(())?;
        bytes.trim().parse::<u64>().ok()
    });
    let kept = kept.fold(0, u64::saturating_add);
    Some(limit.saturating_sub(usage.saturating_sub(kept)))
}

/// The folders of the groups that the process is in, from its own up to the highest that is
/// seen here; from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn levels(groups: &str, mounts: &str) -> Vec<(PathBuf, &'static Names)> {
    let mut levels = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let names = match controllers {
            "" => &V2,
            list if list.split(',').any(|c| c == "memory") => &V1,
            _ => continue,
        };
        for (root, point) in mounts.lines().filter_map(|line| mount(line, names)) {
            let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            // A group outside of what the process's namespace shows; its own root is seen.
            let known = |c: Component| matches!(c, Component::Normal(_));
            let below = match below.components().all(known) {
                true => below,
                false => Path::new(""),
            };
            let folders = below
                .ancestors()
                .map(|folder| Path::new(point).join(folder));
            levels.extend(folders.map(|folder| (folder, names)));
        }
    }
    levels
}

/// Which group's folder is mounted where, if a line of `/proc/self/mountinfo` is about
/// control groups of a version that limit memory.
fn mount<'a>(line: &'a str, names: &Names) -> Option<(&'a str, &'a str)> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let kind = after.next()?;
    let fits = match std::ptr::eq(names, &V2) {
        true => kind == "cgroup2",
        false => kind == "cgroup" && after.nth(1)?.split(',').any(|option| option == "memory"),
    };
    let mut before = before.split(' ').skip(3);
    fits.then_some((before.next()?, before.next()?))
}

/// Refuses a plan that is larger than the free memory.
pub(super) fn check(plan: &Plan) -> Result<()> {
    let account = plan.account();
    let wanted = account.state_bytes.saturating_add(account.temporary_bytes);
    match available(Path::new("/")) {
        Some(free) if wanted > free => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(Error::Adapter {
                found: format!("{:.1} GiB of free memory", gib(free)),
                wanted: format!("{:.1} GiB for the plan", gib(wanted)),
                fix: "Use fewer replicas, a smaller batch or a smaller network.".into(),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(groups: &str, mounts: &str) -> Vec<String> {
        let levels = levels(groups, mounts).into_iter();
        let shown = |(folder, names): (PathBuf, &Names)| folder.join(names.limit);
        levels.map(|l| shown(l).display().to_string()).collect()
    }

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_machine_says_what_it_has() {
        let text = "MemTotal:       24684096 kB\nMemAvailable:   12345678 kB\nBuffers: 1 kB\n";
        assert_eq!(machine(text), Some(12_345_678 << 10));
        assert_eq!(machine("MemTotal: 5 kB\n"), None);
        assert_eq!(machine("MemAvailable: many kB\n"), None);
    }

    #[test]
    fn every_group_from_its_own_upwards_counts() {
        assert_eq!(
            folders("0::/user.slice/run.scope\n", UNIFIED),
            [
                "/sys/fs/cgroup/user.slice/run.scope/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        // A container sees its own group as the root.
        assert_eq!(folders("0::/\n", UNIFIED), ["/sys/fs/cgroup/memory.max"]);
        let outside = folders("0::/../other\n", UNIFIED);
        assert_eq!(outside, ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn the_first_version_has_a_tree_of_its_own_for_memory() {
        let groups =
            "9:name=systemd:/\n8:pids:/a\n4:cpu,memory:/docker/ab\n1:memory_not:/x\n0::/\n";
        let mounts = "22 27 0:21 / /proc rw - proc proc rw\n\
                      33 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        assert_eq!(
            folders(groups, mounts),
            [
                "/sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        // In the container, its group is what is mounted.
        let inside = mounts.replace("0:32 / ", "0:32 /docker/ab ");
        assert_eq!(
            folders(groups, &inside),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(folders("", ""), Vec::<String>::new());
        assert_eq!(folders("4\nmemory\n4:memory", "- cgroup2"), [""; 0]);
    }

    #[test]
    fn the_least_of_all_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || available(root.path());
        assert_eq!(found(), None);
        put("proc/meminfo", "MemAvailable: 8 kB\n");
        assert_eq!(found(), Some(8192));
        put("proc/self/cgroup", "0::/a/b\n");
        put("proc/self/mountinfo", UNIFIED);
        assert_eq!(found(), Some(8192));
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        put("sys/fs/cgroup/a/b/memory.current", "100\n");
        assert_eq!(found(), Some(8192));
        put("sys/fs/cgroup/a/memory.max", "5000\n");
        put("sys/fs/cgroup/a/memory.current", "1000\n");
        put("sys/fs/cgroup/a/memory.stat", "inactive_file 300\n");
        assert_eq!(found(), Some(4300));
        put("sys/fs/cgroup/a/b/memory.max", "600\n");
        assert_eq!(found(), Some(500));
        put("proc/meminfo", "MemAvailable: 0 kB\n");
        assert_eq!(found(), Some(0));
    }

    #[test]
    fn a_group_leaves_its_limit_without_what_is_in_use() {
        let stat = "anon 600\nfile 300\ninactive_file 200\nactive_file 50\ninactive_anon 9\n";
        assert_eq!(room("1000\n", "900\n", "", &V2), Some(100));
        // What is kept of files is given back.
        assert_eq!(room("1000\n", "900\n", stat, &V2), Some(350));
        assert_eq!(room("1000\n", "2000\n", "", &V2), Some(0));
        assert_eq!(room("1000\n", "10\n", stat, &V2), Some(1000));
        assert_eq!(room("max\n", "900\n", stat, &V2), None);
        // The first version counts the groups below under names of their own.
        let stat = "inactive_file 1\ntotal_inactive_file 20\ntotal_active_file 5\n";
        assert_eq!(room("1000\n", "900\n", stat, &V1), Some(125));
        let none = room("9223372036854771712\n", "900\n", "", &V1);
        assert_eq!(none, Some(9_223_372_036_854_770_812));
        assert_eq!(room("", "", "", &V1), None);
    }
}
