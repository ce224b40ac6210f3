//! Whether the store may be changed.

use crate::local::lease::Lease;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the store may be changed: it was opened for reading alone, is being closed, is closed, or
/// is another machine's by now. Asked before each
/// change, by all the parts that make one.
pub(crate) struct Admission {
    lease: Arc<Lease>,
    read_only: AtomicBool,
    /// No file is made any more: the last checkpoint has begun, or is about to.
    closing: AtomicBool,
}

impl Admission {
    pub(crate) fn new(read_only: bool, lease: &Arc<Lease>) -> Self {
        Self { lease: lease.clone(), read_only: AtomicBool::new(read_only), closing: AtomicBool::new(false) }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::SeqCst)
    }

    /// An error if nothing may be changed: EIO once another machine may have the store.
    pub(crate) fn writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Error::ReadOnly) } else { Ok(self.lease.check()?) }
    }

    /// An error once the store is being closed, for whoever asked the KMS before and goes on after it.
    pub(crate) fn not_closing(&self) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// From now on no file is made.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// From now on nothing is changed.
    pub(crate) fn close(&self) {
        self.read_only.store(true, Ordering::SeqCst);
    }
}
