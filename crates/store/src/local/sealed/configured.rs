//! Which directories have a configuration, and which: so that one that is taken away or exchanged in the store is
//! noticed.
//!
//! `configurations` in the store lists them by their directories' paths, with the hash of their content, under the
//! store key. A change of a configuration is announced there before it is made, durably, and settled once it is durable
//! itself: whatever a crash leaves is what was or what was to be, and both are taken.

use crate::VolumeNames;
use crate::VolumeObjects;
use crate::backend::{Access, Backend, Rename};
use crate::check::{Report, Severity, is_fatal};
use crate::local::sealed::parameters::PRIVATE_FILE;
use crate::local::sealed::seal::StoreSeal;
use crate::{Dir, Error, Result, Store};
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_kms::{Caller, Waits, waits};
use kmsfs_locks::{Mutex, MutexGuard, ranks};
use kmsfs_sse::{CONFIGURATION_FILE, Configuration};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

const FILE: &str = "configurations";
const NEW_FILE: &str = "configurations.new";
/// Bytes of space that are kept for the list to grow by.
const SPARE: u64 = 8 << 10;
const PURPOSE: &str = "kmsfs configurations";
/// The daemon itself, which reads under the service's own key.
const SERVICE: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Of a configuration that cannot be read: no content has it.
pub const UNREADABLE: Digest = [0; 32];

/// SHA-256 of a configuration's content.
pub type Digest = [u8; 32];
/// By a directory's path from its bucket on: what may be there. Directories that are not listed have none.
type Table = BTreeMap<Vec<u8>, BTreeSet<Option<Digest>>>;

#[derive(Serialize, Deserialize)]
struct Json {
    /// Path and hashes in hexadecimal; `null` is none, beside another while one is changed.
    directories: Vec<(String, Vec<Option<String>>)>,
    mac: String,
}

/// What is listed of the directories' configurations.
pub struct Configured {
    backend: Arc<dyn Backend>,
    key: Option<MacKey>,
    /// One change at a time, of configurations or of where directories are.
    changing: Mutex<ranks::Configuring, ()>,
    known: Mutex<ranks::Configured, Known>,
}

/// Nobody else changes what directories have, nor where those are that have something, until this is dropped.
pub struct Changing<'a> {
    configured: &'a Configured,
    _alone: MutexGuard<'a, ranks::Configuring, ()>,
}

enum Known {
    Table(Table),
    /// A store of an earlier version that is only read.
    Nothing,
    /// The list is damaged: why.
    Damaged(String),
}

/// What is listed of a configuration with that content. One that is empty has said nothing: it is listed where
/// something else was refused there, and taken where none is.
pub fn digest(content: &[u8]) -> Digest {
    Sha256::digest(content).into()
}

/// The list of a new store.
pub(crate) fn create(backend: &dyn Backend, key: &StoreKey) -> Result<()> {
    write(backend, &key.mac_key(PURPOSE), &Table::new())
}

impl Configured {
    pub(crate) fn read(backend: &Arc<dyn Backend>, seal: &StoreSeal) -> Self {
        let key = seal.key().map(|key| key.mac_key(PURPOSE));
        let known = match &key {
            None => Known::Nothing,
            // The caller makes it from what is there.
            Some(_) if seal.takes_unlisted() => Known::Nothing,
            Some(key) => match read(backend.as_ref(), key) {
                Ok(table) => Known::Table(table),
                Err(why) => {
                    let why = format!(
                        "{FILE}: {why}: nothing can be created until it is restored; `kmsfs fsck --repair` makes it from the \
                         configurations that are there"
                    );
                    ::log::error!("{why}");
                    Known::Damaged(why)
                }
            },
        };
        Self { backend: backend.clone(), key, changing: Mutex::default(), known: Mutex::new(known) }
    }

