//! When an object was made: what tells one that a crash caught before it was ever durable from one that was damaged.
//!
//! An attribute of the object file, under the store's key, says which object it is and in which epoch of the redo log
//! it was made. It comes to the disk with the inode. Where that epoch ended in a crash, the object may be less than
//! what its seal says, or nothing (R2); anywhere else that is damage. Nothing else about an object is a reason to be
//! lenient.

use crate::backend::{Access, Backend, File, XattrFlags};
use crate::local::log::Log;
use crate::local::recovery::walk;
use crate::local::sealed::parameters::BUCKETS;
use crate::mistakes::{Mistake, Seeded};
use crate::{Error, Ino, Result};
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_format::ObjectId;
use kmsfs_format::layout::BLOCK;
use kmsfs_format::log_header::LogHeader;
use kmsfs_locks::{RwLock, RwLockReadGuard, RwLockWriteGuard, ranks};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ATTRIBUTE: &str = "user.kmsfs.born";
const PURPOSE: &str = "kmsfs birth";
/// Bytes of the MAC that are kept: attributes beside an inode are short of room.
const TAG: usize = 16;
/// Object id, epoch, MAC.
const LEN: usize = 16 + 8 + TAG;

/// Whether an attribute is the store's own, which nobody else sees.
pub(crate) fn is_reserved(attribute: &OsStr) -> bool {
    attribute.as_bytes() == ATTRIBUTE.as_bytes()
}

/// The object is durable: from now on nothing excuses what is missing of it.
pub(crate) fn settle(file: &dyn File) -> io::Result<()> {
    match file.remove_xattr(OsStr::new(ATTRIBUTE)) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Err(error),
        _ => Ok(()),
    }
}

/// An object without a header that a crash of version 1 caught before its first commit, which that version told by the
/// clock, gets a birth: once, before the log is of a version that believes no clock. Returns the header that the log is
/// to have.
pub(crate) fn of_version_1(backend: &dyn Backend, key: &StoreKey, header: &LogHeader) -> Result<LogHeader> {
    let Some((from, to)) = header.untidy else { return Ok(*header) };
    // No object is made in it, so that it excuses these alone.
    let epoch = header.settled;
    let key = self::key(key);
    let buckets =
        backend.root()?.open_dir(OsStr::new(BUCKETS)).map_err(|error| Error::reaching_part(BUCKETS, error))?;
    walk(&buckets, &mut |dir, name| {
        let Ok(file) = dir.open_file(name, Access::ReadWrite) else { return true };
        let caught = file.metadata().is_ok_and(|found| (from..=to).contains(&found.ctime.0)) && is_blank(file.as_ref());
        if caught && let Err(error) = note(file.as_ref(), &certificate(&key, ObjectId([0; 16]), epoch, file.ino())) {
            let name = name.display();
            ::log::warn!(
                "{name}: a crash before its first commit left it, and that cannot be noted ({error}): it is damaged"
            );
        }
        true
    })?;
    backend.sync_all()?;
    Ok(LogHeader { untidy: None, crashes: header.crashes.and(epoch, epoch), ..*header })
}

/// Whether nothing was ever written of an object's header block.
pub(crate) fn is_blank(file: &dyn File) -> bool {
    let mut block = [0; BLOCK as usize];
    file.read_at(&mut block, 0).is_ok_and(|read| block[..read].iter().all(|byte| *byte == 0))
}

fn note(file: &dyn File, certificate: &[u8; LEN]) -> io::Result<()> {
    file.set_xattr(OsStr::new(ATTRIBUTE), certificate, XattrFlags::Any)
}

/// Which object a file's birth names, whether or not that is authentic.
pub(crate) fn named(file: &dyn File) -> Option<ObjectId> {
    let value = file.get_xattr(OsStr::new(ATTRIBUTE)).ok()?;
    Some(ObjectId(value.get(..16)?.try_into().expect("16 bytes")))
}

