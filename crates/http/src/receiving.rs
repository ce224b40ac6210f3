//! Bodies of requests, as they come.

use crate::heads::Ambiguous;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming as HyperBody};
use hyper::header::{EXPECT, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use kmsfs_s3::{Code, Error};
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// For the next bytes of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// For [`BATCH`] bytes: whoever sends slower than that is given up.
const BATCH_PATIENCE: Duration = Duration::from_secs(300);
/// Bytes that are collected before something is done with them.
const BATCH: usize = 128 << 10;
/// Bytes that are thrown away behind a refusal, and how long that may take: until then the client may go on sending
/// before it reads the answer.
const DISCARDED: u64 = 16 << 20;
const DISCARD_PATIENCE: Duration = Duration::from_secs(20);

/// The body of a request.
pub(crate) struct Incoming {
    body: Option<HyperBody>,
    /// The client waits to be told to go on, which asking for the body does.
    waits: bool,
}

impl Incoming {
    pub(crate) fn new(head: &Parts, body: HyperBody) -> Self {
        let waits =
            head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { body: Some(body), waits }
    }

    /// Refuses what nobody here can undo, and what others may take for another request. (The parser of heads has
    /// decided how long the body is.)
    ///
    /// # Errors
    /// `NotImplemented`: a transfer coding beside `chunked`. `InvalidRequest`: it has a length too.
    pub(crate) fn check(head: &Parts) -> Result<(), Error> {
        if head.extensions.get::<Ambiguous>().is_some() {
            let text = "A request has either Content-Length or Transfer-Encoding, and not both.";
            return Err(Error::new(Code::InvalidRequest).saying(text));
        }
        let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
        let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
        if codings.next().is_none_or(is_chunked) && codings.next().is_none() {
            return Ok(());
        }
        Err(Error::header_not_implemented("Transfer-Encoding"))
    }

    /// Whether the client sends it only when it is told to go on.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// The next bytes, as many as come until there are enough; none at the end.
    ///
    /// # Errors
    /// `RequestTimeout`, or `IncompleteBody` where the client has gone.
    pub(crate) async fn batch(&mut self) -> Result<Vec<Bytes>, Error> {
        let Some(body) = &mut self.body else { return Ok(Vec::new()) };
        self.waits = false;
        let until = Instant::now() + BATCH_PATIENCE;
        let (mut pieces, mut len) = (Vec::new(), 0);
        while len < BATCH {
            let next = timeout(PATIENCE, timeout_at(until, next(body))).await;
            let Ok(Ok(next)) = next else { return Err(Error::new(Code::RequestTimeout)) };
            match next {
                Some(Ok(frame)) => {
                    // Trailers of HTTP's own mean nothing here.
                    if let Ok(bytes) = frame.into_data() {
                        len += bytes.len();
                        pieces.push(bytes);
                    }
                }
                Some(Err(error)) => {
                    log::debug!("a body ended early: {error}");
                    self.body = None;
                    return Err(Error::new(Code::IncompleteBody));
                }
                None => {
                    self.body = None;
                    break;
                }
            }
        }
        Ok(pieces)
    }

    /// What nobody has asked for, and nobody will.
    pub(crate) fn discard(self) {
        let Some(mut body) = self.body.filter(|body| !self.waits && !body.is_end_stream()) else { return };
        tokio::spawn(timeout(DISCARD_PATIENCE, async move {
            let mut left = DISCARDED;
            while let Some(Ok(frame)) = next(&mut body).await {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                match left.checked_sub(len) {
                    Some(fewer) => left = fewer,
                    None => return,
                }
            }
        }));
    }
}

async fn next(body: &mut HyperBody) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
