//! How a command gets what opens the keyring: from a file, another program, systemd, or the terminal. Never from an
//! argument, which every user of the machine can read.

use super::exit::{Exit, Failure, describe};
use super::strength::weakness;
use super::terminal::ask;
use super::text::{escape, shown};
use clap::Args;
use kmsfs_crypto::recovery_key::RecoveryKey;
use kmsfs_crypto::{SecretKey, key_file};
use kmsfs_kms_local::{Keyring, OpenError, Unlock};
use kmsfs_sys::private::{self, Access, Kind, Refusal};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Longest passphrase, in bytes: a line that is longer is not one.
const LONGEST: usize = 4096;
/// The credential that is used where nothing is said.
const CREDENTIAL: &str = "kmsfs";
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// What opens the keyring: options, and the variables that stand for them, in the order of the fields.
const SOURCES: [(&str, &str); 5] = [
    ("--key-file", "KMSFS_KEY_FILE"),
    ("--passphrase-file", "KMSFS_PASSPHRASE_FILE"),
    ("--passphrase-command", "KMSFS_PASSPHRASE_COMMAND"),
    ("--credential", "KMSFS_CREDENTIAL"),
    ("--recovery-key-file", "KMSFS_RECOVERY_KEY_FILE"),
];

#[derive(Args, Default, Clone, Debug, PartialEq, Eq)]
pub struct UnlockArgs {
    /// File with the 32-byte key that opens the keyring
    #[arg(long, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,
    /// File whose first line is the passphrase that opens the keyring
    #[arg(long, value_name = "FILE", global = true)]
    pub passphrase_file: Option<PathBuf>,
    /// Shell command whose first line of output is the passphrase, for password managers
    #[arg(long, value_name = "COMMAND", global = true)]
    pub passphrase_command: Option<OsString>,
    /// systemd credential with a passphrase or a key file's content (`kmsfs` if nothing is given and there is one)
    #[arg(long, value_name = "NAME", global = true)]
    pub credential: Option<OsString>,
    /// File with the recovery key; - for standard input or the terminal
    #[arg(long, value_name = "FILE", global = true)]
    pub recovery_key_file: Option<PathBuf>,
    /// How often a passphrase may be typed, where it is asked for on the terminal (3)
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub tries: Option<u8>,
}

const TRIES: u8 = 3;

impl UnlockArgs {
    /// What opens the keyring in that directory. A passphrase that is typed, and does not, is asked for again.
    pub fn read(&self, keyring: &Path) -> Result<Unlock, Failure> {
        self.read_for(&format!("keyring {}", shown(keyring)), |secret| Keyring::open(keyring, secret).map(drop))
    }

    /// The same of what has that name, and is opened that way.
    pub fn read_for(&self, what: &str, open: impl Fn(&Unlock) -> Result<(), OpenError>) -> Result<Unlock, Failure> {
        if let Some(unlock) = self.given()? {
            return Ok(unlock);
        }
        let mut left = self.tries.unwrap_or(TRIES);
        loop {
            left -= 1;
            let secret = Unlock::Passphrase(ask("Passphrase: ")?);
            // The last one is tried by whoever opens the keyring, and so is what fails for another reason.
            if left == 0 || !matches!(open(&secret), Err(OpenError::WrongKey)) {
                return Ok(secret);
            }
            eprintln!("kmsfs: wrong passphrase: it does not open the {what}");
        }
    }

    /// What a new keyring is to be opened with: a passphrase is asked for twice.
    pub fn read_new(&self) -> Result<Unlock, Failure> {
        self.given()?.map_or_else(ask_new, Ok)
    }

    pub fn is_empty(&self) -> bool {
        self.values().iter().all(Option::is_none)
    }

    /// With what the environment names where nothing is given. One of them opens the keyring, and no other is tried.
    pub fn or_environment(mut self) -> Result<Self, Failure> {
        let given = !self.is_empty();
        if !given {
            let [key_file, passphrase_file, passphrase_command, credential, recovery_key_file] =
                SOURCES.map(|(_, variable)| std::env::var_os(variable).filter(|value| !value.is_empty()));
            let path = |value: Option<OsString>| value.map(PathBuf::from);
            self = Self {
                key_file: path(key_file),
                passphrase_file: path(passphrase_file),
                passphrase_command,
                credential,
                recovery_key_file: path(recovery_key_file),
                tries: self.tries,
            };
        }
        let present = SOURCES.iter().zip(self.values()).filter(|(_, value)| value.is_some());
        let names: Vec<&str> = present.map(|((option, variable), _)| if given { *option } else { *variable }).collect();
        match names[..] {
            [one, other, ..] => {
                let what = if given { "are both given: say one" } else { "are both set: unset one, or say an option" };
                Err(Failure::usage(format!("{one} and {other} {what} of them, since one opens the keyring")))
            }
            _ => Ok(self),
        }
    }

