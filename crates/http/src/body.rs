//! Bodies of answers: what is there, or what a descriptor has, read piece by piece as the client takes it.

use crate::access_log::Entry;
use crate::late::Late;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use rustix::io::retry_on_intr;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes of a piece: while the client takes one the next is read, and no more.
const PIECE: u64 = 256 << 10;

/// The body of an answer, and the request's line in the log, which is written when the body has ended.
#[derive(Debug)]
pub(crate) struct Outgoing {
    what: What,
    pub(crate) entry: Option<Entry>,
}

#[derive(Debug)]
enum What {
    /// All of it; nothing once it has been sent.
    Whole(Bytes),
    /// Content of an object.
    Content(Content),
    /// A document whose end is not known yet.
    Late(Late),
}

impl Outgoing {
    pub(crate) fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { what: What::Whole(bytes), entry: None }
    }

    pub(crate) fn content(content: Content) -> Self {
        Self { what: What::Content(content), entry: None }
    }

    pub(crate) fn late(late: Late) -> Self {
        Self { what: What::Late(late), entry: None }
    }

    /// Bytes that are still to be sent, if that is known.
    fn left(&self) -> Option<u64> {
        match &self.what {
            What::Whole(bytes) => Some(bytes.len() as u64),
            What::Content(content) => Some(content.left()),
            What::Late(late) => late.has_ended().then_some(0),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.what {
            What::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            What::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            What::Content(content) => content.poll_bytes(cx),
            What::Late(late) => late.poll_bytes(cx),
        }
    }
}

/// A range of an open file.
#[derive(Debug)]
pub(crate) struct Content {
    file: Arc<OwnedFd>,
    /// What is not read yet, nor being read.
    range: Range<u64>,
    ahead: Ahead,
}

/// What comes next.
#[derive(Debug)]
enum Ahead {
    Nothing,
    Read(Bytes),
    Reading(u64, JoinHandle<io::Result<Bytes>>),
}

impl Content {
    /// Reads the first piece at once: to be called where waiting is allowed.
    ///
    /// # Errors
    /// The file cannot be read, before anything of it was answered.
    pub(crate) fn begin(file: OwnedFd, range: Range<u64>) -> io::Result<Self> {
        let mut content = Self { file: Arc::new(file), range, ahead: Ahead::Nothing };
        if let Some(piece) = content.next_piece() {
            content.ahead = Ahead::Read(read(&content.file, piece)?);
        }
        Ok(content)
    }

    fn left(&self) -> u64 {
        let ahead = match &self.ahead {
            Ahead::Nothing => 0,
            Ahead::Read(bytes) => bytes.len() as u64,
            Ahead::Reading(len, _) => *len,
        };
        ahead + (self.range.end - self.range.start)
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let read = match &mut self.ahead {
            Ahead::Nothing => return Poll::Ready(None),
            Ahead::Read(bytes) => Ok(std::mem::take(bytes)),
            Ahead::Reading(_, reading) => {
                ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|gone| Err(io::Error::other(gone)))
            }
        };
        self.ahead = Ahead::Nothing;
        if let Err(error) = &read {
            log::warn!("an object cannot be read to its end: {error}");
        } else {
            self.read_ahead();
        }
        Poll::Ready(Some(read))
    }

    fn next_piece(&mut self) -> Option<Range<u64>> {
        let start = self.range.start;
        let end = self.range.end.min(start + PIECE);
        self.range.start = end;
        (start < end).then_some(start..end)
    }

    fn read_ahead(&mut self) {
        if let Some(piece) = self.next_piece() {
            let (file, len) = (Arc::clone(&self.file), piece.end - piece.start);
            self.ahead = Ahead::Reading(len, spawn_blocking(move || read(&file, piece)));
        }
    }
}

/// All of the piece: where the file has become shorter than its length was answered, there is no right end.
fn read(file: &OwnedFd, piece: Range<u64>) -> io::Result<Bytes> {
    let len = usize::try_from(piece.end - piece.start).map_err(io::Error::other)?;
    let mut bytes = BytesMut::zeroed(len);
    let mut done = 0;
    while done < len {
        match retry_on_intr(|| rustix::io::pread(file, &mut bytes[done..], piece.start + done as u64))? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the object became shorter")),
            more => done += more,
        }
    }
    Ok(bytes.freeze())
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = ready!(self.poll_bytes(cx));
        let Self { what, entry } = &mut *self;
        if let (Some(Ok(bytes)), Some(entry)) = (&bytes, entry) {
            entry.sent += bytes.len() as u64;
            if let What::Late(late) = what {
                entry.error = late.refused.take();
            }
        }
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
