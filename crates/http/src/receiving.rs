//! Bodies of requests, as they come.

use crate::heads::Ambiguous;
use crate::metrics::Metrics;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming as HyperBody};
use hyper::header::{EXPECT, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use kmsfs_s3::{Code, Error};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
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
    metrics: Arc<Metrics>,
}

impl Incoming {
    pub(crate) fn new(head: &Parts, body: HyperBody, metrics: Arc<Metrics>) -> Self {
        let waits =
            head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { body: Some(body), waits, metrics }
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
                        self.metrics.received(bytes.len());
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

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::future::Future;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::sleep;

    /// What a server has of a body that is sent like that: its length, or its refusal, and after how many seconds. Time
    /// passes where nobody has anything to do.
    async fn received<F>(length: usize, send: impl FnOnce(DuplexStream) -> F) -> (Result<usize, Code>, u64)
    where
        F: Future<Output = DuplexStream> + Send + 'static,
    {
        let (mut client, server) = duplex(1 << 20);
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = std::sync::Mutex::new(Some(tell));
        let respond = service_fn(move |request: hyper::Request<HyperBody>| {
            let tell = tell.lock().unwrap().take();
            async move {
                let (head, body) = request.into_parts();
                let (mut body, began, mut sum) = (Incoming::new(&head, body, Arc::default()), Instant::now(), 0);
                let received = loop {
                    match body.batch().await {
                        Ok(batch) if batch.is_empty() => break Ok(sum),
                        Ok(batch) => sum += batch.iter().map(Bytes::len).sum::<usize>(),
                        Err(error) => break Err(error.code().clone()),
                    }
                };
                let _ = tell.unwrap().send((received, began.elapsed().as_secs()));
                Ok::<_, Infallible>(hyper::Response::new(String::new()))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), respond));
        let head = format!("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        // It is open until all is known.
        let client = tokio::spawn(send(client));
        let told = told.await.unwrap();
        drop(client);
        told
    }

    /// So many bytes, again and again after that time.
    async fn drip(mut client: DuplexStream, bytes: usize, pause: Duration, times: usize) -> DuplexStream {
        for _ in 0..times {
            if client.write_all(&vec![7; bytes]).await.is_err() {
                break;
            }
            sleep(pause).await;
        }
        client
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_given_up() {
        let (received, after) = received(1000, |client| drip(client, 10, Duration::ZERO, 1)).await;
        assert_eq!((received, after), (Err(Code::RequestTimeout), PATIENCE.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_slower_than_a_batch_in_its_time_is_given_up() {
        let (received, after) = received(1 << 20, |client| drip(client, 1, Duration::from_secs(20), 1000)).await;
        assert_eq!((received, after), (Err(Code::RequestTimeout), BATCH_PATIENCE.as_secs()));
    }

    /// However long that takes.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_a_batch_in_its_time_is_not_given_up() {
        let times = 200;
        let (received, after) =
            received(16_384 * times, move |client| drip(client, 16_384, Duration::from_secs(29), times)).await;
        assert_eq!(received, Ok(16_384 * times));
        assert!(after > 10 * BATCH_PATIENCE.as_secs(), "{after}");
    }
}
