//! What a KMS asks of the machine that it runs on.

use crate::keyring;
use crate::users::{SystemUsers, UserDatabase};
use kmsfs_crypto::random;
use kmsfs_witness::Watch;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Tells the time.
pub type Clock = Box<dyn Fn() -> Moment + Send + Sync>;

/// A moment by two clocks: one that says the date and can be set, and one that runs on whatever is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock: nanoseconds since 1970.
    pub date: i64,
    /// Which start of the machine this is. Times of two starts cannot be compared.
    pub boot: [u8; 16],
    /// How long the machine has been up, suspended or not, in nanoseconds.
    pub uptime: i64,
}

impl Moment {
    /// As the wall clock and the machine's uptime are now.
    pub fn now(boot: [u8; 16]) -> Self {
        let up = clock_gettime(ClockId::Boottime);
        let uptime = up.tv_sec.saturating_mul(1_000_000_000).saturating_add(up.tv_nsec);
        Self { date: keyring::now(), boot, uptime }
    }

    /// What both clocks say after that, in the same start of the machine.
    #[must_use]
    pub fn after(self, passed: Duration) -> Self {
        let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        let (date, uptime) = (self.date.saturating_add(passed), self.uptime.saturating_add(passed));
        Self { date, uptime, ..self }
    }
}

/// The kernel's number of this start of the machine (random(4)), or one of this process where it is not to be read.
pub fn boot_id() -> [u8; 16] {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    read.and_then(|text| Uuid::parse_str(text.trim()).ok()).unwrap_or_else(random::uuid).into_bytes()
}

/// What a KMS asks about the machine.
pub struct Machine {
    /// Tells the time.
    pub clock: Clock,
    /// Who keeps what was last seen of the keyring of which store.
    pub watch: ([u8; 16], Watch),
    /// Knows users and groups.
    pub users: Arc<dyn UserDatabase>,
}

impl Default for Machine {
    /// Its clocks, and NSS in this process.
    fn default() -> Self {
        // Read here, since what serves a mount reaches /proc no more.
        let boot = boot_id();
        Self { clock: Box::new(move || Moment::now(boot)), watch: Default::default(), users: Arc::new(SystemUsers) }
    }
}
