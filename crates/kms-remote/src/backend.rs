//! The other side: what a provider's process does.

use crate::protocol::{Call, Malformed, Reply, Request, Response, Trace, VERSION, read_frame};
use kmsfs_kms::{Code, Error};
use kmsfs_locks::{Mutex, ranks};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What speaks to a KMS that is elsewhere.
pub trait Backend: Send + Sync {
    /// Which one it is.
    fn identity(&self) -> Identity;

    /// Carries out a call; `Hello` never comes here. What takes longer than `timeout` nobody waits for any more. The
    /// trace is for the audit trail: the KMS's own number of the request and how often it was tried.
    ///
    /// # Errors
    ///
    /// A refusal only if the KMS has refused: whatever else is wrong is an outage (`Error::is_outage`), since refusals
    /// take open files away.
    fn call(&self, call: &Call, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error>;
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `vault`, `aws`, `pkcs11`, or what a program calls itself.
    pub provider: String,
    /// Where the KMS is, for people.
    pub endpoint: String,
}

/// Serves what comes over the stream until that ends, so many calls at a time.
///
/// # Errors
///
/// Reading or writing failed, or what came is no request (`InvalidData`): nothing after it can be understood either.
pub fn serve<R, W>(reader: R, writer: W, backend: Arc<dyn Backend>, threads: usize) -> io::Result<()>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let ends = Arc::new(Ends { reader: Mutex::new(Some(reader)), writer: Mutex::new(writer), backend });
    let work = |ends: Arc<Ends<R, W>>| move || ends.work();
    let others: Vec<_> = (1..threads)
        .map(|_| thread::Builder::new().name("kmsfs-provider".into()).spawn(work(Arc::clone(&ends))))
        .collect::<io::Result<_>>()?;
    let mut result = ends.work();
    for other in others {
        let ended = other.join().unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")));
        result = result.and(ended);
    }
    result
}

/// Whose turn it is to read reads one frame, and lets the next one read while it carries that out: what nobody is free
/// for stays with whoever asks.
struct Ends<R, W> {
    /// `None` once it has ended.
    reader: Mutex<ranks::ProviderReading, Option<R>>,
    writer: Mutex<ranks::ProviderWriting, W>,
    backend: Arc<dyn Backend>,
}

impl<R: Read, W: Write> Ends<R, W> {
    fn work(&self) -> io::Result<()> {
        while let Some(request) = self.next()? {
            let response = self.respond(request);
            let too_long = |Malformed(text)| Response {
                id: response.id,
                outcome: Err(Error::new(Code::KmsInternal, text)),
                trace: response.trace.clone(),
            };
            let frame = response.frame().or_else(|error| too_long(error).frame());
            frame.map_err(invalid)?.write(&mut *self.writer.lock())?;
        }
        Ok(())
    }

    fn next(&self) -> io::Result<Option<Result<Request, crate::protocol::Refused>>> {
        let mut turn = self.reader.lock();
        let Some(reader) = &mut *turn else { return Ok(None) };
        let read =
            read_frame(reader).and_then(|json| json.map(|json| Request::parse(&json).map_err(invalid)).transpose());
        if !matches!(read, Ok(Some(_))) {
            *turn = None;
        }
        read
    }

    fn respond(&self, request: Result<Request, crate::protocol::Refused>) -> Response {
        let (since, mut trace) = (Instant::now(), Trace { attempts: 1, ..Trace::default() });
        let (id, outcome) = match request {
            Err(refused) => (refused.id, Err(refused.error)),
            Ok(Request { id, call: Call::Hello { .. }, .. }) => {
                let Identity { provider, endpoint } = self.backend.identity();
                (id, Ok(Reply::Hello { version: VERSION, provider, endpoint }))
            }
            Ok(Request { id, timeout, call }) => {
                let made = catch_unwind(AssertUnwindSafe(|| self.backend.call(&call, timeout, &mut trace)));
                let failed = |_| Err(Error::new(Code::KmsInternal, "the provider failed: this is a bug"));
                (id, made.unwrap_or_else(failed))
            }
        };
        trace.milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Response { id, outcome, trace }
    }
}

