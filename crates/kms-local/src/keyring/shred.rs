//! `shred`: a secret for each key material, in a sector of its own. Material is wrapped under the root key and its
//! secret together, so that overwriting one sector in its place destroys every copy of the wrapped material.
//! docs/FORMAT.md has the bytes.

use super::OpenError;
use super::files::replace;
use super::private::{open_private, read_private};
use kmsfs_crypto::{SecretKey, wiped};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sys::private::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(crate) const SHRED: &str = "shred";
const SECTOR: usize = 512;
/// Sectors that the file grows by, so that most changes find one that is there: written, not only allocated.
const STEP: usize = 64;
const MAGIC: &[u8; 8] = b"KMSFSHRD";
const SECRET: std::ops::Range<usize> = 8..40;
const CHECKSUM: std::ops::Range<usize> = 40..44;
const PURPOSE: &[u8] = b"kmsfs material";

pub(crate) type Sector = u32;

/// What wraps key material: the root key and the secrets.
pub struct Wrapping {
    root: Arc<SecretKey>,
    source: Source,
    new: Mutex<ranks::ShredSectors, New>,
}

/// Boxed, so that moving it leaves no copy.
type Secret = Box<Zeroizing<[u8; SecretKey::LEN]>>;

/// Sectors that a change has filled, and that are not written yet.
#[derive(Default)]
struct New {
    filled: BTreeMap<Sector, Secret>,
    /// Those of the file that are not free; looked for once.
    taken: Option<BTreeSet<Sector>>,
}

enum Source {
    File(PathBuf),
    /// A backup's.
    Bytes(Zeroizing<Vec<u8>>),
}

impl Wrapping {
    pub fn new(root: Arc<SecretKey>, dir: &Path) -> Self {
        Self { root, source: Source::File(dir.to_path_buf()), new: Mutex::default() }
    }

    pub fn of_backup(root: Arc<SecretKey>, shred: &[u8]) -> Self {
        Self { root, source: Source::Bytes(Zeroizing::new(shred.to_vec())), new: Mutex::default() }
    }

    pub fn root(&self) -> &Arc<SecretKey> {
        &self.root
    }

    /// The key that wraps what has its secret in this sector; `None` where there is none.
    pub fn key(&self, sector: Sector) -> Option<SecretKey> {
        wiped(|| {
            let filled = self.new.lock().filled.get(&sector).cloned();
            let secret = match filled {
                Some(secret) => secret,
                None => secret_of(&*self.read(sector)?)?,
            };
            Some(self.root.with(&SecretKey::from_plaintext(&secret[..])?, PURPOSE))
        })
    }

    fn read(&self, sector: Sector) -> Option<Zeroizing<[u8; SECTOR]>> {
        let mut bytes = Zeroizing::new([0; SECTOR]);
        let at = sector as usize * SECTOR;
        match &self.source {
            Source::Bytes(all) => bytes.copy_from_slice(all.get(at..at + SECTOR)?),
            Source::File(dir) => open(dir, false).ok()?.read_exact_at(&mut bytes[..], at as u64).ok()?,
        }
        Some(bytes)
    }

    /// A sector with a new secret, free until now. It is there after [`Wrapping::write`].
    pub fn fill(&self) -> Result<(Sector, SecretKey), OpenError> {
        let mut new = self.new.lock();
        let New { filled, taken } = &mut *new;
        let taken = match taken {
            Some(taken) => taken,
            None => taken.insert(self.taken()?),
        };
        // What was filled last is the highest of what is filled.
        let from = filled.last_key_value().map_or(0, |(last, _)| last + 1);
        let sector =
            (from..=u32::MAX).find(|sector| !taken.contains(sector)).expect("there are more sectors than materials");
        let secret = SecretKey::random();
        let key = self.root.with(&secret, PURPOSE);
        let mut bytes = Secret::default();
        bytes.copy_from_slice(&secret.into_plaintext());
        filled.insert(sector, bytes);
        Ok((sector, key))
    }

    /// Sectors that are not all zero, whatever they hold: also one that is damaged, or that a process left that was
    /// killed.
    fn taken(&self) -> Result<BTreeSet<Sector>, OpenError> {
        match &self.source {
            Source::Bytes(_) => Ok(BTreeSet::new()),
            Source::File(dir) => Ok(taken(&read(dir)?)),
        }
    }

