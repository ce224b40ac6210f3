//! A keyring's backup: `slots.json`, `keyring` and `shred` of one moment in one file, as sealed as they are.
//! docs/FORMAT.md has the bytes. Making one needs no key; restoring one does, so that nobody finds out later that it
//! does not open.

use super::files::{KEYRING, SLOTS, lock, now, private_empty_dir, read_slots, seal, split_header, unseal};
use super::private::read_private;
use super::rotating::{self, put};
use super::seen;
use super::shred::{self, SHRED, Wrapping};
use super::slots::Slots;
use super::{Contents, OpenError, Unlock};
use kmsfs_crypto::SecretKey;
use kmsfs_witness::Watch;
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"KMSFSBKP";
/// The first has no `shred`.
pub const BACKUP_VERSION: u16 = 2;
/// Magic, version, store, time; then a length for each part.
const HEADER: usize = 8 + 2 + 16 + 8;
const LENGTH: usize = 4;
const CHECKSUM: usize = 32;

/// A backup of a keyring: what it has in its files. It unlocks as the keyring does.
pub struct Backup {
    /// The store whose keyring it is.
    pub store_id: [u8; 16],
    /// Nanoseconds since 1970.
    pub made: i64,
    slots: Vec<u8>,
    keyring: Vec<u8>,
    /// `None` in the first backups.
    shred: Option<Zeroizing<Vec<u8>>>,
}

/// What a restore has done.
#[derive(Debug, PartialEq, Eq)]
pub struct Restored {
    /// How often the keyring had been changed.
    pub generation: u64,
    /// Where what was there has been put, if anything was.
    pub kept: Option<PathBuf>,
}

impl Backup {
    /// Of what is there now, all files of the same moment.
    pub fn of(dir: &Path, store_id: &[u8; 16]) -> Result<Self, OpenError> {
        let _lock = lock(dir)?;
        if rotating::is_there(dir) {
            let text = "a change of its root key was interrupted: unlock it once, which ends that";
            return Err(OpenError::Other(text.into()));
        }
        let slots = read_slots(dir)?.encode();
        let keyring = read_private(dir, KEYRING)?;
        split_header(&keyring)?;
        Ok(Self { store_id: *store_id, made: now(), slots, keyring, shred: Some(shred::read(dir)?) })
    }

