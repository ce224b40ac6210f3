//! Processes that do for the serving one what it may no longer do itself.
//!
//! Each begins anew as a program and before a secret is read, so it has nothing of what this process's memory holds. It
//! learns once, at its start, what it is for; from then on it is asked, over channels of one question and one answer at
//! a time. It ends with the process that started it.

pub mod broker;
pub mod keeper;
pub mod metrics;

use broker::Broker;
use keeper::Keeper;
use kmsfs_sys::Signals;
use metrics::Metrics;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketFlags, SocketType, recv, recvmsg, sendmsg, shutdown, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use zeroize::{Zeroize as _, Zeroizing};

/// Most bytes of a message; the kernel's default for sockets of this kind has room for it.
const LONGEST: usize = 128 << 10;
/// What a terminal or a service manager sends to all that belong together: the serving process decides, and they end
/// with it.
const OF_A_TERMINAL: [libc::c_int; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
/// Most descriptors that a helper is given.
const MOST: usize = 32;

/// All of them, for one mount.
pub struct Helpers {
    pub keeper: Keeper,
    pub broker: Arc<Broker>,
    /// Where somebody is told how the mount is.
    pub metrics: Option<Metrics>,
}

impl Helpers {
    /// Waits until all of them can be asked.
    pub fn expect_ready(&self) -> io::Result<()> {
        self.keeper.expect_ready()?;
        self.metrics.as_ref().map_or(Ok(()), Metrics::expect_ready)?;
        self.broker.expect_ready()
    }
}

/// What a helper process is for: its own side.
pub trait Duty: Send + Sync + Sized + 'static {
    /// The process's only argument, which nobody else should give.
    const WORD: &'static str;

    /// What it is given at its start, as JSON of up to [`LONGEST`] bytes.
    type About: Serialize + DeserializeOwned;

    /// Whether it writes to standard error of whoever started it.
    const TELLS: bool = false;

    /// How many descriptors it is given beside its channels.
    fn given(_about: &Self::About) -> usize {
        0
    }

    /// Before there is a second thread; gives up what the duty does not take.
    fn begin(about: Self::About, given: Vec<OwnedFd>) -> Self;

    /// Handles one question; called from one thread for each channel.
    fn obey(&self, verb: u8, what: &[u8]) -> io::Result<Answer>;

    /// Asked now and then: whether nobody is there to serve, although the lifeline has not ended.
    fn is_orphaned(&self) -> bool {
        false
    }

    /// The last thing that the process does.
    fn end(&self) {}
}

/// A started helper. It ends when this is dropped, here and in every process that was forked since.
pub struct Helper {
    lifeline: OwnedFd,
    pub channels: Vec<Channel>,
}

impl Helper {
    /// Starts this program for that duty.
    pub fn start<D: Duty>(about: &D::About, channels: usize) -> io::Result<Self> {
        Self::start_with::<D>(about, channels, &[])
    }

    /// With descriptors that it goes on to use, as many as [`Duty::given`] says.
    pub fn start_with<D: Duty>(about: &D::About, channels: usize, given: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let (lifeline, theirs) = pair()?;
        Command::new("/proc/self/exe")
            .arg(D::WORD)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/local/bin")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(if D::TELLS { Stdio::inherit() } else { Stdio::null() })
            .spawn()?;
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (0..channels).map(|_| pair()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let theirs: Vec<_> = theirs.iter().map(AsFd::as_fd).chain(given.iter().copied()).collect();
        send_with(&lifeline, &Zeroizing::new(serde_json::to_vec(about)?), &theirs)?;
        Ok(Self { lifeline, channels: ours.into_iter().map(Channel::new).collect() })
    }

    /// Waits until it is ready on all channels. To be called once only. The error is that of a thread that could not be
    /// made.
    pub fn expect_ready(&self) -> io::Result<()> {
        let mut errno = [0; size_of::<i32>()];
        match retry_on_intr(|| read(&self.lifeline, &mut errno))? {
            0 => Err(gone()),
            _ => match i32::from_le_bytes(errno) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            },
        }
    }

