//! `-o idle_timeout=`: unmounts when nobody has used the mount for so long.

use super::exit::describe;
use kmsfs_fs::Fs;
use kmsfs_fuse::Statistics;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Unmounts if nobody uses the mount, `EBUSY` otherwise.
pub type Unmount = Box<dyn Fn() -> io::Result<()> + Send>;

pub struct Idle {
    timeout: Duration,
    fs: Arc<Fs>,
    statistics: Arc<Statistics>,
    unmount: Unmount,
    seen: Mutex<Seen>,
}

struct Seen {
    calls: u64,
    since: Instant,
}

impl Idle {
    pub fn new(timeout: Duration, fs: Arc<Fs>, statistics: Arc<Statistics>, unmount: Unmount) -> Self {
        let seen = Seen { calls: statistics.calls(), since: Instant::now() };
        Self { timeout, fs, statistics, unmount, seen: Mutex::new(seen) }
    }

    /// How often to look.
    pub fn interval(&self) -> Duration {
        (self.timeout / 4).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// Open files are use, and so is every request, except those that the kernel serves by itself.
    pub fn look(&self) {
        let mut seen = self.seen.lock();
        let calls = self.statistics.calls();
        if calls != seen.calls || self.fs.usage().handles > 0 {
            *seen = Seen { calls, since: Instant::now() };
            return;
        }
        if seen.since.elapsed() < self.timeout {
            return;
        }
        seen.since = Instant::now();
        // Not by force: a current directory in the mount is use as well, and the kernel knows of it.
        match (self.unmount)() {
            Ok(()) => log::info!("unused for {} s: unmounted", self.timeout.as_secs()),
            Err(error) => {
                log::debug!("unused for {} s, but not unmounted: {}", self.timeout.as_secs(), describe(&error));
            }
        }
    }
}
