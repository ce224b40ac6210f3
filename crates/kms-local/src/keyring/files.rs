//! The keyring's files: `slots.json`, `keyring`, the generation before it, `shred`, and a lock for those who change it.

use super::OpenError;
use super::backup::drop_replaced;
use super::contents::{Contents, KeyringParameters, VERSION};
use super::lasting::Lasting;
use super::private::{check_directory, open_private, read_private};
use super::rotating::Session;
use super::seen::Seen;
use super::shred::{self, Wrapping};
use super::slot::Unlock;
use super::slots::{NewSlot, Slots};
use kmsfs_crypto::passphrase::Cost;
use kmsfs_crypto::{SecretKey, sealed};
use kmsfs_locks::{RwLock, ranks};
use kmsfs_sys::private::Access;
use kmsfs_witness::Watch;
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const SLOTS: &str = "slots.json";
pub(super) const KEYRING: &str = "keyring";
pub(super) const PREVIOUS: &str = "keyring.previous";
const LOCK: &str = "lock";
const MAGIC: &[u8; 8] = b"KMSFSKEY";
pub(super) const DAMAGED: &str = "it is damaged, or not of this slots.json: put back keyring.previous, which lacks the last \
                       change, or a backup, and say so once with --accept-rollback";
/// Magic and version.
const HEADER: usize = 10;

/// A keyring that has been unlocked.
pub struct Keyring {
    pub(super) dir: PathBuf,
    pub(super) session: RwLock<ranks::KeyringSession, Session>,
    pub(super) seen: Seen,
}

/// What tells one generation's file from another's. Numbers of inodes come again, and not every file system has times
/// that tell two changes apart: the salt, which is new in each generation, is near the beginning, and the tag is at the
/// end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    ino: u64,
    len: u64,
    mtime: (i64, i64),
    beginning: [u8; 64],
    end: [u8; 16],
}

impl Keyring {
    /// Makes a keyring in a directory that is missing or empty.
    pub fn create(dir: &Path, parameters: &KeyringParameters, unlock: &Unlock, cost: Cost) -> Result<Self, OpenError> {
        let fail = |error: &io::Error| OpenError::io("it cannot be made", error);
        private_empty_dir(dir).map_err(|error| fail(&error))?;
        let root = Arc::new(SecretKey::random());
        let wrapping = Wrapping::new(root.clone(), dir);
        let contents = Contents::new(parameters, &wrapping, now())?;
        let slots_key = contents.lasting(Lasting::Slots, &root)?;
        let (slots, keys) = Slots::new(&root, NewSlot::new(&slots_key, unlock, cost, None, now())?);
        let sealed = seal(&root, &contents)?;
        wrapping.write()?;
        let made = replace(dir, SLOTS, &slots.encode()).and_then(|()| replace(dir, KEYRING, &sealed));
        // The directory's own name too.
        made.and_then(|()| Ok(rustix::fs::syncfs(File::open(dir)?)?)).map_err(|error| fail(&error))?;
        let session = Session { root, slot: slots.newest().clone(), keys: Some(keys) };
        Ok(Self { dir: dir.to_path_buf(), session: RwLock::new(session), seen: Seen::default() })
    }

    /// Brings it to this version too, if it can be written.
    pub fn open(dir: &Path, unlock: &Unlock) -> Result<Self, OpenError> {
        Self::open_seen(dir, unlock, &[0; 16], &Watch::default())
    }

    /// As `open`, unless it is older than what was last seen of the keyring of this store.
    pub fn open_seen(dir: &Path, unlock: &Unlock, store_id: &[u8; 16], watch: &Watch) -> Result<Self, OpenError> {
        let (opened, slot) = read_slots(dir)?.open(unlock)?;
        let session = Session { root: Arc::new(opened.root), slot, keys: opened.keys };
        let mut keyring = Self { dir: dir.to_path_buf(), session: RwLock::new(session), seen: Seen::default() };
        keyring.compare(store_id, watch)?;
        if let Err(error) = keyring.tidy(&opened.secret) {
            log::warn!("the keyring {} stays as it is until it is unlocked again: {error}", dir.display());
        }
        keyring.tell_opened();
        Ok(keyring)
    }

    /// The user whose keyring it is.
    pub fn owner(&self) -> Result<u32, OpenError> {
        fs::metadata(&self.dir).map(|metadata| metadata.uid()).map_err(|error| OpenError::io("its directory", &error))
    }

