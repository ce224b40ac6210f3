//! What the parser of heads does not tell. A request with both `Content-Length` and `Transfer-Encoding` is two requests
//! to whoever goes by the other one (RFC 9112, 6.1). hyper goes by the transfer coding, takes the length out of the
//! headers, and ends the connection; here such a request is refused, so the bytes are looked at before hyper has them.

use httparse::{EMPTY_HEADER, Request, Status};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose heads are looked at.
pub(crate) struct Heads<S> {
    stream: S,
    within: Within,
    /// How many have come.
    count: u64,
    framing: Framing,
}

/// Which request of a connection has two lengths: the last one. Those before it may be on their way still.
#[derive(Clone, Debug, Default)]
pub(crate) struct Framing(Arc<AtomicU64>);

/// A request has two lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambiguous;

/// Where the next byte belongs.
enum Within {
    /// This much of it has come.
    Head(Vec<u8>),
    /// So many bytes are to come.
    Body(u64),
    /// In what ends with the connection, or is refused.
    Last,
}

impl Framing {
    /// `number`: of the request whose head has come, from 1 on.
    pub(crate) fn is_ambiguous(&self, number: u64) -> bool {
        self.0.load(Ordering::Relaxed) == number
    }
}

impl<S> Heads<S> {
    pub(crate) fn new(stream: S, framing: Framing) -> Self {
        Self { stream, within: Within::Head(Vec::new()), count: 0, framing }
    }

    fn look_at(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.within {
                Within::Last => return,
                Within::Body(left) => {
                    let skipped = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    bytes = &bytes[skipped..];
                    *left -= skipped as u64;
                    if *left > 0 {
                        return;
                    }
                    self.within = Within::Head(Vec::new());
                }
                Within::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    let Some((len, next)) = read(head, before) else {
                        // The parser behind takes no more than that.
                        if head.len() > super::connections::HEAD {
                            self.within = Within::Last;
                        }
                        return;
                    };
                    bytes = &bytes[len - before..];
                    self.count += 1;
                    self.within = match next {
                        Next::Body(length) => Within::Body(length),
                        Next::Last => Within::Last,
                        Next::Ambiguous => {
                            self.framing.0.store(self.count, Ordering::Relaxed);
                            Within::Last
                        }
                    };
                }
            }
        }
    }
}

/// What comes behind a head.
enum Next {
    Body(u64),
    Last,
    Ambiguous,
}

/// How long the head is, of which so many bytes were looked at before, and what comes next; `None` where it goes on.
fn read(head: &[u8], before: usize) -> Option<(usize, Next)> {
    // An empty line ends it; without one there is no need to begin at its beginning again.
    let fresh = &head[before.saturating_sub(3)..];
    if !fresh.windows(2).any(|pair| pair == b"\n\n") && !fresh.windows(3).any(|three| three == b"\n\r\n") {
        return None;
    }
    let mut headers = [EMPTY_HEADER; super::connections::HEADERS];
    let mut request = Request::new(&mut headers);
    let len = match request.parse(head) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return None,
        // It is refused.
        Err(_) => return Some((head.len(), Next::Last)),
    };
    let named = |name: &str| request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length = named("content-length");
    let next = match (named("transfer-encoding"), length) {
        (Some(_), Some(_)) => Next::Ambiguous,
        // The connection is ended behind it.
        (Some(_), None) => Next::Last,
        (None, None) => Next::Body(0),
        (None, Some(length)) => {
            let length = std::str::from_utf8(length.value).ok().and_then(|text| text.trim().parse().ok());
            length.map_or(Next::Last, Next::Body)
        }
    };
    Some((len, next))
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.look_at(&buf.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the last head is, and no other.
    fn is_ambiguous(pieces: &[&[u8]]) -> bool {
        let mut heads = Heads::new((), Framing::default());
        for piece in pieces {
            heads.look_at(piece);
        }
        assert!((1..heads.count).all(|number| !heads.framing.is_ambiguous(number)));
        heads.count > 0 && heads.framing.is_ambiguous(heads.count)
    }

    #[test]
    fn two_lengths_are_seen_in_whatever_order_and_pieces_they_come() {
        let both = [
            "PUT /x HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "PUT /x HTTP/1.1\r\ncontent-length: 5\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "PUT /x HTTP/1.1\ncontent-length: 5\nhost: h\ntransfer-encoding: chunked\n\n",
        ];
        for request in both.map(str::as_bytes) {
            assert!(is_ambiguous(&[request]));
            let behind = [b"PUT /y HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", request].concat();
            for request in [request, &behind] {
                let bytes: Vec<&[u8]> = request.chunks(1).collect();
                assert!(is_ambiguous(&bytes));
                assert!(is_ambiguous(&[&request[..request.len() / 2], &request[request.len() / 2..]]));
            }
        }
    }

    #[test]
    fn a_body_is_no_head() {
        let both = b"PUT /x HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n";
        let head = format!("PUT /y HTTP/1.1\r\ncontent-length: {}\r\n\r\n", both.len());
        assert!(!is_ambiguous(&[head.as_bytes(), both]));
        assert!(is_ambiguous(&[head.as_bytes(), both, both]));
        assert!(!is_ambiguous(&[b"PUT /y HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", both]));
        assert!(!is_ambiguous(&[b"no head\r\n\r\n", both]));
        assert!(!is_ambiguous(&[&vec![b'x'; super::super::connections::HEAD + 1], b"\r\n\r\n", both]));
    }
}
