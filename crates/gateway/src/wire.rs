//! Frames between a worker and the process that speaks HTTP, over a stream socket of the Unix domain.
//!
//! A frame is a header of 16 bytes and a payload in bincode. All numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | length of the payload, at most [`MAX_PAYLOAD`] |
//! | 4..8 | 1 if the header carries a descriptor (SCM_RIGHTS), else 0 |
//! | 8..16 | a number that the asking side chooses and that the response repeats |
//!
//! Payloads are [`Request`] one way and [`Response`] the other. Requests are done side by side and responded to in any
//! order; [`Request::Withdraw`] alone has no response and takes effect in its turn. An upload belongs to the connection
//! that began it: where the connection ends, it is abandoned. A frame that breaks these rules ends the connection.

use crate::Body;
use bincode::Options;
use kmsfs_s3::operation::PutObject;
use kmsfs_s3::{Answer, Error, Operation};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes of a payload at most: a list of 10,000 parts has a few million.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Bytes of a body that goes with its request, at most. A longer one the asking side writes itself, so that it is in
/// one process; what that takes (a descriptor that is passed, and a second question) is more than copying a short one.
pub const SHORT: usize = 64 << 10;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 16;

/// What a worker is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Something without a body: [`Response::Done`].
    Perform(Box<Operation>),
    /// Something with a body: [`Response::Begun`], with a descriptor to write it to.
    Begin(Box<Operation>),
    /// A PutObject whose body is short, and is here: [`Response::Done`].
    Put {
        /// What is put.
        put: Box<PutObject>,
        /// All of its bytes, at most [`SHORT`].
        content: Vec<u8>,
        /// What was found out about them.
        body: Body,
    },
    /// The body of an upload is written: [`Response::Done`].
    Finish {
        /// As [`Response::Begun`] said.
        upload: u64,
        /// What was found out about it.
        body: Body,
    },
    /// Nobody waits for the response to that request any more: what it would change and has not changed yet stays as it
    /// is. It is responded to all the same; this is not.
    Withdraw {
        /// As its header said.
        number: u64,
    },
    /// The body was not right, or never came to its end: [`Response::Abandoned`].
    Abandon {
        /// As [`Response::Begun`] said.
        upload: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// It is done; the descriptor of the content comes with it where that was asked for.
    Done(Box<Answer>),
    /// The body can be written.
    Begun {
        /// To be named in the end.
        upload: u64,
        /// Whether [`Body::md5`] is needed.
        wants_md5: bool,
    },
    /// Nothing is left of the upload.
    Abandoned,
    /// It is refused, as the client is to be told.
    Refused(Error),
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub len: usize,
    /// Whether a descriptor comes with it.
    pub descriptor: bool,
    /// Which request it is, or is the response to.
    pub number: u64,
}

impl Header {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::from(self.descriptor).to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// # Errors
    /// `InvalidData`: no header that this version sends.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> io::Result<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let len = word(0) as usize;
        let descriptor = match word(4) {
            0 => false,
            1 => true,
            _ => return Err(malformed("a frame's header")),
        };
        if len > MAX_PAYLOAD {
            return Err(malformed("the length of a frame"));
        }
        Ok(Self { len, descriptor, number: u64::from(word(12)) << 32 | u64::from(word(8)) })
    }
}