/// Which object the birth in a file is of, and in which epoch that was. `None` where there is no birth, or it is not
/// authentic.
pub(super) fn authentic(key: &MacKey, file: &dyn File, seeded: Seeded) -> Option<(ObjectId, u64)> {
    let value = <[u8; LEN]>::try_from(file.get_xattr(OsStr::new(ATTRIBUTE)).ok()?).ok()?;
    let born = ObjectId(value[..16].try_into().expect("16 bytes"));
    let epoch = u64::from_le_bytes(value[16..24].try_into().expect("eight bytes"));
    let ino = file.ino().0.to_le_bytes();
    let authentic = key.verify(&[&value[..24], &ino], &value[24..]) || seeded.is(Mistake::BirthOfAnyInode);
    authentic.then_some((born, epoch))
}

/// What births are authenticated with.
pub(super) fn key(store: &StoreKey) -> MacKey {
    store.mac_key(PURPOSE)
}

/// What certifies births, and which epoch is theirs.
pub(crate) struct Births {
    key: Option<MacKey>,
    /// Of what is made now: the next one's as soon as a checkpoint has begun (K1).
    epoch: AtomicU64,
    /// Something was committed for the first time and closed, and no sync covers it: a checkpoint has to (K8).
    loose: AtomicBool,
    /// Shared by whoever makes a file, until its birth is noted.
    making: RwLock<ranks::Making, ()>,
    seeded: Seeded,
}

impl Births {
    pub(crate) fn new(key: Option<&StoreKey>, log: &Log, seeded: Seeded) -> Self {
        let key = key.map(self::key);
        let (epoch, loose) = (AtomicU64::new(log.epoch()), AtomicBool::new(false));
        Self { key, epoch, loose, making: RwLock::default(), seeded }
    }

    /// K1: what is made from now on belongs to the epoch that a checkpoint is about to begin. Returns whether it has to
    /// sync everything, for what is loose.
    pub(crate) fn begin_checkpoint(&self, epoch: u64) -> bool {
        if !self.seeded.is(Mistake::BirthBeforeCheckpoint) {
            self.epoch.store(epoch + 1, Ordering::SeqCst);
        }
        self.loose.swap(false, Ordering::SeqCst)
    }

    /// For as long as a file is made and its birth not noted.
    pub(crate) fn making(&self) -> RwLockReadGuard<'_, ranks::Making, ()> {
        self.making.read()
    }

    /// While it is held, every file that has no birth is one that a crash left so.
    pub(crate) fn none_is_made(&self) -> RwLockWriteGuard<'_, ranks::Making, ()> {
        self.making.write()
    }

    pub(crate) fn add_loose(&self) {
        self.loose.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_loose(&self) -> bool {
        self.loose.load(Ordering::SeqCst)
    }

    /// N4: an object is made in this file. Returns the epoch, for `note_again` once the object can be found by a
    /// checkpoint; `None` if it could not be noted.
    pub(crate) fn note(&self, file: &dyn File, id: ObjectId) -> Option<u64> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.certify(file, id).is_ok().then_some(epoch)
    }

    /// If a checkpoint has begun since `note` returned `born`, the object belongs to the next epoch, which is noted.
    pub(crate) fn note_again(&self, file: &dyn File, id: ObjectId, born: Option<u64>) -> io::Result<()> {
        if born == Some(self.epoch.load(Ordering::SeqCst)) { Ok(()) } else { self.certify(file, id) }
    }

    /// Says in an object's file that it is made now. Where the file system has no such attributes there is nothing to
    /// say, and what a crash catches before its first sync is damaged, not empty.
    fn certify(&self, file: &dyn File, id: ObjectId) -> io::Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let value = certificate(key, id, self.epoch.load(Ordering::SeqCst), file.ino());
        match note(file, &value) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            done => done,
        }
    }
}

fn certificate(key: &MacKey, id: ObjectId, epoch: u64, ino: Ino) -> [u8; LEN] {
    let mut value = [0; LEN];
    value[..16].copy_from_slice(&id.0);
    value[16..24].copy_from_slice(&epoch.to_le_bytes());
    let tag = key.tag(&[&value[..24], &ino.0.to_le_bytes()]);
    value[24..].copy_from_slice(&tag[..TAG]);
    value
}