    /// Makes durable what was filled: before the keyring that needs it is there.
    pub fn write(&self) -> Result<(), OpenError> {
        let new = self.new.lock();
        let (Source::File(dir), Some((last, _))) = (&self.source, new.filled.last_key_value()) else { return Ok(()) };
        let fail = |error: io::Error| OpenError::io(SHRED, &error);
        make(dir).map_err(fail)?;
        let file = open(dir, true)?;
        grow(&file, *last as usize + 1).map_err(fail)?;
        for (sector, secret) in &new.filled {
            let at = u64::from(*sector) * SECTOR as u64;
            wiped(|| file.write_all_at(&sector_of(secret)[..], at)).map_err(fail)?;
        }
        file.sync_all().map_err(fail)
    }
}

/// Overwrites what no material names, and makes that durable.
pub(crate) fn sweep(dir: &Path, named: &BTreeSet<Sector>) -> Result<(), OpenError> {
    let stray: Vec<_> = strays(dir, named)?;
    if stray.is_empty() {
        return Ok(());
    }
    let fail = |error: io::Error| {
        let text = "the secret of key material that is destroyed cannot be overwritten; the next change tries it again";
        OpenError::Other(format!("{text}: {error}"))
    };
    let file = open(dir, true)?;
    for sector in stray {
        file.write_all_at(&[0; SECTOR], u64::from(sector) * SECTOR as u64).map_err(fail)?;
    }
    file.sync_all().map_err(fail)
}

/// Sectors with something in them that no material names.
pub(crate) fn strays(dir: &Path, named: &BTreeSet<Sector>) -> Result<Vec<Sector>, OpenError> {
    Ok(taken(&read(dir)?).difference(named).copied().collect())
}

/// Overwrites a copy as a whole, in its place.
pub(crate) fn erase(dir: &Path) -> io::Result<()> {
    if !is_there(dir) {
        return Ok(());
    }
    let file = open(dir, true).map_err(|error| io::Error::other(error.to_string()))?;
    let sectors = file.metadata()?.len().div_ceil(SECTOR as u64);
    (0..sectors).try_for_each(|sector| file.write_all_at(&[0; SECTOR], sector * SECTOR as u64))?;
    file.sync_all()
}

/// The file as it is; none of the first keyrings has one.
pub(crate) fn read(dir: &Path) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if is_there(dir) { read_private(dir, SHRED).map(Zeroizing::new) } else { Ok(Zeroizing::default()) }
}

/// Whether there is one, its owner's alone.
pub(crate) fn check(dir: &Path) -> Result<(), OpenError> {
    if is_there(dir) {
        return open(dir, false).map(drop);
    }
    let text = "is not there, and no key opens without it: restore it from a backup";
    Err(OpenError::Other(format!("its file {SHRED} {text}")))
}

fn is_there(dir: &Path) -> bool {
    dir.join(SHRED).symlink_metadata().is_ok()
}

/// An empty one, where there is none.
fn make(dir: &Path) -> io::Result<()> {
    if is_there(dir) { Ok(()) } else { replace(dir, SHRED, &vec![0; STEP * SECTOR]) }
}

fn open(dir: &Path, write: bool) -> Result<File, OpenError> {
    open_private(dir, SHRED, if write { Access::Change } else { Access::Read })
}

fn grow(file: &File, sectors: usize) -> io::Result<()> {
    let (len, wanted) = (file.metadata()?.len(), (sectors.next_multiple_of(STEP) * SECTOR) as u64);
    (len..wanted).step_by(SECTOR).try_for_each(|at| file.write_all_at(&[0; SECTOR], at))
}

fn taken(bytes: &[u8]) -> BTreeSet<Sector> {
    let sectors = (0..).zip(bytes.chunks(SECTOR));
    sectors.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).map(|(sector, _)| sector).collect()
}

fn sector_of(secret: &[u8; SecretKey::LEN]) -> Zeroizing<[u8; SECTOR]> {
    let mut bytes = Zeroizing::new([0; SECTOR]);
    bytes[..8].copy_from_slice(MAGIC);
    bytes[SECRET].copy_from_slice(secret);
    let checksum = crc32fast::hash(&bytes[..SECRET.end]);
    bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn secret_of(bytes: &[u8; SECTOR]) -> Option<Secret> {
    let mut secret = Secret::default();
    secret.copy_from_slice(&bytes[SECRET]);
    (sector_of(&secret)[..] == bytes[..]).then_some(secret)
}
