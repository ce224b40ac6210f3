//! Where connections are accepted, and under which certificate.

use crate::cli::exit::{Failure, describe};
use crate::cli::sockets::bind_socket;
use crate::cli::text::shown;
use clap::Args;
use kmsfs_sys::private::{self, Access, Kind};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[derive(Args, Clone)]
pub struct ListenArgs {
    /// Address and port to listen at, 127.0.0.1:9000 if nothing is said; port 0 is one that is free. Another address
    /// than this machine's own loopback needs a certificate
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Listen at this socket in the file system too, or instead
    #[arg(long, value_name = "SOCKET")]
    unix: Option<PathBuf>,
    /// Tell what has been done, in the form of Prometheus, at this address of the machine's own loopback or at this
    /// socket in the file system: GET /metrics
    #[arg(long, value_name = "ADDRESS:PORT|SOCKET")]
    metrics: Option<String>,
    /// PEM file with the certificate and those that lead to its root
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key, readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Sockets that connections wait at.
pub struct Listening {
    pub tcp: Vec<TcpListener>,
    pub unix: Vec<UnixListener>,
    pub metrics: Option<Metrics>,
    /// For what comes over a network.
    pub tls: Option<Pem>,
    names: Vec<String>,
    metrics_name: Option<String>,
}

/// Where it is told what has been done.
pub enum Metrics {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsFd for Metrics {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A certificate chain and its private key.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Pem {
    pub certificates: String,
    pub key: String,
}

/// Most bytes of a PEM file.
const LONGEST_PEM: u64 = 48 << 10;
/// Each is a descriptor that the front is given.
const MOST: usize = 4;

impl ListenArgs {
    /// While this process still may.
    pub fn bind(&self) -> Result<Listening, Failure> {
        let tls = self.pem_files().map(|(certificate, key)| {
            let (certificates, mut key) = (read_certificate(certificate)?, read_key(key)?);
            Ok::<_, Failure>(Pem { certificates, key: std::mem::take(&mut *key) })
        });
        let tls = tls.transpose()?;
        let usual = || SocketAddr::from(([127, 0, 0, 1], 9000));
        let addresses = match (&self.listen[..], &self.unix) {
            ([], None) => vec![usual()],
            (given, _) => given.to_vec(),
        };
        if addresses.len() > MOST {
            return Err(Failure::usage(format!("--listen may be given {MOST} times at most")));
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (mut tcp, mut names) = (Vec::new(), Vec::new());
        for address in addresses {
            if tls.is_none() && !address.ip().is_loopback() {
                return Err(Failure::usage(format!(
                    "{address} can be reached from elsewhere: it needs --tls-cert and --tls-key, since requests and \
                     objects would be readable on the way"
                )));
            }
            let failed = |e: io::Error| Failure::new(format!("cannot listen at {address}: {}", describe(&e)));
            let listener = TcpListener::bind(address).map_err(failed)?;
            names.push(format!("{scheme}://{}", listener.local_addr().map_err(failed)?));
            tcp.push(listener);
        }
        let unix = self.unix.as_deref().map(bind_unix).transpose()?;
        names.extend(self.unix.iter().map(|path| format!("unix:{}", shown(path))));
        let metrics = self.metrics.as_deref().map(bind_metrics).transpose()?;
        let (metrics, metrics_name) = metrics.unzip();
        Ok(Listening { tcp, unix: unix.into_iter().collect(), metrics, tls, names, metrics_name })
    }

    /// Of the certificate and its key.
    pub fn pem_files(&self) -> Option<(&Path, &Path)> {
        Some((self.tls_cert.as_deref()?, self.tls_key.as_deref()?))
    }
}

impl Listening {
    /// Where it tells what has been done.
    pub fn metrics_url(&self) -> Option<String> {
        self.metrics_name.clone()
    }

    /// Where it can be reached.
    pub fn urls(&self) -> Vec<String> {
        self.names.clone()
    }
}

/// Nobody signs for it, so it is for this machine alone.
fn bind_metrics(place: &str) -> Result<(Metrics, String), Failure> {
    let Ok(address) = place.parse::<SocketAddr>() else {
        let path = Path::new(place);
        return Ok((Metrics::Unix(bind_unix(path)?), format!("unix:{}", shown(path))));
    };
    if !address.ip().is_loopback() {
        return Err(Failure::usage(format!("{address} can be reached from elsewhere: --metrics is for this machine")));
    }
    let failed = |e: io::Error| Failure::new(format!("cannot listen at {address}: {}", describe(&e)));
    let listener = TcpListener::bind(address).map_err(failed)?;
    let name = format!("http://{}/metrics", listener.local_addr().map_err(failed)?);
    Ok((Metrics::Tcp(listener), name))
}

impl Pem {
    /// Of files that were opened.
    ///
    /// # Errors
    /// They cannot be read, or are no text.
    pub fn read(certificates: fs::File, key: fs::File) -> io::Result<Self> {
        Ok(Self { certificates: read_text(certificates)?, key: std::mem::take(&mut *read_secret(key)?) })
    }
}

fn bind_unix(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |e: io::Error| Failure::new(format!("cannot listen at {}: {}", shown(path), describe(&e)));
    bind_socket(path).map_err(failed)
}

fn read_certificate(path: &Path) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::new(format!("certificate {}: {}", shown(path), describe(&e)));
    fs::File::open(path).and_then(read_text).map_err(failed)
}

fn read_text(file: fs::File) -> io::Result<String> {
    let mut text = String::new();
    file.take(LONGEST_PEM).read_to_string(&mut text)?;
    Ok(text)
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |e: io::Error| Failure::new(format!("private key {}: {}", shown(path), describe(&e)));
    let file = private::open(path, Kind::Secret, Access::Read).map_err(|refusal| failed(refusal.about(path)))?;
    read_secret(file).map_err(failed)
}

fn read_secret(file: fs::File) -> io::Result<Zeroizing<String>> {
    // Not moved as it grows.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_PEM as usize));
    file.take(LONGEST_PEM).read_to_string(&mut text)?;
    Ok(text)
}