    /// As a file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let shred = self.shred.as_deref();
        bytes.extend(shred.map_or(1, |_| BACKUP_VERSION).to_le_bytes());
        bytes.extend(self.store_id);
        bytes.extend(self.made.to_le_bytes());
        let parts: Vec<_> = [&self.slots, &self.keyring].into_iter().chain(shred).collect();
        for part in &parts {
            bytes.extend((part.len() as u32).to_le_bytes());
        }
        for part in parts {
            bytes.extend(part);
        }
        bytes.extend(Sha256::digest(&bytes));
        bytes
    }

    /// Of a file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let refuse = |why: &str| OpenError::Other(why.into());
        let damaged = || refuse("it is damaged: use another backup");
        if bytes.get(..8) != Some(&MAGIC[..]) {
            return Err(refuse("it is no backup of a keyring"));
        }
        let version = bytes.get(8..10).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])).ok_or_else(damaged)?;
        if version > BACKUP_VERSION {
            let text =
                format!("it has version {version} and this kmsfs reads version {BACKUP_VERSION}: use a newer kmsfs");
            return Err(OpenError::Other(text));
        }
        let (content, checksum) =
            bytes.len().checked_sub(CHECKSUM).and_then(|at| bytes.split_at_checked(at)).ok_or_else(damaged)?;
        if version == 0 || Sha256::digest(content)[..] != *checksum {
            return Err(damaged());
        }
        let (header, rest) = content.split_at_checked(HEADER).ok_or_else(damaged)?;
        let count = if version == 1 { 2 } else { 3 };
        let (lengths, mut rest) = rest.split_at_checked(count * LENGTH).ok_or_else(damaged)?;
        let mut parts = Vec::new();
        for length in lengths.chunks(LENGTH) {
            let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
            let (part, behind) = rest.split_at_checked(length).ok_or_else(damaged)?;
            parts.push(part.to_vec());
            rest = behind;
        }
        let mut parts = parts.into_iter();
        let mut part = || parts.next().ok_or_else(damaged);
        let backup = Self {
            store_id: header[10..26].try_into().expect("16 bytes"),
            made: i64::from_le_bytes(header[26..34].try_into().expect("8 bytes")),
            slots: part()?,
            keyring: part()?,
            shred: part().ok().map(Zeroizing::new),
        };
        if rest.is_empty() { Ok(backup) } else { Err(damaged()) }
    }

    /// Whether that opens it.
    pub fn check_opens(&self, unlock: &Unlock) -> Result<(), OpenError> {
        Slots::decode(&self.slots)?.open(unlock).map(drop)
    }

    /// Puts it in the place of what is there, which is kept beside it. Refuses to go back behind a keyring that can be
    /// read, unless `force` says so.
    pub fn restore(
        &self,
        dir: &Path,
        store_id: &[u8; 16],
        unlock: &Unlock,
        force: bool,
        watch: &Watch,
    ) -> Result<Restored, OpenError> {
        if self.store_id != *store_id {
            let [of, not] = [self.store_id, *store_id].map(Uuid::from_bytes);
            return Err(OpenError::Other(format!("it is of another store: {of}, and this one is {not}")));
        }
        let slots = Slots::decode(&self.slots)?;
        let root = Arc::new(slots.open(unlock)?.0.root);
        let mut contents = unseal(&root, &self.keyring)?;
        contents.check_store(store_id)?;
        let fail = |error: io::Error| OpenError::io("it cannot be written", &error);
        if !dir.exists() {
            private_empty_dir(dir).map_err(fail)?;
        }
        let _lock = lock(dir)?;
        let present = present(dir, &root, unlock);
        if !force {
            self.refuse_going_back(dir, &contents, present.as_ref())?;
        }
        // In sectors that nothing has: what is there opens until the other is in its place.
        let wrapping = Wrapping::new(root.clone(), dir);
        contents
            .rewrap(&Wrapping::of_backup(root.clone(), self.shred.as_deref().map_or(&[], Vec::as_slice)), &wrapping)?;
        // Going back on purpose is a step forward: a mount takes it, and what is seen from now on is newer than what
        // was.
        let generation = contents.generation;
        let seen = seen::told(watch, &contents, &wrapping).max(present.map(|present| present.generation));
        if let Some(newer) = seen.filter(|seen| *seen > generation) {
            contents.generation = newer + 1;
        }
        let sealed = seal(&root, &contents)?;
        let kept = keep(dir).map_err(fail)?;
        wrapping.write()?;
        put(dir, &slots, &sealed)?;
        seen::tell(watch, &contents, &wrapping);
        shred::sweep(dir, &contents.sectors())?;
        Ok(Restored { generation, kept })
    }

    fn refuse_going_back(&self, dir: &Path, own: &Contents, present: Option<&Contents>) -> Result<(), OpenError> {
        let Ok(keyring) = read_private(dir, KEYRING) else { return Ok(()) };
        let slots = read_slots(dir).ok();
        if let Some(is) = present.map(|present| present.generation).filter(|is| *is > own.generation) {
            let text = format!(
                "what is there is newer: generation {is}, the backup has {}; --force goes back",
                own.generation
            );
            return Err(OpenError::Other(text));
        }
        // Damage to the keyring alone leaves the slots as they are.
        let is_lost = present.is_none() && split_header(&keyring).is_err();
        match slots {
            Some(slots) if !is_lost && slots.encode() != self.slots => {
                let text =
                    "the slots were changed since: a slot that was removed would open it again; --force goes back";
                Err(OpenError::Other(text.into()))
            }
            _ => Ok(()),
        }
    }
}

/// What is there, if it can be read.
fn present(dir: &Path, root: &SecretKey, unlock: &Unlock) -> Option<Contents> {
    let keyring = read_private(dir, KEYRING).ok()?;
    // The root key may have changed since.
    let of_today =
        || read_slots(dir).ok()?.open(unlock).ok().and_then(|(opened, _)| unseal(&opened.root, &keyring).ok());
    unseal(root, &keyring).ok().or_else(of_today)
}

