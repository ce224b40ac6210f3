//! That a PIN was wrong, so that nobody tries it again: a token counts wrong PINs and locks its user out, whichever
//! process they came from.
//!
//! It is noted beside the configuration, for every process that reads it, and holds until the configuration or the
//! PIN's file is another one. Nothing of the PIN is in it: one of a few digits could be found by trying them.

use crate::secret::Secret;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) struct Tried {
    /// The configuration's, if it is a file.
    configuration: Option<PathBuf>,
    /// The PIN's, if it is one that stays.
    pin: Option<PathBuf>,
    /// What was noted, where the note could not be written.
    here: Mutex<Option<String>>,
}

/// One process at a time logs in: the others find out first what has come of it.
pub(super) struct Turn(#[allow(dead_code)] Option<File>);

impl Tried {
    pub(super) fn new(configuration: Option<&Path>, pin: &Secret) -> Self {
        // A systemd credential is another file after each start of its service, and what a command prints is no file.
        let pin = if let Secret::File(path) = pin { Some(path.clone()) } else { None };
        Self { configuration: configuration.map(Path::to_owned), pin, here: Mutex::default() }
    }

    pub(super) fn turn(&self, patience: Duration) -> io::Result<Turn> {
        let Some(path) = &self.configuration else { return Ok(Turn(None)) };
        let (file, until) = (File::open(path)?, Instant::now() + patience);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Turn(Some(file))),
                Err(errno) if Instant::now() >= until => return Err(errno.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Whether the PIN of these files was wrong.
    pub(super) fn was_wrong(&self, files: &str) -> bool {
        let noted = self.note().and_then(|note| fs::read_to_string(note).ok());
        noted.as_deref() == Some(files) || self.here.lock().as_deref() == Some(files)
    }

    /// Notes that the one of these files is. Where that cannot be written, this process alone knows.
    pub(super) fn is_wrong(&self, files: String) -> io::Result<()> {
        let written = match (self.note(), self.note_in_making()) {
            (Some(note), Some(new)) => fs::write(&new, &files).and_then(|()| fs::rename(&new, note)),
            _ => Ok(()),
        };
        *self.here.lock() = Some(files);
        written
    }

    pub(super) fn is_right(&self) {
        if let Some(note) = self.note().filter(|note| note.exists()) {
            let _ = fs::remove_file(note);
        }
        *self.here.lock() = None;
    }

    /// What a person changes to have it tried again.
    pub(super) fn what_to_change(&self) -> String {
        let changed = [self.pin.as_ref(), self.configuration.as_ref()].into_iter().flatten();
        let paths: Vec<_> = changed.map(|path| path.display().to_string()).collect();
        paths.join(" or ")
    }

    fn note(&self) -> Option<PathBuf> {
        self.beside(".wrong-pin")
    }

    fn note_in_making(&self) -> Option<PathBuf> {
        self.beside(&format!(".wrong-pin.{}", std::process::id()))
    }

    fn beside(&self, ending: &str) -> Option<PathBuf> {
        let mut name = OsString::from(self.configuration.as_ref()?);
        name.push(ending);
        Some(name.into())
    }

    /// Which files these are; whatever is written to them, or put in their place, is another one.
    pub(super) fn files(&self) -> String {
        let of = |path: &PathBuf| match fs::metadata(path) {
            Ok(file) => format!(
                "{}:{} {} {}.{:09} {}.{:09}\n",
                file.dev(),
                file.ino(),
                file.size(),
                file.mtime(),
                file.mtime_nsec(),
                file.ctime(),
                file.ctime_nsec()
            ),
            Err(_) => "none\n".to_owned(),
        };
        [&self.configuration, &self.pin].into_iter().flatten().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tried {
        fn was_wrong_now(&self) -> bool {
            self.was_wrong(&self.files())
        }

        fn is_wrong_now(&self) -> io::Result<()> {
            self.is_wrong(self.files())
        }
    }

    #[test]
    fn a_wrong_pin_is_known_to_every_process_until_a_file_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let (configuration, pin) = (dir.path().join("pkcs11.json"), dir.path().join("pin"));
        fs::write(&configuration, "{}").unwrap();
        fs::write(&pin, "0000").unwrap();
        let process = || Tried::new(Some(&configuration), &Secret::File(pin.clone()));
        let one = process();
        assert!(!one.was_wrong_now());
        {
            let _turn = one.turn(Duration::ZERO).unwrap();
            assert!(process().turn(Duration::from_millis(20)).is_err(), "one at a time");
        }
        one.is_wrong_now().unwrap();
        assert!(one.was_wrong_now() && process().was_wrong_now());
        let noted = fs::read_to_string(dir.path().join("pkcs11.json.wrong-pin")).unwrap();
        assert!(!noted.contains("0000 ") && noted.lines().count() == 2, "{noted}");
        for changed in [&pin, &configuration] {
            let before = fs::metadata(changed).unwrap().ctime_nsec();
            // The clock of files has ticks.
            while fs::metadata(changed).unwrap().ctime_nsec() == before {
                fs::write(changed, "4711").unwrap();
            }
            assert!(!process().was_wrong_now(), "{}", changed.display());
            process().is_wrong_now().unwrap();
            assert!(process().was_wrong_now());
        }
        one.is_right();
        assert!(!process().was_wrong_now() && !one.was_wrong_now());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_wrong_pin_that_cannot_be_noted_is_known_here() {
        let tried = Tried::new(Some(Path::new("/nowhere/pkcs11.json")), &Secret::Command("echo 1".into()));
        assert!(tried.is_wrong_now().is_err() && tried.was_wrong_now());
        assert!(tried.turn(Duration::ZERO).is_err());
        assert!(tried.what_to_change().contains("/nowhere/pkcs11.json"));
    }
}
