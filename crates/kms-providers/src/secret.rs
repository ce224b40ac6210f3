//! Where secrets come from.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Where a secret is read from, each time it is needed: what renews it (an agent, a rotation) tells nobody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Secret {
    /// A file for its owner alone, or a pipe.
    File(PathBuf),
    /// A systemd credential, by its name.
    Credential(String),
    /// What `/bin/sh -c` prints of it.
    Command(String),
}

/// Bytes of a secret at most.
const LONGEST: usize = 64 << 10;

impl Secret {
    /// All of it, as text: nobody waits longer than `timeout` for a pipe or a command.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no text, empty, or its file is for others too. The text names the source and shows
    /// nothing.
    pub(crate) fn read(&self, timeout: Duration) -> Result<Zeroizing<String>, String> {
        let bytes = match self {
            Self::File(path) => read_file(path, true, timeout).map_err(|error| format!("{}: {error}", path.display())),
            Self::Credential(name) => {
                let path = Self::credential_file(name)?;
                read_file(&path, false, timeout).map_err(|error| format!("the credential {name}: {error}"))
            }
            Self::Command(command) => {
                output(command, timeout).map_err(|error| format!("the command `{command}`: {error}"))
            }
        }?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if !text.trim().is_empty() => Ok(Zeroizing::new(text.to_owned())),
            _ => Err(format!("{self}: it is empty, or no text")),
        }
    }

    /// Its first line.
    pub(crate) fn line(&self, timeout: Duration) -> Result<Zeroizing<String>, String> {
        let text = self.read(timeout)?;
        Ok(Zeroizing::new(text.trim_start().lines().next().unwrap_or_default().trim_end().to_owned()))
    }

    pub(crate) fn credential_file(name: &str) -> Result<PathBuf, String> {
        let dir = std::env::var_os("CREDENTIALS_DIRECTORY")
            .ok_or_else(|| format!("the credential {name}: systemd gave none (CREDENTIALS_DIRECTORY is not set)"))?;
        let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if plain { Ok(PathBuf::from(dir).join(name)) } else { Err(format!("'{name}' is no name of a credential")) }
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "the credential {name}"),
            Self::Command(command) => write!(f, "the command `{command}`"),
        }
    }
}

fn read_file(path: &Path, alone: bool, timeout: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe that nobody writes to would be waited for.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if alone && !metadata.file_type().is_fifo() && metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(io::Error::other(format!("its mode is {mode:04o}, others can read it: chmod 600")));
    }
    all_of(file, Instant::now() + timeout)
}

/// What is read until it ends, without copies that a growing buffer would leave.
fn all_of(mut source: impl Read + AsFd, until: Instant) -> io::Result<Zeroizing<Vec<u8>>> {
    let (mut bytes, mut len) = (Zeroizing::new(vec![0; LONGEST + 1]), 0);
    loop {
        if !is_ready(&source, until)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time"));
        }
        match source.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock].contains(&error.kind()) => {}
            Err(error) => return Err(error),
        }
        if len > LONGEST {
            return Err(io::Error::other("it is longer than any secret"));
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn is_ready(source: &impl AsFd, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What the command prints. One that does not end in time is killed, with all that it has started.
fn output(command: &str, timeout: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    const LOOK: Duration = Duration::from_millis(5);
    let until = Instant::now() + timeout;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = shell.spawn()?;
    let printed = all_of(child.stdout.take().expect("it is piped"), until);
    // It may have closed its output, and go on.
    let mut status = None;
    while printed.is_ok() && status.is_none() && Instant::now() < until {
        status = child.try_wait()?;
        if status.is_none() {
            std::thread::sleep(LOOK);
        }
    }
    let Some(status) = status else {
        if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill();
        child.wait()?;
        return match printed {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(error),
            _ => Err(io::Error::other(format!("it did not end within {timeout:?}"))),
        };
    };
    if status.success() { printed } else { Err(io::Error::other(format!("it failed: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn a_file_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "  s.abc  \nmore\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let secret = Secret::File(path.clone());
        mode(0o600);
        assert_eq!(secret.line(SOON).unwrap().as_str(), "s.abc");
        mode(0o640);
        assert!(secret.line(SOON).unwrap_err().contains("its mode is 0640"));
        mode(0o600);
        for wrong in [&b"\n \n"[..], b"\xff", b""] {
            std::fs::write(&path, wrong).unwrap();
            assert!(secret.line(SOON).unwrap_err().contains("empty, or no text"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(secret.line(SOON).unwrap_err().contains("token: No such file"));
    }

    #[test]
    fn a_command_prints_it_and_one_that_hangs_is_killed() {
        let of = |command: &str| Secret::Command(command.to_owned());
        assert_eq!(of("printf 'x\\ny'").line(SOON).unwrap().as_str(), "x");
        assert!(of("echo x; exit 3").line(SOON).unwrap_err().contains("exit status: 3"));
        assert!(of("exec sleep 1000").line(Duration::from_millis(50)).unwrap_err().contains("did not end within"));
        assert!(of("exec cat /dev/zero").line(SOON).unwrap_err().contains("longer than any secret"));
        // Whoever has closed his output, and whoever has started others, ends too.
        let dir = tempfile::tempdir().unwrap();
        let (soon, mark) = (Duration::from_millis(100), dir.path().join("pid"));
        assert!(of("echo x; exec >&-; sleep 1000").line(soon).unwrap_err().contains("did not end within"));
        let others = format!("sleep 1000 & echo $! > {}; wait", mark.display());
        assert!(of(&others).line(SOON / 60).unwrap_err().contains("did not end within"));
        let pid = std::fs::read_to_string(mark).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        let since = Instant::now();
        while state().is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(since.elapsed() < SOON, "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let secret = Secret::File(path.clone());
        assert!(secret.line(Duration::from_millis(50)).unwrap_err().contains("did not end in time"));
        let writing = std::thread::spawn(move || std::fs::write(path, "s.abc\n").unwrap());
        assert_eq!(secret.line(SOON).unwrap().as_str(), "s.abc");
        writing.join().unwrap();
    }

    #[test]
    fn a_configuration_has_no_secret_in_it() {
        assert!(serde_json::from_str::<Secret>(r#""s.abc""#).is_err());
        assert!(serde_json::from_str::<Secret>(r#"{"value": "s.abc"}"#).is_err());
        assert!(Secret::credential_file("../x").is_err());
    }
}