    /// Refuses what is not the directory's configuration: `found` is what is there.
    pub fn check(&self, path: &[u8], found: Option<Digest>) -> Result<()> {
        match &*self.known.lock() {
            Known::Nothing => Ok(()),
            Known::Damaged(why) => Err(Error::Corrupt(why.clone())),
            Known::Table(table) if accepts(table, path, found) => Ok(()),
            Known::Table(_) => Err(Error::Corrupt(finding(found).into())),
        }
    }

    /// The directory is known to have none, or may have none.
    pub fn has_none(&self, path: &[u8]) -> bool {
        matches!(&*self.known.lock(), Known::Table(table) if accepts(table, path, None))
    }

    /// Waits until nobody else makes a change, which the disk is waited for meanwhile: refused where this thread must
    /// not wait for that. The paths of a change are looked up afterwards.
    pub fn alone(&self) -> Result<Changing<'_>> {
        let alone = match waits::may_wait(Waits::Disk) {
            Ok(()) => self.changing.lock(),
            Err(wait) => self.changing.try_lock().ok_or(wait)?,
        };
        Ok(Changing { configured: self, _alone: alone })
    }

    /// What moving a directory changes: whatever is listed below it goes along.
    pub fn moved(&self, from: &[u8], to: &[u8], how: Rename) -> Vec<(Vec<u8>, Option<Digest>)> {
        let known = self.known.lock();
        let Known::Table(table) = &*known else { return Vec::new() };
        let mut after = BTreeMap::new();
        let ways = [(from, to), (to, from)];
        let ways = if how == Rename::Exchange { &ways[..] } else { &ways[..1] };
        for path in below(table, from).chain(below(table, to)) {
            after.entry(path.clone()).or_insert(None);
        }
        for (old, new) in ways {
            for path in below(table, old) {
                let new = [new, &path[old.len()..]].concat();
                after.insert(new, table[path].iter().flatten().next().copied());
            }
        }
        after.into_iter().collect()
    }

    /// What removing a directory changes: nothing of it is left.
    pub fn removed(&self, path: &[u8]) -> Vec<(Vec<u8>, Option<Digest>)> {
        match &*self.known.lock() {
            Known::Table(table) => below(table, path).map(|path| (path.clone(), None)).collect(),
            _ => Vec::new(),
        }
    }

    fn write(&self, change: impl FnOnce(&mut Table)) -> Result<()> {
        let mut known = self.known.lock();
        let (Known::Table(table), Some(key)) = (&*known, &self.key) else {
            return match &*known {
                Known::Damaged(why) => Err(Error::Corrupt(why.clone())),
                _ => Err(Error::ReadOnly),
            };
        };
        let mut new = table.clone();
        change(&mut new);
        if new != *table {
            write(self.backend.as_ref(), key, &new)?;
            *known = Known::Table(new);
        }
        Ok(())
    }

    fn table(&self) -> Option<Table> {
        if let Known::Table(table) = &*self.known.lock() { Some(table.clone()) } else { None }
    }

    fn replace(&self, table: Table) -> Result<()> {
        let key = self.key.as_ref().ok_or(Error::ReadOnly)?;
        write(self.backend.as_ref(), key, &table)?;
        *self.known.lock() = Known::Table(table);
        Ok(())
    }
}

impl Changing<'_> {
    /// Announces what the directories will have, acts, and settles it where `settle` could make it durable.
    pub fn make<T, E: From<Error>>(
        &self,
        changes: &[(Vec<u8>, Option<Digest>)],
        act: impl FnOnce() -> std::result::Result<T, E>,
        settle: impl FnOnce(&T) -> std::result::Result<(), E>,
    ) -> std::result::Result<T, E> {
        let configured = self.configured;
        let announced = |table: &mut Table| {
            for (path, new) in changes {
                if new.is_some() || table.contains_key(path) {
                    table.entry(path.clone()).or_insert_with(|| [None].into()).insert(*new);
                }
            }
        };
        let settled = |table: &mut Table| {
            for (path, new) in changes {
                match new {
                    Some(digest) => table.insert(path.clone(), [Some(*digest)].into()),
                    None => table.remove(path),
                };
            }
        };
        let before = configured.table();
        configured.write(announced)?;
        let done = act().inspect_err(|_| {
            // Nothing was changed, so nothing else is to be taken.
            if let Some(before) = before
                && let Err(error) = configured.write(|table| *table = before)
            {
                ::log::warn!("{FILE} cannot be written, a configuration put back would not be noticed: {error}");
            }
        })?;
        // Until it is settled both are taken: whoever acted has succeeded all the same.
        if settle(&done).is_ok()
            && let Err(error) = configured.write(settled)
        {
            ::log::warn!("{FILE} cannot be written, a configuration put back would not be noticed: {error}");
        }
        Ok(done)
    }
}

