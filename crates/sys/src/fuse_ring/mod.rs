//! FUSE over io_uring: rings by which requests come from the kernel and answers go back, as
//! Documentation/filesystems/fuse/fuse-io-uring.rst and linux/fuse.h have it.
//!
//! An [`Entry`] is memory for one request and its answer. Whoever has the value has the memory; while the kernel has it
//! there is no value. It is given to the kernel by [`Ring::register`], comes back with a request
//! ([`Event::Request`]), and goes again with its answer ([`Ring::commit`]).

mod queues;

#[cfg(debug_assertions)]
#[doc(hidden)]
pub use queues::{Call, try_call};
use queues::{FIXED_FILE, Mapped, OP_READ, OP_URING_CMD, Queues, Submission};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// `FUSE_IO_URING_CMD_REGISTER`: from now on the kernel has the entry.
const REGISTER: u64 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: here is the answer, and the kernel has the entry again.
const COMMIT_AND_FETCH: u64 = 2;

/// The beginning of an entry: `struct fuse_uring_req_header`, and where in it things are.
const IN_OUT: usize = 0;
const OPERATION: usize = 128;
/// Of `struct fuse_uring_ent_in_out`: by which number the kernel knows the request, and how long its payload is.
const COMMIT_ID: usize = 264;
const PAYLOAD_LENGTH: usize = 272;
const HEADERS: usize = 288;
/// Behind it, where the kernel reads where the two parts of the entry are: two `struct iovec`.
const PARTS: usize = 512;
/// The payload begins on a page of its own.
const PAYLOAD: usize = 4096;

/// Bytes of `struct fuse_in_header`.
pub const IN_HEADER: usize = 40;
/// Bytes that there are for an operation's own header.
pub const OPERATION_HEADER: usize = 128;

/// Indexes of a ring's files.
const DEVICE: i32 = 0;
const WAKE: i32 = 1;
/// `user_data` of the read that waits to be woken.
const WOKEN: u64 = u64::MAX;

/// What an entry keeps of its payload's memory while it waits for a request.
pub const KEPT: usize = 128 << 10;
/// Entries of a ring that keep more while they wait: the kernel uses first what was answered last, so these are the
/// ones that it uses again and again.
pub const LARGE: usize = 2;

/// Memory for one request of one queue, and for its answer. A page, and as much of the payload as was used and not
/// given back.
pub struct Entry {
    memory: Mapped,
    payload: usize,
    /// Bytes of the payload beyond which none was touched.
    touched: usize,
    queue: u16,
}

impl Entry {
    /// For a queue (the number of a processor), with so many bytes of payload at most.
    ///
    /// # Errors
    /// There is no memory, or no addresses for it.
    pub fn new(queue: u16, payload: usize) -> io::Result<Self> {
        Ok(Self { memory: Mapped::anonymous(PAYLOAD + payload)?, payload, touched: 0, queue })
    }

    /// The number of the processor whose requests it is for.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// The request's `struct fuse_in_header`.
    pub fn header(&self) -> &[u8; IN_HEADER] {
        // SAFETY: while there is this value the kernel does not touch the memory, and it is borrowed as the value is.
        unsafe { self.memory.at::<[u8; IN_HEADER]>(IN_OUT).as_ref() }
    }

    /// The header of the request's operation; what no operation has set is left from an earlier one.
    pub fn operation(&self) -> &[u8; OPERATION_HEADER] {
        // SAFETY: as above.
        unsafe { self.memory.at::<[u8; OPERATION_HEADER]>(OPERATION).as_ref() }
    }

    /// What came with the request beside its headers.
    pub fn payload(&self) -> &[u8] {
        // SAFETY: as above.
        let came = unsafe { self.memory.at::<u32>(PAYLOAD_LENGTH).read() };
        let len = (came as usize).min(self.payload);
        // SAFETY: as above; the length is at most that of the payload's memory.
        unsafe { std::slice::from_raw_parts(self.memory.at::<u8>(PAYLOAD).as_ptr(), len) }
    }

