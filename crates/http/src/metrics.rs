//! What has been done, in numbers, for whoever watches over the server: the text form of Prometheus ("Exposition
//! formats", version 0.0.4), at an address of its own. It has names of operations, and none of users, buckets or keys.

use crate::body::Outgoing;
use crate::connections::{Listener, PAUSE};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Upper ends of the histograms' buckets, in milliseconds: from what the cache has to what copies long objects.
const BUCKETS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000];
/// Connections of those who watch at a time, and how long one of them is served.
const WATCHING: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);
/// For a request's head, which is short.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
const HEAD: usize = 16 << 10;

/// What a request asks for. There are as many as there are operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct What {
    /// `s3`, `kms` or `sts`.
    pub(crate) service: &'static str,
    /// Empty where it is none that is known.
    pub(crate) operation: &'static str,
}

/// Numbers that go up, and a few that go down again.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<What, Counts>>,
    going_on: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    accepted: AtomicU64,
    connected: AtomicU64,
    turned_away: AtomicU64,
}

/// Of one operation.
#[derive(Debug, Default)]
struct Counts {
    /// By status; 0 where the client had gone before there was an answer.
    statuses: BTreeMap<u16, u64>,
    /// How many took no longer than each of [`BUCKETS`], and longer than the one before.
    took: [u64; BUCKETS.len()],
    sum: Duration,
}

/// A request. It is counted when this is dropped: when the last byte of its answer was handed to the connection, or the
/// client has gone.
#[derive(Debug)]
pub(crate) struct Measured {
    metrics: Arc<Metrics>,
    pub(crate) what: What,
    /// Of the answer, as soon as there is one.
    pub(crate) status: u16,
    began: Instant,
}

/// A connection, as long as it is there.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Metrics>);

impl Metrics {
    /// A request has begun.
    pub(crate) fn measure(self: &Arc<Self>, what: What) -> Measured {
        self.going_on.fetch_add(1, Ordering::Relaxed);
        Measured { metrics: Arc::clone(self), what, status: 0, began: Instant::now() }
    }

    pub(crate) fn connect(self: &Arc<Self>) -> Connected {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.connected.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    /// A connection has given way to another, or found no place.
    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of a request's body.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count(&self, what: What, status: u16, took: Duration) {
        let mut requests = self.requests.lock();
        let counts = requests.entry(what).or_default();
        *counts.statuses.entry(status).or_default() += 1;
        counts.sum += took;
        if let Some(bucket) = BUCKETS.iter().position(|end| took <= Duration::from_millis(*end)) {
            counts.took[bucket] += 1;
        }
    }

    /// As it is told.
    fn text(&self) -> String {
        let mut text = String::new();
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        for (name, kind, help, value) in [
            ("http_requests_in_flight", "gauge", "Requests that are being answered.", number(&self.going_on)),
            ("http_received_bytes_total", "counter", "Bytes of bodies that clients sent.", number(&self.received)),
            ("http_sent_bytes_total", "counter", "Bytes of bodies that clients were sent.", number(&self.sent)),
            ("http_connections", "gauge", "Connections that are there.", number(&self.connected)),
            ("http_connections_accepted_total", "counter", "Connections that were there.", number(&self.accepted)),
            (
                "http_connections_closed_for_others_total",
                "counter",
                "Connections that had nothing to do, or too many beside them, and gave way.",
                number(&self.turned_away),
            ),
        ] {
            let _ = writeln!(text, "# HELP kmsfs_{name} {help}\n# TYPE kmsfs_{name} {kind}\nkmsfs_{name} {value}");
        }
        let requests = self.requests.lock();
        head(&mut text, "requests_total", "counter", "Requests by operation and status; gone: its client has left.");
        for (what, counts) in requests.iter() {
            for (status, count) in &counts.statuses {
                let status = if *status == 0 { "gone".to_owned() } else { status.to_string() };
                let _ = writeln!(text, "kmsfs_http_requests_total{{{},status=\"{status}\"}} {count}", what.labels());
            }
        }
        let help = "Seconds from a request's head to the last byte of its answer.";
        head(&mut text, "request_duration_seconds", "histogram", help);
        for (what, counts) in requests.iter() {
            let (labels, name) = (what.labels(), "kmsfs_http_request_duration_seconds");
            let mut sum = 0;
            for (end, count) in BUCKETS.iter().zip(counts.took) {
                sum += count;
                let end = Duration::from_millis(*end).as_secs_f64();
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{end}\"}} {sum}");
            }
            let all: u64 = counts.statuses.values().sum();
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}");
            let _ = writeln!(text, "{name}_sum{{{labels}}} {}", counts.sum.as_secs_f64());
            let _ = writeln!(text, "{name}_count{{{labels}}} {all}");
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP kmsfs_http_{name} {help}\n# TYPE kmsfs_http_{name} {kind}");
}

