//! The way to a provider: calls by their numbers over one stream, which is made anew when it has ended.

use crate::Identity;
use crate::protocol::{Call, Frame, Incoming, Malformed, Reply, Request, Response, VERSION, Verb, read_frame};
use kmsfs_kms::deadline::{self, Deadline};
use kmsfs_kms::{Code, Error};
use kmsfs_locks::{Condvar, Mutex, ranks};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Has a provider started, a new one in place of any before, and returns the stream to it.
pub type Connect = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// How often whoever reads looks whether it is to go on.
const LOOK: Duration = Duration::from_millis(500);
/// Calls that were given up and that a provider may answer still.
const MOST_GIVEN_UP: usize = 4096;
/// A call that was given up is forgotten after so many times the patience.
const FORGOTTEN: u32 = 2;

pub(crate) struct Channel(Arc<Shared>);

/// Why there is no reply.
pub(crate) enum Missed {
    /// Nobody can be asked.
    Unreached(Error),
    /// The provider has ended before it answered.
    Ended(Error),
    /// It was asked, and this is what came of it.
    Asked(Error),
    /// It was not asked: there were too many others, or it cannot be said.
    Unasked(Error),
}

impl Missed {
    pub(crate) fn into_error(self) -> Error {
        let (Self::Unreached(error) | Self::Ended(error) | Self::Asked(error) | Self::Unasked(error)) = self;
        error
    }
}

struct Shared {
    connect: Connect,
    /// For how long a provider that is asked may say nothing at all.
    patience: Duration,
    /// Calls at a time.
    most: usize,
    state: Mutex<ranks::ProviderCalls, State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Of the last call.
    number: u64,
    connection: Option<Connection>,
    connecting: bool,
    /// How often a connection could not be made, or has ended, and why last.
    endings: u64,
    why: String,
    waiting: HashMap<u64, Waiting>,
    /// What comes of calls up to this one is of no interest: nobody has waited for it for long.
    forgotten: u64,
    busy: usize,
    /// Calls that wait for a place.
    queued: usize,
    /// How many of these are about each key.
    of_keys: HashMap<String, usize>,
    identity: Option<Identity>,
    closed: bool,
}

struct Connection {
    stream: Arc<Mutex<ranks::ProviderWriting, UnixStream>>,
    /// When something came last.
    heard: Instant,
    /// It is to be ended, and why.
    wrong: Option<String>,
}

/// A call that has no response yet.
struct Waiting {
    verb: Verb,
    since: Instant,
    /// `None` once nobody waits.
    tell: Option<Sender<Result<Response, Missed>>>,
}