    /// Tells it to end, and does not wait for that.
    pub fn tell_to_end(&self) {
        let _ = shutdown(&self.lifeline, Shutdown::Write);
    }

    /// Whether its process is gone.
    pub fn is_gone(&self) -> bool {
        loop {
            // What it has told before it went comes first.
            match retry_on_intr(|| recv(&self.lifeline, &mut [0; 64], RecvFlags::DONTWAIT)) {
                Ok((0, _)) => return true,
                Ok(_) => {}
                Err(errno) => return errno != Errno::AGAIN,
            }
        }
    }

    /// Tells it to end, and waits until its process is gone; no longer than for `patience`.
    pub fn end(&self, patience: Duration) {
        let since = Instant::now();
        self.tell_to_end();
        while let Some(left) = patience.checked_sub(since.elapsed()) {
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let ended = match poll(&mut [PollFd::new(&self.lifeline, PollFlags::IN)], Some(&left)) {
                Ok(0) | Err(Errno::INTR) => false,
                Ok(_) => !matches!(read(&self.lifeline, &mut [0; 64]), Ok(1..) | Err(Errno::INTR)),
                Err(_) => true,
            };
            if ended {
                return;
            }
        }
    }
}

/// Two connected sockets of sequenced packets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a descriptor to whoever [`take`]s it, and does not wait.
///
/// # Errors
/// `WouldBlock`: the other end has not taken those before; `BrokenPipe`: it takes no more.
pub fn pass(socket: &OwnedFd, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    send_flagged(socket, b"+", &[descriptor], SendFlags::DONTWAIT)
}

/// Waits for a descriptor that is [`pass`]ed; `None` when none will be.
pub fn take(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let (text, mut descriptors) = receive_with(socket)?;
    if text.is_empty() { Ok(None) } else { Ok(descriptors.pop()) }
}

/// The last descriptor that was [`pass`]ed, if any was; those before are closed. Does not wait.
pub fn take_last(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut last = None;
    loop {
        match receive_flagged(socket, RecvFlags::DONTWAIT) {
            Ok((text, mut descriptors)) if !text.is_empty() => last = descriptors.pop().or(last),
            Ok(_) => return Ok(last),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(last),
            Err(error) => return Err(error),
        }
    }
}

fn send_with(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_flagged(socket, bytes, descriptors, SendFlags::empty())
}

fn send_flagged(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>], how: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL.into());
    }
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | how))?;
    Ok(())
}

/// The asking end.
pub struct Channel(Mutex<OwnedFd>);

/// Bytes, and a descriptor where one was asked for.
#[derive(Default)]
pub struct Answer {
    pub text: Vec<u8>,
    pub descriptor: Option<OwnedFd>,
}

impl Channel {
    fn new(socket: OwnedFd) -> Self {
        Self(Mutex::new(socket))
    }

    /// One question at a time: others wait.
    pub fn ask(&self, verb: u8, question: &[u8]) -> io::Result<Answer> {
        exchange(&self.0.lock(), verb, question)
    }

    /// Over a channel that nobody waits for, if there is one.
    pub fn ask_any(channels: &[Self], verb: u8, question: &[u8]) -> io::Result<Answer> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        match channels.iter().find_map(|channel| channel.0.try_lock()) {
            Some(free) => exchange(&free, verb, question),
            None => channels[TURN.fetch_add(1, Ordering::Relaxed) % channels.len()].ask(verb, question),
        }
    }
}