impl Store {
    /// Lists what is there, in a store that has no list yet.
    pub(crate) fn list_configurations(&self) -> Result<()> {
        self.configured.replace(self.configurations()?)
    }

    /// Compares the list with what is there; a repair takes what is there.
    pub(crate) fn check_configurations(&self, repair: bool, report: &mut Report) -> Result<()> {
        let there = self.configurations()?;
        let found = |path: &[u8]| there.get(path).and_then(|digests| digests.iter().flatten().next().copied());
        let wrong: Vec<(Vec<u8>, String)> = match &*self.configured.known.lock() {
            Known::Nothing => return Ok(()),
            Known::Damaged(why) => vec![(FILE.into(), why.clone())],
            Known::Table(table) => {
                let paths: BTreeSet<_> = table.keys().chain(there.keys()).collect();
                // One that cannot be read is told of as an object, and counts for nothing where none was put.
                let is_right = |path: &[u8], found| {
                    accepts(table, path, found) || found == Some(UNREADABLE) && accepts(table, path, None)
                };
                let wrong = paths.into_iter().filter(|path| !is_right(path, found(path)));
                wrong.map(|path| (path.clone(), finding(found(path)).into())).collect()
            }
        };
        if wrong.is_empty() {
            return Ok(());
        }
        for (path, what) in &wrong {
            let finding = report.add(Severity::Error, String::from_utf8_lossy(path), what);
            finding.repaired = repair.then(|| "what is there holds from now on".into());
        }
        if repair { self.configured.replace(there) } else { Ok(()) }
    }

    /// What every directory has. No recursion, as in `check::tree`.
    fn configurations(&self) -> Result<Table> {
        let mut table = Table::new();
        let mut pending = vec![(self.root.clone(), directories(&self.root)?.into_iter())];
        while let Some((dir, left)) = pending.last_mut() {
            let Some(name) = left.next() else {
                pending.pop();
                continue;
            };
            let below = match self.open_dir(dir, &name) {
                Ok(below) => below,
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    ::log::error!("{}: {error}", dir.show(&name));
                    continue;
                }
            };
            if let Some(digest) = self.configuration_digest(&below)? {
                table.insert(below.path.clone(), [Some(digest)].into());
            }
            let names = directories(&below)?.into_iter();
            pending.push((below, names));
        }
        Ok(table)
    }

    fn configuration_digest(&self, dir: &Arc<Dir>) -> Result<Option<Digest>> {
        let object = match self.open_object(dir, OsStr::new(CONFIGURATION_FILE), &SERVICE) {
            Ok(object) => object,
            Err(error) if error.is_errno(rustix::io::Errno::NOENT) => return Ok(None),
            Err(Error::Corrupt(_)) if self.was_never_committed(dir, OsStr::new(CONFIGURATION_FILE)) => return Ok(None),
            Err(Error::Corrupt(_) | Error::Sse(_)) => return Ok(Some(UNREADABLE)),
            Err(error) if error.is_errno(rustix::io::Errno::INVAL) => return Ok(Some(UNREADABLE)),
            Err(error) => return Err(error),
        };
        let mut content = vec![0; Configuration::MAX_LEN + 1];
        let read = object.read(0, &mut content);
        self.release(&object);
        match read {
            Ok(read) => Ok(Some(digest(&content[..read]))),
            Err(Error::Corrupt(_)) => Ok(Some(UNREADABLE)),
            Err(error) => Err(error),
        }
    }
}