    fn values(&self) -> [Option<&OsStr>; 5] {
        [
            self.key_file.as_ref().map(|path| path.as_os_str()),
            self.passphrase_file.as_ref().map(|path| path.as_os_str()),
            self.passphrase_command.as_deref(),
            self.credential.as_deref(),
            self.recovery_key_file.as_ref().map(|path| path.as_os_str()),
        ]
    }

    /// As words of a command line; no secret is among them.
    pub fn words(&self) -> Vec<OsString> {
        let given = SOURCES.iter().zip(self.values());
        given.filter_map(|((option, _), value)| Some([OsString::from(option), value?.to_owned()])).flatten().collect()
    }

    /// For a process that changes its directory.
    pub fn make_absolute(&mut self) -> Result<(), Failure> {
        let paths = [&mut self.key_file, &mut self.passphrase_file, &mut self.recovery_key_file];
        for path in paths.into_iter().flatten().filter(|path| path.as_os_str() != "-") {
            *path = std::path::absolute(&*path).map_err(|e| Failure::new(describe(&e)))?;
        }
        Ok(())
    }

    fn given(&self) -> Result<Option<Unlock>, Failure> {
        if let Some(path) = &self.key_file {
            return from_key_file(path).map(Some);
        }
        if let Some(path) = &self.passphrase_file {
            return Ok(Some(Unlock::Passphrase(first_line(path, "passphrase file")?)));
        }
        if let Some(command) = &self.passphrase_command {
            return Ok(Some(Unlock::Passphrase(from_command(command)?)));
        }
        if let Some(path) = &self.recovery_key_file {
            return recovery_key(path).map(Some);
        }
        match &self.credential {
            Some(name) => from_credential(name).map(Some),
            None => default_credential().map(|()| from_credential(CREDENTIAL.as_ref())).transpose(),
        }
    }
}

pub fn ask_new() -> Result<Unlock, Failure> {
    let first = ask("New passphrase: ")?;
    if let Some(why) = weakness(&first) {
        eprintln!("kmsfs: {why}");
    }
    if *first != *ask("The same again: ")? {
        return Err(Failure::with(Exit::Usage, "the two passphrases differ"));
    }
    Ok(Unlock::Passphrase(first))
}

pub fn from_key_file(path: &Path) -> Result<Unlock, Failure> {
    key_file::read(path).map(Unlock::KeyFile).map_err(|why| refused(path, &why))
}

/// A file of another size is the wrong key, whatever it is; one that cannot be read may be the right one.
fn refused(path: &Path, why: &str) -> Failure {
    let why = describe(&io::Error::other(why.to_owned()));
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() != SecretKey::LEN as u64) {
        return Failure::with(Exit::WrongKey, format!("wrong key file {}: {why}", shown(path)));
    }
    Failure::new(format!("key file {}: {why}", shown(path)))
}

pub fn recovery_key(path: &Path) -> Result<Unlock, Failure> {
    let (line, what) = if path.as_os_str() != "-" {
        (first_line(path, "recovery key file")?, format!("recovery key file {}", shown(path)))
    } else if io::IsTerminal::is_terminal(&io::stdin()) {
        (ask("Recovery key: ")?, "recovery key".into())
    } else {
        let line =
            read_line(io::stdin().lock()).map_err(|e| Failure::new(format!("recovery key: {}", describe(&e))))?;
        (line, "recovery key".into())
    };
    let key = RecoveryKey::parse(&line);
    let key = key.map_err(|why| Failure::with(Exit::WrongKey, format!("{what}: {why}")))?;
    Ok(Unlock::RecoveryKey(key.key()))
}

pub fn first_line(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fail = |error: io::Error| Failure::new(format!("{what} {}: {}", shown(path), describe(&error)));
    let line = read_line(open_secret(path, what)?).map_err(fail)?;
    usable(line).map_err(|why| Failure::new(format!("{what} {}: {why}", shown(path))))
}

fn open_secret(path: &Path, what: &str) -> Result<File, Failure> {
    private::open(path, Kind::SecretLine, Access::Read).map_err(|refusal| match refusal {
        Refusal::Io(error) => Failure::new(format!("{what} {}: {}", shown(path), describe(&error))),
        Refusal::Rule(_) => Failure::new(format!("{what} {}: {}", shown(path), escape(&refusal.to_string()))),
    })
}

/// A program's first line. It has this process's terminal and standard error, to ask and to tell.
pub fn from_command(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fail = |why: String| Failure::new(format!("passphrase command: {why}"));
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdout(Stdio::piped());
    let mut child = shell.spawn().map_err(|e| fail(format!("/bin/sh: {}", describe(&e))))?;
    let mut output = child.stdout.take().expect("it is piped");
    let line = read_line(&mut output);
    // The rest, which may be secret too, so that the command does not fail over it.
    let mut rest = Zeroizing::new([0; LONGEST]);
    while output.read(&mut rest[..]).is_ok_and(|read| read > 0) {}
    drop(output);
    let status = child.wait().map_err(|e| fail(describe(&e)))?;
    // timeout(1)'s own code, which users put before programs that may hang.
    match status.code() {
        Some(0) => {}
        Some(124) => return Err(fail("it ended with exit status 124, as timeout(1) does when time is over".into())),
        _ => return Err(fail(format!("it ended with {status}"))),
    }
    usable(line.map_err(|e| fail(describe(&e)))?).map_err(|why| fail(format!("{why}: its first line of output")))
}

