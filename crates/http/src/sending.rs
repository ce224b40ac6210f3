//! Bytes of files that go into a socket by sendfile(2): they are not copied into this process.
//!
//! hyper writes heads and bodies, and knows bodies only as bytes in memory. So a body hands out placeholders, pieces of
//! one region of zeros that nobody else has, and notes in [`Files`] what each stands for. [`Sending`], to which hyper
//! writes, knows the region by its address and sends the file's bytes in place of it. hyper must not copy pieces
//! together for that, which it does not where the stream says that it takes many pieces with one call.

use crate::places::Unsent;
use crate::stalling::Stall;
use crate::turns::Turns;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Bytes of a file that are handed to hyper at a time.
pub(crate) const PIECE: u64 = 4 << 20;

/// Times that nothing may be sent into a socket that has room.
const TRIES: usize = 2;

/// Its pages are never touched, and take no memory.
static PLACEHOLDERS: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; PIECE as usize].into_boxed_slice());

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes that are here.
    Bytes(Bytes),
    /// As many bytes of a file, which is the next one in the connection's [`Files`].
    File(usize),
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::File(len) => *len,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::File(len) => &PLACEHOLDERS[..*len],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::File(len) => *len -= count,
        }
    }
}

fn is_placeholder(bytes: &[u8]) -> bool {
    PLACEHOLDERS.as_ptr_range().contains(&bytes.as_ptr())
}

/// What the placeholders of one connection stand for, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Arc<Mutex<VecDeque<Part>>>);

/// Bytes of a file.
#[derive(Clone, Debug)]
struct Part {
    file: Arc<OwnedFd>,
    range: Range<u64>,
    /// Of the user who is sent them.
    turns: Turns,
}

impl Files {
    /// At most [`PIECE`] bytes of a file; the piece that stands for them has to be the next that is handed out.
    pub(crate) fn piece(&self, file: &Arc<OwnedFd>, range: Range<u64>, turns: &Turns) -> Piece {
        let len = (range.end - range.start) as usize;
        self.0.lock().push_back(Part { file: Arc::clone(file), range, turns: turns.clone() });
        Piece::File(len)
    }

    fn next(&self) -> Option<Part> {
        self.0.lock().front().cloned()
    }

    fn sent(&self, count: u64) {
        let mut files = self.0.lock();
        if let Some(part) = files.front_mut() {
            part.range.start += count;
            if part.range.is_empty() {
                files.pop_front();
            }
        }
    }
}

/// A connection that sends files where their placeholders are written.
pub(crate) struct Sending {
    stream: TcpStream,
    files: Files,
    /// The same socket, while there are bytes of files to be sent.
    socket: Option<Arc<OwnedFd>>,
    /// sendfile(2), while it goes on: a file's pages may have to be read first, for which no thread of the runtime
    /// waits.
    call: Option<JoinHandle<io::Result<usize>>>,
    /// How often nothing was sent though the socket had room.
    in_vain: usize,
    /// Of the socket alone: what waits for a file, or for a turn to read it, does not wait for the client.
    stall: Stall,
    unsent: Unsent,
}

impl Sending {
    pub(crate) fn new(stream: TcpStream, files: Files, unsent: Unsent) -> Self {
        Self { stream, files, socket: None, call: None, in_vain: 0, stall: Stall::default(), unsent }
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if let Some(call) = &mut self.call {
                let sent = ready!(Pin::new(call).poll(cx)).unwrap_or_else(|gone| Err(io::Error::other(gone)));
                self.call = None;
                match sent {
                    Ok(0) => {
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter")));
                    }
                    Ok(count) => {
                        self.in_vain = 0;
                        self.files.sent(count as u64);
                        return Poll::Ready(Ok(count));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Where there is room it is the file that cannot be read now.
                        self.in_vain += usize::from(self.has_room());
                        if self.in_vain > TRIES {
                            return Poll::Ready(Err(error));
                        }
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let room = self.stream.poll_write_ready(cx);
            ready!(self.stall.watch(room, cx))?;
            let Some(Part { file, range, turns }) = self.files.next() else {
                return Poll::Ready(Err(io::Error::other("a placeholder that stands for nothing")));
            };
            let socket = match &self.socket {
                Some(socket) => Arc::clone(socket),
                None => Arc::clone(self.socket.insert(Arc::new(self.stream.as_fd().try_clone_to_owned()?))),
            };
            self.call = Some(turns.spawn(move || send(&socket, &file, range)));
        }
    }

    /// Another thread has found no room in the socket: from now on the runtime waits for some, unless there is some by
    /// now, of which it would not be told again.
    fn has_room(&self) -> bool {
        let room = self.stream.try_io(Interest::WRITABLE, || {
            let mut socket = [PollFd::new(&self.stream, PollFlags::OUT)];
            match poll(&mut socket, Some(&Timespec::default())) {
                Ok(0) => Err(io::Error::from(Errno::AGAIN)),
                _ => Ok(()),
            }
        });
        room.is_ok()
    }
}

fn send(socket: &OwnedFd, file: &OwnedFd, range: Range<u64>) -> io::Result<usize> {
    let mut at = range.start;
    let count = (range.end - range.start) as usize;
    let sent = retry_on_intr(|| rustix::fs::sendfile(socket, file, Some(&mut at), count));
    if let Err(errno) = sent
        && ![Errno::AGAIN, Errno::PIPE, Errno::CONNRESET].contains(&errno)
    {
        log::warn!("an object cannot be read to its end: {errno}");
    }
    Ok(sent?)
}

impl AsyncRead for Sending {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sending {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let of_memory = bufs.iter().take_while(|bytes| !is_placeholder(bytes)).count();
        if of_memory == 0 && !bufs.is_empty() {
            return self.poll_send_file(cx);
        }
        self.socket = None;
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, &bufs[..of_memory]);
        self.stall.watch(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called when all that was handed over has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket = None;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.unsent.is_sent();
        }
        self.stall.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.stall.watch(shut, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stalling::PATIENCE;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time;

    /// Both ends of a connection, the first of which sends 9 bytes of a file.
    async fn connection(turns: &Turns) -> (Sending, TcpStream, Piece) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"of a file").unwrap();
        let files = Files::default();
        let piece = files.piece(&Arc::new(file.into()), 0..9, turns);
        (Sending::new(ours, files, Unsent::default()), theirs, piece)
    }

    #[tokio::test]
    async fn who_waits_for_a_file_is_not_taken_for_a_client_that_does_not_read() {
        time::pause();
        let turns = Turns::default();
        let (mut sending, mut theirs, piece) = connection(&turns).await;
        let others = turns.take_all().await;
        // As long as a client may take nothing, twice over.
        let writing = time::timeout(PATIENCE * 2, sending.write(piece.chunk()));
        assert!(writing.await.is_err(), "there is no turn, and no error");
        drop(others);
        time::resume();
        assert_eq!(sending.write(piece.chunk()).await.unwrap(), 9);
        let mut received = [0; 9];
        theirs.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"of a file");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let turns = Turns::default();
        let (mut sending, _theirs, piece) = connection(&turns).await;
        let bytes = vec![7; 1 << 20];
        // Until the kernel has no room for a while: it hands on what it has.
        let mut full = 0;
        while full < 5 {
            let wrote = poll_fn(|cx| Poll::Ready(Pin::new(&mut sending).poll_write(cx, &bytes))).await;
            full = if wrote.is_pending() { full + 1 } else { 0 };
            time::sleep(Duration::from_millis(20)).await;
        }
        time::pause();
        let refused = sending.write(piece.chunk()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }
}