fn directories(dir: &Dir) -> Result<Vec<OsString>> {
    let directories = dir.entries()?.into_iter().filter(|(_, kind)| *kind == libc::S_IFDIR);
    Ok(directories.map(|(name, _)| name).collect())
}

fn accepts(table: &Table, path: &[u8], found: Option<Digest>) -> bool {
    let takes = |found: Option<Digest>| table.get(path).map_or(found.is_none(), |taken| taken.contains(&found));
    takes(found) || found == Some(digest(b"")) && takes(None)
}

fn finding(found: Option<Digest>) -> &'static str {
    match found {
        None => {
            "the configuration of this directory was taken away in the store: put it again, or restore the store; \
             `kmsfs fsck --repair` takes what is there"
        }
        Some(_) => {
            "the configuration of this directory is not the one that was put: put it again, or restore the store; \
             `kmsfs fsck --repair` takes what is there"
        }
    }
}

/// What is listed of a directory and those below it.
fn below<'a>(table: &'a Table, path: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
    let is_below =
        move |other: &&Vec<u8>| other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
    table.keys().filter(is_below)
}

fn read(backend: &dyn Backend, key: &MacKey) -> std::result::Result<Table, String> {
    let root = backend.root().map_err(|error| error.to_string())?;
    let file = root.open_file(OsStr::new(FILE), Access::Read).map_err(|error| format!("cannot be opened ({error})"))?;
    let mut bytes = vec![0; file.metadata().map_err(|error| error.to_string())?.len.min(1 << 30) as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|error| error.to_string())?;
    let json: Json = serde_json::from_slice(&bytes[..read]).map_err(|error| error.to_string())?;
    let mac = hex::decode(&json.mac).map_err(|error| error.to_string())?;
    if mac.len() != MacKey::LEN || !key.verify(&[&signed(&json.directories)], &mac) {
        return Err("it is not what was written".into());
    }
    let decode = |text: &String| hex::decode(text).ok();
    let decode_digest = |digest: &Option<String>| match digest {
        None => Some(None),
        Some(text) => Some(Some(Digest::try_from(decode(text)?).ok()?)),
    };
    let entry = |(path, digests): &(String, Vec<_>)| {
        Some((decode(path)?, digests.iter().map(decode_digest).collect::<Option<BTreeSet<_>>>()?))
    };
    json.directories.iter().map(entry).collect::<Option<_>>().ok_or_else(|| "it does not decode".into())
}

fn signed(directories: &[(String, Vec<Option<String>>)]) -> Vec<u8> {
    serde_json::to_vec(directories).expect("strings can be serialized")
}

/// As a whole, durably.
fn write(backend: &dyn Backend, key: &MacKey, table: &Table) -> Result<()> {
    let entry = |(path, digests): (&Vec<u8>, &BTreeSet<Option<Digest>>)| {
        (hex::encode(path), digests.iter().map(|digest| digest.map(hex::encode)).collect())
    };
    let directories: Vec<_> = table.iter().map(entry).collect();
    let mac = hex::encode(key.tag(&[&signed(&directories)]));
    let text = serde_json::to_vec(&Json { directories, mac }).expect("strings can be serialized");
    let root = backend.root()?;
    let (new, name) = (OsStr::new(NEW_FILE), OsStr::new(FILE));
    let file = match root.open_file(new, Access::ReadWrite) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => root.create_file(new, &PRIVATE_FILE)?,
        spare => spare?,
    };
    file.write_at(&text, 0)?;
    file.set_len(text.len() as u64)?;
    file.sync()?;
    root.rename(new, root.as_ref(), name, Rename::Replace)?;
    root.sync()?;
    // Where it can be: so that a configuration goes from a full disk too.
    if let Ok(spare) = root.create_file(new, &PRIVATE_FILE) {
        let _ = spare.allocate(0, text.len() as u64 + SPARE);
    }
    Ok(())
}