    /// Where the answer goes that is longer than its header.
    pub fn room(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory.at::<u8>(PAYLOAD).as_ptr(), self.payload) }
    }

    /// Says that so many bytes of the room will be written.
    pub fn will_fill(&mut self, len: usize) {
        self.touched = self.touched.max(len.min(self.payload));
    }

    fn is_large(&self) -> bool {
        self.touched > KEPT
    }

    /// Gives memory back, with what is in it, so that it has no more than an entry keeps.
    fn shrink(&mut self) {
        // What cannot be given back is used again.
        if self.memory.give_back(PAYLOAD + KEPT).is_ok() {
            self.touched = KEPT;
        }
    }

    fn commit_id(&self) -> u64 {
        // SAFETY: as above.
        unsafe { self.memory.at::<u64>(COMMIT_ID).read() }
    }

    /// Puts an answer's header there: no error, or a negative errno; and how many bytes of the room belong to it.
    fn put_answer(&mut self, error: i32, len: u32) {
        const OUT_HEADER: u32 = 16;
        // The request's number stays, which both headers have in the same place.
        // SAFETY: as above, and nothing borrows from the value now.
        unsafe {
            self.memory.at::<[u32; 2]>(IN_OUT).write([OUT_HEADER + len, error.cast_unsigned()]);
            self.memory.at::<u32>(PAYLOAD_LENGTH).write(len);
        }
    }

    /// Where the kernel reads where the parts are.
    fn parts(&mut self) -> u64 {
        let parts = [(IN_OUT, HEADERS), (PAYLOAD, self.payload)]
            .map(|(offset, len)| libc::iovec { iov_base: self.memory.at::<u8>(offset).as_ptr().cast(), iov_len: len });
        let place = self.memory.at::<[libc::iovec; 2]>(PARTS);
        // SAFETY: as above.
        unsafe { place.write(parts) };
        place.as_ptr() as u64
    }
}

/// What a ring says.
pub enum Event {
    /// A request, in the entry that was registered as this one.
    Request(usize, Entry),
    /// Somebody has written to the descriptor that wakes it.
    Woken,
    /// The kernel does not use the entry any more, or has not taken it.
    Ended(io::Error),
}

/// A ring, whose entries are given to the kernel and come back with requests. It can submit nothing but these and the
/// read by which it is woken, on no files but those two.
pub struct Ring {
    queues: Queues,
    /// What the kernel has, in their places.
    with_kernel: Vec<Option<Entry>>,
    /// What being woken reads; there for ever, as the kernel may write to it until the ring is gone.
    counter: &'static AtomicU64,
}

impl Ring {
    /// With places for so many entries. `device`: an open /dev/fuse whose INIT was answered; `wake`: an eventfd(2).
    /// Whoever calls [`Ring::enable`] uses it from then on, and nobody else can.
    ///
    /// # Errors
    /// The kernel has no io_uring or forbids it, or `RLIMIT_MEMLOCK` is too low.
    pub fn new(device: BorrowedFd<'_>, wake: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        // One more, to be woken.
        let room = u32::try_from(entries + 1).map_err(io::Error::other)?;
        let queues = Queues::new(room, &[device.as_raw_fd(), wake.as_raw_fd()])?;
        let with_kernel = std::iter::repeat_with(|| None).take(entries).collect();
        Ok(Self { queues, with_kernel, counter: Box::leak(Box::default()) })
    }

    /// To be called by the thread that uses it from now on.
    ///
    /// # Errors
    /// Somebody has done it before.
    pub fn enable(&mut self) -> io::Result<()> {
        self.queues.enable()?;
        self.wait_to_be_woken()
    }

    /// Gives an entry to the kernel, in this place, with the next [`Ring::submit`]. Whether it takes it is known then.
    ///
    /// # Errors
    /// There is no such place, or it has one.
    pub fn register(&mut self, place: usize, mut entry: Entry) -> io::Result<()> {
        let submission = Submission { address: entry.parts(), length: 2, ..of_fuse(REGISTER, place, entry.queue, 0) };
        self.give(place, entry, submission)
    }

    /// Gives the entry back with the answer to its request: no error, or a negative errno; and how many bytes of
    /// [`Entry::room`] belong to it.
    ///
    /// # Errors
    /// There is no such place, or it has one.
    pub fn commit(&mut self, place: usize, mut entry: Entry, error: i32, len: u32) -> io::Result<()> {
        entry.put_answer(error, len);
        entry.will_fill(len as usize);
        // A long answer has to stay until the kernel has taken it, and from then on the entry is the kernel's.
        let others = self.with_kernel.iter().flatten();
        if entry.is_large() && len as usize <= KEPT && others.filter(|other| other.is_large()).count() >= LARGE {
            entry.shrink();
        }
        let submission = of_fuse(COMMIT_AND_FETCH, place, entry.queue, entry.commit_id());
        self.give(place, entry, submission)
    }

    fn give(&mut self, place: usize, entry: Entry, submission: Submission) -> io::Result<()> {
        match self.with_kernel.get_mut(place) {
            Some(free @ None) => *free = Some(entry),
            _ => return Err(io::Error::other("no place for an entry")),
        }
        self.push(submission)
    }

