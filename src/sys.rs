//! The system calls that no safe crate carries: the only file with `unsafe`.

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

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
        let set = set_of(signals);
        // SAFETY: the set is initialised, and the call may answer nothing through a null pointer.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
            0 => Ok(Self(set)),
            errno => Err(io::Error::from_raw_os_error(errno)),
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

/// Signals that this thread takes from a descriptor for as long as the value lives, so that it can put something in
/// order before it bears them.
pub struct PendingSignals {
    before: libc::sigset_t,
    descriptor: OwnedFd,
}

impl PendingSignals {
    pub fn take(signals: &[libc::c_int]) -> io::Result<Self> {
        let set = set_of(signals);
        let mut before = set_of(&[]);
        // SAFETY: both point to live, initialised sets.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) } {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        // SAFETY: the set is initialised, and -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            let error = io::Error::last_os_error();
            restore(&before);
            return Err(error);
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { before, descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Readable while a signal waits.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Takes one that waits.
    pub fn next(&self) -> Option<libc::c_int> {
        // The number is the first member of `struct signalfd_siginfo`.
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.descriptor, &mut info).ok()?;
        (read == info.len()).then(|| libc::c_int::from_ne_bytes([info[0], info[1], info[2], info[3]]))
    }

    /// Does what the signal does by default or by its handler: ends or stops this process. Returns when it goes on.
    pub fn bear(&self, signal: libc::c_int) {
        let set = set_of(&[signal]);
        // SAFETY: the set is initialised; raise sends to this thread, where the signal is let in right after.
        unsafe {
            libc::raise(signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
    }
}

impl Drop for PendingSignals {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(mask: &libc::sigset_t) {
    // SAFETY: the mask is initialised. It cannot fail: the kernel gave it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const *mask, std::ptr::null_mut()) };
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set, and sigaddset gets an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Gives the calling thread a umask (and current directory) of its own, for as long as it lives.
pub fn unshare_umask() -> io::Result<()> {
    // SAFETY: CLONE_FS touches neither descriptors nor memory; what makes the call unsafe is CLONE_FILES.
    unsafe { unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}
