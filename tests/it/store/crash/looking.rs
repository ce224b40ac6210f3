//! What is found in a store: live, and after a crash.

use super::crashed::{CHUNK, Chunks, CrashedStore, SECTOR, offset, plain_len};
use super::told::{Content, Found, Reading, SECTORS, Value};
use crate::store::*;
use kmsfs_store::backend;
use kmsfs_store::check::{CheckOptions, Severity, check};
use kmsfs_store::{Error, Ino, SeekTo, Target};
use std::collections::BTreeSet;

impl CrashedStore {
    /// A live store reads what was written.
    pub fn read_live(&self, after: &str) {
        for (name, object) in self.handles.lock().iter() {
            let expected = self.with_known(object, |known| known.now().clone());
            match read(object, self.chunks) {
                Ok(reading) if expected.shows(&reading) && reading.sectors.iter().all(Option::is_some) => {}
                other => self.misread.lock().push(format!("{name} after {after}: {other:?} and not {expected:?}")),
            }
        }
    }

    pub fn content(&self, name: &str, reading: &Reading) -> Content {
        let (dir, last) = self.place(name).unwrap();
        let object = self.store.open_object(&dir, last, &CALLER).unwrap();
        let chunks = 0..reading.sectors.len().div_ceil(SECTORS);
        let is_data = |chunk: &usize| {
            let at = self.chunks[*chunk] * CHUNK;
            object.seek(at, SeekTo::Data) == Ok(at)
        };
        let content = Content {
            wrap: reading.wrap,
            sectors: reading.sectors.iter().map(|value| value.unwrap_or(0)).collect(),
            present: chunks.filter(is_data).collect(),
            cut: false,
        };
        self.store.release(&object);
        content
    }
}

/// What an object reads as; an error is one that no crash excuses.
pub fn read(object: &Object, chunks: Chunks) -> Result<Reading, String> {
    let size = object.attr().map_err(|error| error.to_string())?.size;
    let length = (0..=chunks.len() * SECTORS).find(|sectors| plain_len(chunks, *sectors) == size);
    let length = length.ok_or_else(|| format!("an impossible length, {size}"))?;
    let encryption = object.encryption();
    let wrap = encryption.key_arn.as_deref().and_then(|arn| arn.rsplit_once('/')?.1.split('-').next()?.parse().ok());
    let mut sectors = Vec::new();
    for sector in 0..length {
        sectors.push(read_value(object, offset(chunks, sector))?);
    }
    check_holes(object, chunks, size)?;
    Ok(Reading { wrap: wrap.unwrap_or(0), sectors })
}

fn read_value(object: &Object, offset: u64) -> Result<Option<Value>, String> {
    let mut bytes = [0xff; SECTOR as usize];
    match object.read(offset, &mut bytes) {
        Ok(count) if count == bytes.len() => {
            let (first, _) = bytes.as_chunks::<8>().0.split_first().map(|(first, rest)| (*first, rest)).unwrap();
            if bytes.as_chunks::<8>().0.iter().any(|part| *part != first) {
                return Err(format!("bytes of more than one write at {offset}"));
            }
            Ok(Some(u64::from_le_bytes(first)))
        }
        Ok(count) => Err(format!("{count} bytes read at {offset}")),
        Err(Error::Corrupt(_)) => Ok(None),
        Err(error) => Err(format!("reading at {offset}: {error}")),
    }
}

/// Nobody writes between the chunks that stand for the model's.
fn check_holes(object: &Object, chunks: Chunks, size: u64) -> Result<(), String> {
    let between = chunks.windows(2).filter(|pair| pair[0] + 1 < pair[1]).flat_map(|pair| [pair[0] + 1, pair[1] - 1]);
    for at in between.map(|chunk| chunk * CHUNK).filter(|at| at + CHUNK <= size) {
        let mut bytes = [1; 600];
        match object.read(at, &mut bytes) {
            Ok(600) if bytes.iter().all(|byte| *byte == 0) => {}
            Err(Error::Corrupt(_)) => {}
            other => return Err(format!("the hole at {at} reads {other:?} {:?}", &bytes[..8])),
        }
    }
    Ok(())
}