/// Where systemd has put what LoadCredential= and the like name.
fn credential_path(name: &OsStr) -> Result<PathBuf, String> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.as_encoded_bytes().contains(&b'/');
    if !plain {
        return Err("a credential's name is that of a file, without a slash".into());
    }
    let directory = std::env::var_os(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty());
    let none = || format!("there are none: {CREDENTIALS_DIRECTORY} is not set; is LoadCredential= in the unit?");
    directory.map(|directory| PathBuf::from(directory).join(name)).ok_or_else(none)
}

fn default_credential() -> Option<()> {
    credential_path(CREDENTIAL.as_ref()).ok().filter(|path| path.exists()).map(drop)
}

/// 32 bytes that are no text are a key file's, anything else a passphrase's first line.
pub fn from_credential(name: &OsStr) -> Result<Unlock, Failure> {
    let fail = |why: String| Failure::new(format!("credential {}: {why}", shown(Path::new(name))));
    let path = credential_path(name).map_err(fail)?;
    let io = |error: io::Error| fail(format!("{}: {}", shown(&path), describe(&error)));
    let mut content = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    let mut file = open_secret(&path, "credential")?.take(LONGEST as u64 + 2);
    file.read_to_end(&mut content).map_err(io)?;
    if let Some(key) = key_file::from_bytes(&content) {
        return Ok(Unlock::KeyFile(key));
    }
    read_line(&content[..]).map_err(io).and_then(|line| usable(line).map_err(fail)).map(Unlock::Passphrase)
}

/// What to say where nothing opens the keyring, and nobody can be asked.
pub fn none_given() -> String {
    let list = |names: [&str; 5]| format!("{} or {}", names[..4].join(", "), names[4]);
    format!(
        "no key was given: use {}, set {}, or run it on a terminal to type a passphrase",
        list(SOURCES.map(|(option, _)| option)),
        list(SOURCES.map(|(_, variable)| variable))
    )
}

/// Up to a newline, which is not part of it, or a byte more than a passphrase has. No copy is left behind: the line has
/// its full size at once, and nothing is read ahead.
pub fn read_line(input: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    BufReader::with_capacity(1, input).take(LONGEST as u64 + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

pub fn usable(line: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, String> {
    match line.len() {
        0 => Err("the passphrase is empty".into()),
        1..=LONGEST => Ok(line),
        _ => Err(format!("the passphrase is longer than {LONGEST} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_passphrase_is_the_first_line_without_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        let read = || first_line(&path, "passphrase file");
        let write = |content: &str| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        for (content, expected) in [("word", "word"), ("word\n", "word"), ("two words \nmore", "two words ")] {
            write(content);
            assert_eq!(&read().unwrap()[..], expected.as_bytes());
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(read().unwrap_err().message.ends_with(": the passphrase is empty"));
        // Cut off, it would open for everybody who knows its beginning.
        std::fs::write(&path, "x".repeat(LONGEST) + "\n").unwrap();
        assert_eq!(read().unwrap().len(), LONGEST);
        std::fs::write(&path, "x".repeat(LONGEST + 1)).unwrap();
        assert!(read().unwrap_err().message.ends_with(": the passphrase is longer than 4096 bytes"));
    }

    #[test]
    fn a_command_gives_its_first_line_or_a_reason() {
        let run = |command: &str| from_command(command.as_ref());
        assert_eq!(&run("echo word; seq 100000").unwrap()[..], b"word");
        let said = |command: &str| run(command).unwrap_err().message;
        assert_eq!(said("echo word; exit 3"), "passphrase command: it ended with exit status: 3");
        assert!(said("kill -9 $$").starts_with("passphrase command: it ended with signal: 9"));
        assert_eq!(said("true"), "passphrase command: the passphrase is empty: its first line of output");
        let text = "passphrase command: it ended with exit status 124, as timeout(1) does when time is over";
        assert_eq!(said("timeout 0.1 sleep 60"), text);
    }

    #[test]
    fn one_thing_opens_a_keyring() {
        let both = UnlockArgs { key_file: Some("/k".into()), credential: Some("c".into()), ..UnlockArgs::default() };
        let failure = both.clone().or_environment().unwrap_err();
        let text = "--key-file and --credential are both given: say one of them, since one opens the keyring";
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Usage, text));
        assert_eq!(both.words(), ["--key-file", "/k", "--credential", "c"]);
    }

    #[test]
    fn a_credential_is_named_without_a_path() {
        for name in ["", ".", "..", "a/b", "/etc/shadow"] {
            assert!(credential_path(name.as_ref()).unwrap_err().contains("without a slash"), "{name}");
        }
    }
}
