//! The front as a whole: from its parts until it is told to end.

use crate::access_log::AccessLog;
use crate::authority::Authority;
use crate::connections::{self, Certificate, Listener};
use crate::metrics;
use crate::places::Places;
use crate::service::Service;
use crate::turns;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};

/// How long what is being answered may take when the front is to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Threads that wait for files and for the authority.
const BLOCKING_THREADS: usize = 32 * turns::FILES + CHANNELS;
/// To the authority, of both kinds together, at most.
const CHANNELS: usize = 32;
/// Bytes of a thread's stack.
const STACK: usize = 512 << 10;

/// What the front is told about the store that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The only region.
    pub region: String,
    /// 12 digits.
    pub account_id: String,
    /// Names that clients know the server by, beside `localhost`: `BUCKET.NAME` is a bucket's.
    pub names: Vec<String>,
    /// How long what a user's worker may do is not looked up again.
    pub worker_lifetime: Duration,
}

/// All parts, before the first connection.
pub struct Front {
    /// Where connections wait.
    pub listeners: Vec<Listener>,
    /// Whom it asks about signatures.
    pub authority: Authority,
    /// What is served.
    pub settings: Settings,
    /// Where it is told what has been done.
    pub metrics: Option<Listener>,
    /// Under which certificate, where it is over a network.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where each request has a line.
    pub access_log: Option<File>,
}

/// A front that accepts connections. When it is dropped, those that are there are cut off.
pub struct Running {
    runtime: Mutex<Option<Runtime>>,
    stop: watch::Sender<bool>,
    /// Closed when no connection is left.
    ended: Mutex<mpsc::Receiver<()>>,
    tls: Option<Arc<Certificate>>,
    access_log: Option<Arc<AccessLog>>,
}

impl Front {
    /// Begins to accept connections, with threads of its own.
    ///
    /// # Errors
    /// The kernel has no threads or no descriptors for it.
    pub fn run(self) -> io::Result<Running> {
        let Self { listeners, authority, settings, metrics, tls, access_log } = self;
        let tls = tls.map(|tls| Arc::new(Certificate::new(tls)));
        let access_log = access_log.map(|file| Arc::new(AccessLog::new(file)));
        let runtime = Builder::new_multi_thread()
            .enable_io()
            .enable_time()
            .thread_name("kmsfs-http")
            .thread_stack_size(STACK)
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let worker_lifetime = settings.worker_lifetime;
        let (stop, stopped) = watch::channel(false);
        let (there, ended) = mpsc::channel(1);
        let service = Arc::new(Service::new(authority, settings, access_log.clone()));
        {
            let _entered = runtime.enter();
            if let Some(listener) = metrics {
                metrics::start(listener, Arc::clone(&service.metrics))?;
            }
            tokio::spawn(retire(Arc::downgrade(&service), worker_lifetime));
            let most = connections::room();
            let (room, places) = (Arc::new(Semaphore::new(most)), Places::new(most));
            for listener in listeners {
                let accepting = connections::Accepting {
                    service: Arc::clone(&service),
                    tls: tls.clone(),
                    room: Arc::clone(&room),
                    places: Arc::clone(&places),
                    stopped: stopped.clone(),
                    there: there.clone(),
                };
                accepting.start(listener)?;
            }
        }
        Ok(Running { runtime: Mutex::new(Some(runtime)), stop, ended: Mutex::new(ended), tls, access_log })
    }
}

impl Running {
    /// Connections that come are made under this certificate; those that are there stay as they are.
    ///
    /// # Errors
    /// There was none before: what is served without one is so until the end.
    pub fn renew(&self, tls: Arc<ServerConfig>) -> io::Result<()> {
        let certificate = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        certificate.replace(tls);
        Ok(())
    }

    /// Requests have their lines in this file from now on.
    ///
    /// # Errors
    /// They had none before.
    pub fn log_to(&self, file: File) -> io::Result<()> {
        self.access_log.as_ref().ok_or(io::ErrorKind::Unsupported)?.replace(file);
        Ok(())
    }

    /// Accepts no more connections and waits until what is being answered has been.
    pub fn end(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        self.stop.send_replace(true);
        let ended = &mut *self.ended.lock();
        runtime.block_on(async {
            if tokio::time::timeout(PATIENCE, ended.recv()).await.is_err() {
                log::warn!("requests are cut off that took longer than {} seconds at the end", PATIENCE.as_secs());
            }
        });
        runtime.shutdown_background();
    }
}

/// Lets go of workers whose time is over, until the service is gone.
async fn retire(service: Weak<Service>, lifetime: Duration) {
    let mut ticks = tokio::time::interval(lifetime.clamp(Duration::from_millis(100), Duration::from_secs(1)));
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else { return };
        service.users.retire();
    }
}

/// A certificate chain and its private key, both in PEM, for TLS 1.2 and 1.3.
///
/// # Errors
/// `InvalidData`: they are none, or not of each other.
pub fn tls(certificates: &str, key: &str) -> io::Result<Arc<ServerConfig>> {
    let invalid = |what: &str, why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {why}"));
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|why| invalid("the certificate", why.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|why| invalid("the certificate's private key", why.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|why| invalid("TLS", why.to_string()))?.with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).map_err(|why| invalid("the certificate", why.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
