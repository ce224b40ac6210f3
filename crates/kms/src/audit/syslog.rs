//! An audit trail to the system's log, as security messages. Each process has a chain of its own there.

use super::chain::{Head, Loss};
use kmsfs_crypto::ChainKey;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SOCKET: &str = "/dev/log";
/// Facility authpriv, severity informational (RFC 5424).
const PRIORITY: u8 = 10 * 8 + 6;
/// A daemon that hangs may not hang the mount.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a process comes to a connection with the system's log.
pub type ConnectSyslog = Arc<dyn Fn() -> io::Result<UnixDatagram> + Send + Sync>;

/// By connecting.
pub fn connect_syslog() -> io::Result<UnixDatagram> {
    connect_to(SOCKET.as_ref())
}

fn connect_to(socket: &Path) -> io::Result<UnixDatagram> {
    let connection = UnixDatagram::unbound()?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.connect(socket)?;
    Ok(connection)
}

pub(crate) struct SyslogSink {
    connect: ConnectSyslog,
    connection: Option<UnixDatagram>,
    head: Head,
}

impl SyslogSink {
    pub(crate) fn new(connect: ConnectSyslog) -> Self {
        Self { connect, connection: None, head: Head::start() }
    }

    pub(crate) fn connect(&mut self) -> io::Result<()> {
        if self.connection.is_none() {
            let explain =
                |error: io::Error| io::Error::new(error.kind(), format!("syslog does not answer at {SOCKET}: {error}"));
            self.connection = Some((self.connect)().map_err(explain)?);
        }
        Ok(())
    }

    pub(crate) fn append(&mut self, key: &ChainKey, body: &str, loss: Loss) -> io::Result<()> {
        let (line, head) = self.head.seal(key, body, loss);
        let message = format!("<{PRIORITY}>kmsfs-audit[{}]: {line}", std::process::id());
        // A daemon that was started anew has a new socket.
        self.send(&message).or_else(|_| {
            self.connection = None;
            self.send(&message)
        })?;
        self.head = head;
        Ok(())
    }

    fn send(&mut self, message: &str) -> io::Result<()> {
        self.connect()?;
        let connection = self.connection.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        connection.send(message.as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify::{Writer, verify};
    use super::*;
    use kmsfs_crypto::SecretKey;

    #[test]
    fn records_reach_the_socket_and_can_be_verified_with_what_syslog_puts_before_them() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        let key = ChainKey::of_root(&SecretKey::random());
        let named = socket.clone();
        let mut sink = SyslogSink::new(Arc::new(move || connect_to(&named)));
        assert_eq!(sink.connect().unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut kept = String::new();
        for number in 1..=2 {
            // The second time at a new socket.
            let daemon = UnixDatagram::bind(&socket).unwrap();
            sink.append(&key, &format!("{{\"n\":{number}}}"), Loss::default()).unwrap();
            let mut message = vec![0; 65536];
            let len = daemon.recv(&mut message).unwrap();
            let message = std::str::from_utf8(&message[..len]).unwrap();
            let text = message.strip_prefix("<86>").unwrap();
            assert!(text.starts_with(&format!("kmsfs-audit[{}]: {{\"n\":{number}", std::process::id())), "{text}");
            kept = format!("{kept}2026-01-01T00:00:00 host {text}\n2026-01-01T00:00:00 host sshd[1]: hello\n");
            drop(daemon);
            std::fs::remove_file(&socket).unwrap();
        }
        let file = dir.path().join("messages");
        std::fs::write(&file, &kept).unwrap();
        let verification = verify(&key, std::slice::from_ref(&file), Writer::Syslog).unwrap();
        assert_eq!((verification.records, verification.findings.len(), verification.others), (2, 0, 2));
        std::fs::write(&file, kept.replace("\"n\":2", "\"n\":3")).unwrap();
        assert_eq!(verify(&key, &[file], Writer::Syslog).unwrap().findings.len(), 1);
    }
}
