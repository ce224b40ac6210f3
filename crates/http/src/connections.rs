//! Connections: accepted, bounded in number and in what they may wait for, and served until they end.

use crate::heads::{Ambiguous, Framing, Heads};
use crate::metrics::Connected;
use crate::places::{Place, Places, Unsent};
use crate::sending::{Files, Sending};
use crate::service::{Peer, Service};
use crate::stalling::Stalling;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use rustix::process::{Resource, getrlimit};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections at a time, where the limit on descriptors has room for them: each takes one, and one more for a file.
const MOST: usize = 16_384;
/// Descriptors for all else.
const OTHERS: usize = 256;
/// For the head of a request, from the end of the one before it: also how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// For a TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers. S3 has 8 KiB for headers; presigned URLs and metadata are longer together.
pub(crate) const HEAD: usize = 64 << 10;
/// Headers of a request.
pub(crate) const HEADERS: usize = 128;
/// Until it is looked again whether a connection has nothing to do.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Until there are descriptors again.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Where connections wait.
pub enum Listener {
    /// Of a network.
    Tcp(TcpListener),
    /// Of this machine.
    Unix(UnixListener),
}

/// Under which certificate connections are made, which may be another one for those that come.
pub struct Certificate(RwLock<Arc<ServerConfig>>);

impl Certificate {
    /// That one at first.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(RwLock::new(config))
    }

    /// From now on this one.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write() = config;
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read())
    }
}

/// How many connections there may be.
pub(crate) fn room() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    (descriptors.saturating_sub(OTHERS) / 2).clamp(16, MOST)
}

/// What accepting takes.
pub(crate) struct Accepting {
    pub(crate) service: Arc<Service>,
    pub(crate) tls: Option<Arc<Certificate>>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) places: Arc<Places>,
    pub(crate) stopped: watch::Receiver<bool>,
    /// Held by all that has to come to its end.
    pub(crate) there: mpsc::Sender<()>,
}

impl Accepting {
    /// In a task of its own. To be called within the runtime.
    pub(crate) fn start(self, listener: Listener) -> io::Result<()> {
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::spawn(self.run(Listening::Tcp(listener)));
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                tokio::spawn(self.run(Listening::Unix(listener)));
            }
        }
        Ok(())
    }

    async fn run(mut self, listener: Listening) {
        loop {
            // Those that there is no room for wait in the kernel, if none that is there has nothing to do.
            if self.room.available_permits() == 0 {
                self.places.make_room();
            }
            let permit = tokio::select! {
                permit = Arc::clone(&self.room).acquire_owned() => permit,
                // By now some may have nothing to do.
                () = sleep(LOOK_AGAIN) => continue,
                _ = self.stopped.changed() => return,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.stopped.changed() => return,
            };
            match accepted {
                Ok(stream) => self.spawn(stream, permit),
                Err(error) => {
                    log::debug!("a connection is not accepted: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: Stream, permit: OwnedSemaphorePermit) {
        let source = if let Stream::Tcp(_, peer) = &stream { peer.source } else { None };
        let Some(place) = self.places.take(source) else {
            self.service.metrics.turned_away();
            log::debug!("a connection is closed: its address has many, and all of them have something to do");
            return;
        };
        let connection = Connection {
            service: Arc::clone(&self.service),
            stopped: self.stopped.clone(),
            place: Arc::clone(&place),
            unsent: Unsent::default(),
            _connected: self.service.metrics.connect(),
            _permit: permit,
            _there: self.there.clone(),
        };
        let tls = self.tls.as_ref().map(|tls| tls.config());
        let metrics = Arc::clone(&self.service.metrics);
        let serving = async move {
            let unsent = connection.unsent.clone();
            match (stream, tls) {
                (Stream::Tcp(stream, peer), None) => {
                    let files = Files::default();
                    let stream = Sending::new(stream, files.clone(), unsent);
                    connection.serve(stream, peer, Some(files)).await;
                }
                (Stream::Tcp(stream, peer), Some(tls)) => {
                    let handshake = TlsAcceptor::from(tls).accept(stream);
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE_PATIENCE, handshake).await {
                        let stream = Stalling::new(stream, unsent);
                        connection.serve(stream, Peer { secure: true, ..peer }, None).await;
                    }
                }
                // What goes by it does not leave the machine.
                (Stream::Unix(stream), _) => {
                    let stream = Stalling::new(stream, unsent);
                    connection.serve(stream, Peer { source: None, secure: false }, None).await;
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                () = place.gives_way() => {
                    metrics.turned_away();
                    log::debug!("a connection gives way to another one");
                }
            }
        });
    }
}

enum Listening {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

enum Stream {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

impl Listening {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are short, and nobody waits for more of them.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream, Peer { source: Some(address.ip()), secure: false }))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

struct Connection {
    service: Arc<Service>,
    stopped: watch::Receiver<bool>,
    place: Arc<Place>,
    unsent: Unsent,
    _connected: Connected,
    _permit: OwnedSemaphorePermit,
    _there: mpsc::Sender<()>,
}

impl Connection {
    /// `stream` gives up a client that does not read, and tells when nothing is unsent; `files` where it sends files in
    /// place of what stands for them.
    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, files: Option<Files>) {
        let (service, place, framing) = (Arc::clone(&self.service), Arc::clone(&self.place), Framing::default());
        let (seen, unsent, count) = (framing.clone(), self.unsent.clone(), AtomicU64::new(0));
        let respond = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            // Its head is the last one that has been read so far, or one before that.
            if seen.is_ambiguous(count.fetch_add(1, Ordering::Relaxed) + 1) {
                request.extensions_mut().insert(Ambiguous);
            }
            let (service, busy, files) = (Arc::clone(&service), place.busy(), files.clone());
            let unsent = unsent.clone();
            async move {
                let mut answer = service.respond(request, peer).await?;
                let body = answer.body_mut();
                body.files = files;
                // Until the kernel has the last byte of it.
                body.answering = Some(unsent.answering(busy));
                Ok::<_, Infallible>(answer)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(HEAD)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(Heads::new(stream, framing)), respond);
        let mut served = pin!(served);
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            _ = self.stopped.changed() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            log::debug!("a connection has ended: {error}");
        }
    }
}
