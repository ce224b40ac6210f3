//! How a command gets what opens the keyring: a key file, a file with a passphrase, or a prompt.

use super::exit::{Exit, Failure, describe};
use super::text::shown;
use crate::crypto::{SecretKey, key_file};
use crate::kms::Unlock;
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase, in bytes: a line that is longer is not one.
const LONGEST: usize = 4096;

#[derive(Args, Default, Clone, Debug)]
pub struct UnlockArgs {
    /// File with the 32-byte key that opens the keyring
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// File whose first line is the passphrase that opens the keyring
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,
}

impl UnlockArgs {
    /// What opens a keyring that exists.
    pub fn read(&self) -> Result<Unlock, Failure> {
        match self.given_in_files()? {
            Some(unlock) => Ok(unlock),
            None => Ok(Unlock::Passphrase(ask("Passphrase: ")?)),
        }
    }

    /// What a new keyring is to be opened with: a passphrase is asked for twice.
    pub fn read_new(&self) -> Result<Unlock, Failure> {
        if let Some(unlock) = self.given_in_files()? {
            return Ok(unlock);
        }
        let first = ask("New passphrase: ")?;
        if *first != *ask("The same again: ")? {
            return Err(Failure::with(Exit::Usage, "the two passphrases differ"));
        }
        Ok(Unlock::Passphrase(first))
    }

    fn given_in_files(&self) -> Result<Option<Unlock>, Failure> {
        if let Some(path) = &self.key_file {
            let key = key_file::read(path).map_err(|why| refused(path, &why))?;
            return Ok(Some(Unlock::KeyFile(key)));
        }
        self.passphrase_file.as_deref().map(|path| Ok(Unlock::Passphrase(first_line(path)?))).transpose()
    }
}

/// A file of another size is the wrong key, whatever it is; one that cannot be read may be the right one.
fn refused(path: &Path, why: &str) -> Failure {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() != SecretKey::LEN as u64) {
        return Failure::with(Exit::WrongKey, format!("wrong key file {}: {why}", shown(path)));
    }
    Failure::new(format!("key file {}: {why}", shown(path)))
}

fn first_line(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fail = |error: io::Error| Failure::new(format!("passphrase file {}: {}", shown(path), describe(&error)));
    let file = File::open(path).map_err(fail)?;
    let line = read_line(file).map_err(fail)?;
    usable(line).map_err(|why| Failure::new(format!("passphrase file {}: {why}", shown(path))))
}

/// Up to a newline, which is not part of it, or a byte more than a passphrase has. No copy is left behind: the line has
/// its full size at once, and nothing is read ahead.
fn read_line(input: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    BufReader::with_capacity(1, input).take(LONGEST as u64 + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

fn usable(line: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, String> {
    match line.len() {
        0 => Err("the passphrase is empty".into()),
        1..=LONGEST => Ok(line),
        _ => Err(format!("the passphrase is longer than {LONGEST} bytes")),
    }
}

/// Asks on the terminal, which does not show what is typed.
fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let none = "no key was given: use --key-file or --passphrase-file, or a terminal to type a passphrase";
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| Failure::new(none))?;
    let before = tcgetattr(&terminal).map_err(|_| Failure::new(none))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let _ = (&terminal).write_all(prompt.as_bytes());
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|_| Failure::new(none))?;
    let line = read_line(&terminal);
    let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
    let _ = (&terminal).write_all(b"\n");
    let line = line.map_err(|error| Failure::new(describe(&error)))?;
    usable(line).map_err(Failure::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_without_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        for (content, expected) in [("word", "word"), ("word\n", "word"), ("two words \nmore", "two words ")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(&first_line(&path).unwrap()[..], expected.as_bytes());
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(first_line(&path).unwrap_err().message.ends_with(": the passphrase is empty"));
        // Cut off, it would open for everybody who knows its beginning.
        std::fs::write(&path, "x".repeat(LONGEST) + "\n").unwrap();
        assert_eq!(first_line(&path).unwrap().len(), LONGEST);
        std::fs::write(&path, "x".repeat(LONGEST + 1)).unwrap();
        assert!(first_line(&path).unwrap_err().message.ends_with(": the passphrase is longer than 4096 bytes"));
    }
}
