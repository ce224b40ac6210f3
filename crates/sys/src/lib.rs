//! The system calls that no safe crate carries, and files that belong to their owner alone.
//!
//! `unsafe` is in this file and in [`fuse_ring`] alone; each block says why it is sound. What rustix or nix offer
//! safely is called there, and not added here.
//!
//! - [`private`] opens key files, keyrings and logs by one set of rules.
//! - [`Signals`] and [`PendingSignals`] take signals out of their default handling.
//! - [`fork`], [`unshare_mounts`], [`set_mount_attributes`] and others are for processes that start and confine a
//!   mount.
//! - [`fuse_ring`] has rings by which FUSE's requests come, and answers go, without a system call for each.
//! - [`file_handle`] is how a file system identifies an inode beyond its number.
//!
//! ```
//! use kmsfs_sys::private::{self, Access, Kind, Refusal};
//! use std::os::unix::fs::PermissionsExt;
//!
//! let dir = tempfile::tempdir()?;
//! let key = dir.path().join("key");
//! std::fs::write(&key, [7; 32])?;
//! std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644))?;
//! // Others could read it.
//! assert!(matches!(private::open(&key, Kind::Secret, Access::Read), Err(Refusal::Rule(_))));
//! # std::io::Result::Ok(())
//! ```
#![allow(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod fuse_ring;
pub mod private;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The user as whom the calling thread uses files. It is the effective user unless [`set_file_user`] has changed it.
pub fn file_user() -> u32 {
    // SAFETY: the call takes no pointer, and changes nothing: nobody has this number.
    unsafe { libc::setfsuid(libc::uid_t::MAX) }.cast_unsigned()
}

/// Has the calling thread use files as that user, and the threads that it starts from now on; its other uids stay.
/// Signals and ptrace(2) go by those.
///
/// # Errors
///
/// `PermissionDenied`: it takes CAP_SETUID.
pub fn set_file_user(uid: u32) -> io::Result<()> {
    // SAFETY: the call takes no pointer, and reaches the calling thread alone.
    unsafe { libc::setfsuid(uid) };
    if file_user() == uid { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Which side of a fork(2) this is.
pub enum Fork {
    /// The process that was there before.
    Parent {
        /// Process ID of the new one.
        child: rustix::process::Pid,
    },
    /// The new process.
    Child,
}

/// Splits the process in two. Only while it has a single thread: locks that another thread held would stay locked in
/// the child for ever.
///
/// # Errors
///
/// There is a second thread, or fork(2) failed.
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

/// What `act` returns in a clone of this process that goes on from here, beside this one: for tests, in place of a
/// hypervisor that resumes a machine twice. Whatever other threads held stays held in the clone, so `act` must need
/// nothing of theirs. Builds without debug assertions, released ones among them, do not have it.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn in_a_clone(act: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    use std::io::{Read, Write};
    let (mut reader, mut writer) = io::pipe()?;
    // SAFETY: the child has this thread alone. The C library puts its heap in order in the child (fork(3)); every other
    // lock that `act` takes is its own. It ends without running what the parent has registered for its own end.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            let told = done.is_ok_and(|answer| writer.write_all(&answer).is_ok());
            // SAFETY: it does not come back.
            unsafe { libc::_exit(i32::from(!told)) }
        }
        pid => {
            drop(writer);
            let mut answer = Vec::new();
            let read = reader.read_to_end(&mut answer);
            let child = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork answered no pid"))?;
            let end = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
            read?;
            match end.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(answer),
                _ => Err(io::Error::other("the clone failed")),
            }
        }
    }
}

/// Has all threads take memory from one heap. With glibc's heap for each thread (mallopt(3), M_ARENA_MAX) an event
/// loop's grows a page at a time, with a system call for each.
pub fn use_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and touches no memory of ours.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } != 1 {
        log::debug!("each thread has a heap of its own");
    }
}

