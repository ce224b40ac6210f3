//! How much memory the process may have: whoever takes more is ended by the kernel, or cannot go on.

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::Path;

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The part of the memory that what is kept may take at most: buffers, what is in use and the kernel's pages come on
/// top.
const PART: u64 = 2;

/// As many bytes for what is kept as were asked for, or as there is room for but no fewer than `least`; and why they
/// are fewer. `rings`: what requests by io_uring take of the same room.
pub fn room_for_cache(wanted: usize, least: usize, rings: usize) -> (usize, Option<String>) {
    let Some((bytes, whose)) = most() else { return (wanted, None) };
    let room = usize::try_from(bytes / PART).unwrap_or(usize::MAX).saturating_sub(rings).max(least);
    if wanted <= room {
        return (wanted, None);
    }
    let text = format!(
        "cache={} is more than half of the {} MiB that {whose}{}: it is {} MiB",
        wanted >> 20,
        bytes >> 20,
        if rings == 0 { String::new() } else { format!(", without {} MiB for io_uring", rings >> 20) },
        room >> 20
    );
    (room, Some(text))
}

/// The least of what the process may have by its control group, its limits, and the machine.
fn most() -> Option<(u64, &'static str)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_group = of_group(&groups, Path::new(CONTROL_GROUPS));
    let of_process = [Resource::As, Resource::Data].into_iter().filter_map(|limit| getrlimit(limit).current).min();
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let all = [
        (of_group, "its control group may have"),
        (of_process, "this process may have (ulimit -v, ulimit -d)"),
        (of_machine, "this machine has"),
    ];
    all.into_iter().filter_map(|(bytes, whose)| Some((bytes?, whose))).min()
}

/// Of a group and those above it, as cgroups(7) has them in /proc/self/cgroup: in version 2 `0::PATH`, in version 1
/// `NUMBER:memory:PATH`. Beyond the control group that a container is shown as the root there is nothing to be seen.
fn of_group(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (trees, files): (&[&str], &[&str]) = match controllers {
            "" => (&["", "unified"], &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|one| one == "memory") => (&["memory"], &["memory.limit_in_bytes"]),
            _ => (&[], &[]),
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        let groups: Vec<_> =
            above.flat_map(|group| trees.iter().map(move |tree| root.join(tree).join(group))).collect();
        groups.into_iter().flat_map(|group| files.iter().map(move |file| group.join(file)))
    });
    // `max` is no number; version 1 has a number that no machine has instead.
    limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

/// `MemTotal:  NUMBER kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_of_a_group_and_those_above_it_counts() {
        let root = limited(&[
            ("user.slice/memory.max", "300000"),
            ("user.slice/session.scope/memory.max", "max"),
            ("user.slice/session.scope/memory.high", "400000"),
            ("other.slice/memory.max", "1"),
        ]);
        assert_eq!(of_group("0::/user.slice/session.scope\n", root.path()), Some(300_000));
        assert_eq!(of_group("0::/\n", root.path()), None);
    }

    #[test]
    fn both_versions_of_control_groups_count_beside_each_other() {
        let root = limited(&[
            ("memory/docker/1/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/docker/memory.limit_in_bytes", "70000"),
            ("unified/docker/memory.max", "60000"),
            ("pids/docker/memory.limit_in_bytes", "1"),
        ]);
        let groups = "5:cpu,memory:/docker/1\n4:pids:/docker\n0::/docker\n";
        assert_eq!(of_group(groups, root.path()), Some(60_000));
        assert_eq!(of_group("5:cpu,memory:/docker/1\n", root.path()), Some(70_000));
    }

    #[test]
    fn what_is_kept_has_half_of_what_the_machine_has_at_most() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24683656 kB\n"), Some(24_683_656 << 10));
        let (room, why) = room_for_cache(usize::MAX, 4 << 20, 0);
        assert!(room < usize::MAX && why.is_some());
        let (room, why) = room_for_cache(0, 0, 0);
        assert!(room == 0 && why.is_none());
        let (less, why) = room_for_cache(usize::MAX, 4 << 20, 1 << 20);
        assert!(less == room_for_cache(usize::MAX, 4 << 20, 0).0 - (1 << 20));
        assert!(why.is_some_and(|why| why.contains("without 1 MiB for io_uring")));
    }
}