impl What {
    fn labels(self) -> String {
        let operation = if self.operation.is_empty() { "unknown" } else { self.operation };
        format!("service=\"{}\",operation=\"{operation}\"", self.service)
    }
}

impl Measured {
    /// Bytes of the answer's body.
    pub(crate) fn sent(&self, bytes: usize) {
        self.metrics.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.going_on.fetch_sub(1, Ordering::Relaxed);
        self.metrics.count(self.what, self.status, self.began.elapsed());
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells them at `listener`, in a task of its own. To be called within the runtime.
///
/// # Errors
/// The listener cannot be used.
pub(crate) fn start(listener: Listener, metrics: Arc<Metrics>) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(tell_all(metrics, async move || Ok(listener.accept().await?.0)));
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            tokio::spawn(tell_all(metrics, async move || Ok(listener.accept().await?.0)));
        }
    }
    Ok(())
}

/// Whoever `accept` lets in, [`WATCHING`] of them at a time.
async fn tell_all<S>(metrics: Arc<Metrics>, accept: impl AsyncFn() -> io::Result<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(WATCHING));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok(stream) = accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let told = tell(stream, Arc::clone(&metrics));
        tokio::spawn(async move { (told.await, permit).0 });
    }
}

/// One request of one connection.
async fn tell(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, metrics: Arc<Metrics>) {
    let respond = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond);
    let _ = timeout(PATIENCE, served).await;
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Outgoing> {
    let is_known = request.uri().path() == "/metrics" && [Method::GET, Method::HEAD].contains(request.method());
    let body = match (is_known, request.method()) {
        (false, _) => Bytes::from_static(b"Here is GET /metrics and nothing else.\n"),
        (true, &Method::HEAD) => Bytes::new(),
        (true, _) => Bytes::from(metrics.text()),
    };
    let mut answer = Response::new(Outgoing::whole(body));
    let mut content_type = "text/plain; version=0.0.4";
    if !is_known {
        (*answer.status_mut(), content_type) = (StatusCode::NOT_FOUND, "text/plain");
    }
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status_and_by_what_they_took() {
        let metrics = Arc::new(Metrics::default());
        let put = What { service: "s3", operation: "PutObject" };
        for took in [1, 3, 100, 100_000] {
            metrics.count(put, 200, Duration::from_millis(took));
        }
        metrics.count(put, 503, Duration::from_millis(1));
        let mut measured = metrics.measure(What { service: "kms", operation: "" });
        measured.sent(7);
        measured.status = 400;
        assert!(metrics.text().contains("kmsfs_http_requests_in_flight 1\n"));
        drop(measured);
        drop(metrics.measure(put));
        metrics.received(5);
        let connected = metrics.connect();
        let text = metrics.text();
        for line in [
            "kmsfs_http_requests_in_flight 0",
            "kmsfs_http_received_bytes_total 5",
            "kmsfs_http_sent_bytes_total 7",
            "kmsfs_http_connections 1",
            "kmsfs_http_requests_total{service=\"s3\",operation=\"PutObject\",status=\"200\"} 4",
            "kmsfs_http_requests_total{service=\"s3\",operation=\"PutObject\",status=\"503\"} 1",
            "kmsfs_http_requests_total{service=\"s3\",operation=\"PutObject\",status=\"gone\"} 1",
            "kmsfs_http_requests_total{service=\"kms\",operation=\"unknown\",status=\"400\"} 1",
            "kmsfs_http_request_duration_seconds_bucket{service=\"s3\",operation=\"PutObject\",le=\"0.001\"} 3",
            "kmsfs_http_request_duration_seconds_bucket{service=\"s3\",operation=\"PutObject\",le=\"0.1\"} 5",
            "kmsfs_http_request_duration_seconds_bucket{service=\"s3\",operation=\"PutObject\",le=\"60\"} 5",
            "kmsfs_http_request_duration_seconds_bucket{service=\"s3\",operation=\"PutObject\",le=\"+Inf\"} 6",
            "kmsfs_http_request_duration_seconds_count{service=\"s3\",operation=\"PutObject\"} 6",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        // Each line is a comment, or a name with labels and a number.
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
        drop(connected);
        assert!(metrics.text().contains("kmsfs_http_connections 0\n"));
    }
}