/// Signals do again what they do by default, and none is blocked. SIGHUP, SIGINT and SIGQUIT stay ignored where they
/// are: so shells and nohup(1) say whom they are not for. SIGXFSZ and SIGXCPU end nothing: a write beyond a limit
/// fails.
pub fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        let action = match signal {
            libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGKILL | libc::SIGSTOP
            // The runtime's own: it ignores the one, and has handlers of the others for overflowing stacks.
            | libc::SIGPIPE | libc::SIGSEGV | libc::SIGBUS => continue,
            libc::SIGXFSZ | libc::SIGXCPU => libc::SIG_IGN,
            _ => libc::SIG_DFL,
        };
        // SAFETY: neither action runs any code of ours. A number that is not for programs is refused.
        unsafe { libc::signal(signal, action) };
    }
    let none = set_of(&[]);
    // SAFETY: the set is initialised, and the call may return nothing through a null pointer.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// Where this thread, and those that it starts, were to have the processor or the disk only when nobody else wants
/// them, they take their turns.
pub fn take_turns_as_everybody() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_NONE: libc::c_int = 0;
    const IOPRIO_CLASS_IDLE: libc::c_long = 3;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let everybodys = libc::sched_param { sched_priority: 0 };
    // SAFETY: they take numbers, and a live, initialised value that is read during the call. 0 is the calling thread.
    unsafe {
        if [libc::SCHED_IDLE, libc::SCHED_BATCH].contains(&libc::sched_getscheduler(0)) {
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const everybodys);
        }
        if libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_IDLE {
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_NONE);
        }
    }
}

