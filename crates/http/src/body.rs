//! Bodies of answers: what is there, or what a descriptor has, as the client takes it: read piece by piece, or sent by
//! the kernel itself where the connection can.

use crate::access_log::Entry;
use crate::late::Late;
use crate::metrics::Measured;
use crate::places::Answering;
use crate::sending::{self, Files, Piece};
use crate::turns::Turns;
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use rustix::buffer::spare_capacity;
use rustix::io::retry_on_intr;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Bytes of a piece: while the client takes one the next is read, and no more.
const PIECE: u64 = 256 << 10;

/// The body of an answer, and the request's line in the log, which is written when the body has ended.
#[derive(Debug)]
pub(crate) struct Outgoing {
    what: What,
    pub(crate) entry: Option<Entry>,
    /// What is counted when the body has ended.
    pub(crate) measured: Option<Measured>,
    /// Of a connection that sends files.
    pub(crate) files: Option<Files>,
    /// The connection has something to do until this has been sent.
    pub(crate) answering: Option<Answering>,
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
        Self::of(What::Whole(bytes))
    }

    pub(crate) fn content(content: Content) -> Self {
        Self::of(What::Content(content))
    }

    pub(crate) fn late(late: Late) -> Self {
        Self::of(What::Late(late))
    }

    fn of(what: What) -> Self {
        Self { what, entry: None, measured: None, files: None, answering: None }
    }

    /// Bytes that are still to be sent, if that is known.
    fn left(&self) -> Option<u64> {
        match &self.what {
            What::Whole(bytes) => Some(bytes.len() as u64),
            What::Content(content) => Some(content.left()),
            What::Late(late) => late.has_ended().then_some(0),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        match &mut self.what {
            What::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            What::Whole(bytes) => Poll::Ready(Some(Ok(Piece::Bytes(std::mem::take(bytes))))),
            What::Content(content) => content.poll_piece(cx, self.files.as_ref()),
            What::Late(late) => late.poll_bytes(cx).map(|bytes| bytes.map(|bytes| bytes.map(Piece::Bytes))),
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
    turns: Turns,
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
    pub(crate) fn begin(file: OwnedFd, range: Range<u64>, turns: Turns) -> io::Result<Self> {
        let mut content = Self { file: Arc::new(file), range, ahead: Ahead::Nothing, turns };
        if let Some(piece) = content.next_piece(PIECE) {
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

    fn poll_piece(&mut self, cx: &mut Context<'_>, files: Option<&Files>) -> Poll<Option<io::Result<Piece>>> {
        let read = match &mut self.ahead {
            Ahead::Nothing => {
                // All behind the first piece, where the connection sends files.
                let next = files.and_then(|files| Some((files, self.next_piece(sending::PIECE)?)));
                return Poll::Ready(next.map(|(files, range)| Ok(files.piece(&self.file, range, &self.turns))));
            }
            Ahead::Read(bytes) => Ok(std::mem::take(bytes)),
            Ahead::Reading(_, reading) => {
                ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|gone| Err(io::Error::other(gone)))
            }
        };
        self.ahead = Ahead::Nothing;
        match &read {
            Err(error) => log::warn!("an object cannot be read to its end: {error}"),
            Ok(_) if files.is_some() => {}
            Ok(_) => self.read_ahead(),
        }
        Poll::Ready(Some(read.map(Piece::Bytes)))
    }

    fn next_piece(&mut self, most: u64) -> Option<Range<u64>> {
        let start = self.range.start;
        let end = self.range.end.min(start + most);
        self.range.start = end;
        (start < end).then_some(start..end)
    }

    fn read_ahead(&mut self) {
        if let Some(piece) = self.next_piece(PIECE) {
            let (file, len) = (Arc::clone(&self.file), piece.end - piece.start);
            self.ahead = Ahead::Reading(len, self.turns.spawn(move || read(&file, piece)));
        }
    }
}

/// All of the piece: where the file has become shorter than its length was answered, there is no right end.
fn read(file: &OwnedFd, piece: Range<u64>) -> io::Result<Bytes> {
    let len = usize::try_from(piece.end - piece.start).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = piece.start + bytes.len() as u64;
        if retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut bytes), at))? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the object became shorter"));
        }
    }
    // There may be more room than was asked for.
    bytes.truncate(len);
    Ok(Bytes::from(bytes))
}

impl Body for Outgoing {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let piece = ready!(self.poll_piece(cx));
        let Self { what, entry, measured, .. } = &mut *self;
        if let (Some(Ok(piece)), Some(measured)) = (&piece, measured) {
            measured.sent(piece.remaining());
        }
        if let (Some(Ok(piece)), Some(entry)) = (&piece, entry) {
            entry.sent += piece.remaining() as u64;
            if let What::Late(late) = what {
                entry.error = late.refused.take();
            }
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
