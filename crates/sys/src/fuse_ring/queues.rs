//! The two queues of an io_uring, in memory that is shared with the kernel: linux/io_uring.h, by system calls.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Entries of 128 bytes, as FUSE's command takes.
const SETUP_SQE128: u32 = 1 << 10;
/// Only the task that enables the ring submits.
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_R_DISABLED: u32 = 1 << 6;
/// An entry that is refused does not keep those after it.
const SETUP_SUBMIT_ALL: u32 = 1 << 7;
/// Entries are taken in their order (Linux 6.6).
const SETUP_NO_SQARRAY: u32 = 1 << 16;
// Never IORING_SETUP_DEFER_TASKRUN: with it, a process that was killed while FUSE waited for it left threads that
// nothing ended (Linux 6.18).

/// `MADV_DONTNEED_LOCKED` (Linux 5.18).
const DONTNEED_LOCKED: libc::c_int = 24;

const FEATURE_SINGLE_MMAP: u32 = 1;
const OFFSET_OF_RINGS: u64 = 0;
const OFFSET_OF_ENTRIES: u64 = 0x1000_0000;
const ENTER_GETEVENTS: libc::c_uint = 1;
const ENTER_EXT_ARG: libc::c_uint = 1 << 3;
const REGISTER_FILES: libc::c_uint = 2;
const REGISTER_RESTRICTIONS: libc::c_uint = 11;
const REGISTER_ENABLE_RINGS: libc::c_uint = 12;

/// `opcode` of an entry.
pub(super) const OP_READ: u8 = 22;
pub(super) const OP_URING_CMD: u8 = 46;
/// The entry's file is an index of those that were registered.
pub(super) const FIXED_FILE: u8 = 1;

/// `struct io_uring_sqe` of 128 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Submission {
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub file: i32,
    /// An offset, or the number of a file's own command.
    pub offset: u64,
    pub address: u64,
    pub length: u32,
    pub op_flags: u32,
    pub user_data: u64,
    pub buffer: u16,
    pub personality: u16,
    pub file_index: u32,
    pub command: [u64; 10],
}

const _: () = assert!(size_of::<Submission>() == 128);

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub user_data: u64,
    pub result: i32,
    pub flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_addr: u64,
}

#[repr(C)]
#[derive(Default)]
struct CompletionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: u32,
    user_addr: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq_off: SubmissionOffsets,
    cq_off: CompletionOffsets,
}

const _: () = assert!(size_of::<Params>() == 120);

