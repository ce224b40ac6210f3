//! Frames over a socket of sequenced packets, with a descriptor beside a frame where one is passed.

use super::{Ask, Told};
use bincode::Options as _;
use parking_lot::Mutex;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use zeroize::Zeroizing;

/// Most bytes of a frame; the kernel's default for sockets of this kind has room for it. A key policy or a page of 1000
/// keys is 136,000 bytes.
const LONGEST: usize = 192 << 10;

/// One question and one answer at a time.
pub struct Channel(Mutex<Socket>);

struct Socket {
    socket: OwnedFd,
    /// Answers have keys in them.
    buffer: Zeroizing<Vec<u8>>,
}

impl Channel {
    /// `socket`: of sequenced packets.
    pub fn new(socket: OwnedFd) -> Self {
        Self(Mutex::new(Socket::new(socket)))
    }

    pub(super) fn exchange(&self, question: &Ask) -> io::Result<(Told, Option<OwnedFd>)> {
        self.0.lock().exchange(question)
    }

    /// `None` if somebody else waits for an answer.
    pub(super) fn try_exchange(&self, question: &Ask) -> Option<io::Result<(Told, Option<OwnedFd>)>> {
        Some(self.0.try_lock()?.exchange(question))
    }
}

/// Answers what is asked over the socket, until its other end is closed.
///
/// # Errors
/// The other end does not speak as it should: nothing more of it is heard.
pub fn serve(socket: OwnedFd, answer: impl Fn(Ask) -> (Told, Option<OwnedFd>)) -> io::Result<()> {
    let mut socket = Socket::new(socket);
    while let Some((question, _)) = socket.receive()? {
        // A mistake ends one answer, and not the conversation.
        let answered = catch_unwind(AssertUnwindSafe(|| answer(question)));
        let (told, descriptor) = answered.unwrap_or_else(|_| (Told::Outage("the answer is not known".into()), None));
        match socket.send(&told, descriptor.as_ref().map(AsFd::as_fd)) {
            // Nothing of it was sent.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                socket.send(&Told::Outage("the answer is too long".into()), None)?;
            }
            sent => sent?,
        }
    }
    Ok(())
}

impl Socket {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Zeroizing::new(vec![0; LONGEST]) }
    }

    fn exchange(&mut self, question: &Ask) -> io::Result<(Told, Option<OwnedFd>)> {
        self.send(question, None)?;
        self.receive()?.ok_or_else(|| io::Error::new(io::ErrorKind::BrokenPipe, "the authority has ended"))
    }

    fn send(&mut self, frame: &impl Serialize, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut rest = &mut self.buffer[..];
        let too_long = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        form().serialize_into(&mut rest, frame).map_err(too_long)?;
        let len = LONGEST - rest.len();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::INVAL.into());
        }
        let bytes = [IoSlice::new(&self.buffer[..len])];
        retry_on_intr(|| sendmsg(&self.socket, &bytes, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// `None` where the other end is closed.
    fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut self.buffer)];
        let received = retry_on_intr(|| recvmsg(&self.socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC))?;
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptor = received.last();
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(Errno::MSGSIZE.into());
        }
        let frame = form().deserialize(&self.buffer[..received.bytes]).map_err(io::Error::other)?;
        Ok(Some((frame, descriptor)))
    }
}

/// Of fixed widths; no length in it makes anybody take more memory than a frame has.
fn form() -> impl bincode::Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(LONGEST as u64)
}

#[cfg(test)]
mod tests {
    use super::super::{Channels, Found, Signed};
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, send, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn ask(string_to_sign: &str) -> Ask {
        let [access_key_id, date, region, service, signature] =
            ["AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3", "00"].map(str::to_owned);
        let string_to_sign = string_to_sign.to_owned();
        let canonical_request = None;
        let signed = Signed { access_key_id, date, region, service, string_to_sign, signature, canonical_request };
        Ask::Verify { signed, connect: true, source: None }
    }

    #[test]
    fn questions_are_answered_with_a_descriptor_where_there_is_one() {
        let (ours, theirs) = pair();
        let answering = std::thread::spawn(move || {
            serve(theirs, |ask| {
                let Ask::Verify { signed, .. } = ask else { panic!("nobody asked that") };
                let known = signed.string_to_sign == "known";
                let descriptor = known.then(|| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
                (Told::Verified(if known { Found::Wrong } else { Found::NoSuchKey }), descriptor)
            })
        });
        let authority = Channels::new(vec![Channel::new(ours)]);
        for _ in 0..2 {
            let (told, descriptor) = authority.ask(&ask("known")).unwrap();
            assert!(matches!(told, Told::Verified(Found::Wrong)) && descriptor.is_some());
            let (told, descriptor) = authority.ask(&ask("unknown")).unwrap();
            assert!(matches!(told, Told::Verified(Found::NoSuchKey)) && descriptor.is_none());
        }
        assert!(authority.ask(&ask(&"x".repeat(LONGEST))).is_err(), "too long for a frame");
        assert!(authority.ask(&ask("known")).is_ok(), "and no harm was done");
        drop(authority);
        answering.join().unwrap().unwrap();
    }

    #[test]
    fn an_answer_that_is_too_long_or_never_comes_ends_itself_alone() {
        let (ours, theirs) = pair();
        let answering = std::thread::spawn(move || {
            serve(theirs, |ask| {
                let Ask::Verify { signed, .. } = ask else { panic!("nobody asked that") };
                match signed.string_to_sign.as_str() {
                    "long" => (Told::NotServed("x".repeat(LONGEST)), None),
                    "panic" => panic!("a mistake"),
                    _ => (Told::Verified(Found::Wrong), None),
                }
            })
        });
        let authority = Channels::new(vec![Channel::new(ours)]);
        for question in ["long", "panic", "long"] {
            assert!(matches!(authority.ask(&ask(question)).unwrap().0, Told::Outage(_)), "{question}");
            assert!(matches!(authority.ask(&ask("short")).unwrap().0, Told::Verified(Found::Wrong)));
        }
        drop(authority);
        answering.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_frame_ends_the_conversation() {
        let long = vec![0; LONGEST + 1];
        let enormous = [&[0; 4][..], &[0xff; 8], b"AKIA"].concat();
        for bytes in [&b"\x07\0\0\0"[..], b"\0", &enormous, &long] {
            let (ours, theirs) = pair();
            send(&ours, bytes, SendFlags::empty()).unwrap();
            assert!(serve(theirs, |_| panic!("nobody asked")).is_err());
        }
    }
}