fn exchange(socket: &OwnedFd, verb: u8, question: &[u8]) -> io::Result<Answer> {
    let bytes = Zeroizing::new([&[verb], question].concat());
    retry_on_intr(|| write(socket, &bytes))?;
    let (mut text, mut descriptors) = receive_with(socket)?;
    let errno = *text.first_chunk().ok_or_else(gone)?;
    let text = text.split_off(size_of::<i32>());
    match i32::from_le_bytes(errno) {
        0 => Ok(Answer { text, descriptor: descriptors.pop() }),
        errno if text.is_empty() => Err(io::Error::from_raw_os_error(errno)),
        errno => Err(io::Error::new(io::Error::from_raw_os_error(errno).kind(), String::from_utf8_lossy(&text))),
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the helper process has ended")
}

fn receive_with(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    receive_flagged(socket, RecvFlags::empty())
}

fn receive_flagged(socket: &OwnedFd, how: RecvFlags) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut text)];
    let len = retry_on_intr(|| recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC | how))?.bytes;
    text.truncate(len);
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((text, descriptors))
}

/// The process itself, from its start to its end.
pub fn run<D: Duty>() -> ExitCode {
    let Ok((lifeline, about, mut channels)) = receive_start() else { return ExitCode::FAILURE };
    let Ok(about) = serde_json::from_slice(&Zeroizing::new(about)) else { return ExitCode::FAILURE };
    let Some(asked) = channels.len().checked_sub(D::given(&about)) else { return ExitCode::FAILURE };
    let given = channels.split_off(asked);
    let duty = Arc::new(D::begin(about, given));
    let started = channels.into_iter().try_for_each(|channel| answer(channel, Arc::clone(&duty)));
    let errno = started.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EAGAIN));
    let told = retry_on_intr(|| write(&lifeline, &errno.to_le_bytes()));
    if started.is_err() || told.is_err() {
        return ExitCode::FAILURE;
    }
    wait(&lifeline, &*duty);
    duty.end();
    ExitCode::SUCCESS
}

/// The lifeline, what the duty is about and the channels, from standard input. `EINVAL` for whoever runs it by hand.
fn receive_start() -> io::Result<(OwnedFd, Vec<u8>, Vec<OwnedFd>)> {
    Signals::block(&OF_A_TERMINAL)?;
    let lifeline = io::stdin().as_fd().try_clone_to_owned()?;
    let (about, channels) = receive_with(&lifeline)?;
    if channels.is_empty() { Err(Errno::INVAL.into()) } else { Ok((lifeline, about, channels)) }
}

/// Returns when the process that started this one is gone.
fn wait(lifeline: &OwnedFd, duty: &impl Duty) {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    loop {
        let mut socket = [PollFd::new(lifeline, PollFlags::IN)];
        match poll(&mut socket, Some(&second)) {
            Ok(0) if !duty.is_orphaned() => {}
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

/// The number of an error, and its text where it says more than the number.
fn refusal(error: &io::Error) -> (i32, Answer) {
    let errno = error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::PermissionDenied => libc::EACCES,
        _ => libc::EIO,
    });
    let text = error.get_ref().map(|why| why.to_string().into_bytes()).unwrap_or_default();
    (errno, Answer { text, ..Answer::default() })
}

/// Handles the questions of a channel, in a thread of its own, until the other end is closed.
fn answer(channel: OwnedFd, duty: Arc<impl Duty>) -> io::Result<()> {
    let answering = move || {
        let mut question = vec![0; LONGEST];
        while let Ok(len) = retry_on_intr(|| read(&channel, &mut question)) {
            let Some((verb, rest)) = question[..len].split_first() else { return };
            let (errno, answer) = match duty.obey(*verb, rest) {
                Ok(answer) => (0, answer),
                Err(error) => refusal(&error),
            };
            question[..len].zeroize();
            let bytes = [&errno.to_le_bytes()[..], &answer.text].concat();
            let sent = match &answer.descriptor {
                Some(descriptor) => send_with(&channel, &bytes, &[descriptor.as_fd()]),
                None => retry_on_intr(|| write(&channel, &bytes)).map(drop).map_err(io::Error::from),
            };
            if sent.is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(answering).map(drop)
}