/// Takes away what restores have put aside: key material that is destroyed must not be in it.
pub(super) fn drop_replaced(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("replaced.") && entry.file_type()?.is_dir() {
            log::info!("{}: removed, since it may hold key material that is destroyed", entry.path().display());
            shred::erase(&entry.path())?;
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// What is there, moved away by hard links or copies, so that it is in its place until it is replaced.
fn keep(dir: &Path) -> io::Result<Option<PathBuf>> {
    let there: Vec<_> =
        [SLOTS, KEYRING, SHRED].into_iter().filter(|name| dir.join(name).symlink_metadata().is_ok()).collect();
    if there.is_empty() {
        return Ok(None);
    }
    let mut number = 0;
    let kept = loop {
        let kept = dir.join(format!("replaced.{number}"));
        match DirBuilder::new().mode(0o700).create(&kept) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => break made.map(|()| kept)?,
        }
    };
    for name in there {
        let (from, to) = (dir.join(name), kept.join(name));
        // `shred` is overwritten in its place.
        if name == SHRED || fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
            fs::File::open(&to)?.sync_all()?;
        }
    }
    fs::File::open(&kept)?.sync_all()?;
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::{Keyring, KeyringParameters};
    use kmsfs_crypto::passphrase::Cost;

    const STORE: [u8; 16] = [1; 16];

    fn keyring(dir: &Path, unlock: &Unlock) -> Keyring {
        let parameters =
            KeyringParameters { store_id: STORE, account_id: "000000000000".into(), region: "us-east-1".into() };
        Keyring::create(dir, &parameters, unlock, Cost { memory_kib: 0, passes: 0, lanes: 0 }).unwrap();
        Keyring::open(dir, unlock).unwrap()
    }

    fn key() -> Unlock {
        Unlock::KeyFile(SecretKey::random())
    }

    fn change(keyring: &Keyring) {
        keyring.change(|_, _| Ok::<_, OpenError>(())).unwrap();
    }

    #[test]
    fn a_backup_brings_back_what_is_lost_and_keeps_what_it_replaces() {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let place = dir.path().join("ring");
        let ring = keyring(&place, &key);
        change(&ring);
        let backup = Backup::decode(&Backup::of(&place, &STORE).unwrap().encode()).unwrap();
        fs::write(place.join(KEYRING), "damage").unwrap();
        let kept = Some(place.join("replaced.0"));
        assert_eq!(
            backup.restore(&place, &STORE, &key, false, &Watch::default()),
            Ok(Restored { generation: 2, kept })
        );
        assert_eq!(fs::read(place.join("replaced.0/keyring")).unwrap(), b"damage");
        assert_eq!(ring.read().unwrap().generation, 2);
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(
            backup.restore(&place, &STORE, &key, false, &Watch::default()),
            Ok(Restored { generation: 2, kept: None })
        );
        assert_eq!(Keyring::open_for(&place, &key, &STORE, &Watch::default()).unwrap().read().unwrap().generation, 2);
    }

    #[test]
    fn what_is_newer_stays_unless_it_is_forced() {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let ring = keyring(dir.path(), &key);
        let backup = Backup::of(dir.path(), &STORE).unwrap();
        assert!(backup.restore(dir.path(), &STORE, &key, false, &Watch::default()).is_ok(), "the same again");
        change(&ring);
        let refused = backup.restore(dir.path(), &STORE, &key, false, &Watch::default());
        let text = "what is there is newer: generation 2, the backup has 1; --force goes back";
        assert_eq!(refused, Err(OpenError::Other(text.into())));
        assert_eq!(ring.read().unwrap().generation, 2);
        assert!(backup.restore(dir.path(), &STORE, &key, true, &Watch::default()).is_ok());
        assert_eq!(ring.read().unwrap().generation, 3, "whoever has it open takes it");
        let backup = Backup::of(dir.path(), &STORE).unwrap();
        ring.add_slot(&Unlock::KeyFile(SecretKey::random()), None).unwrap();
        let text = backup.restore(dir.path(), &STORE, &key, false, &Watch::default()).unwrap_err().to_string();
        assert!(text.starts_with("the slots were changed since: "), "{text}");
        assert_eq!(Keyring::slots(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        keyring(dir.path(), &key());
        let mut backup = Backup::of(dir.path(), &STORE).unwrap();
        // Free sectors are all alike.
        backup.shred.as_mut().unwrap().truncate(64);
        let bytes = backup.encode();
        assert_eq!(Backup::decode(&bytes).unwrap().encode(), bytes);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Backup::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!((0..bytes.len()).all(|len| Backup::decode(&bytes[..len]).is_err()));
        assert!(Backup::decode(&[&bytes[..], &[0]].concat()).is_err());
        let mut newer = bytes.clone();
        newer[8] = 3;
        let text = "it has version 3 and this kmsfs reads version 2: use a newer kmsfs";
        assert_eq!(Backup::decode(&newer).err(), Some(OpenError::Other(text.into())));
    }

    #[test]
    fn another_stores_backup_and_a_wrong_key_change_nothing() {
        let (dir, unlock) = (tempfile::tempdir().unwrap(), key());
        keyring(dir.path(), &unlock);
        let backup = Backup::of(dir.path(), &STORE).unwrap();
        let empty = dir.path().join("empty");
        let foreign = backup.restore(&empty, &[2; 16], &unlock, true, &Watch::default()).unwrap_err().to_string();
        assert!(foreign.starts_with("it is of another store: "), "{foreign}");
        assert_eq!(backup.restore(&empty, &STORE, &key(), true, &Watch::default()), Err(OpenError::WrongKey));
        let lying = Backup { store_id: [2; 16], ..backup };
        let foreign = lying.restore(&empty, &[2; 16], &unlock, true, &Watch::default()).unwrap_err().to_string();
        assert!(foreign.starts_with("it belongs to another store: "), "{foreign}");
        assert!(!empty.exists());
    }
}
