//! A worker's connection: requests are done side by side by a fixed number of threads. One more receives them, and has
//! nothing else to do: what is withdrawn is so at once, whatever the others wait for.

use crate::wire::{Request, Response, receive, send};
use crate::withdrawn::{self, Standing};
use crate::{Upload, Worker};
use kmsfs_s3::{Code, Error};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Requests that are done at once.
const THREADS: usize = 32;
/// Those that have come meanwhile; whoever asks bounds them to fewer, and all others wait in the socket.
const WAITING: usize = 256;
/// Uploads that are begun and not finished, at most: each has an open file.
const MOST_UPLOADS: usize = 4096;

/// Does what is asked for over `socket` until the other side ends the connection. Uploads that are not finished then
/// are abandoned. After `lifetime` nothing new is begun, since what the user may do can be another matter by then: a
/// connection has the groups that were looked up for it.
///
/// # Errors
/// What comes is none of [`crate::wire`]'s requests, or the socket fails.
pub fn serve(worker: &Worker, socket: &UnixStream, lifetime: Duration) -> io::Result<()> {
    let (hand_on, requests) = sync_channel(WAITING);
    let connection = Connection {
        worker,
        socket,
        requests: Mutex::new(requests),
        sending: Mutex::default(),
        underway: Mutex::default(),
        uploads: Mutex::default(),
        last: AtomicU64::new(0),
        until: Instant::now().checked_add(lifetime),
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, || connection.run());
        let threads: Vec<_> =
            (0..THREADS).map(spawn).collect::<Result<_, _>>().inspect_err(|_| drop(Ending(socket)))?;
        let received = connection.receive(&hand_on);
        // All that was received is done, and the threads end by that.
        drop(hand_on);
        let ends = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))));
        ends.fold(received, Result::and)
    })
}

type Received = (u64, Request, Standing);

struct Connection<'a> {
    worker: &'a Worker,
    socket: &'a UnixStream,
    /// Locked by the thread that waits for the next one.
    requests: Mutex<Receiver<Received>>,
    /// Frames are sent one after the other.
    sending: Mutex<()>,
    /// Requests that are being done, by their numbers.
    underway: Mutex<HashMap<u64, Standing>>,
    uploads: Mutex<HashMap<u64, Upload>>,
    last: AtomicU64,
    until: Option<Instant>,
}

/// Ends the connection when it is dropped, by a panic too.
struct Ending<'a>(&'a UnixStream);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connection<'_> {
    /// One request after the other, each by whichever thread is free. Where one of them fails, the others get to the
    /// end of the connection too.
    fn run(&self) -> io::Result<()> {
        let ending = Ending(self.socket);
        while let Some((number, request, standing)) = self.next() {
            self.respond(number, request, &standing)?;
        }
        // Others may be about to respond still.
        std::mem::forget(ending);
        Ok(())
    }

    fn next(&self) -> Option<Received> {
        self.requests.lock().recv().ok()
    }

    /// All requests to the end of the connection. What is withdrawn is so before anything behind it is received.
    fn receive(&self, hand_on: &SyncSender<Received>) -> io::Result<()> {
        let ending = Ending(self.socket);
        while let Some((number, request, descriptor)) = receive(self.socket)? {
            if descriptor.is_some() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a request has no descriptor"));
            }
            if let Request::Withdraw { number } = request {
                if let Some(standing) = self.underway.lock().get(&number) {
                    standing.withdraw();
                }
                continue;
            }
            let standing = Standing::default();
            self.underway.lock().insert(number, standing.clone());
            if hand_on.send((number, request, standing)).is_err() {
                return Ok(());
            }
        }
        // Others may be about to respond still.
        std::mem::forget(ending);
        Ok(())
    }

    fn respond(&self, number: u64, request: Request, standing: &Standing) -> io::Result<()> {
        // A mistake of ours is the end of one request.
        let handled = catch_unwind(AssertUnwindSafe(|| standing.within(|| self.handle(request))));
        self.underway.lock().remove(&number);
        let handled = handled.unwrap_or_else(|_| Err(Error::new(Code::InternalError)));
        let (response, descriptor) = handled.unwrap_or_else(|error| (Response::Refused(error), None));
        let _sending = self.sending.lock();
        match send(self.socket, number, &response, descriptor.as_deref().map(AsFd::as_fd)) {
            // Nothing of it was sent: it is too long.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                send(self.socket, number, &Response::Refused(Error::new(Code::InternalError)), None)
            }
            sent => sent,
        }
    }

    fn handle(&self, request: Request) -> Result<(Response, Option<Arc<OwnedFd>>), Error> {
        withdrawn::check().or_else(|withdrawn| match request {
            // Nothing is to be left of it.
            Request::Abandon { .. } => Ok(()),
            Request::Finish { upload, .. } => self.take(upload).and(Err(withdrawn)),
            _ => Err(withdrawn),
        })?;
        match request {
            Request::Perform(_) | Request::Begin(_) | Request::Put { .. }
                if self.until.is_some_and(|until| until < Instant::now()) =>
            {
                Err(Error::new(Code::ServiceUnavailable).saying("This connection is over. Please try again."))
            }
            Request::Perform(operation) => {
                let (answer, descriptor) = self.worker.perform(&operation)?;
                Ok((Response::Done(Box::new(answer)), descriptor.map(Arc::new)))
            }
            Request::Begin(operation) => {
                if self.uploads.lock().len() >= MOST_UPLOADS {
                    return Err(Error::new(Code::SlowDown));
                }
                let begun = self.worker.begin(*operation)?;
                withdrawn::check()?;
                let upload = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                self.uploads.lock().insert(upload, begun.upload);
                Ok((Response::Begun { upload, wants_md5: begun.wants_md5 }, Some(begun.file)))
            }
            Request::Put { put, content, body } => {
                Ok((Response::Done(Box::new(self.worker.put(*put, &content, &body)?)), None))
            }
            Request::Finish { upload, body } => {
                let upload = self.take(upload)?;
                Ok((Response::Done(Box::new(upload.finish(&body)?)), None))
            }
            Request::Withdraw { .. } => Err(Error::new(Code::InternalError)),
            Request::Abandon { upload } => {
                drop(self.take(upload)?);
                Ok((Response::Abandoned, None))
            }
        }
    }

    fn take(&self, upload: u64) -> Result<Upload, Error> {
        let taken = self.uploads.lock().remove(&upload);
        taken.ok_or_else(|| Error::new(Code::InternalError).saying("There is no such upload on this connection."))
    }
}
