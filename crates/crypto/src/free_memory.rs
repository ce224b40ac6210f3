//! How much memory may be taken: what the machine has free, and the control groups that this process is in.

use std::fs;
use std::path::Path;

/// In KiB; `None` where the kernel does not report it.
pub(crate) fn free_memory_kib() -> Option<u64> {
    free_below(Path::new("/"))
}

fn free_below(root: &Path) -> Option<u64> {
    let machine = number_of(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:")?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut free = machine;
    for line in groups.lines() {
        // `0::PATH` is version 2, `N:memory:PATH` version 1.
        let mut words = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (words.next(), words.next()) else { continue };
        let (hierarchy, names) = match controllers {
            "" => ("sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file "]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "])
            }
            _ => continue,
        };
        let hierarchy = root.join(hierarchy);
        // In a container the path may be the host's: then the group itself is the hierarchy's root.
        let group = hierarchy.join(path.trim_start_matches('/'));
        let groups = group.ancestors().take_while(|group| group.starts_with(&hierarchy));
        free = groups.filter_map(|group| free_in(group, names)).fold(free, u64::min);
    }
    Some(free)
}

/// Without the pages of files that the kernel gives up when memory is wanted.
fn free_in(group: &Path, [limit, usage, reclaimable]: [&str; 3]) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let limit: u64 = read(limit)?.trim().parse().ok()?;
    let usage: u64 = read(usage)?.trim().parse().ok()?;
    let reclaimable = read("memory.stat").and_then(|text| number_of(&text, reclaimable)).unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(reclaimable)) / 1024)
}

fn number_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        free_below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n");

    #[test]
    fn the_machines_memory_counts_where_no_group_limits_it() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[MEMINFO]), Some(8_000_000));
        let unlimited = [MEMINFO, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(machine(&unlimited), Some(8_000_000));
        assert!(free_memory_kib().is_some_and(|kib| kib > 1024));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_decides() {
        let second = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "104857600\n"),
            ("sys/fs/cgroup/a/memory.current", "52428800\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 10485760\n"),
            ("sys/fs/cgroup/a/b/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/a/b/memory.current", "0\n"),
        ];
        assert_eq!(machine(&second), Some(60 << 10));
        let first = [
            MEMINFO,
            ("proc/self/cgroup", "7:cpu:/x\n4:memory:/not/in/this/container\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n"),
        ];
        assert_eq!(machine(&first), Some(0));
    }
}
