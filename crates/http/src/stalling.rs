//! A connection whose other end has to go on reading: one that takes nothing for a while is given up. Of each
//! connection it is known too when the kernel has all of the answers that were handed over.

use crate::places::Unsent;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// As long as the other end may take nothing of what is written.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long the other end has taken nothing.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    /// While something waits for it.
    since: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// `taken`: what came of offering it something, which only the other end makes wait.
    pub(crate) fn watch<T>(&mut self, taken: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.since = None;
            return taken;
        }
        let since = self.since.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(since.as_mut().poll(cx));
        // Whoever asks once more is told at once again.
        since.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end does not read")))
    }
}

/// A stream that writes nothing but what is in memory, so that only its other end makes it wait.
pub(crate) struct Stalling<S> {
    stream: S,
    stall: Stall,
    unsent: Unsent,
}

impl<S> Stalling<S> {
    pub(crate) fn new(stream: S, unsent: Unsent) -> Self {
        Self { stream, stall: Stall::default(), unsent }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.stall.watch(wrote, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.stall.watch(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all that was handed over has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