/// `struct io_uring_restriction`.
#[repr(C)]
struct Restriction {
    kind: u16,
    value: u8,
    reserved: u8,
    more: [u32; 3],
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct Wait {
    sigmask: u64,
    sigmask_size: u32,
    least: u32,
    time: u64,
}

/// An io_uring. Memory that an entry names is its maker's affair.
pub(super) struct Queues {
    fd: OwnedFd,
    rings: Mapped,
    entries: Mapped,
    submissions: SubmissionOffsets,
    completions: CompletionOffsets,
    /// Submissions that there is room for: a power of two.
    room: u32,
    /// Completions that there is room for: a power of two.
    completion_room: u32,
    /// Where the next submission goes, as only this side changes it.
    tail: u32,
}

impl Queues {
    /// With room for so many submissions; disabled, for the files alone, which entries name by their index, and for no
    /// operation but FUSE's command and read(2).
    pub(super) fn new(room: u32, files: &[RawFd]) -> io::Result<Self> {
        let flags = SETUP_SQE128 | SETUP_SINGLE_ISSUER | SETUP_R_DISABLED | SETUP_SUBMIT_ALL | SETUP_NO_SQARRAY;
        let mut params = Params { flags, ..Params::default() };
        // SAFETY: the kernel reads and writes `params`, whose size it knows.
        let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, room.next_power_of_two(), &raw mut params) };
        let number = RawFd::try_from(checked(made)?).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given this descriptor to the caller, which has it nowhere else.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        if params.features & FEATURE_SINGLE_MMAP == 0 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let Params { sq_entries, cq_entries, sq_off, cq_off, .. } = params;
        let rings = cq_off.cqes as usize + cq_entries as usize * size_of::<Completion>();
        let rings = Mapped::of(&fd, OFFSET_OF_RINGS, rings)?;
        let entries = Mapped::of(&fd, OFFSET_OF_ENTRIES, sq_entries as usize * size_of::<Submission>())?;
        let queues = Self {
            fd,
            rings,
            entries,
            submissions: sq_off,
            completions: cq_off,
            room: sq_entries,
            completion_room: cq_entries,
            tail: 0,
        };
        queues.register(REGISTER_FILES, files.as_ptr().cast(), files.len())?;
        queues.restrict()?;
        Ok(queues)
    }

    /// From now on entries may be submitted, by the calling thread alone.
    pub(super) fn enable(&self) -> io::Result<()> {
        self.register(REGISTER_ENABLE_RINGS, ptr::null(), 0)
    }

    fn restrict(&self) -> io::Result<()> {
        const OPERATION: u16 = 1;
        const FLAGS_ALLOWED: u16 = 2;
        const FLAGS_REQUIRED: u16 = 3;
        let rule = |kind, value| Restriction { kind, value, reserved: 0, more: [0; 3] };
        let rules = [
            rule(OPERATION, OP_URING_CMD),
            rule(OPERATION, OP_READ),
            rule(FLAGS_ALLOWED, FIXED_FILE),
            rule(FLAGS_REQUIRED, FIXED_FILE),
        ];
        self.register(REGISTER_RESTRICTIONS, rules.as_ptr().cast(), rules.len())
    }

    fn register(&self, what: libc::c_uint, argument: *const libc::c_void, count: usize) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: the argument is an array of `count` elements of the kind that `what` takes, or null with none, and
        // the kernel is done with it when the call returns.
        let done = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, what, argument, count) };
        checked(done).map(drop)
    }

    /// Adds an entry, which the next [`Queues::enter`] submits. False if there is no room.
    ///
    /// # Safety
    /// The memory that the entry names is nobody else's until its completion has come.
    pub(super) unsafe fn push(&mut self, submission: Submission) -> bool {
        if self.waiting() == self.room {
            return false;
        }
        let index = (self.tail & (self.room - 1)) as usize;
        // SAFETY: the index is below the number of entries that are mapped, and the kernel does not look at this one
        // before the tail has passed it.
        unsafe { self.entries.at::<Submission>(index * size_of::<Submission>()).write(submission) };
        self.tail = self.tail.wrapping_add(1);
        self.number(self.submissions.tail).store(self.tail, Ordering::Release);
        true
    }

    /// Entries that were added and not submitted.
    fn waiting(&self) -> u32 {
        self.tail.wrapping_sub(self.number(self.submissions.head).load(Ordering::Acquire))
    }

    /// Submits what was added, and waits for so many completions, or for so long. A signal ends it early.
    pub(super) fn enter(&mut self, completions: u32, longest: Option<Duration>) -> io::Result<()> {
        let (fd, submit) = (self.fd.as_raw_fd(), self.waiting());
        let time = longest.map(|longest| libc::timespec {
            tv_sec: longest.as_secs().cast_signed(),
            tv_nsec: longest.subsec_nanos().into(),
        });
        let wait =
            time.as_ref().map(|time| Wait { sigmask: 0, sigmask_size: 0, least: 0, time: ptr::from_ref(time) as u64 });
        let (flags, argument, size) = match &wait {
            None => (ENTER_GETEVENTS, ptr::null(), 0),
            Some(wait) => (ENTER_GETEVENTS | ENTER_EXT_ARG, ptr::from_ref(wait), size_of::<Wait>()),
        };
        // SAFETY: the argument and the time in it live until the call returns; what the entries name is as `push` says.
        let done = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, submit, completions, flags, argument, size) };
        match checked(done) {
            Ok(_) => Ok(()),
            // A signal, no memory just now, completions to be taken first, or the time is over.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The next completion that is there.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        let (head, tail) = (self.number(self.completions.head), self.number(self.completions.tail));
        let at = head.load(Ordering::Relaxed);
        if at == tail.load(Ordering::Acquire) {
            return None;
        }
        let index = (at & (self.completion_room - 1)) as usize;
        let offset = self.completions.cqes as usize + index * size_of::<Completion>();
        // SAFETY: the offset is that of one of the completions that are mapped, which the kernel has written (its tail
        // is beyond it) and does not write again before the head has passed it.
        let completion = unsafe { self.rings.at::<Completion>(offset).read() };
        head.store(at.wrapping_add(1), Ordering::Release);
        Some(completion)
    }

    /// Whether a completion is there.
    pub(super) fn is_ready(&self) -> bool {
        let head = self.number(self.completions.head).load(Ordering::Relaxed);
        head != self.number(self.completions.tail).load(Ordering::Acquire)
    }

    fn number(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel named the offset as that of such a number, and changes it as one.
        unsafe { AtomicU32::from_ptr(self.rings.at(offset as usize).as_ptr()) }
    }
}