impl Channel {
    pub(crate) fn new(connect: Connect, patience: Duration, most: usize) -> Self {
        Self(Arc::new(Shared { connect, patience, most, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Makes the call, and waits for what comes of it until then. Calls about one key take no more than half of the
    /// places, so that a key of which nothing comes leaves others theirs.
    pub(crate) fn call(&self, call: &Call, deadline: Deadline) -> Result<Response, Missed> {
        let _place = self.take_place(call.key_id(), deadline).map_err(Missed::Unasked)?;
        let stream = self.connection(deadline).map_err(Missed::Unreached)?;
        let (tell, told) = channel();
        let id = {
            let mut state = self.0.state.lock();
            state.number += 1;
            let id = state.number;
            state.waiting.insert(id, Waiting { verb: call.verb(), since: Instant::now(), tell: Some(tell) });
            id
        };
        let frame = Request { id, timeout: deadline.left(), call: call.clone() }.frame();
        let too_long = |Malformed(text)| Missed::Unasked(Error::new(Code::Validation, text));
        let sent = frame.map_err(too_long).and_then(|frame| {
            send(&stream, &frame, deadline).map_err(|unsent| match unsent {
                Unsent::NotBegun => Missed::Asked(deadline::missed()),
                Unsent::Failed(error) => {
                    // Half a frame may have gone: what follows could not be understood.
                    self.0.give_up_on(format!("it takes nothing: {error}"));
                    Missed::Asked(away(&error.to_string()))
                }
            })
        });
        if let Err(missed) = sent {
            self.0.state.lock().waiting.remove(&id);
            return Err(missed);
        }
        told.recv_timeout(deadline.left()).unwrap_or_else(|_| {
            if let Some(waiting) = self.0.state.lock().waiting.get_mut(&id) {
                waiting.tell = None;
            }
            Err(Missed::Asked(deadline::missed()))
        })
    }

    /// What came makes no sense: the connection ends.
    pub(crate) fn give_up_on(&self, why: String) {
        self.0.give_up_on(why);
    }

    /// Who is there, as far as it has said so.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.0.state.lock().identity.clone()
    }

    /// Calls that are being made, and calls that wait until others are made.
    pub(crate) fn busy(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        (state.busy, state.queued)
    }

    fn take_place<'a>(&'a self, key_id: Option<&'a str>, deadline: Deadline) -> Result<Place<'a>, Error> {
        let (most, most_of_key) = (self.0.most, (self.0.most / 2).max(1));
        let mut state = self.0.state.lock();
        let is_full = |state: &State| {
            let of_key = key_id.and_then(|key_id| state.of_keys.get(key_id)).copied().unwrap_or_default();
            state.busy >= most || of_key >= most_of_key
        };
        while is_full(&state) {
            if deadline.has_passed() {
                return Err(deadline::missed());
            }
            state.queued += 1;
            self.0.changed.wait_for(&mut state, deadline.left());
            state.queued -= 1;
        }
        state.busy += 1;
        if let Some(key_id) = key_id {
            *state.of_keys.entry(key_id.to_owned()).or_default() += 1;
        }
        Ok(Place(&self.0, key_id))
    }

    fn connection(&self, deadline: Deadline) -> Result<Arc<Mutex<ranks::ProviderWriting, UnixStream>>, Error> {
        let mut state = self.0.state.lock();
        let endings = state.endings;
        loop {
            if let Some(Connection { stream, wrong: None, .. }) = &state.connection {
                return Ok(Arc::clone(stream));
            }
            if state.endings != endings {
                return Err(away(&state.why));
            }
            if deadline.has_passed() {
                return Err(deadline::missed());
            }
            if !state.connecting && state.connection.is_none() {
                let shared = Arc::clone(&self.0);
                let reading = thread::Builder::new().name("kmsfs-provider".into()).spawn(move || shared.run());
                reading.map_err(|error| away(&error.to_string()))?;
                state.connecting = true;
            }
            self.0.changed.wait_for(&mut state, deadline.left());
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
    }
}

/// One of the calls that are made at a time.
struct Place<'a>(&'a Shared, Option<&'a str>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.busy -= 1;
        if let Some(of_key) = self.1.and_then(|key_id| state.of_keys.get_mut(key_id)) {
            *of_key -= 1;
            state.of_keys.retain(|_, of_key| *of_key > 0);
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// A connection, from its beginning to its end.
    fn run(&self) {
        let ended = self.connect_and_read();
        let mut state = self.state.lock();
        (state.connection, state.connecting) = (None, false);
        state.endings += 1;
        state.why = ended.to_string();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        for tell in waiting.into_values().filter_map(|waiting| waiting.tell) {
            let _ = tell.send(Err(Missed::Ended(away(&ended.to_string()))));
        }
    }

    fn connect_and_read(&self) -> io::Error {
        let mut reader = match (self.connect)().and_then(|stream| self.say_hello(stream)) {
            Ok(reader) => reader,
            Err(error) => return error,
        };
        loop {
            let taken = read_frame(&mut reader).and_then(|json| {
                let json = json.ok_or_else(|| io::Error::other("it has ended"))?;
                self.take(&json).map_err(|Malformed(text)| io::Error::new(io::ErrorKind::InvalidData, text))
            });
            if let Err(error) = taken {
                return error;
            }
        }
    }

    fn say_hello(&self, stream: UnixStream) -> io::Result<Reader<'_>> {
        let invalid = |Malformed(text)| io::Error::new(io::ErrorKind::InvalidData, text);
        let mut reader = Reader { shared: self, stream: stream.try_clone()?, since: Instant::now() };
        let stream = Mutex::new(stream);
        let hello = Request { id: 0, timeout: self.patience, call: Call::hello() };
        send(&stream, &hello.frame().map_err(invalid)?, Deadline::after(self.patience)).map_err(
            |unsent| match unsent {
                Unsent::NotBegun => io::ErrorKind::TimedOut.into(),
                Unsent::Failed(error) => error,
            },
        )?;
        let json = read_frame(&mut reader)?.ok_or_else(|| io::Error::other("it has ended at once"))?;
        let said = Incoming::parse(&json).and_then(|response| match response.id {
            0 => response.read(Verb::Hello),
            id => Err(Malformed(format!("a response to call {id}, which is none"))),
        });
        let identity = match said.map_err(invalid)?.outcome {
            Ok(Reply::Hello { version: VERSION, provider, endpoint }) => Identity { provider, endpoint },
            Ok(_) => return Err(invalid(Malformed(format!("it speaks another version than {VERSION}")))),
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        let mut state = self.state.lock();
        state.identity = Some(identity);
        state.connecting = false;
        state.connection = Some(Connection { stream: Arc::new(stream), heard: Instant::now(), wrong: None });
        drop(state);
        self.changed.notify_all();
        Ok(reader)
    }

    fn take(&self, json: &[u8]) -> Result<(), Malformed> {
        let response = Incoming::parse(json)?;
        let (waiting, is_forgotten) = {
            let mut state = self.state.lock();
            if let Some(connection) = &mut state.connection {
                connection.heard = Instant::now();
            }
            (state.waiting.remove(&response.id), response.id <= state.forgotten)
        };
        let id = response.id;
        if waiting.is_none() && is_forgotten {
            return Ok(());
        }
        let waiting = waiting.ok_or_else(|| Malformed(format!("a response to call {id}, which is none")))?;
        match (response.read(waiting.verb), waiting.tell) {
            (Ok(response), Some(tell)) => {
                let _ = tell.send(Ok(response));
                Ok(())
            }
            (Ok(_), None) => Ok(()),
            (Err(malformed), tell) => {
                if let Some(tell) = tell {
                    let _ = tell.send(Err(Missed::Asked(away(&malformed.0))));
                }
                Err(malformed)
            }
        }
    }

    fn give_up_on(&self, why: String) {
        if let Some(connection) = &mut self.state.lock().connection {
            connection.wrong.get_or_insert(why);
        }
    }

    /// Why reading is to end, if it is.
    fn look(&self, since: Instant) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(io::Error::other("it is no longer asked"));
        }
        let Some(Connection { heard, wrong, .. }) = &state.connection else {
            return if since.elapsed() > self.patience { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) };
        };
        if let Some(why) = wrong {
            return Err(io::Error::new(io::ErrorKind::InvalidData, why.clone()));
        }
        let oldest = state.waiting.values().map(|waiting| waiting.since).min();
        let silent = oldest.is_some_and(|oldest| heard.max(&oldest).elapsed() > self.patience);
        if silent || state.waiting.len() > MOST_GIVEN_UP {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
        }
        // What a provider that answers others never answers does not stay for ever.
        let long = self.patience * FORGOTTEN;
        let is_old = |waiting: &Waiting| waiting.tell.is_none() && waiting.since.elapsed() > long;
        let forgotten = state.waiting.extract_if(|_, waiting| is_old(waiting)).map(|(id, _)| id).max();
        state.forgotten = forgotten.map_or(state.forgotten, |id| id.max(state.forgotten));
        Ok(())
    }
}

/// Reads, and looks now and then whether it is to go on.
struct Reader<'a> {
    shared: &'a Shared,
    stream: UnixStream,
    since: Instant,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.shared.look(self.since)?;
            if is_ready(&self.stream, PollFlags::IN, LOOK)? {
                return self.stream.read(buffer);
            }
        }
    }
}

/// Why a frame did not go.
enum Unsent {
    /// There was no room for it in time: that is all, for others who have more time.
    NotBegun,
    Failed(io::Error),
}

/// Writes it as soon as there is room for a frame, however long it is.
fn send(stream: &Mutex<ranks::ProviderWriting, UnixStream>, frame: &Frame, deadline: Deadline) -> Result<(), Unsent> {
    let mut stream = stream.lock_until(deadline.instant()).ok_or(Unsent::NotBegun)?;
    // The kernel says so of a stream of this kind only while most of its buffer is free: writing does not wait then.
    while !is_ready(&stream, PollFlags::OUT, deadline.left()).map_err(Unsent::Failed)? {
        if deadline.has_passed() {
            return Err(Unsent::NotBegun);
        }
    }
    frame.write(&mut *stream).map_err(Unsent::Failed)
}

fn is_ready(stream: &UnixStream, what: PollFlags, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    match poll(&mut [PollFd::new(stream, what)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn away(why: &str) -> Error {
    Error::new(Code::KeyUnavailable, format!("The KMS that keeps the key cannot be asked: {why}."))
}
