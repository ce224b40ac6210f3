//! A thread with a ring: takes requests from it, has them run, and sends answers by it.

use super::decode::{self, Filling, Header, opcode};
use super::encode;
use super::reply::{Answered, Answers, Filled, To};
use super::waiting::{Queue, Turn, Waiting};
use crate::nodes::Numbers;
use crate::op::Request;
use crate::runner::Runner;
use kmsfs_sys::fuse_ring::{Entry, Event, Ring};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How long the kernel is waited for to give its entries back when the connection has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a ring's thread has.
pub(super) struct Served {
    pub ring: Ring,
    pub runner: Runner,
    pub numbers: Numbers,
    /// The user for whom alone this is mounted, unless it is for all.
    pub only: Option<u32>,
    /// All queues, by the numbers of their processors.
    pub queues: Arc<[Queue]>,
    pub answers: Answers,
    pub answered: Receiver<Answered>,
    /// Entries with a request that is being done, in their places.
    pub busy: Vec<Option<Busy>>,
}

/// A request that is being done.
pub(super) struct Busy {
    /// Not here while the answer is put into it.
    entry: Option<Entry>,
    _seek: Option<Turn>,
}

impl Served {
    /// Gives the entries to the kernel; it has taken all of them when this returns.
    pub(super) fn register(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.ring.enable()?;
        for (place, entry) in entries.into_iter().enumerate() {
            self.ring.register(place, entry)?;
        }
        self.ring.submit()?;
        // A request may be there already, if all others have registered theirs.
        self.take_events().and_then(|ended| ended.map_or(Ok(()), Err))
    }

    /// Until the connection ends.
    pub(super) fn serve(&mut self) -> io::Result<()> {
        loop {
            self.ring.wait()?;
            if let Some(end) = self.take_events()? {
                self.let_go();
                return if is_end(&end) { Ok(()) } else { Err(end) };
            }
        }
    }

    /// Does what the events ask for; returns why the kernel uses an entry no more.
    fn take_events(&mut self) -> io::Result<Option<io::Error>> {
        let mut end = None;
        while let Some(event) = self.ring.next_event() {
            match event {
                Event::Request(place, entry) => self.begin(place, entry),
                Event::Woken => {}
                Event::Ended(why) => end = end.or(Some(why)),
            }
            self.send_answers()?;
            // An answer does not wait for the next request to be done.
            if self.ring.is_ready() {
                self.ring.submit()?;
            }
        }
        Ok(end)
    }

    fn begin(&mut self, place: usize, mut entry: Entry) {
        let header = Header::of(entry.header());
        let Queue { seeks, asks } = &self.queues[usize::from(entry.queue())];
        let seek = if header.opcode == opcode::LSEEK { Waiting::begin(seeks) } else { None };
        let may_seek = header.opcode != opcode::LSEEK || seek.is_some();
        let mut busy = Busy { entry: None, _seek: seek };
        let refused = match () {
            () if self.only.is_some_and(|uid| uid != header.caller.uid) && !header.is_of_nobody() => Some(libc::EACCES),
            // ENOSYS has the kernel answer all such searches by itself from now on: a file is data up to its end, which
            // is true of every file.
            () if !may_seek => Some(libc::ENOSYS),
            () => None,
        };
        if let Some(errno) = refused {
            busy.entry = Some(entry);
            self.refuse(place, errno);
        } else if let Some(Filling { op, size }) = decode::filling(&header, entry.operation()) {
            let plus = header.opcode == opcode::READDIRPLUS;
            entry.will_fill(size);
            let filled = Filled { entry, most: size, listed: 0, plus };
            let request = Request { ino: self.numbers.ino(header.node), caller: header.caller, op };
            self.runner.run(request, To::new(place, Some(filled), self.numbers, &self.answers, asks));
        } else {
            let fs = &self.runner.mount().fs;
            let now = || fs.store().now();
            match decode::operation(&header, entry.operation(), entry.payload(), self.numbers, now) {
                Ok(op) => {
                    let request = Request { ino: self.numbers.ino(header.node), caller: header.caller, op };
                    self.runner.run(request, To::new(place, None, self.numbers, &self.answers, asks));
                }
                Err(errno) => self.refuse(place, errno),
            }
            busy.entry = Some(entry);
        }
        if let Some(slot) = self.busy.get_mut(place) {
            *slot = Some(busy);
        }
    }

    fn refuse(&self, place: usize, errno: i32) {
        self.answers.send(Answered { place, entry: None, listed: 0, answer: Err(errno) });
    }

    /// Gives the kernel what was answered, here or by other threads.
    fn send_answers(&mut self) -> io::Result<()> {
        while let Ok(Answered { place, entry, listed, answer }) = self.answered.try_recv() {
            let Some(busy) = self.busy.get_mut(place).and_then(Option::take) else { continue };
            let Some(mut entry) = entry.or(busy.entry) else { continue };
            let put = answer.and_then(|answer| {
                encode::answer(&answer, listed, self.numbers, entry.room()).ok_or_else(|| {
                    log::error!("a bug in kmsfs, answered with EIO: an answer that does not fit the request");
                    libc::EIO
                })
            });
            let (error, len) = put.map_or_else(|errno| (-errno, 0), |len| (0, len as u32));
            self.ring.commit(place, entry, error, len)?;
        }
        Ok(())
    }

    /// The connection has ended: waits until the kernel uses no entry any more, so that its end and this thread's do
    /// not meet.
    fn let_go(&mut self) {
        let start = Instant::now();
        while self.ring.has_given() && start.elapsed() < PATIENCE {
            if self.ring.wait_for(PATIENCE / 10).is_err() {
                return;
            }
            while self.ring.next_event().is_some() {}
        }
    }
}

/// Whether that is how a connection ends: it was unmounted, or aborted.
fn is_end(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV))
}