    /// Of the generation that is there now.
    pub fn stamp(&self) -> io::Result<Stamp> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(self.dir.join(KEYRING))?;
        let metadata = file.metadata()?;
        let (mut beginning, mut end) = ([0; 64], [0; 16]);
        file.read_at(&mut beginning, 0)?;
        file.read_at(&mut end, metadata.len().saturating_sub(16))?;
        let mtime = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Stamp { ino: metadata.ino(), len: metadata.len(), mtime, beginning, end })
    }

    /// What is in it now.
    pub fn read(&self) -> Result<Contents, OpenError> {
        self.load().map(|(contents, _)| contents)
    }

    /// Changes the newest generation under the lock that all who change it take. On an error nothing is changed. What
    /// key material a change destroys is in no kept generation afterwards, and its secret is overwritten; nor is a
    /// lower format version of the store.
    pub fn change<T, E: From<OpenError>>(
        &self,
        change: impl FnOnce(&mut Contents, &Wrapping) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = lock(&self.dir)?;
        self.settle()?;
        let (before, wrapping) = self.load()?;
        let mut contents = before.clone();
        let answer = change(&mut contents, &wrapping)?;
        self.put(&before, contents, &wrapping)?;
        Ok(answer)
    }

    /// As `change`, of what `load` answered with this wrapping, and was changed since without the lock. False, and
    /// nothing is changed, if that is not the newest any more.
    pub fn exchange(&self, before: &Contents, contents: Contents, wrapping: &Wrapping) -> Result<bool, OpenError> {
        let _lock = lock(&self.dir)?;
        self.settle()?;
        // Sectors that are filled are free still: whoever takes some changes the contents.
        let is_newest = self.read()?.encode()? == before.encode()?;
        if is_newest {
            self.put(before, contents, wrapping)?;
        }
        Ok(is_newest)
    }

    /// Under the lock.
    fn put(&self, before: &Contents, mut contents: Contents, wrapping: &Wrapping) -> Result<(), OpenError> {
        if contents.is_of_first_version() {
            contents.rewrap(wrapping, wrapping)?;
        }
        contents.generation += 1;
        let sealed = seal(wrapping.root(), &contents)?;
        // A generation that does not say yet that the store is sealed would take that back.
        let destroys = !before.wrapped_materials().is_subset(&contents.wrapped_materials())
            || contents.store_format() > before.store_format();
        wrapping.write()?;
        // The kept generation first: until the other is replaced, what is to go is there to be destroyed again.
        if destroys {
            drop_replaced(&self.dir).map_err(|error| OpenError::io("what a restore replaced", &error))?;
        }
        let kept = if destroys { replace(&self.dir, PREVIOUS, &sealed) } else { self.keep_previous() };
        let written = kept.and_then(|()| replace(&self.dir, KEYRING, &sealed));
        written.map_err(|error| OpenError::io("it cannot be written", &error))?;
        self.tell(&contents, wrapping);
        shred::sweep(&self.dir, &contents.sectors())
    }

    fn keep_previous(&self) -> io::Result<()> {
        let temporary = self.dir.join(format!("{PREVIOUS}.new"));
        let _ = fs::remove_file(&temporary);
        // Not every file system has hard links.
        let keyring = self.dir.join(KEYRING);
        fs::hard_link(&keyring, &temporary).or_else(|_| {
            fs::copy(&keyring, &temporary)?;
            File::open(&temporary)?.sync_all()
        })?;
        fs::rename(temporary, self.dir.join(PREVIOUS))
    }
}

pub(super) fn read_slots(dir: &Path) -> Result<Slots, OpenError> {
    if matches!(fs::symlink_metadata(dir.join(SLOTS)), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return Err(OpenError::missing());
    }
    check_directory(dir)?;
    Slots::decode(&read_private(dir, SLOTS)?)
}

pub(super) fn seal(root: &SecretKey, contents: &Contents) -> Result<Vec<u8>, OpenError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let text = sealed::seal(root, &contents.encode()?, &bytes);
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

pub(super) fn unseal(root: &SecretKey, bytes: &[u8]) -> Result<Contents, OpenError> {
    let (header, text) = split_header(bytes)?;
    let text = sealed::open(root, text, header).map_err(|_| OpenError::Other(DAMAGED.into()))?;
    Contents::decode(&text)
}

