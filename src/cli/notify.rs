//! Tells systemd how far this process is: sd_notify(3)'s protocol, a datagram to the socket in `NOTIFY_SOCKET`.

use super::text::shown;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The service manager's socket. It is connected early: later this process may not, and systemd listens to no other
/// process.
pub struct Notify(Option<UnixDatagram>);

impl Notify {
    /// Whether anybody listens makes no difference to the mount.
    pub fn connect() -> Self {
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let connected = connect(&socket)
            .inspect_err(|error| log::warn!("systemd is not told: NOTIFY_SOCKET={}: {error}", socket.display()));
        Self(connected.ok())
    }

    /// The mount is ready.
    pub fn ready(&self, target: &Path) {
        // Escaped: a line break in the path would begin another variable.
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS=mounted on {}\n", std::process::id(), shown(target)));
    }

    /// The mount has ended and the store is being closed.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=unmounted, writing everything home\n");
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(state.as_bytes())
        {
            log::warn!("systemd is not told: {error}");
        }
    }
}

/// A name that begins with `@` is in the abstract namespace.
fn connect(socket: &OsStr) -> io::Result<UnixDatagram> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let connected = UnixDatagram::unbound()?;
    connected.connect_addr(&address)?;
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_a_directory_and_an_abstract_one_both_hear() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let in_dir = UnixDatagram::bind(&path).unwrap();
        let name = format!("kmsfs-test-{}", std::process::id());
        let in_abstract = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (address, listener) in [(path.into_os_string(), in_dir), (format!("@{name}").into(), in_abstract)] {
            Notify(Some(connect(&address).unwrap())).tell("READY=1\n");
            let mut heard = [0; 20];
            assert_eq!(listener.recv(&mut heard).map(|len| heard[..len].to_vec()).unwrap(), b"READY=1\n");
        }
    }

    #[test]
    fn nobody_listening_is_an_error_and_no_wait() {
        assert!(connect(OsStr::new("/nonexistent/socket")).is_err());
    }
}
