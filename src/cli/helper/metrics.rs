//! `-o metrics=`: the process that tells Prometheus how the mount is. It has no key, opens nothing and asks the mount
//! as `kmsfs status` does, so what strangers send is read by nobody who could lose anything by it.

use super::{Answer, Duty, Helper};
use crate::cli::exit::{Failure, describe};
use crate::cli::prometheus;
use crate::cli::sandbox;
use crate::cli::text::shown;
use kmsfs_client::attributes;
use kmsfs_fuse::STATUS;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a request's head.
const LONGEST: usize = 8 << 10;
/// How long a client may take to send it, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Internet(SocketAddr),
    Socket(PathBuf),
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Socket(text.into()));
        }
        text.parse()
            .map(Self::Internet)
            .map_err(|_| "must be an address and port, as 127.0.0.1:9100, or a socket's path")
    }
}

impl Address {
    fn bind(&self) -> Result<(OwnedFd, Kind), Failure> {
        match self {
            Self::Internet(address) => {
                let failed = |e: io::Error| Failure::new(format!("metrics on {address}: {}", describe(&e)));
                Ok((TcpListener::bind(address).map_err(failed)?.into(), Kind::Internet))
            }
            Self::Socket(path) => {
                let failed = |e: io::Error| Failure::new(format!("metrics on {}: {}", shown(path), describe(&e)));
                Ok((bind_socket(path).map_err(failed)?.into(), Kind::Socket))
            }
        }
    }
}

/// A socket that a process left behind, and nobody listens on any more, is replaced.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let is_left = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_left {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The process, as long as this is kept.
pub struct Metrics {
    helper: Helper,
}

impl Metrics {
    /// About the mount that will be at `target`.
    pub fn start(address: &Address, target: &Path, confined: bool) -> Result<Self, Failure> {
        let (listener, kind) = address.bind()?;
        let about = About { target: target.as_os_str().as_bytes().to_vec(), kind, confined };
        let helper = Helper::start_with::<Telling>(&about, 1, &[listener.as_fd()]);
        let helper = helper.map_err(|e| Failure::new(format!("cannot start a process: {}", describe(&e))))?;
        Ok(Self { helper })
    }

    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Kind {
    Internet,
    Socket,
}

#[derive(Serialize, Deserialize)]
pub struct About {
    target: Vec<u8>,
    kind: Kind,
    confined: bool,
}

/// The process's own side.
pub struct Telling;

impl Duty for Telling {
    const WORD: &'static str = "__tell_metrics";
    type About = About;

    fn given(_about: &About) -> usize {
        1
    }

    fn begin(about: About, mut given: Vec<OwnedFd>) -> Self {
        if about.confined {
            sandbox::enter_to_tell_metrics();
        }
        let target = PathBuf::from(OsStr::from_bytes(&about.target));
        if let Some(listener) = given.pop() {
            // One after the other: Prometheus asks every few seconds.
            let telling = move || match about.kind {
                Kind::Internet => {
                    let listener = TcpListener::from(listener);
                    while let Ok((stream, _)) = listener.accept() {
                        let _ = of_internet(&stream).and_then(|()| tell(&stream, &target));
                    }
                }
                Kind::Socket => {
                    let listener = UnixListener::from(listener);
                    while let Ok((stream, _)) = listener.accept() {
                        let _ = of_socket(&stream).and_then(|()| tell(&stream, &target));
                    }
                }
            };
            let _ = thread::Builder::new().spawn(telling);
        }
        Self
    }

    fn obey(&self, _verb: u8, _what: &[u8]) -> io::Result<Answer> {
        Err(Errno::INVAL.into())
    }
}

fn of_internet(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn of_socket(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn tell<S>(stream: &S, target: &Path) -> io::Result<()>
where
    for<'a> &'a S: Read + Write,
{
    let (status, text) = answer(&head(stream)?, || {
        let status = attributes::get(target, STATUS).ok().flatten()?;
        let status = serde_json::from_str::<Map<String, Value>>(&status).ok()?;
        Some((status, rustix::fs::statvfs(target).ok()))
    });
    let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
    let head = format!("HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    { stream }.write_all(&[head.as_bytes(), text.as_bytes()].concat())
}

/// Up to the empty line that ends it, or as much of it as is looked at.
fn head<S>(stream: &S) -> io::Result<Vec<u8>>
where
    for<'a> &'a S: Read,
{
    let (since, mut head, mut piece) = (Instant::now(), Vec::new(), [0; 1024]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        // Each read has its own patience; all of them together have it too.
        if head.len() > LONGEST || since.elapsed() > PATIENCE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match { stream }.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    Ok(head)
}

type Status = (Map<String, Value>, Option<rustix::fs::StatVfs>);

fn answer(head: &[u8], status: impl FnOnce() -> Option<Status>) -> (&'static str, String) {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics") => match status() {
            Some((status, space)) => ("200 OK", prometheus::text(&status, space.as_ref())),
            None => ("503 Service Unavailable", "the mount does not answer\n".into()),
        },
        (b"GET", b"/healthz") => match status().map(|(status, _)| crate::cli::status::ill(&status)) {
            Some(None) => ("200 OK", "ok\n".into()),
            Some(Some(why)) => ("503 Service Unavailable", format!("the mount {why}\n")),
            None => ("503 Service Unavailable", "the mount does not answer\n".into()),
        },
        (b"GET", _) => ("404 Not Found", "there are /metrics and /healthz\n".into()),
        _ => ("405 Method Not Allowed", "only GET is answered\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_of_the_internet_or_a_socket() {
        assert_eq!("127.0.0.1:9100".parse(), Ok(Address::Internet("127.0.0.1:9100".parse().unwrap())));
        assert_eq!("[::1]:9100".parse(), Ok(Address::Internet("[::1]:9100".parse().unwrap())));
        assert_eq!("/run/kmsfs".parse(), Ok(Address::Socket("/run/kmsfs".into())));
        for wrong in ["", "9100", "localhost:9100", "run/kmsfs"] {
            assert!(Address::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_request_has_its_answer() {
        let well = || Some((json!({"UptimeSeconds": 5}).as_object().unwrap().clone(), None));
        let ask = |line: &str| answer(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), well);
        assert_eq!(ask("GET /healthz"), ("200 OK", "ok\n".into()));
        assert!(ask("GET /metrics?x=y").1.contains("kmsfs_uptime_seconds 5\n"));
        assert_eq!(ask("GET /").0, "404 Not Found");
        assert_eq!(ask("POST /metrics").0, "405 Method Not Allowed");
        assert_eq!(answer(b"GET /metrics HTTP/1.1\r\n\r\n", || None).0, "503 Service Unavailable");
        assert_eq!(answer(b"\0\xff", || None).0, "405 Method Not Allowed");
        let failed = || Some((json!({"ReadOnly": true, "MountedReadOnly": false}).as_object().unwrap().clone(), None));
        assert_eq!(answer(b"GET /healthz HTTP/1.1\r\n\r\n", failed).0, "503 Service Unavailable");
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = bind_socket(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        drop(bind_socket(&path).unwrap());
        let file = dir.path().join("file");
        fs::write(&file, b"mine").unwrap();
        assert_eq!(bind_socket(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }
}
