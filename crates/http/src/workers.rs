//! The users' workers, as the front knows them: a connection to each, over which many requests are on their way at a
//! time.
//!
//! Nobody waits here for a worker but those who ask it: what is sent to one that does not read waits in a queue of its
//! own, and each answer has its time.

use crate::outbox::Outbox;
use crate::turns::Turns;
use kmsfs_gateway::Body;
use kmsfs_gateway::wire::{self, Request, Response};
use kmsfs_s3::operation::PutObject;
use kmsfs_s3::{Answer, Code, Error, Operation};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Requests that a user's worker has at a time; those that come meanwhile wait.
const AT_A_TIME: usize = 128;
/// How long they wait.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);
/// For an answer; what is to be changed is withdrawn then.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same, where the bytes of objects are copied before there is one.
const LONG_PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

/// What the front has of each user, by uid.
pub(crate) struct Users {
    known: Mutex<HashMap<u32, Arc<User>>>,
    /// How long a connection is asked for something new: what a user may do is looked up for each.
    lifetime: Duration,
}

/// A user's part of what all have together, and the connection to the worker.
pub(crate) struct User {
    worker: Mutex<Option<Arc<Worker>>>,
    /// Held by whoever makes a connection.
    pub(crate) connecting: tokio::sync::Mutex<()>,
    pub(crate) turns: Turns,
    lifetime: Duration,
}

impl Users {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { known: Mutex::default(), lifetime }
    }

    pub(crate) fn user(&self, uid: u32) -> Arc<User> {
        let new = || Arc::new(User::new(self.lifetime));
        Arc::clone(self.known.lock().entry(uid).or_insert_with(new))
    }

    /// Ends connections that are asked for nothing new, as soon as those that use them are done.
    pub(crate) fn retire(&self) {
        let users: Vec<_> = self.known.lock().values().cloned().collect();
        for user in users {
            user.worker.lock().take_if(|worker| !worker.is_fresh(user.lifetime));
        }
    }
}

impl User {
    fn new(lifetime: Duration) -> Self {
        Self { worker: Mutex::default(), connecting: tokio::sync::Mutex::default(), turns: Turns::default(), lifetime }
    }

    /// The connection to the worker, if there is one that has not ended and may be asked.
    pub(crate) fn worker(&self) -> Option<Arc<Worker>> {
        self.worker.lock().as_ref().filter(|worker| worker.is_fresh(self.lifetime)).cloned()
    }

    /// Goes on with that connection.
    ///
    /// # Errors
    /// There cannot be another thread.
    pub(crate) fn connect(&self, connection: OwnedFd) -> io::Result<Arc<Worker>> {
        let worker = Worker::start(UnixStream::from(connection), self.turns.clone())?;
        *self.worker.lock() = Some(Arc::clone(&worker));
        Ok(worker)
    }
}

type Answered = (Response, Option<OwnedFd>);

/// A connection to a worker. It ends when this is dropped.
pub(crate) struct Worker {
    /// With no more in it than requests that have room, and uploads that are given up.
    outbox: Arc<Outbox>,
    /// Who waits for which answer; `None` when the connection has ended.
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    last: AtomicU64,
    room: Arc<Semaphore>,
    since: Instant,
    /// Of the user.
    pub(crate) turns: Turns,
}

struct Waiting {
    tell: oneshot::Sender<Answered>,
    /// Also where nobody waits any more: the worker has it to do all the same.
    _room: OwnedSemaphorePermit,
}