/// What can be seen of a keyring without its key: whether this version can read it.
pub(super) fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), OpenError> {
    let damaged = || OpenError::Other(DAMAGED.into());
    let (header, text) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
    if &header[..8] != MAGIC {
        return Err(damaged());
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > VERSION {
        return Err(OpenError::Other(format!(
            "it has version {version} and this kmsfs reads version {VERSION}: use a newer kmsfs"
        )));
    }
    Ok((header, text))
}

/// Held until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let fail = |error: io::Error| OpenError::io("it cannot be locked", &error);
    check_directory(dir)?;
    let lock = open_private(dir, LOCK, Access::ChangeOrMake)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| fail(errno.into()))?;
    Ok(lock)
}

/// Old or new after a crash, and durable.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Makes the directory where there is none, with mode 0700, which one that is there gets too.
pub(super) fn private_empty_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(dir)?.next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        made => made?,
    }
    Ok(())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::shred::SHRED;
    use super::*;
    use zeroize::Zeroizing;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Unlock {
        Unlock::Passphrase(Zeroizing::new(text.into()))
    }

    fn parameters() -> KeyringParameters {
        KeyringParameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() }
    }

    fn keyring(dir: &Path) -> Keyring {
        Keyring::create(dir, &parameters(), &passphrase("right"), CHEAP).unwrap();
        Keyring::open(dir, &passphrase("right")).unwrap()
    }

    #[test]
    fn a_wrong_passphrase_or_key_file_is_an_error_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        keyring(dir.path());
        assert_eq!(Keyring::open(dir.path(), &passphrase("wrong")).err(), Some(OpenError::WrongKey));
        let key = Unlock::KeyFile(SecretKey::random());
        assert_eq!(Keyring::open(dir.path(), &key).err(), Some(OpenError::WrongKey));
        let none = OpenError::missing();
        assert_eq!(Keyring::open(&dir.path().join("none"), &key).err(), Some(none));
    }

    #[test]
    fn every_flipped_bit_of_both_files_is_refused_and_is_not_taken_for_a_wrong_key() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = keyring(dir.path());
        let check = |name: &str, bytes: &[u8], what: &str| {
            fs::write(dir.path().join(name), bytes).unwrap();
            let error = match name {
                SLOTS => Keyring::open(dir.path(), &passphrase("right")).err(),
                _ => keyring.read().err(),
            };
            assert!(matches!(error, Some(OpenError::Other(_))), "{name}, {what}: {error:?}");
        };
        for name in [SLOTS, KEYRING] {
            let bytes = fs::read(dir.path().join(name)).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                check(name, &damaged, &format!("bit {bit}"));
            }
            for len in 0..bytes.len() {
                check(name, &bytes[..len], &format!("{len} bytes"));
            }
            check(name, &[&bytes[..], &[0]].concat(), "a byte more");
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        assert!(Keyring::open(dir.path(), &passphrase("right")).unwrap().read().is_ok());
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = keyring(dir.path());
        let mut bytes = fs::read(dir.path().join(KEYRING)).unwrap();
        bytes[8] = 3;
        fs::write(dir.path().join(KEYRING), bytes).unwrap();
        let text = "it has version 3 and this kmsfs reads version 2: use a newer kmsfs".to_string();
        assert_eq!(keyring.read().err(), Some(OpenError::Other(text)));
    }

    /// As on a file system with times of a second, whose numbers of inodes come again.
    #[test]
    fn a_change_is_seen_whose_file_has_the_inode_the_length_and_the_time_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = keyring(dir.path());
        let (path, kept) = (dir.path().join(KEYRING), dir.path().join("kept"));
        let before = keyring.stamp().unwrap();
        assert_eq!(keyring.stamp().unwrap(), before);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::hard_link(&path, &kept).unwrap();
        keyring.change(|_, _| Ok::<_, OpenError>(())).unwrap();
        fs::write(&kept, fs::read(&path).unwrap()).unwrap();
        fs::rename(&kept, &path).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let after = keyring.stamp().unwrap();
        assert_eq!((after.ino, after.len, after.mtime), (before.ino, before.len, before.mtime));
        assert_ne!(after, before);
    }

    #[test]
    fn a_damaged_keyring_comes_back_from_the_generation_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = keyring(dir.path());
        keyring.change(|_, _| Ok::<_, OpenError>(())).unwrap();
        fs::write(dir.path().join(KEYRING), b"").unwrap();
        assert_eq!(keyring.read().err(), Some(OpenError::Other(DAMAGED.into())));
        fs::rename(dir.path().join(PREVIOUS), dir.path().join(KEYRING)).unwrap();
        assert!(
            matches!(keyring.read().err(), Some(OpenError::RolledBack(_))),
            "it is older than what was read before"
        );
        let keyring = Keyring::open(dir.path(), &passphrase("right")).unwrap();
        assert_eq!(keyring.read().unwrap().generation, 1);
    }

    #[test]
    fn a_keyring_is_private_and_made_in_an_empty_directory_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        keyring(dir.path()).change(|_, _| Ok::<_, OpenError>(())).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(dir.path()), 0o700);
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [KEYRING, PREVIOUS, LOCK, SHRED, SLOTS]);
        assert!(names.iter().all(|name| mode(&dir.path().join(name)) == 0o600));
        let again = Keyring::create(dir.path(), &parameters(), &passphrase("right"), CHEAP);
        assert_eq!(again.err(), Some(OpenError::Other("it cannot be made: directory not empty".into())));
    }

    #[test]
    fn a_change_keeps_the_generation_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = keyring(dir.path());
        let before = fs::read(dir.path().join(KEYRING)).unwrap();
        let change = |contents: &mut Contents, _: &Wrapping| {
            contents.region.push('x');
            Ok::<_, OpenError>(())
        };
        keyring.change(change).unwrap();
        assert_eq!(fs::read(dir.path().join(PREVIOUS)).unwrap(), before);
        let contents = keyring.read().unwrap();
        assert_eq!((contents.region.as_str(), contents.generation), ("us-east-1x", 2));
        let refused = keyring.change(|_, _| Err::<(), _>(OpenError::WrongKey));
        assert_eq!(refused, Err(OpenError::WrongKey));
        assert_eq!(keyring.read().unwrap().generation, 2);
        assert_eq!(fs::metadata(dir.path().join(KEYRING)).unwrap().mode() & 0o7777, 0o600);
    }

    /// Files of the keyring's directory by name.
    type Files = std::collections::BTreeMap<std::ffi::OsString, Vec<u8>>;

    fn files(dir: &Path) -> Files {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    }

    /// Content is synced before its name is, so a power cut leaves each name as it was before or is after, or a
    /// temporary file.
    #[test]
    fn whatever_names_a_power_cut_brings_back_it_opens_before_or_after_the_change() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = keyring(dir.path());
        for destroys in [false, true] {
            let before = files(dir.path());
            let generation = keyring.read().unwrap().generation;
            let change = |contents: &mut Contents, _: &Wrapping| {
                if destroys {
                    contents.service.clear();
                }
                contents.region.push('x');
                Ok::<_, OpenError>(())
            };
            keyring.change(change).unwrap();
            let after = files(dir.path());
            for choice in 0..16 {
                let cut = tempfile::tempdir().unwrap();
                fs::set_permissions(cut.path(), Permissions::from_mode(0o700)).unwrap();
                let put = |name: &str, bytes: &[u8]| {
                    let mut options = OpenOptions::new();
                    options.write(true).create(true).truncate(true).mode(0o600);
                    options.open(cut.path().join(name)).unwrap().write_all(bytes).unwrap();
                };
                for (bit, name) in [(1, KEYRING), (2, PREVIOUS)] {
                    let from = if choice & bit == 0 { &before } else { &after };
                    if let Some(bytes) = from.get(std::ffi::OsStr::new(name)) {
                        put(name, bytes);
                    }
                }
                put(SLOTS, &after[std::ffi::OsStr::new(SLOTS)]);
                // A new secret is durable before the keyring is that names it, one that goes is overwritten afterwards.
                let shred = if destroys { &before } else { &after };
                put(SHRED, &shred[std::ffi::OsStr::new(SHRED)]);
                for (bit, name) in [(4, KEYRING), (8, PREVIOUS)] {
                    if choice & bit != 0 {
                        put(&format!("{name}.new"), b"cut o");
                    }
                }
                let opened = Keyring::open(cut.path(), &passphrase("right")).unwrap();
                let found = opened.read().unwrap().generation;
                assert_eq!(found, generation + u64::from(choice & 1 != 0), "{choice:04b}");
                opened.change(|_, _| Ok::<_, OpenError>(())).unwrap();
                assert_eq!(opened.read().unwrap().generation, found + 1);
            }
        }
    }
}