/// Memory that was mapped, until it is dropped.
pub(super) struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory like any other; what is done with it is up to whoever has the value.
unsafe impl Send for Mapped {}

impl Mapped {
    fn of(fd: &OwnedFd, offset: u64, len: usize) -> io::Result<Self> {
        let (access, how) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: the kernel chooses where, so nothing that is there is replaced.
        let start = unsafe { mmap(ptr::null_mut(), len, access, how, fd.as_fd(), offset)? };
        Self::at_address(start, len)
    }

    /// Of nothing, and filled with zeros where it is touched first.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let (access, how) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: as above.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, access, how)? };
        Self::at_address(start, len)
    }

    fn at_address(start: *mut libc::c_void, len: usize) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("memory at address 0"))?;
        Ok(Self { start, len })
    }

    /// Has the pages from this offset on given back: they are zeros when they are touched next, and may be locked
    /// (mlockall(2)), as they may not for `MADV_DONTNEED`.
    pub(super) fn give_back(&mut self, from: usize) -> io::Result<()> {
        assert!(from <= self.len);
        // SAFETY: it is within the mapping, which is this value's alone, and nothing borrows from it.
        let done = unsafe { libc::madvise(self.start.add(from).as_ptr().cast(), self.len - from, DONTNEED_LOCKED) };
        checked(done.into()).map(drop)
    }

    /// Where what lies at this offset is.
    pub(super) fn at<T>(&self, offset: usize) -> NonNull<T> {
        assert!(offset + size_of::<T>() <= self.len && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: it is within the mapping.
        unsafe { self.start.add(offset) }.cast()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone, and nothing that borrows from it lives any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A call that a process may have given up.
#[cfg(debug_assertions)]
#[derive(Clone, Copy)]
pub enum Call {
    /// io_uring_setup(2).
    Setup,
    /// io_uring_register(2) of this.
    Register(u32),
    /// io_uring_enter(2).
    Enter,
}

/// How the call fails on no ring, for tests of what may be called. Builds without debug assertions, released ones among
/// them, do not have it.
#[cfg(debug_assertions)]
pub fn try_call(call: Call) -> io::Error {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: there is no such descriptor, and nothing at that address: the kernel refuses each before it does
    // anything.
    let done = unsafe {
        match call {
            Call::Setup => libc::syscall(libc::SYS_io_uring_setup, 1, nothing),
            Call::Register(what) => libc::syscall(libc::SYS_io_uring_register, -1, what, nothing, 0),
            Call::Enter => libc::syscall(libc::SYS_io_uring_enter, -1, 0, 0, 0, nothing, 0),
        }
    };
    checked(done).map_or_else(|error| error, |_| io::Error::other("it did not fail"))
}

fn checked(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