impl Worker {
    fn start(socket: UnixStream, turns: Turns) -> io::Result<Arc<Self>> {
        let reading = socket.try_clone()?;
        let worker = Arc::new(Self {
            outbox: Outbox::new(socket),
            waiting: Mutex::new(Some(HashMap::new())),
            last: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(AT_A_TIME)),
            since: Instant::now(),
            turns,
        });
        let known = Arc::downgrade(&worker);
        let answers = move || {
            while let Ok(Some((number, response, descriptor))) = wire::receive::<Response>(&reading) {
                let Some(worker) = known.upgrade() else { return };
                let Some(waiting) = worker.forget(number) else { continue };
                // Whoever asked may have gone meanwhile.
                if let Err((Response::Begun { upload, .. }, _)) = waiting.tell.send((response, descriptor)) {
                    worker.abandon(upload);
                }
            }
            if let Some(worker) = known.upgrade() {
                // Whoever waits is told by the end of the channel.
                *worker.waiting.lock() = None;
            }
        };
        thread::Builder::new().name("kmsfs-answers".into()).spawn(answers)?;
        Ok(worker)
    }

    fn is_fresh(&self, lifetime: Duration) -> bool {
        self.since.elapsed() < lifetime && self.waiting.lock().is_some()
    }

    /// Does an operation that has no body.
    pub(crate) async fn perform(&self, operation: Operation) -> Result<(Answer, Option<OwnedFd>), Error> {
        match self.ask(Request::Perform(Box::new(operation))).await? {
            (Response::Done(answer), descriptor) => Ok((*answer, descriptor)),
            (Response::Refused(error), _) => Err(error),
            _ => Err(out_of_turn()),
        }
    }

    /// Puts a short object, of which all is known.
    pub(crate) async fn put(&self, put: PutObject, content: Vec<u8>, body: Body) -> Result<Answer, Error> {
        match self.ask(Request::Put { put: Box::new(put), content, body }).await? {
            (Response::Done(answer), _) => Ok(*answer),
            (Response::Refused(error), _) => Err(error),
            _ => Err(out_of_turn()),
        }
    }

    /// Begins an operation that has a body. What comes of it is abandoned if it is dropped.
    pub(crate) async fn begin(self: &Arc<Self>, operation: Operation) -> Result<(Begun, OwnedFd), Error> {
        match self.ask(Request::Begin(Box::new(operation))).await? {
            (Response::Begun { upload, wants_md5 }, Some(file)) => {
                Ok((Begun { worker: Arc::clone(self), upload: Some(upload), wants_md5 }, file))
            }
            (Response::Refused(error), _) => Err(error),
            _ => Err(out_of_turn()),
        }
    }

    /// What is asked for is withdrawn if this is dropped, or has taken too long, before there is an answer.
    async fn ask(&self, request: Request) -> Result<Answered, Error> {
        self.ask_within(patience_for(&request), request).await
    }

    async fn ask_within(&self, patience: Duration, request: Request) -> Result<Answered, Error> {
        let room = timeout(ROOM_PATIENCE, Arc::clone(&self.room).acquire_owned()).await;
        let room = room.map_err(|_| Error::new(Code::SlowDown))?.map_err(|_| gone())?;
        let (tell, told) = oneshot::channel();
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().as_mut().ok_or_else(gone)?.insert(number, Waiting { tell, _room: room });
        let mut asked = Asked { worker: self, number, told: Some(told) };
        if let Err(error) = self.send(number, &request) {
            log::error!("a worker cannot be asked: {error}");
            asked.told = None;
            drop(self.forget(number));
            return Err(gone());
        }
        if let Ok(answered) = timeout(patience, asked.answer()).await {
            return answered;
        }
        if !may_change(&request) {
            return Err(late());
        }
        asked.withdraw();
        // Nobody is told that it failed before that is so.
        match timeout(LONG_PATIENCE, asked.answer()).await {
            Ok(Ok((Response::Refused(_), _))) | Err(_) => Err(late()),
            Ok(answered) => answered,
        }
    }

    /// Nobody waits for the answer, which the worker may give when it likes.
    fn abandon(&self, upload: u64) {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let _ = self.send(number, &Request::Abandon { upload });
    }

    fn send(&self, number: u64, request: &Request) -> io::Result<()> {
        self.outbox.send(wire::frame(number, request, false)?)
    }

    fn forget(&self, number: u64) -> Option<Waiting> {
        self.waiting.lock().as_mut()?.remove(&number)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its thread ends by that.
        self.outbox.end();
    }
}

/// A request that is on its way. If it is dropped, the worker is not to do it any more; what it has begun by then is
/// abandoned.
struct Asked<'a> {
    worker: &'a Worker,
    number: u64,
    /// `None` once there is an answer.
    told: Option<oneshot::Receiver<Answered>>,
}

impl Asked<'_> {
    async fn answer(&mut self) -> Result<Answered, Error> {
        let told = self.told.as_mut().ok_or_else(out_of_turn)?;
        let answered = told.await;
        self.told = None;
        answered.map_err(|_| gone())
    }

    fn withdraw(&self) {
        let _ = self.worker.send(self.number, &Request::Withdraw { number: self.number });
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(told) = &mut self.told else { return };
        // From here on whoever brings an answer finds that nobody takes it; it may have come just before.
        told.close();
        match told.try_recv() {
            Ok((Response::Begun { upload, .. }, _)) => self.worker.abandon(upload),
            Ok(_) => {}
            Err(_) => self.withdraw(),
        }
    }
}

/// Whether something is another thing afterwards that others see.
fn may_change(request: &Request) -> bool {
    match request {
        Request::Perform(operation) => !operation.only_reads(),
        Request::Put { .. } | Request::Finish { .. } => true,
        Request::Begin(_) | Request::Abandon { .. } | Request::Withdraw { .. } => false,
    }
}

fn patience_for(request: &Request) -> Duration {
    match request {
        Request::Perform(operation) => match **operation {
            Operation::CopyObject(_)
            | Operation::UploadPartCopy(_)
            | Operation::CompleteMultipartUpload(_)
            | Operation::UpdateObjectEncryption(_) => LONG_PATIENCE,
            _ => PATIENCE,
        },
        Request::Finish { .. } => LONG_PATIENCE,
        _ => PATIENCE,
    }
}

