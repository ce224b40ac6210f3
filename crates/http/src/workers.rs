//! The users' workers, as the front knows them: a connection to each, over which many requests are on their way at a
//! time.

use kmsfs_gateway::Body;
use kmsfs_gateway::wire::{self, Request, Response};
use kmsfs_s3::{Answer, Code, Error, Operation};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tokio::sync::{Semaphore, oneshot};

/// Requests that a user's worker has at a time; those that come meanwhile wait.
const AT_A_TIME: usize = 128;

/// All connections, by the users' uids.
#[derive(Default)]
pub(crate) struct Workers(Mutex<HashMap<u32, Arc<Worker>>>);

impl Workers {
    /// The connection to that user's worker, if there is one and it has not ended.
    pub(crate) fn get(&self, uid: u32) -> Option<Arc<Worker>> {
        self.0.lock().get(&uid).filter(|worker| worker.waiting.lock().is_some()).cloned()
    }

    /// Goes on with that connection, unless there is one by now.
    ///
    /// # Errors
    /// There cannot be another thread.
    pub(crate) fn put(&self, uid: u32, connection: OwnedFd) -> io::Result<Arc<Worker>> {
        if let Some(known) = self.get(uid) {
            return Ok(known);
        }
        let worker = Worker::start(UnixStream::from(connection))?;
        self.0.lock().insert(uid, Arc::clone(&worker));
        Ok(worker)
    }
}

type Answered = (Response, Option<OwnedFd>);

/// A connection to a worker. It ends when this is dropped.
pub(crate) struct Worker {
    socket: UnixStream,
    sending: Mutex<()>,
    /// Who waits for which answer; `None` when the connection has ended.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Answered>>>>,
    last: AtomicU64,
    room: Semaphore,
}

impl Worker {
    fn start(socket: UnixStream) -> io::Result<Arc<Self>> {
        let reading = socket.try_clone()?;
        let worker = Arc::new(Self {
            socket,
            sending: Mutex::default(),
            waiting: Mutex::new(Some(HashMap::new())),
            last: AtomicU64::new(0),
            room: Semaphore::new(AT_A_TIME),
        });
        let known = Arc::downgrade(&worker);
        let answers = move || {
            while let Ok(Some((number, response, descriptor))) = wire::receive::<Response>(&reading) {
                let Some(worker) = known.upgrade() else { return };
                let waiting = worker.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&number));
                if let Some(waiting) = waiting {
                    // Whoever asked may have gone meanwhile.
                    let _ = waiting.send((response, descriptor));
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

    /// Does an operation that has no body.
    pub(crate) async fn perform(&self, operation: Operation) -> Result<(Answer, Option<OwnedFd>), Error> {
        match self.ask(Request::Perform(Box::new(operation))).await? {
            (Response::Done(answer), descriptor) => Ok((*answer, descriptor)),
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

    async fn ask(&self, request: Request) -> Result<Answered, Error> {
        let gone =
            || Error::new(Code::ServiceUnavailable).saying("The worker of this user has ended. Please try again.");
        let _permit = self.room.acquire().await.map_err(|_| gone())?;
        let (tell, told) = oneshot::channel();
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().as_mut().ok_or_else(gone)?.insert(number, tell);
        if let Err(error) = self.send(number, &request) {
            log::error!("a worker cannot be asked: {error}");
            if let Some(waiting) = self.waiting.lock().as_mut() {
                waiting.remove(&number);
            }
            return Err(gone());
        }
        told.await.map_err(|_| gone())
    }

    fn send(&self, number: u64, request: &Request) -> io::Result<()> {
        let _sending = self.sending.lock();
        wire::send(&self.socket, number, request, None)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its thread ends by that.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
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
            // Nobody waits for its answer, which the worker may give when it likes.
            let number = self.worker.last.fetch_add(1, Ordering::Relaxed);
            let _ = self.worker.send(number, &Request::Abandon { upload });
        }
    }
}

fn out_of_turn() -> Error {
    log::error!("a worker answers what it was not asked");
    Error::new(Code::InternalError)
}
