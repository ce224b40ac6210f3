//! Over rings of io_uring, as Documentation/filesystems/fuse/fuse-io-uring.rst has them: a request is answered on the
//! processor on which it was made, and a thread waits for the next one by the same system call by which it answers.
//!
//! Each processor has a queue, with [`THREADS`] threads, pinned to it, of which each has a ring of [`ENTRIES`] entries.
//! The kernel gives a request to whichever entry was answered last, so one thread takes all while it is quick; while it
//! waits for a disk, the next one does. An entry whose request was handed to a worker is away until that is done, and
//! others are there for the next requests: all are registered before the first request, since one that is registered
//! later takes no request that is waiting already. What is forgotten or interrupted still comes over /dev/fuse, by
//! fuser, which has also agreed with the kernel that there are to be rings; and there notifications go.
//!
//! While there are rings every request needs them. So whatever goes wrong with one ends the connection: programs get an
//! error then, and would otherwise wait for ever.

mod decode;
mod encode;
mod reply;
mod support;
mod thread;
mod waiting;

pub use support::why_not;

use crate::codec::MAX_REQUEST;
use crate::nodes::Numbers;
use crate::runner::Runner;
use kmsfs_sys::fuse_ring::{Entry, KEPT, LARGE, Ring};
use reply::Answers;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use thread::Served;
use waiting::Queue;

/// Threads of each processor that is there.
const THREADS: usize = 4;
/// Entries of each of them: one, and others while workers, or those who ask a KMS, have some.
const ENTRIES: usize = 48;
/// Entries of each processor that is not there yet. One thread has those of all.
const SPARE_ENTRIES: usize = 16;
/// Requests that the kernel makes by itself, such as to read ahead, and may have under way at the same time.
const BACKGROUND: usize = 64;

/// Bytes that a mount's rings may take beside what it keeps: what entries keep while they wait, and long answers that
/// are read ahead.
pub fn memory_of_rings() -> usize {
    let processors = support::processors().map_or(1, |all| all.iter().filter(|(_, is_there)| *is_there).count());
    let each = THREADS * (ENTRIES * KEPT + LARGE * MAX_REQUEST as usize);
    processors * each + BACKGROUND * MAX_REQUEST as usize
}

/// Rings that nobody uses yet: made before the process may make none any more.
pub(crate) struct Rings {
    rings: Vec<Prepared>,
    abort: Arc<Abort>,
}

struct Prepared {
    ring: Ring,
    wake: Arc<OwnedFd>,
    entries: Vec<Entry>,
    queues: Arc<[Queue]>,
    processor: Option<u16>,
}

/// The file by which a connection is ended.
struct Abort(File);

impl Abort {
    fn abort(&self) {
        // Fails where the connection has ended.
        let _ = (&self.0).write_all(b"1");
    }
}

impl Rings {
    /// For a connection whose INIT has agreed on them; `abort`: its file in the file system of connections.
    pub(crate) fn new(device: BorrowedFd<'_>, abort: File) -> io::Result<Self> {
        let processors = support::processors()?;
        let entries = |(_, is_there): &(u16, bool)| if *is_there { THREADS * ENTRIES } else { SPARE_ENTRIES };
        let queues: Arc<[_]> = processors.iter().map(|processor| Queue::of(entries(processor))).collect();
        let (here, others): (Vec<_>, Vec<_>) = processors.into_iter().partition(|(_, is_there)| *is_there);
        let mut rings = Vec::new();
        for (queue, _) in here {
            for _ in 0..THREADS {
                rings.push(Prepared::new(device, &[queue; ENTRIES], Some(queue), &queues)?);
            }
        }
        let others: Vec<_> = others.into_iter().flat_map(|(queue, _)| [queue; SPARE_ENTRIES]).collect();
        if !others.is_empty() {
            // What each of these processors has when it comes.
            rings.push(Prepared::new(device, &others, None, &queues)?);
        }
        Ok(Self { rings, abort: Arc::new(Abort(abort)) })
    }

    /// Starts a thread for each ring. They serve when this returns; on an error the connection has ended.
    ///
    /// `only`: the user for whom alone this is mounted, unless it is for all.
    pub(crate) fn start(self, runner: &Runner, only: Option<u32>) -> io::Result<Serving> {
        let numbers = Numbers::of(&runner.mount().fs);
        let mut serving = Serving { threads: Vec::new(), abort: self.abort };
        let (ready, all) = channel();
        let count = self.rings.len();
        for prepared in self.rings {
            let abort = EndsWithIt(Arc::clone(&serving.abort));
            let (runner, ready) = (runner.clone(), ready.clone());
            let serve = move || {
                let _abort = abort;
                prepared.serve(runner, numbers, only, ready)
            };
            serving.threads.push(std::thread::Builder::new().name("kmsfs-ring".into()).spawn(serve)?);
        }
        drop(ready);
        for _ in 0..count {
            all.recv().unwrap_or_else(|_| Err(io::Error::other("a ring's thread ended")))?;
        }
        Ok(serving)
    }
}

impl Prepared {
    /// `entries`: for each its queue.
    fn new(device: BorrowedFd<'_>, entries: &[u16], processor: Option<u16>, queues: &Arc<[Queue]>) -> io::Result<Self> {
        use std::os::fd::AsFd;
        let wake = reply::wake()?;
        let ring = Ring::new(device, wake.as_fd(), entries.len())?;
        let entries =
            entries.iter().map(|queue| Entry::new(*queue, MAX_REQUEST as usize)).collect::<io::Result<_>>()?;
        Ok(Self { ring, wake, entries, queues: Arc::clone(queues), processor })
    }

    /// Until the connection ends. `ready` is told once the entries are registered.
    fn serve(
        self,
        runner: Runner,
        numbers: Numbers,
        only: Option<u32>,
        ready: Sender<io::Result<()>>,
    ) -> io::Result<()> {
        if let Some(processor) = self.processor {
            let mut set = CpuSet::new();
            set.set(processor.into());
            // Where this process may not run there, it does it from elsewhere.
            let _ = sched_setaffinity(None, &set);
        }
        let (sender, answered) = channel();
        let answers = Answers { sender, wake: self.wake, thread: std::thread::current().id() };
        let busy = std::iter::repeat_with(|| None).take(self.entries.len()).collect();
        let mut served =
            Served { ring: self.ring, runner, numbers, only, queues: self.queues, answers, answered, busy };
        let registered = served.register(self.entries);
        let failed = registered.is_err();
        let _ = ready.send(registered);
        drop(ready);
        if failed {
            return Ok(());
        }
        served.serve().inspect_err(|error| log::error!("a ring of io_uring failed, so the mount ends: {error}"))
    }
}

/// Ends the connection when a ring's thread ends, however that comes: what would be sent to it waits otherwise.
struct EndsWithIt(Arc<Abort>);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Threads that serve a mount. The connection ends if this is dropped.
pub(crate) struct Serving {
    threads: Vec<JoinHandle<io::Result<()>>>,
    abort: Arc<Abort>,
}

impl Serving {
    /// Waits until the connection has ended and no thread is left. `end_it`: has it end now.
    pub(crate) fn join(mut self, end_it: bool) -> io::Result<()> {
        if end_it {
            self.abort.abort();
        }
        let mut all = Ok(());
        for thread in self.threads.drain(..) {
            all = all.and(thread.join().unwrap_or_else(|_| Err(io::Error::other("a ring's thread panicked"))));
        }
        all
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
