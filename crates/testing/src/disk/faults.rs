//! Calls that are counted, and made to fail.

use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;

/// Kinds of calls of the backend's traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The traits of the backend, which have these names, say what they do.
pub enum Call {
    OpenDir,
    OpenFile,
    Create,
    MakeDir,
    MakeNode,
    MakeSymlink,
    Link,
    Rename,
    Unlink,
    RemoveDir,
    /// Of names and of what is open.
    Stat,
    ReadLink,
    ReadDir,
    Read,
    /// For data.
    Seek,
    Write,
    SetLen,
    Allocate,
    Punch,
    /// fsync of a file.
    Sync,
    /// fdatasync of a file.
    SyncData,
    SyncDir,
    SyncAll,
    SetMode,
    SetOwner,
    SetTimes,
    GetXattr,
    SetXattr,
    ListXattr,
    RemoveXattr,
    Lock,
    Space,
}

/// How often each kind of call was made, failed ones included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<Call, u64>);

impl Calls {
    /// Of this one.
    pub fn of(&self, call: Call) -> u64 {
        self.0.get(&call).copied().unwrap_or(0)
    }

    /// Of all together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The calls made since `earlier` was taken; kinds without any are left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let added = self.0.iter().map(|(call, count)| (*call, count - earlier.of(*call)));
        Self(added.filter(|(_, count)| *count > 0).collect())
    }

    /// Those that were made, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Call, u64)> + '_ {
        self.0.iter().map(|(call, count)| (*call, *count))
    }
}

/// Which call fails, and how. Counted from the moment that [`super::SimulatedDisk::fail`] takes the plan.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    nth: u64,
    errno: i32,
    calls: Vec<Call>,
    lasting: bool,
    prefix: usize,
    loses: bool,
    seen: u64,
}

impl FaultPlan {
    /// The `nth` call, 1 being the next one, fails with `errno`; those after it succeed.
    pub fn nth(nth: u64, errno: i32) -> Self {
        Self { nth, errno, calls: Vec::new(), lasting: false, prefix: 0, loses: false, seen: 0 }
    }

    /// Counts and fails only calls of these kinds.
    #[must_use]
    pub fn of(mut self, calls: &[Call]) -> Self {
        self.calls = calls.to_vec();
        self
    }

    /// All later ones fail too.
    #[must_use]
    pub fn from_then_on(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// A write that fails has written that many sectors of its beginning.
    #[must_use]
    pub fn after_sectors(mut self, sectors: usize) -> Self {
        self.prefix = sectors;
        self
    }

    /// An fsync or fdatasync that fails has dropped what it should have made durable: reads still see it, and no later
    /// sync writes it. That is what Linux does, as the pages count as clean afterwards.
    #[must_use]
    pub fn losing_writes(mut self) -> Self {
        self.loses = true;
        self
    }

    fn strikes(&mut self, call: Call) -> bool {
        if !self.calls.is_empty() && !self.calls.contains(&call) {
            return false;
        }
        self.seen += 1;
        self.seen == self.nth || self.lasting && self.seen > self.nth
    }
}

/// A failure that a plan asks for.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    pub(super) errno: i32,
    /// Sectors that a write has written all the same.
    pub(super) prefix: usize,
    /// Whether a sync has dropped what it was to write.
    pub(super) loses: bool,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::from_raw_os_error(fault.errno)
    }
}

#[derive(Default)]
pub(super) struct Faults {
    pub(super) plans: Vec<FaultPlan>,
    pub(super) counted: Calls,
}

impl Faults {
    /// Counts a call, in every plan; the plan made first decides.
    pub(super) fn count(&mut self, call: Call) -> Result<(), Fault> {
        *self.counted.0.entry(call).or_default() += 1;
        let struck = self.plans.iter_mut().map(|plan| plan.strikes(call).then_some(&*plan));
        match struck.fold(None, Option::or) {
            Some(plan) => Err(Fault { errno: plan.errno, prefix: plan.prefix, loses: plan.loses }),
            None => Ok(()),
        }
    }
}

pub(super) fn errno<T>(errno: Errno) -> io::Result<T> {
    Err(errno.into())
}
