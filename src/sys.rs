//! The system calls that no safe crate carries: the only file with `unsafe`.

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::io;

/// Gives the calling thread a umask (and current directory) of its own, for as long as it lives.
pub fn unshare_umask() -> io::Result<()> {
    // SAFETY: CLONE_FS touches neither descriptors nor memory; what makes the call unsafe is CLONE_FILES.
    unsafe { unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}