/// A payload's bytes.
///
/// # Errors
/// It is longer than [`MAX_PAYLOAD`].
pub fn encode<T: Serialize>(payload: &T) -> io::Result<Vec<u8>> {
    options().serialize(payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// The other way round.
///
/// # Errors
/// `InvalidData`: it is no such payload, or has more bytes than that.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    options().deserialize(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A frame's bytes.
///
/// # Errors
/// The payload is longer than [`MAX_PAYLOAD`].
pub fn frame<T: Serialize>(number: u64, payload: &T, descriptor: bool) -> io::Result<Vec<u8>> {
    let payload = encode(payload)?;
    let mut frame = Header { len: payload.len(), descriptor, number }.to_bytes().to_vec();
    frame.extend_from_slice(&payload);
    Ok(frame)
}

/// Sends a frame. Two threads must not send on one socket at the same time.
///
/// # Errors
/// The other side has gone, or the payload is too long.
pub fn send<T: Serialize>(
    socket: &UnixStream,
    number: u64,
    payload: &T,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let frame = frame(number, payload, descriptor.is_some())?;
    let sent = match &descriptor {
        Some(descriptor) => send_with(socket, &frame, *descriptor)?,
        None => 0,
    };
    let mut socket = socket;
    socket.write_all(&frame[sent..])
}

/// The first bytes carry the descriptor.
fn send_with(socket: &UnixStream, frame: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    loop {
        match sendmsg(socket.as_fd(), &[IoSlice::new(frame)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// The next frame: its number, its payload and its descriptor. `None` where the other side has ended the connection.
///
/// # Errors
/// `InvalidData`: what comes is no frame of this kind; or recvmsg(2) failed.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(u64, T, Option<OwnedFd>)>> {
    let mut bytes = [0; HEADER_LEN];
    let mut descriptor = None;
    let mut filled = 0;
    while filled < HEADER_LEN {
        let (read, received) = receive_some(socket, &mut bytes[filled..])?;
        match (read, filled) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => filled += read,
        }
        descriptor = received.or(descriptor);
    }
    let header = Header::parse(bytes)?;
    if header.descriptor != descriptor.is_some() {
        return Err(malformed("a frame's descriptor"));
    }
    let mut payload = vec![0; header.len];
    let mut socket = socket;
    socket.read_exact(&mut payload)?;
    Ok(Some((header.number, decode(&payload)?, descriptor)))
}

fn receive_some(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket.as_fd(), &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            done => break done?,
        }
    };
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(malformed("the number of descriptors"));
    }
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = rights.flatten().next();
    Ok((received.bytes, descriptor))
}

/// Numbers of a fixed width, nothing behind the payload, and no longer than a frame.
fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_PAYLOAD as u64)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Seek;

    fn request() -> Request {
        Request::Finish { upload: 7, body: Body { length: 3, md5: Some([1; 16]), checksum: None } }
    }

    #[test]
    fn a_frame_arrives_as_it_was_sent_with_its_descriptor() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        file.rewind().unwrap();
        send(&ours, 1, &request(), None).unwrap();
        send(&ours, u64::MAX, &Response::Abandoned, Some(file.as_fd())).unwrap();
        send(&ours, 2, &request(), None).unwrap();
        drop(ours);
        let (number, first, descriptor) = receive::<Request>(&theirs).unwrap().unwrap();
        assert_eq!((number, first, descriptor.is_none()), (1, request(), true));
        let (number, second, descriptor) = receive::<Response>(&theirs).unwrap().unwrap();
        assert_eq!((number, second), (u64::MAX, Response::Abandoned));
        let mut text = String::new();
        File::from(descriptor.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        assert!(receive::<Request>(&theirs).unwrap().is_some());
        assert!(receive::<Request>(&theirs).unwrap().is_none());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let refused = |bytes: &[u8]| {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            receive::<Request>(&theirs).unwrap_err().kind()
        };
        let header = |len: usize, descriptor: u8| {
            let mut bytes = Header { len, descriptor: false, number: 0 }.to_bytes();
            bytes[4] = descriptor;
            bytes
        };
        assert_eq!(refused(&header(0, 0)[..5]), io::ErrorKind::UnexpectedEof);
        assert_eq!(refused(&header(MAX_PAYLOAD + 1, 0)), io::ErrorKind::InvalidData);
        assert_eq!(refused(&header(0, 2)), io::ErrorKind::InvalidData);
        assert_eq!(refused(&header(0, 1)), io::ErrorKind::InvalidData, "no descriptor came");
        let payload = encode(&request()).unwrap();
        assert_eq!(refused(&[&header(payload.len() + 1, 0)[..], &payload, &[0]].concat()), io::ErrorKind::InvalidData);
        assert_eq!(refused(&[&header(payload.len(), 0)[..], &payload[1..]].concat()), io::ErrorKind::UnexpectedEof);
        assert_eq!(refused(&[&header(4, 0)[..], &[9, 0, 0, 0]].concat()), io::ErrorKind::InvalidData);
    }
}