fn invalid(Malformed(text): Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Frame, Incoming, Verb};
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

    /// Two calls of DescribeKey end only together; Status panics.
    struct Pair(Barrier);

    impl Backend for Pair {
        fn identity(&self) -> Identity {
            Identity { provider: "pair".into(), endpoint: "here".into() }
        }

        fn call(&self, call: &Call, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
            assert_eq!(timeout, Duration::from_secs(9));
            match call {
                Call::DescribeKey { key_id } => {
                    self.0.wait();
                    trace.request_id = Some(format!("r-{key_id}"));
                    Ok(Reply::Key { key_id: key_id.clone(), key_state: "Enabled".into(), description: None })
                }
                Call::Status => panic!("as a bug would"),
                Call::Encrypt { key_id, .. } => {
                    Ok(Reply::Encrypted { key_id: key_id.clone(), ciphertext_blob: vec![0; 1 << 20] })
                }
                _ => Err(Error::new(Code::AccessDenied, "no")),
            }
        }
    }

    fn send(stream: &mut UnixStream, id: u64, call: Call) {
        Request { id, timeout: Duration::from_secs(9), call }.frame().unwrap().write(stream).unwrap();
    }

    fn receive(stream: &mut UnixStream, verb: Verb) -> Response {
        let json = read_frame(stream).unwrap().expect("a response");
        Incoming::parse(&json).unwrap().read(verb).unwrap()
    }

    fn start() -> (UnixStream, thread::JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writer = theirs.try_clone().unwrap();
        (ours, thread::spawn(move || serve(theirs, writer, Arc::new(Pair(Barrier::new(2))), 2)))
    }

    #[test]
    fn calls_are_carried_out_side_by_side_and_answered_by_their_numbers() {
        let (mut stream, serving) = start();
        send(&mut stream, 1, Call::hello());
        let hello = receive(&mut stream, Verb::Hello).outcome.unwrap();
        assert!(matches!(hello, Reply::Hello { version: 1, provider, .. } if provider == "pair"));
        send(&mut stream, 2, Call::DescribeKey { key_id: "a".into() });
        send(&mut stream, 3, Call::DescribeKey { key_id: "b".into() });
        let mut both: Vec<_> = (0..2).map(|_| receive(&mut stream, Verb::DescribeKey)).collect();
        both.sort_by_key(|response| response.id);
        let ids = both.iter().map(|response| (response.id, response.trace.request_id.clone().unwrap()));
        assert_eq!(ids.collect::<Vec<_>>(), [(2, "r-a".to_owned()), (3, "r-b".to_owned())]);
        drop(stream);
        serving.join().unwrap().unwrap();
    }

    #[test]
    fn what_fails_is_answered_and_the_next_call_is_served() {
        let (mut stream, serving) = start();
        send(&mut stream, 1, Call::Status);
        assert!(receive(&mut stream, Verb::Status).outcome.err().unwrap().is_outage());
        Frame::new(&serde_json::json!({"id": 2, "operation": "Sign"})).unwrap().write(&mut stream).unwrap();
        assert_eq!(receive(&mut stream, Verb::Status).outcome.err().unwrap().code, Code::UnsupportedOperation);
        let (key_id, plaintext, context) = ("k".to_owned(), vec![1].into(), [].into());
        send(&mut stream, 3, Call::Encrypt { key_id, plaintext, context });
        assert!(receive(&mut stream, Verb::Encrypt).outcome.err().unwrap().is_outage(), "too long for a frame");
        send(&mut stream, 4, Call::Decrypt { key_id: "k".into(), ciphertext_blob: vec![1], context: [].into() });
        let denied = receive(&mut stream, Verb::Decrypt);
        assert_eq!((denied.id, denied.outcome.err().unwrap().code), (4, Code::AccessDenied));
        drop(stream);
        serving.join().unwrap().unwrap();
    }

    #[test]
    fn it_ends_at_what_is_no_request() {
        let (mut stream, serving) = start();
        Frame::new(&"not a request").unwrap().write(&mut stream).unwrap();
        assert_eq!(serving.join().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
