//! Which objects a KMS key protects, from the segments alone: no key is asked for, and no object file is read.

use crate::backend::{Access, Backend, Dir};
use crate::local::sealed::parameters::{BUCKETS, SIDECARS};
use crate::local::segments::Segments;
use crate::mistakes::Seeded;
use crate::{Ino, Result};
use kmsfs_format::sidecar::{Kind, MAX_UNITS, Record, Sidecar, UNIT};
use kmsfs_sse::Algorithm;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// An object that a KMS key protects, or an older data key of it, while it is being encrypted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// The bucket that it lies in.
    pub bucket: String,
    /// Below the bucket, one of its names. `None` if no file in the bucket has the inode that its record remembers: it
    /// is unlinked and not collected yet, or the store was restored and `kmsfs fsck --repair` has not been run.
    pub key: Option<Vec<u8>>,
    /// Of its newest data key.
    pub algorithm: Algorithm,
    /// Whether its newest data key is under the bucket's key.
    pub bucket_key: bool,
}

/// Visits the objects that need this key. It takes no lock: what a process that has the store mounted has only in its
/// log is not seen, so that a checkpoint is wanted before. A record that is just being written is passed over.
pub fn protected_by(backend: &dyn Backend, key_arn: &str, visit: &mut dyn FnMut(Protected)) -> Result<()> {
    let root = backend.root()?;
    let segments =
        Segments::open(root.open_dir(OsStr::new(SIDECARS))?, Access::Read, HashMap::new(), Seeded::default())?;
    let mut by_inode: HashMap<Ino, Vec<Protected>> = HashMap::new();
    for segment in segments.numbers()? {
        records(&segments.read_whole(segment)?, &mut |record| {
            let Ok(sidecar) = Sidecar::decode(&record.body) else { return };
            if !sidecar.keys.iter().any(|key| key.wrapped.key_arn == key_arn) {
                return;
            }
            let wrapped = &sidecar.newest().wrapped;
            let (algorithm, bucket_key) = (wrapped.algorithm, wrapped.under_bucket_key.is_some());
            let found = Protected { bucket: sidecar.bucket, key: None, algorithm, bucket_key };
            by_inode.entry(Ino(record.inode)).or_default().push(found);
        });
    }
    let buckets = root.open_dir(OsStr::new(BUCKETS))?;
    walk(buckets, &mut |path, ino| {
        let mut names = path.splitn(2, |byte| *byte == b'/');
        let (bucket, key) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        let found = by_inode.get_mut(&ino);
        let at = found.as_ref().and_then(|found| found.iter().position(|object| object.bucket.as_bytes() == bucket));
        if let (Some(found), Some(at)) = (found, at) {
            visit(Protected { key: Some(key.to_vec()), ..found.swap_remove(at) });
        }
    })?;
    by_inode.into_values().flatten().for_each(visit);
    Ok(())
}

fn records(bytes: &[u8], visit: &mut dyn FnMut(Record)) {
    let mut unit = 0;
    while let Some(rest) = bytes.get(unit * UNIT..).filter(|rest| rest.len() >= UNIT) {
        let units = usize::from(u16::from_le_bytes([rest[6], rest[7]]));
        let record = (1..=MAX_UNITS).contains(&units).then(|| rest.get(..units * UNIT)).flatten();
        unit += match record.map(Record::read) {
            Some(Ok(record)) => {
                if record.kind == Kind::Sidecar {
                    visit(record);
                }
                units
            }
            _ => 1,
        };
    }
}

/// Regular files, with their paths from the bucket on; no recursion, as in `recovery::walk`.
fn walk(top: Arc<dyn Dir>, visit: &mut dyn FnMut(&[u8], Ino)) -> Result<()> {
    let mut path = Vec::new();
    let below = files_of(top.as_ref(), &mut path, visit)?;
    let mut pending = vec![(top, below, 0)];
    while let Some((dir, below, above)) = pending.last_mut() {
        path.truncate(*above);
        let Some(name) = below.pop() else {
            pending.pop();
            continue;
        };
        // It may have gone meanwhile.
        let Ok(dir) = dir.open_dir(&name) else { continue };
        path.extend_from_slice(name.as_bytes());
        path.push(b'/');
        let below = files_of(dir.as_ref(), &mut path, visit)?;
        pending.push((dir, below, path.len()));
    }
    Ok(())
}

/// Those in one directory. Answers the directories in it.
fn files_of(dir: &dyn Dir, path: &mut Vec<u8>, visit: &mut dyn FnMut(&[u8], Ino)) -> Result<Vec<OsString>> {
    let mut below: Vec<OsString> = Vec::new();
    let above = path.len();
    dir.read(0, &mut |entry| {
        match entry.kind {
            libc::S_IFDIR => below.push(entry.name.to_owned()),
            0 | libc::S_IFREG => {
                path.extend_from_slice(entry.name.as_bytes());
                visit(path, entry.ino);
                path.truncate(above);
            }
            _ => {}
        }
        true
    })?;
    Ok(below)
}