/// Locks one byte of a file for the open file description behind `fd`, for it alone or shared with others, if nobody
/// has a lock there that forbids it (`F_OFD_SETLK`, fcntl(2)). The lock goes with the last descriptor of that open file
/// description. It needs an `fd` that is open for writing if it is exclusive, and for reading if it is shared.
///
/// # Errors
///
/// fcntl(2) failed for another reason than that another lock is there, or a file cannot have that many bytes.
pub fn try_lock_byte(fd: BorrowedFd<'_>, offset: u64, exclusive: bool) -> io::Result<bool> {
    match set_lock(fd, offset, if exclusive { libc::F_WRLCK } else { libc::F_RDLCK }) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives such a lock up.
///
/// # Errors
///
/// fcntl(2) failed.
pub fn unlock_byte(fd: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
    set_lock(fd, offset, libc::F_UNLCK)
}

/// What belongs to an open file description has of one byte.
fn set_lock(fd: BorrowedFd<'_>, offset: u64, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: all-zero is a value of this structure of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    lock.l_len = 1;
    // SAFETY: the descriptor is open as long as it is borrowed, and the structure lives during the call.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals taken out of their default handling, for one thread to wait for.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks `signals` in this thread and in all that it starts from now on.
    pub fn block(signals: &[libc::c_int]) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: the set is initialised, and the call may return nothing through a null pointer.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
            0 => Ok(Self(set)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// In this thread the signals do again what they do by default.
    pub fn release(&self) {
        // SAFETY: the set is initialised, and the call may return nothing through a null pointer.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const self.0, std::ptr::null_mut()) };
    }

    /// Waits for one of them and returns its number.
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
/// order before they have their effect.
pub struct PendingSignals {
    before: libc::sigset_t,
    descriptor: OwnedFd,
}

impl PendingSignals {
    /// Blocks `signals` in this thread until the value is dropped.
    ///
    /// # Errors
    ///
    /// signalfd(2) or pthread_sigmask(3) failed; the mask is as it was.
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

    /// The number of a signal that is pending, which is no longer so then; `None` if there is none.
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

/// Programs that this process becomes or starts have no descriptor from this number on, whoever has left it open.
///
/// # Errors
///
/// ENOSYS before Linux 5.11.
pub fn pass_no_descriptor_on(first: u32) -> io::Result<()> {
    // SAFETY: it changes a flag of descriptors, and neither closes nor opens any.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a umask and a current directory of its own, for as long as it lives.
///
/// # Errors
///
/// unshare(2) failed.
pub fn unshare_umask() -> io::Result<()> {
    // SAFETY: CLONE_FS touches neither descriptors nor memory; what makes the call unsafe is CLONE_FILES.
    unsafe { unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Gives the calling thread, which should be the only one, a mount namespace of its own.
///
/// # Errors
///
/// EPERM without CAP_SYS_ADMIN; else as unshare(2).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS, which brings CLONE_FS, touches neither descriptors nor memory.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(io::Error::from)
}

/// Sets `MOUNT_ATTR_` flags of a mount, which nothing propagates to from now on (mount_setattr(2), Linux 5.12).
/// `everywhere`: of all mounts below it too.
///
/// # Errors
///
/// As mount_setattr(2); ENOSYS on a kernel before 5.12.
pub fn set_mount_attributes(mount: BorrowedFd<'_>, flags: u64, everywhere: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let how = libc::AT_EMPTY_PATH | if everywhere { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string, the structure is initialised and its size the one that is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            how,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How a file system identifies the inode of a name, beyond its number: type and bytes of its file handle
/// (name_to_handle_at(2)). Symlinks are not followed; nothing is opened, and no privilege is needed.
///
/// # Errors
///
/// As name_to_handle_at(2); EOPNOTSUPP where the file system has no file handles.
pub fn file_handle(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(i32, Vec<u8>)> {
    const LONGEST: usize = libc::MAX_HANDLE_SZ as usize;
    #[repr(C)]
    struct FileHandle {
        bytes: u32,
        kind: i32,
        handle: [u8; LONGEST],
    }
    let mut found = FileHandle { bytes: LONGEST as u32, kind: 0, handle: [0; LONGEST] };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: the structure is laid out as `struct file_handle` with room for `bytes`, and all three are live.
    let done = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, dir.as_raw_fd(), name.as_ptr(), &raw mut found, &raw mut mount_id, 0)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((found.kind, found.handle[..LONGEST.min(found.bytes as usize)].to_vec()))
}

/// A value in memory of its own, all of which is overwritten with zeros when it is dropped. A value's own `Drop`
/// reaches no more than the value: the unused bytes of a union's smaller member, or of padding, are none of it, and a
/// move may have brought there whatever was on the stack.
pub struct WipedBox<T>(Box<MaybeUninit<T>>);

impl<T> WipedBox<T> {
    /// Moves the value there.
    pub fn new(value: T) -> Self {
        Self(Box::new(MaybeUninit::new(value)))
    }
}

impl<T> Deref for WipedBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it was initialised when it was made, and nothing but `drop` takes the value away.
        unsafe { self.0.assume_init_ref() }
    }
}

impl<T> Drop for WipedBox<T> {
    fn drop(&mut self) {
        // SAFETY: it was initialised when it was made, and nobody uses it after this.
        unsafe { self.0.assume_init_drop() };
        let bytes = self.0.as_mut_ptr().cast::<u8>();
        for at in 0..size_of::<T>() {
            // SAFETY: the box has as many bytes, and any bytes are right where a value may be missing. Volatile, since
            // the compiler would leave out what nobody reads before the memory is freed.
            unsafe { bytes.add(at).write_volatile(0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_box_leaves_nothing_of_a_value_nor_of_what_is_around_it() {
        use std::os::unix::fs::FileExt;
        struct Partly {
            _used: u8,
            _unused: MaybeUninit<[u8; 512]>,
        }
        let boxed = WipedBox::new(Partly { _used: 0x5a, _unused: MaybeUninit::new([0x5a; 512]) });
        let at = std::ptr::from_ref(&*boxed).addr() as u64;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let mut bytes = [0; size_of::<Partly>()];
        memory.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(bytes, [0x5a; size_of::<Partly>()]);
        drop(boxed);
        memory.read_exact_at(&mut bytes, at).unwrap();
        // The allocator's own notes are at the beginning of what is free.
        assert!(!bytes.contains(&0x5a) && bytes[64..].iter().all(|byte| *byte == 0), "{bytes:?}");
    }

    /// Each in a process of its own, which has one thread: the test harness has several.
    fn in_a_child(test: &str, child: impl FnOnce()) {
        const MARK: &str = "KMSFS_TEST_OF_SYS";
        if std::env::var_os(MARK).is_some() {
            child();
            return;
        }
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("tests::{test}"), "--test-threads=1", "--nocapture"])
            .env(MARK, "1")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // A name that no test has would pass too.
        assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"), "there is no test {test}");
    }

    #[test]
    fn with_a_second_thread_nothing_is_forked() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert!(fork().is_err());
        drop(stop);
        let _ = other.join();
    }

    #[test]
    fn a_blocked_signal_waits_until_it_is_asked_for() {
        in_a_child("a_blocked_signal_waits_until_it_is_asked_for", || {
            let signals = Signals::block(&[libc::SIGTERM, libc::SIGHUP]).unwrap();
            for signal in [libc::SIGHUP, libc::SIGTERM] {
                // SAFETY: raise sends to this thread, where both are blocked; the harness's own would take a process's.
                assert_eq!(unsafe { libc::raise(signal) }, 0);
            }
            let mut came = [signals.wait().unwrap(), signals.wait().unwrap()];
            came.sort_unstable();
            assert_eq!(came, [libc::SIGHUP, libc::SIGTERM]);
        });
    }

    #[test]
    fn a_pending_signal_is_taken_and_borne_and_the_mask_comes_back() {
        in_a_child("a_pending_signal_is_taken_and_borne_and_the_mask_comes_back", || {
            let before = set_of(&[]);
            restore(&before);
            let pending = PendingSignals::take(&[libc::SIGCHLD, libc::SIGWINCH]).unwrap();
            assert_eq!(pending.next(), None);
            // SAFETY: raise sends to this thread, where both are blocked.
            assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
            assert_eq!(pending.next(), Some(libc::SIGWINCH));
            assert_eq!(pending.next(), None);
            // By default nothing happens.
            pending.bear(libc::SIGWINCH);
            drop(pending);
            let mut now = set_of(&[]);
            // SAFETY: a null pointer asks for the present mask, and the other is an initialised set.
            assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) }, 0);
            // SAFETY: the set is initialised.
            assert_eq!(unsafe { libc::sigismember(&raw const now, libc::SIGWINCH) }, 0);
        });
    }

    #[test]
    fn a_byte_is_locked_by_one_open_file_description_or_shared() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || std::fs::OpenOptions::new().read(true).write(true).open(file.path()).unwrap();
        let (one, other) = (open(), open());
        assert!(try_lock_byte(one.as_fd(), 7, true).unwrap());
        assert!(!try_lock_byte(other.as_fd(), 7, true).unwrap());
        assert!(!try_lock_byte(other.as_fd(), 7, false).unwrap());
        assert!(try_lock_byte(other.as_fd(), 8, true).unwrap());
        assert!(try_lock_byte(one.as_fd(), 7, false).unwrap());
        assert!(try_lock_byte(other.as_fd(), 7, false).unwrap());
        unlock_byte(one.as_fd(), 7).unwrap();
        assert!(try_lock_byte(other.as_fd(), 7, true).unwrap());
        drop(other);
        assert!(try_lock_byte(one.as_fd(), 8, true).unwrap());
    }

    #[test]
    fn a_thread_with_a_umask_of_its_own_leaves_the_others_theirs() {
        in_a_child("a_thread_with_a_umask_of_its_own_leaves_the_others_theirs", || {
            let mode = |mask| rustix::process::umask(rustix::fs::Mode::from_bits_retain(mask)).as_raw_mode();
            mode(0o022);
            std::thread::spawn(move || {
                unshare_umask().unwrap();
                mode(0o077);
            })
            .join()
            .unwrap();
            assert_eq!(mode(0o022), 0o022);
        });
    }
}
