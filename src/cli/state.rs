//! Where what was last seen of stores is kept: a file for each in a directory of its own, outside them.

use super::exit::{Failure, describe};
use super::text::shown;
use clap::Args;
use kmsfs_sys::private::{self, Kind, Refusal};
use kmsfs_witness::{MOST, Rollback, Watch, Witness};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, accessat};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Names the directory where nothing else does.
const VARIABLE: &str = "KMSFS_STATE";
/// In the directory's place: nothing is kept.
const NONE: &str = "none";

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StateArgs {
    /// Keep what was last seen of the store here, to notice one that was put back; none: do not. KMSFS_STATE names it
    /// too; without it /var/lib/kmsfs, or ~/.local/state/kmsfs of a user who is not root
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// Take the store and its keyring as they are from now on, although what was last seen of them says that they were
    /// put back, or are another copy: after a backup was restored
    #[arg(long, global = true)]
    pub accept_rollback: bool,
}

impl StateArgs {
    /// As words of a command line.
    pub fn words(&self) -> Vec<OsString> {
        let state = self.state.iter().flat_map(|path| ["--state".into(), path.clone().into_os_string()]);
        state.chain(self.accept_rollback.then(|| "--accept-rollback".into())).collect()
    }

    /// For a process that changes its directory.
    pub fn make_absolute(&mut self) -> Result<(), Failure> {
        self.state = self.named();
        if let Some(path) = self.state.take_if(|path| path.as_os_str() != NONE) {
            self.state = Some(std::path::absolute(path).map_err(|e| Failure::new(describe(&e)))?);
        }
        Ok(())
    }

    fn named(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        self.state.clone().or_else(variable)
    }

    /// Where it is kept for this store; a directory that was named has to be usable, the usual one need not be.
    /// `otherwise`: what is done with what is not what was seen, unless it is to be accepted.
    pub fn open(&self, store_id: [u8; 16], otherwise: Rollback) -> Result<State, Failure> {
        let rollback = if self.accept_rollback { Rollback::Accept } else { otherwise };
        let named = self.named();
        let is_named = named.is_some();
        let Some(place) = named.or_else(usual_place) else {
            warn("what was last seen of the store is not kept: there is no HOME; --state names a directory");
            return Ok(State { dir: None, rollback });
        };
        if place.as_os_str() == NONE {
            return Ok(State { dir: None, rollback });
        }
        let dir = place.join(Uuid::from_bytes(store_id).to_string());
        match prepare(&dir) {
            Ok(()) => Ok(State { dir: Some(dir), rollback }),
            Err(why) => {
                let text = format!("what was last seen of the store cannot be kept in {}: {why}", shown(&place));
                let advice = "--state names another directory, --state none goes without";
                if is_named {
                    return Err(Failure::new(format!("{text}; {advice}")));
                }
                warn(&format!("{text}: a rollback of the store goes unnoticed; {advice}"));
                Ok(State { dir: None, rollback })
            }
        }
    }
}

/// To the log, where there is one already.
fn warn(text: &str) {
    if log::max_level() == log::LevelFilter::Off {
        eprintln!("kmsfs: {text}");
    } else {
        log::warn!("{text}");
    }
}

fn usual_place() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/kmsfs".into());
    }
    let state = absolute_from("XDG_STATE_HOME");
    let place = state.or_else(|| absolute_from("HOME").map(|home| home.join(".local/state")))?;
    Some(place.join("kmsfs"))
}

/// A variable's path; a relative one does not count (XDG Base Directory Specification).
fn absolute_from(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A directory of the caller's own that can be written.
fn prepare(dir: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| describe(&error))?;
    private::check_directory(dir).map_err(|refusal| match refusal {
        Refusal::Io(error) => describe(&error),
        Refusal::Rule(why) => format!("{} {why}", shown(dir)),
    })?;
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    accessat(CWD, dir, access, AtFlags::EACCESS).map_err(|errno| describe(&errno.into()))
}

/// Where what was seen of one store is kept, if it is.
pub struct State {
    dir: Option<PathBuf>,
    rollback: Rollback,
}

impl State {
    pub fn watch(&self, name: &str) -> Watch {
        let witness = |dir: &PathBuf| Arc::new(Record::new(dir.join(name))) as Arc<dyn Witness>;
        Watch { witness: self.dir.as_ref().map(witness), rollback: self.rollback }
    }
}

/// One sector of a file, which is written in its place, whole or not at all, as the redo log's header is: so a process
/// that may open nothing any more goes on writing it.
#[derive(Debug)]
struct Record {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Record {
    fn new(path: PathBuf) -> Self {
        Self { path, file: Mutex::new(None) }
    }

    fn find(&self) -> io::Result<Option<File>> {
        match private::open_here(&self.path, Kind::Secret, private::Access::Change) {
            Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(refusal) => Err(refusal.about(&self.path)),
            Ok(file) => Ok(Some(file)),
        }
    }

    /// Under its name once it is whole and durable.
    fn make(&self, sector: &[u8]) -> io::Result<File> {
        let temporary = self.path.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(sector)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The directory's own name too, and that of the one it is in.
        for dir in self.path.ancestors().skip(1).take(3) {
            File::open(dir)?.sync_all()?;
        }
        Ok(file)
    }
}

impl Witness for Record {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut file = self.file.lock();
        if file.is_none() {
            *file = self.find()?;
        }
        let Some(file) = file.as_ref() else { return Ok(None) };
        let mut bytes = vec![0; MOST + 1];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    fn write(&self, record: &[u8]) -> io::Result<()> {
        let mut sector = [b'\n'; MOST];
        let room = sector.get_mut(..record.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        room.copy_from_slice(record);
        let mut file = self.file.lock();
        if file.is_none() {
            *file = self.find()?;
        }
        let Some(there) = file.as_ref() else {
            *file = Some(self.make(&sector)?);
            return Ok(());
        };
        if there.metadata()?.nlink() == 0 {
            return Err(io::Error::other(format!("{} was removed", self.path.display())));
        }
        there.write_all_at(&sector, 0)?;
        there.set_len(MOST as u64)?;
        there.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_private_sector_that_every_process_reads_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let (one, other) = (Record::new(path.clone()), Record::new(path.clone()));
        assert_eq!(one.read().unwrap(), None);
        one.write(b"first").unwrap();
        assert_eq!(other.read().unwrap().unwrap().trim_ascii_end(), b"first");
        other.write(b"2").unwrap();
        assert_eq!(one.read().unwrap().unwrap().trim_ascii_end(), b"2");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (512, 0o600));
        assert!(one.write(&[b'x'; 513]).is_err());
        fs::remove_file(&path).unwrap();
        assert!(one.write(b"gone").unwrap_err().to_string().ends_with("was removed"));
        let again = Record::new(path);
        assert_eq!(again.read().unwrap(), None);
        again.write(b"again").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
