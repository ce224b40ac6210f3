//! Where answers go: to the thread whose ring has brought the request, which alone can send them.

use super::encode;
use super::waiting::{Turn, Waiting};
use crate::answer::{self, Answer, Listed, Room};
use crate::nodes::Numbers;
use kmsfs_fs::Result;
use kmsfs_sys::fuse_ring::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, ThreadId};

/// An answer on its way to the ring's thread.
pub(super) struct Answered {
    /// Which of the ring's entries brought the request.
    pub place: usize,
    /// The entry, if the answer was put into it.
    pub entry: Option<Entry>,
    /// Bytes of names that were listed there.
    pub listed: usize,
    pub answer: std::result::Result<Answer, i32>,
}

/// The way to a ring's thread.
#[derive(Clone)]
pub(super) struct Answers {
    pub sender: Sender<Answered>,
    /// Wakes the thread.
    pub wake: Arc<OwnedFd>,
    pub thread: ThreadId,
}

impl Answers {
    pub(super) fn send(&self, answered: Answered) {
        // A thread that is gone has ended the connection, so nobody waits for this.
        if self.sender.send(answered).is_ok() && thread::current().id() != self.thread {
            while rustix::io::write(&self.wake, &1_u64.to_ne_bytes()) == Err(rustix::io::Errno::INTR) {}
        }
    }
}

/// The reply to a request of a ring.
pub(super) struct To {
    place: usize,
    room: Option<Filled>,
    numbers: Numbers,
    answers: Answers,
    /// Those of its queue that wait for a KMS, and its turn, if it is one of them.
    asks: Arc<Waiting>,
    turn: Option<Turn>,
    is_sent: bool,
}

/// An entry that the answer is put into while it is made.
pub(super) struct Filled {
    pub entry: Entry,
    /// Bytes that the caller has room for.
    pub most: usize,
    pub listed: usize,
    /// Whether names are listed with what looking them up found.
    pub plus: bool,
}

impl To {
    pub(super) fn new(
        place: usize,
        room: Option<Filled>,
        numbers: Numbers,
        answers: &Answers,
        asks: &Arc<Waiting>,
    ) -> Self {
        Self { place, room, numbers, answers: answers.clone(), asks: Arc::clone(asks), turn: None, is_sent: false }
    }

    fn put(&mut self, answer: std::result::Result<Answer, i32>) {
        let (entry, listed) = self.room.take().map_or((None, 0), |room| (Some(room.entry), room.listed));
        self.is_sent = true;
        self.turn = None;
        self.answers.send(Answered { place: self.place, entry, listed, answer });
    }
}

impl Room for To {
    fn fill(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        let room = self.room.as_mut().and_then(|room| room.entry.room().get_mut(..len));
        fill(room.ok_or(kmsfs_store::Error::Errno(libc::EIO))?)
    }

    fn list(&mut self, name: &Listed<'_>) -> bool {
        let Some(Filled { entry, most, listed, plus }) = &mut self.room else { return false };
        let room = entry.room();
        let most = (*most).min(room.len());
        let done = encode::name(name, *plus, self.numbers, &mut room[..most], *listed);
        *listed = done.unwrap_or(*listed);
        done.is_some()
    }
}

impl answer::Reply for To {
    fn may_wait_for_kms(&mut self) -> std::result::Result<(), i32> {
        if self.turn.is_none() {
            self.turn = Some(Waiting::begin(&self.asks).ok_or(libc::EIO)?);
        }
        Ok(())
    }

    fn send(mut self, answer: std::result::Result<Answer, i32>) {
        self.put(answer);
    }
}

impl Drop for To {
    fn drop(&mut self) {
        // Whoever was to answer has panicked.
        if !self.is_sent {
            self.put(Err(libc::EIO));
        }
    }
}

/// The descriptor that wakes a ring's thread.
pub(super) fn wake() -> io::Result<Arc<OwnedFd>> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?))
}
