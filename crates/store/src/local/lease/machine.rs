//! What the lease asks the machine: its clock, and which processes there are.

use super::record::Identity;
use kmsfs_kms::process_started;
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

/// The machine on which the store is opened; tests have others.
pub trait Machine: Debug + Send + Sync {
    /// A clock that never goes back, is never set, and goes on while the machine sleeps.
    fn now(&self) -> Duration;
    /// What this process is known by.
    fn identity(&self) -> Identity;
    /// Whether there is a process of this number that was started then, in this process's namespace.
    fn is_alive(&self, process: u32, started: u64) -> bool;
    /// Waits that long.
    fn pause(&self, time: Duration);
}

/// The one on which this process runs.
#[derive(Debug, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn now(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn identity(&self) -> Identity {
        let process = std::process::id();
        let read = |path| fs::read_to_string(path).map_or(String::new(), |text| text.trim().to_owned());
        Identity {
            host: read("/proc/sys/kernel/hostname"),
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino()),
            process,
            started: process_started(process).unwrap_or(0),
        }
    }

    fn is_alive(&self, process: u32, since: u64) -> bool {
        process_started(process) == Some(since)
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_that_was_started_at_another_time_is_not() {
        let Identity { boot, process, started, .. } = ThisMachine.identity();
        assert_eq!(boot.len(), 36);
        assert!(ThisMachine.is_alive(process, started));
        assert!(!ThisMachine.is_alive(process, started + 1));
    }
}
