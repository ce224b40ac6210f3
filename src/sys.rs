//! The system calls that no safe crate carries: the only file with `unsafe`.

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::io;

/// Which side of a fork(2) this is.
pub enum Fork {
    Parent { child: rustix::process::Pid },
    Child,
}

/// Splits the process in two. Only while it has a single thread: locks that another thread held would stay locked in
/// the child for ever.
pub fn fork() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork with {threads} threads")));
    }
    // SAFETY: there is no other thread (checked above), so the child's memory is in a consistent state.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let child = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork answered no pid"))?;
            Ok(Fork::Parent { child })
        }
    }
}

/// Signals taken out of their default handling, for one thread to wait for.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks `signals` in this thread and in all that it starts from now on.
    pub fn block(signals: &[libc::c_int]) -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set, sigaddset gets an initialised set, and pthread_sigmask reads it and
        // may answer nothing through a null pointer.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for &signal in signals {
                libc::sigaddset(&raw mut set, signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Waits for one of them and answers its number.
    pub fn wait(&self) -> io::Result<libc::c_int> {
        let mut signal = 0;
        // SAFETY: both point to live, initialised values of the right type.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(signal),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Gives the calling thread a umask (and current directory) of its own, for as long as it lives.
pub fn unshare_umask() -> io::Result<()> {
    // SAFETY: CLONE_FS touches neither descriptors nor memory; what makes the call unsafe is CLONE_FILES.
    unsafe { unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}
