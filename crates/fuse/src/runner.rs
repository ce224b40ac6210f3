//! Runs requests: what has to be done around each of them is done here, once.

use super::answer::{Answer, Reply, Room};
use super::crew::Crew;
use super::errno::errno;
use super::nodes::by_number::ByNumber;
use super::op::{Op, Request};
use super::perform::Mount;
use kmsfs_fs::{Ino, Result};
use kmsfs_kms::deadline::Deadline;
use kmsfs_kms::{Waits, WouldWait, waits};
use std::sync::{Arc, OnceLock};

/// Has the kernel write what it holds of an inode, and waits for that: for event loops and workers to take it.
pub(crate) type WriteBack = Box<dyn Fn(Ino) + Send + Sync>;

/// Runs the requests of one mount, for whatever transport carries them.
#[derive(Clone)]
pub(crate) struct Runner(Arc<Shared>);

struct Shared {
    mount: Mount,
    crew: Arc<Crew>,
    by_number: ByNumber,
    /// Set once the kernel can be told something.
    write_back: OnceLock<WriteBack>,
}

impl Runner {
    pub(crate) fn new(mount: Mount, crew: Arc<Crew>) -> Self {
        Self(Arc::new(Shared { mount, crew, by_number: ByNumber::default(), write_back: OnceLock::new() }))
    }

    pub(crate) fn mount(&self) -> &Mount {
        &self.0.mount
    }

    pub(crate) fn write_back_by(&self, write_back: WriteBack) {
        let _ = self.0.write_back.set(write_back);
    }

    /// Has a request answered: at once, unless it would have to wait, since whoever calls takes other requests
    /// meanwhile.
    pub(crate) fn run<R: Reply>(&self, request: Request<'_>, reply: R) {
        let fs = &self.mount().fs;
        if matches!(request.op, Op::Find | Op::FindAbove) {
            self.find(request.into_owned(), reply);
        } else if request.is_after_write_back(fs) {
            self.run_written_back(request.into_owned(), reply);
        } else {
            self.begin(request, reply);
        }
    }

    fn begin<R: Reply>(&self, request: Request<'_>, reply: R) {
        match request.waits(&self.mount().fs) {
            Waits::Nothing => self.serve(Waits::Nothing, request, reply),
            what => self.hand_over(what, request.into_owned(), reply),
        }
    }

    /// Does it on this thread, which waits for so much at most.
    fn serve<R: Reply>(&self, most: Waits, request: Request<'_>, mut reply: R) {
        if matches!(request.op, Op::Release { .. }) {
            // Nobody waits for what comes of it.
            reply.send(Ok(Answer::Done));
            let _ = self.0.counted((request.ino, &request.op), || self.mount().perform(&request, &mut Nowhere));
            return;
        }
        match waits::within(most, || {
            self.0.counted((request.ino, &request.op), || self.mount().perform(&request, &mut reply))
        }) {
            Ok(answer) => reply.send(answer),
            Err(WouldWait(what)) => self.hand_over(what, request.into_owned(), reply),
        }
    }

    /// Has it done by a thread that may wait for that. For the KMS the request waits from now on, and no longer than
    /// until its deadline, however often it asks and whatever it waits for before it comes to that.
    fn hand_over<R: Reply>(&self, what: Waits, request: Request<'static>, mut reply: R) {
        let deadline = if what == Waits::Kms { self.mount().fs.store().keys().deadline() } else { None };
        if deadline.is_some()
            && let Err(errno) = reply.may_wait_for_kms()
        {
            return reply.send(Err(errno));
        }
        let (runner, ino) = (self.clone(), request.ino);
        let job = move || {
            let _running = deadline.map(Deadline::begin);
            runner.serve(what, request, reply);
        };
        self.0.crew.waiting_for(what, deadline.is_some()).run(ino, Box::new(job));
    }

    /// Has the kernel write first what it holds of the inode: from neither an event loop nor a worker, since these take
    /// that.
    fn run_written_back<R: Reply>(&self, request: Request<'static>, reply: R) {
        let (runner, ino) = (self.clone(), request.ino);
        let job = move || {
            if let Some(write_back) = runner.0.write_back.get() {
                write_back(ino);
            }
            runner.begin(request, reply);
        };
        self.0.crew.seekers.run(ino, Box::new(job));
    }

    /// Answers once the inode is found, which may take a walk of the whole tree.
    fn find<R: Reply>(&self, request: Request<'static>, reply: R) {
        let shared = &self.0;
        let number = match request.op {
            Op::FindAbove => shared.mount.fs.above(request.ino),
            _ => Ok(request.ino),
        };
        let ino = match number {
            Ok(ino) => ino,
            Err(error) => return reply.send(shared.answer((request.ino, &request.op), Err(error))),
        };
        let waiting = shared.clone();
        let found =
            move |found: Result<_>| reply.send(waiting.answer((request.ino, &request.op), found.map(Answer::Entry)));
        if shared.by_number.wait(ino, Box::new(found)) {
            let shared = shared.clone();
            let search = move || {
                // It asks for what lengths need that a crash left in doubt.
                let _running = shared.mount.fs.store().keys().begin();
                shared.by_number.search(&shared.mount.fs);
            };
            self.0.crew.waiting_for(Waits::Disk, false).run(ino, Box::new(search));
        }
    }
}

impl Shared {
    /// Of what was done by a thread that may wait for everything.
    fn answer(&self, about: (Ino, &Op<'_>), done: Result<Answer>) -> std::result::Result<Answer, i32> {
        self.counted(about, || done).unwrap_or_else(|wait| Err(errno(&wait.into())))
    }

    /// Of what it is about, for whoever has to find it; the root is the empty path.
    fn path(&self, ino: Ino, op: &Op<'_>) -> Option<String> {
        let mut path = self.mount.fs.path(ino)?;
        path.extend(op.name());
        Some(path.to_string_lossy().into_owned())
    }

    fn counted(
        &self,
        (ino, op): (Ino, &Op<'_>),
        act: impl FnOnce() -> Result<Answer>,
    ) -> std::result::Result<std::result::Result<Answer, i32>, WouldWait> {
        self.mount.statistics.attempt(op, || self.path(ino, op), act)
    }
}

/// Of a request that has been answered.
struct Nowhere;

impl Room for Nowhere {
    fn fill(&mut self, _len: usize, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        fill(&mut [])
    }

    fn list(&mut self, _name: &super::answer::Listed<'_>) -> bool {
        false
    }
}
