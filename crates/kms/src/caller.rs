//! On whose behalf a key is used.

use super::processes;

/// The Linux process on whose behalf a key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Of the user.
    pub uid: u32,
    /// Of the group that it runs under.
    pub gid: u32,
    /// Of the process, or of one of its threads; 0 for the kernel itself.
    pub pid: u32,
}

impl Caller {
    /// This process: for what a mount asks the KMS for of its own accord.
    pub fn itself() -> Self {
        use rustix::process::{getegid, geteuid, getpid};
        let pid = getpid().as_raw_nonzero().get().cast_unsigned();
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), pid }
    }

    /// Whether it may do what that group may, as far as can be told.
    pub fn is_in_group(&self, gid: u32) -> bool {
        gid == self.gid || self.groups().is_some_and(|groups| groups.contains(&gid))
    }

    /// The group and the supplementary groups of the process, if it is there and still the one that asks.
    pub fn groups(&self) -> Option<Vec<u32>> {
        groups_in_status(&processes::status(self.pid)?, self)
    }

    /// The name of the program, of which the process itself has chosen at most the first 15 bytes. The kernel has no
    /// process for writing back.
    pub fn process_name(&self) -> Option<String> {
        let name = processes::name(self.pid)?;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
    }

    /// Root with `CAP_FSETID`, as far as it can be told: whoever is not root is taken to have no capability.
    pub fn keeps_set_id(&self) -> bool {
        self.uid == 0 && capabilities_of_process(self).is_none_or(|capabilities| capabilities & CAP_FSETID != 0)
    }
}

const CAP_FSETID: u64 = 1 << 4;

/// The effective ones, if the process is there.
fn capabilities_of_process(caller: &Caller) -> Option<u64> {
    let status = processes::status(caller.pid)?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn groups_in_status(status: &str, caller: &Caller) -> Option<Vec<u32>> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved and that for files, which is what the kernel asks with.
    if numbers("Uid:")?.get(3) != Some(&caller.uid) || numbers("Gid:")?.get(3) != Some(&caller.gid) {
        return None;
    }
    let mut groups = vec![caller.gid];
    groups.extend(numbers("Groups:")?.into_iter().filter(|gid| *gid != caller.gid));
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_are_those_of_the_process() {
        let status = "Name:\tx\nUid:\t0\t0\t0\t1000\nGid:\t5\t5\t5\t100\nGroups:\t4 100 27 \nNStgid:\t1\n";
        let caller = Caller { uid: 1000, gid: 100, pid: 1 };
        assert_eq!(groups_in_status(status, &caller), Some(vec![100, 4, 27]));
        assert_eq!(groups_in_status(status, &Caller { uid: 0, ..caller }), None, "it is another process by now");
        assert_eq!(groups_in_status(status, &Caller { gid: 5, ..caller }), None);
        assert_eq!(groups_in_status("Name:\tx\n", &caller), None);
        let none = status.replace("4 100 27", "");
        assert_eq!(groups_in_status(&none, &caller), Some(vec![100]));
        let here = Caller {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            pid: std::process::id(),
        };
        assert_eq!(here.groups().map(|groups| groups[0]), Some(here.gid));
        assert!(here.is_in_group(here.gid));
        assert!(!here.is_in_group(4_000_000));
        assert!(!Caller { gid: 4_000_000, ..here }.is_in_group(here.gid), "it is another process by now");
    }
}