fn gone() -> Error {
    Error::new(Code::ServiceUnavailable).saying("The worker of this user has ended. Please try again.")
}

fn late() -> Error {
    Error::new(Code::ServiceUnavailable).saying("The worker of this user does not answer. Please try again.")
}

/// An upload that was begun: it is finished, or abandoned when it is dropped.
pub(crate) struct Begun {
    worker: Arc<Worker>,
    upload: Option<u64>,
    pub(crate) wants_md5: bool,
}

impl Begun {
    pub(crate) async fn finish(mut self, body: Body) -> Result<Answer, Error> {
        let Some(upload) = self.upload.take() else { return Err(out_of_turn()) };
        match self.worker.ask(Request::Finish { upload, body }).await? {
            (Response::Done(answer), _) => Ok(*answer),
            (Response::Refused(error), _) => Err(error),
            _ => Err(out_of_turn()),
        }
    }

    /// Returns when nothing is left of it, or the worker has gone, which comes to the same.
    pub(crate) async fn abandon(mut self) {
        if let Some(upload) = self.upload.take() {
            let _ = self.worker.ask(Request::Abandon { upload }).await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.worker.abandon(upload);
        }
    }
}

fn out_of_turn() -> Error {
    log::error!("a worker answers what it was not asked");
    Error::new(Code::InternalError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_s3::operation::{DeleteBucket, HeadBucket};
    use kmsfs_sse::BucketName;
    use std::future::Future;

    const SOON: Duration = Duration::from_millis(20);

    fn connected() -> (Arc<Worker>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Worker::start(ours, Turns::default()).unwrap(), theirs)
    }

    fn run<T>(of: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(of)
    }

    fn delete() -> Request {
        Request::Perform(Box::new(DeleteBucket { bucket: BucketName::parse("bucket").unwrap() }.into()))
    }

    fn head() -> Request {
        Request::Perform(Box::new(HeadBucket { bucket: BucketName::parse("bucket").unwrap() }.into()))
    }

    #[track_caller]
    fn receive(worker: &UnixStream) -> (u64, Request) {
        let (number, request, _) = wire::receive(worker).unwrap().expect("a request");
        (number, request)
    }

    fn respond(worker: &UnixStream, number: u64, response: &Response) {
        wire::send(worker, number, response, None).unwrap();
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_withdrawn() {
        let (worker, theirs) = connected();
        run(async {
            assert!(timeout(SOON, worker.ask(delete())).await.is_err());
        });
        let (number, request) = receive(&theirs);
        assert_eq!(request, delete());
        assert_eq!(receive(&theirs).1, Request::Withdraw { number });
    }

    #[test]
    fn nobody_is_told_that_a_change_failed_before_that_is_so() {
        let done = || Response::Done(Box::new(Answer::Done));
        let refused = || Response::Refused(Error::new(Code::RequestTimeout));
        for (request, response, told) in [
            (delete(), Some(done()), Ok(done())),
            (delete(), Some(refused()), Err(Code::ServiceUnavailable)),
            (head(), None, Err(Code::ServiceUnavailable)),
        ] {
            let (worker, theirs) = connected();
            let answering = thread::spawn(move || {
                let (number, _) = receive(&theirs);
                assert_eq!(receive(&theirs).1, Request::Withdraw { number });
                if let Some(response) = response {
                    respond(&theirs, number, &response);
                }
                theirs
            });
            let answered = run(worker.ask_within(SOON, request)).map(|(response, _)| response);
            assert_eq!(answered.map_err(|error| error.code().clone()), told);
            drop(answering.join().unwrap());
        }
    }

    /// The answer is there, and whoever asked is gone before it is looked at.
    #[test]
    fn an_upload_that_is_begun_just_before_its_client_goes_is_abandoned() {
        let (worker, theirs) = connected();
        run(async {
            let mut asking = Box::pin(worker.ask(head()));
            assert!(timeout(Duration::ZERO, &mut asking).await.is_err());
            let (number, _) = receive(&theirs);
            respond(&theirs, number, &Response::Begun { upload: 7, wants_md5: false });
            while worker.waiting.lock().as_ref().is_some_and(|waiting| !waiting.is_empty()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // It is taken out before it is told.
            tokio::time::sleep(SOON).await;
        });
        assert_eq!(receive(&theirs).1, Request::Abandon { upload: 7 });
    }

    #[test]
    fn an_upload_that_is_begun_for_nobody_is_abandoned() {
        let (worker, theirs) = connected();
        run(async {
            assert!(timeout(SOON, worker.ask(head())).await.is_err());
        });
        let (number, _) = receive(&theirs);
        assert_eq!(receive(&theirs).1, Request::Withdraw { number });
        respond(&theirs, number, &Response::Begun { upload: 7, wants_md5: false });
        assert_eq!(receive(&theirs).1, Request::Abandon { upload: 7 });
    }
}
