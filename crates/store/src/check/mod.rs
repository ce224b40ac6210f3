//! Checking a store that nobody writes, and repairing it.
//!
//! Three passes: the records in the segments, the tree of names with every object in it, and what one has and the other
//! lacks. A repair never deletes what it cannot explain: that goes to `lost+found/`.

mod content;
mod records;
mod repair;
mod tree;

pub use repair::keep_log;

use super::{Error, Result, Store};
use crate::Volume;
use kmsfs_kms::Caller;
use std::sync::Arc;

/// What to do beside looking at the structure.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// Read and authenticate every chunk.
    pub scrub: bool,
    /// Mend what can be mended. The store has to be open for writing.
    pub repair: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is lost: space to collect, a stale hint, an object whose key cannot be used now.
    Note,
    /// Something is not what was written.
    Error,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Path in the mount, or place in the store.
    pub place: String,
    /// What is wrong, without the place.
    pub what: String,
    /// What the repair did about it; `None` if nothing was, or could be, done.
    pub repaired: Option<String>,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Buckets that were looked at.
    pub buckets: u64,
    /// Directories below them.
    pub directories: u64,
    /// Objects, each counted once whatever names it has.
    pub objects: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// FIFOs, sockets and devices.
    pub special: u64,
    /// Sidecar records.
    pub records: u64,
    /// Bytes of plaintext that were read and authenticated.
    pub scrubbed: u64,
    /// What was found, in the order in which it was.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Errors that are still there.
    pub fn errors_left(&self) -> usize {
        self.findings.iter().filter(|found| found.severity == Severity::Error && found.repaired.is_none()).count()
    }

    /// The number of findings that were repaired.
    pub fn repaired(&self) -> usize {
        self.findings.iter().filter(|found| found.repaired.is_some()).count()
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        place: impl Into<String>,
        what: impl std::fmt::Display,
    ) -> &mut Finding {
        let (place, what) = (place.into(), what.to_string());
        let what = without_place(&place, &what).to_string();
        self.findings.push(Finding { severity, place, what, repaired: None });
        self.findings.last_mut().expect("one was added")
    }
}

/// An error that names its place already need not name it twice.
fn without_place<'a>(place: &str, what: &'a str) -> &'a str {
    what.strip_prefix(place).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(what)
}

/// How far a check is: objects seen, and how many there are as far as the records tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Objects that have been looked at.
    pub seen: u64,
    /// Objects that there are, about.
    pub expected: u64,
    /// Bytes of plaintext that were read and authenticated.
    pub scrubbed: u64,
}

/// Checks a store that has been opened, read-only or (to repair it) for writing, and that nobody else uses. `progress`
/// answers whether to go on; where it does not, the check ends with `EINTR`.
pub fn check(
    store: &Arc<Store>,
    options: CheckOptions,
    caller: &Caller,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Report> {
    if options.repair {
        store.admission.writable()?;
    }
    let mut report = Report::default();
    let records = records::Records::read(store, &mut report)?;
    let mut tree = tree::Tree::new(store, options, *caller, &records, &mut report, progress);
    tree.walk()?;
    let used = tree.used();
    store.check_configurations(options.repair, &mut report)?;
    repair::settle_records(store, &records, &used, options, &mut report)?;
    if options.repair {
        store.checkpoint()?;
        store.backend.sync_all()?;
    }
    Ok(report)
}

/// A damaged thing's errno is not the check's own failure: only what makes going on senseless is.
pub(super) fn is_fatal(error: &Error) -> bool {
    matches!(
        error,
        Error::Errno(libc::EINTR | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC | libc::EDQUOT)
    )
}
