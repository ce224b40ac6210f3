//! Where secrets come from.

use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
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
const LONGEST: u64 = 64 << 10;

impl Secret {
    /// All of it, as text; `timeout` is for commands.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no text, empty, or its file is for others too. The text names the source and shows
    /// nothing.
    pub(crate) fn read(&self, timeout: Duration) -> Result<Zeroizing<String>, String> {
        let bytes = match self {
            Self::File(path) => read_file(path, true).map_err(|error| format!("{}: {error}", path.display())),
            Self::Credential(name) => {
                let path = Self::credential_file(name)?;
                read_file(&path, false).map_err(|error| format!("the credential {name}: {error}"))
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

fn read_file(path: &PathBuf, alone: bool) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if alone && !metadata.file_type().is_fifo() && metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(io::Error::other(format!("its mode is {mode:04o}, others can read it: chmod 600")));
    }
    all_of(file)
}

/// Without copies that a growing buffer would leave.
fn all_of(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    source.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(io::Error::other("it is longer than any secret")) } else { Ok(bytes) }
}

/// What the command prints. One that does not end in time is killed.
fn output(command: &str, timeout: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut child =
        Command::new("/bin/sh").arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    let reading = move || drop(sender.send(all_of(stdout)));
    std::thread::Builder::new().name("kmsfs-secret".into()).spawn(reading)?;
    let printed = receiver.recv_timeout(timeout);
    if printed.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    match printed {
        Err(_) => Err(io::Error::other(format!("it did not end within {timeout:?}"))),
        Ok(_) if !status.success() => Err(io::Error::other(format!("it failed: {status}"))),
        Ok(printed) => printed,
    }
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
        assert!(of("exec cat /dev/zero").line(SOON).unwrap_err().contains("it "));
    }

    #[test]
    fn a_configuration_has_no_secret_in_it() {
        assert!(serde_json::from_str::<Secret>(r#""s.abc""#).is_err());
        assert!(serde_json::from_str::<Secret>(r#"{"value": "s.abc"}"#).is_err());
        assert!(Secret::credential_file("../x").is_err());
    }
}