    fn wait_to_be_woken(&mut self) -> io::Result<()> {
        let (address, length) = (self.counter.as_ptr() as u64, size_of::<u64>() as u32);
        let submission =
            Submission { opcode: OP_READ, file: WAKE, address, length, user_data: WOKEN, ..of_fuse(0, 0, 0, 0) };
        self.push(submission)
    }

    fn push(&mut self, submission: Submission) -> io::Result<()> {
        // SAFETY: what a command of FUSE names is an entry's memory, which `with_kernel` keeps until its completion has
        // come, or for ever; what the read names is there for ever.
        let has_room = unsafe { self.queues.push(submission) };
        // Each place has one entry at most under way.
        if has_room { Ok(()) } else { Err(io::Error::other("no room for an entry")) }
    }

    /// Submits what was given, and waits for an event.
    ///
    /// # Errors
    /// The ring cannot be used.
    pub fn wait(&mut self) -> io::Result<()> {
        self.queues.enter(u32::from(!self.queues.is_ready()), None)
    }

    /// Submits what was given, and waits for an event for so long at most.
    ///
    /// # Errors
    /// The ring cannot be used.
    pub fn wait_for(&mut self, longest: Duration) -> io::Result<()> {
        self.queues.enter(1, Some(longest))
    }

    /// Submits what was given, and waits for nothing. What the kernel does not take comes as an event at once.
    ///
    /// # Errors
    /// The ring cannot be used.
    pub fn submit(&mut self) -> io::Result<()> {
        self.queues.enter(0, None)
    }

    /// Whether there is an event.
    pub fn is_ready(&self) -> bool {
        self.queues.is_ready()
    }

    /// The next event that is there.
    pub fn next_event(&mut self) -> Option<Event> {
        let completion = self.queues.pop()?;
        if completion.user_data == WOKEN {
            return Some(match completion.result {
                0.. => self.wait_to_be_woken().map_or_else(Event::Ended, |()| Event::Woken),
                error if error == -libc::EINTR || error == -libc::EAGAIN => {
                    self.wait_to_be_woken().map_or_else(Event::Ended, |()| Event::Woken)
                }
                error => Event::Ended(io::Error::from_raw_os_error(-error)),
            });
        }
        let place = completion.user_data as usize;
        let entry = self.with_kernel.get_mut(place).and_then(Option::take);
        Some(match (completion.result, entry) {
            (0, Some(mut entry)) => {
                entry.will_fill(entry.payload().len());
                Event::Request(place, entry)
            }
            (0.., _) => Event::Ended(io::Error::other("a request in an entry that the kernel did not have")),
            (error, _) => Event::Ended(io::Error::from_raw_os_error(-error)),
        })
    }

    /// Whether the kernel has any entry.
    pub fn has_given(&self) -> bool {
        self.with_kernel.iter().any(Option::is_some)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may write to these until the ring is gone, which takes longer than closing it.
        for entry in self.with_kernel.drain(..).flatten() {
            std::mem::forget(entry);
        }
    }
}

