//! `-o metrics=`: the process that tells Prometheus how the mount is. It has no key, opens nothing and asks the mount
//! as `kmsfs status` does, so what strangers send is read by nobody who could lose anything by it.

use super::{Answer, Duty, Helper};
use crate::cli::exit::{Failure, describe};
use crate::cli::prometheus;
use crate::cli::sandbox;
use crate::cli::sockets::bind_socket;
use crate::cli::text::shown;
use kmsfs_client::attributes;
use kmsfs_fuse::STATUS;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a request's head.
const LONGEST: usize = 8 << 10;
/// How long a client may take to send it, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that are answered at a time: one that is slow keeps none of the others waiting.
const WATCHING: usize = 8;
/// After a client that could not be accepted, as where descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

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
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Internet(address)),
            // Nobody signs for it, so it is for this machine alone.
            Ok(_) => Err("can be reached from elsewhere: must be a loopback address, as 127.0.0.1:9100"),
            Err(_) => Err("must be an address and port, as 127.0.0.1:9100, or a socket's path"),
        }
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
                Ok((bind_own_socket(path).map_err(failed)?.into(), Kind::Socket))
            }
        }
    }
}

/// For the user who mounts.
fn bind_own_socket(path: &Path) -> io::Result<UnixListener> {
    let listener = bind_socket(path)?;
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
            let listener = Arc::new(match about.kind {
                Kind::Internet => Listener::Internet(listener.into()),
                Kind::Socket => Listener::Socket(listener.into()),
            });
            for _ in 0..WATCHING {
                let (listener, target) = (Arc::clone(&listener), target.clone());
                let answers = iter::repeat_with(move || listener.answer_one(&target));
                let _ = thread::Builder::new().spawn(move || go_on(answers));
            }
        }
        Self
    }

    fn obey(&self, _verb: u8, _what: &[u8]) -> io::Result<Answer> {
        Err(Errno::INVAL.into())
    }
}

enum Listener {
    Internet(TcpListener),
    Socket(UnixListener),
}

impl Listener {
    /// Fails where nobody could be accepted. That a client has gone is no failure.
    fn answer_one(&self, target: &Path) -> io::Result<()> {
        match self {
            Self::Internet(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let _ = tell(&stream, target);
            }
            Self::Socket(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let _ = tell(&stream, target);
            }
        }
        Ok(())
    }
}

/// What fails now may succeed later: descriptors and memory come back.
fn go_on(answers: impl Iterator<Item = io::Result<()>>) {
    for answer in answers {
        if answer.is_err() {
            thread::sleep(PAUSE);
        }
    }
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
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_address_is_of_the_internet_or_a_socket() {
        assert_eq!("127.0.0.1:9100".parse(), Ok(Address::Internet("127.0.0.1:9100".parse().unwrap())));
        assert_eq!("[::1]:9100".parse(), Ok(Address::Internet("[::1]:9100".parse().unwrap())));
        assert_eq!("/run/kmsfs".parse(), Ok(Address::Socket("/run/kmsfs".into())));
        for wrong in ["", "9100", "localhost:9100", "run/kmsfs"] {
            assert!(Address::from_str(wrong).is_err(), "{wrong}");
        }
        for elsewhere in ["0.0.0.0:9100", "[::]:9100", "192.0.2.1:9100"] {
            assert!(Address::from_str(elsewhere).unwrap_err().starts_with("can be reached from elsewhere"));
        }
    }

    #[test]
    fn a_client_that_cannot_be_accepted_is_not_the_last() {
        let full = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        let mut left = vec![Ok(()), full(), Ok(()), full()];
        go_on(iter::from_fn(|| left.pop()));
        assert!(left.is_empty());
        // It is tried again where it failed, and the next client has an answer.
        let dir = tempfile::tempdir().unwrap();
        let listener = bind_own_socket(&dir.path().join("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = Listener::Socket(listener);
        assert_eq!(listener.answer_one(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut client = UnixStream::connect(dir.path().join("socket")).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        go_on(iter::once(listener.answer_one(dir.path())));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 Not Found"), "{answer}");
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
        let listener = bind_own_socket(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_own_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        drop(bind_own_socket(&path).unwrap());
        let file = dir.path().join("file");
        fs::write(&file, b"mine").unwrap();
        assert_eq!(bind_own_socket(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }
}