/// Where a check of the store and what was read disagree about which objects are damaged.
pub fn disagreements(store: &Arc<Store>, found: &Found) -> Vec<String> {
    let options = CheckOptions { scrub: true, repair: false };
    let report = match check(store, options, &CALLER, &mut |_| true) {
        Ok(report) => report,
        Err(error) => return vec![format!("the check fails: {error}")],
    };
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let (mut told, mut wrong) = (BTreeSet::new(), Vec::new());
    for finding in errors {
        let path = finding.place.strip_prefix("bucket/").unwrap_or("not in the bucket");
        match found.names.get(path) {
            Some(ino) => drop(told.insert(*ino)),
            None => wrong.push(format!("the check finds {finding:?}")),
        }
    }
    let damaged = found.objects.iter().filter(|(_, object)| match object {
        Ok(reading) => reading.sectors.iter().any(Option::is_none),
        Err(_) => true,
    });
    let damaged: BTreeSet<Ino> = damaged.map(|(ino, _)| *ino).collect();
    if told != damaged {
        wrong.push(format!("the check calls {told:?} damaged, and reading {damaged:?}: {:?}", report.findings));
    }
    wrong
}

/// Reads everything in the bucket.
pub fn look(disk: &SimulatedDisk, store: &Arc<Store>, chunks: Chunks) -> Found {
    let mut found = Found::default();
    let buckets = disk.root().unwrap().open_dir(OsStr::new("buckets")).unwrap();
    let Ok(backing) = buckets.open_dir(OsStr::new(BUCKET)) else { return found };
    found.names.insert(String::new(), backing.metadata().unwrap().ino);
    match store.open_dir(store.root(), OsStr::new(BUCKET)) {
        Ok(dir) => look_into(store, &dir, backing.as_ref(), "", chunks, &mut found),
        Err(error) => found.wrong.push(format!("the bucket cannot be opened: {error}")),
    }
    found
}

fn look_into(
    store: &Arc<Store>,
    dir: &Arc<Dir>,
    backing: &dyn backend::Dir,
    above: &str,
    chunks: Chunks,
    found: &mut Found,
) {
    let mut entries = Vec::new();
    let mut note = |entry: backend::Entry<'_>| {
        entries.push((entry.name.to_owned(), entry.ino, entry.kind));
        true
    };
    backing.read(0, &mut note).unwrap();
    for (name, ino, kind) in entries {
        let path = format!("{above}{}", name.to_str().unwrap());
        found.names.insert(path.clone(), ino);
        match kind {
            libc::S_IFDIR => {
                let (below, backing) = (store.open_dir(dir, &name), backing.open_dir(&name).unwrap());
                let below = below.unwrap_or_else(|error| panic!("{path}: {error}"));
                look_into(store, &below, backing.as_ref(), &format!("{path}/"), chunks, found);
            }
            libc::S_IFLNK => {
                found.links.insert(ino, store.read_link(dir, &name).map_err(|error| error.to_string()));
            }
            _ => look_at(store, dir, &name, ino, chunks, found),
        }
    }
}

fn look_at(store: &Arc<Store>, dir: &Arc<Dir>, name: &OsStr, ino: Ino, chunks: Chunks, found: &mut Found) {
    let before = store.stat(Target::Name(dir, name)).map(|attr| attr.size);
    let object = match store.open_object(dir, name, &CALLER) {
        Ok(object) => object,
        // As the mount opens it: empty, with the key that it would get now.
        Err(Error::Corrupt(_)) if store.was_never_committed(dir, name) => {
            match store.open_truncated(dir, name, &aes256(), &name.to_string_lossy(), &CALLER) {
                Ok(object) => object,
                Err(error) => {
                    return found.wrong.push(format!("{} is empty and cannot be used: {error}", name.display()));
                }
            }
        }
        Err(Error::Corrupt(why)) => {
            found.objects.insert(ino, Err(why));
            return;
        }
        Err(error) => return found.wrong.push(format!("{} cannot be opened: {error}", name.display())),
    };
    match read(&object, chunks) {
        Ok(reading) => drop(found.objects.insert(ino, Ok(reading))),
        Err(wrong) => found.wrong.push(format!("{}: {wrong}", name.display())),
    }
    let size = object.attr().unwrap().size;
    if before != Ok(size) {
        found.wrong.push(format!("{}: stat said {before:?} before it was opened, {size} then", name.display()));
    }
    store.release(&object);
}