/// A command of FUSE, as `struct fuse_uring_cmd_req` has it.
fn of_fuse(what: u64, place: usize, queue: u16, commit_id: u64) -> Submission {
    let mut command = [0; 10];
    command[1] = commit_id;
    command[2] = u64::from(queue);
    Submission {
        opcode: OP_URING_CMD,
        flags: FIXED_FILE,
        ioprio: 0,
        file: DEVICE,
        // The lower half is the command. (All architectures that kmsfs has a filter of system calls for are
        // little-endian.)
        offset: what,
        address: 0,
        length: 0,
        op_flags: 0,
        user_data: place as u64,
        buffer: 0,
        personality: 0,
        file_index: 0,
        command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// What the kernel would have put there.
    fn with_request(entry: &mut Entry, commit_id: u64, payload: &[u8]) {
        entry.room()[..payload.len()].copy_from_slice(payload);
        // SAFETY: the memory is this test's.
        unsafe {
            entry.memory.at::<[u8; IN_HEADER]>(IN_OUT).write([7; IN_HEADER]);
            entry.memory.at::<u64>(COMMIT_ID).write(commit_id);
            entry.memory.at::<u32>(PAYLOAD_LENGTH).write(payload.len() as u32);
        }
    }

    #[test]
    fn an_entry_says_what_came_and_takes_the_answer() {
        let mut entry = Entry::new(3, 8192).unwrap();
        with_request(&mut entry, 0x1122_3344_5566_7788, b"name\0");
        assert_eq!((entry.queue(), entry.header()[39], entry.payload()), (3, 7, &b"name\0"[..]));
        assert_eq!(entry.commit_id(), 0x1122_3344_5566_7788);
        assert_eq!(entry.room().len(), 8192);
        entry.put_answer(-libc::ENOENT, 24);
        let header = entry.header();
        assert_eq!(header[..4], 40_u32.to_ne_bytes());
        assert_eq!(header[4..8], (-libc::ENOENT).to_ne_bytes());
        assert_eq!(header[8..16], [7; 8], "the request's number");
        assert_eq!(entry.commit_id(), 0x1122_3344_5566_7788);
        assert_eq!(entry.payload().len(), 24);
    }

    #[test]
    fn a_payload_is_never_longer_than_its_room() {
        let mut entry = Entry::new(0, 4096).unwrap();
        with_request(&mut entry, 1, b"");
        // SAFETY: the memory is this test's.
        unsafe { entry.memory.at::<u32>(PAYLOAD_LENGTH).write(u32::MAX) };
        assert_eq!(entry.payload().len(), 4096);
    }

    #[test]
    fn an_entry_gives_back_what_it_does_not_keep_also_where_it_is_locked() {
        let mut entry = Entry::new(0, 2 * KEPT).unwrap();
        // SAFETY: the memory is this test's, and locking it changes nothing in it.
        let locked = unsafe { rustix::mm::mlock(entry.memory.at::<u8>(0).as_ptr().cast(), PAYLOAD + 2 * KEPT) };
        if let Err(error) = locked {
            eprintln!("not locked: {error}");
        }
        entry.room().fill(7);
        with_request(&mut entry, 5, &[7; 9]);
        entry.will_fill(usize::MAX);
        assert!(entry.is_large());
        entry.shrink();
        assert!(!entry.is_large());
        assert_eq!((entry.commit_id(), entry.payload()), (5, &[7; 9][..]));
        let room = entry.room();
        assert!(room[..KEPT].iter().all(|byte| *byte == 7) && room[KEPT..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_ring_keeps_few_entries_large() {
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let device = std::fs::File::open("/dev/zero").unwrap();
        let Ok(mut ring) = Ring::new(device.as_fd(), wake.as_fd(), LARGE + 3) else {
            eprintln!("not run: there is no io_uring here");
            return;
        };
        // Nothing is submitted, so that all of them stay with the ring.
        for place in 0..LARGE + 2 {
            let mut entry = Entry::new(0, 2 * KEPT).unwrap();
            entry.will_fill(2 * KEPT);
            ring.commit(place, entry, 0, 16).unwrap();
        }
        let mut entry = Entry::new(0, 2 * KEPT).unwrap();
        entry.room().fill(7);
        ring.commit(LARGE + 2, entry, 0, 2 * KEPT as u32).unwrap();
        let large = |place: usize| ring.with_kernel[place].as_ref().unwrap().is_large();
        let all: Vec<_> = (0..LARGE + 3).map(large).collect();
        assert_eq!(all, [true, true, false, false, true], "and none loses an answer that the kernel has not taken");
        let answered = ring.with_kernel[LARGE + 2].as_mut().unwrap();
        assert!(answered.room().iter().all(|byte| *byte == 7));
    }

    /// Of a file that knows no command of FUSE: the ring works, and what is refused comes as an event.
    #[test]
    fn a_ring_is_woken_and_says_what_the_kernel_does_not_take() {
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let device = std::fs::File::open("/dev/zero").unwrap();
        let mut ring = match Ring::new(device.as_fd(), wake.as_fd(), 2) {
            Ok(ring) => ring,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EINVAL)) => {
                eprintln!("not run: there is no io_uring here: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        ring.enable().unwrap();
        rustix::io::write(&wake, &1_u64.to_ne_bytes()).unwrap();
        ring.wait().unwrap();
        assert!(matches!(ring.next_event(), Some(Event::Woken)));
        rustix::io::write(&wake, &1_u64.to_ne_bytes()).unwrap();
        ring.wait().unwrap();
        assert!(matches!(ring.next_event(), Some(Event::Woken)), "it waits again");
        ring.register(1, Entry::new(0, 4096).unwrap()).unwrap();
        assert!(ring.register(1, Entry::new(0, 4096).unwrap()).is_err(), "the place is taken");
        assert!(ring.register(2, Entry::new(0, 4096).unwrap()).is_err(), "there is no such place");
        ring.submit().unwrap();
        assert!(matches!(ring.next_event(), Some(Event::Ended(_))));
        assert!(!ring.has_given());
        ring.wait_for(Duration::from_millis(1)).unwrap();
        assert!(ring.next_event().is_none());
    }
}
