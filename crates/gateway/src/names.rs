//! Names of directories in the order of S3's keys: by bytes, a directory's with a slash behind it (`a-`, `a/`, `a0`).
//!
//! A page of a list is to cost what it shows. So names that were read are kept, up to a bound, for the page that goes
//! on where this one ends; they are read anew when the directory has changed.

use crate::directories::now_in_nanoseconds;
use crate::tree::{Kind, Status, status, status_at};
use kmsfs_s3::{PUT_PREFIX, is_reserved};
use parking_lot::Mutex;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Memory that names are kept in, in bytes, about.
const KEPT: usize = 64 << 20;
/// A change within this time of another one may have left the directory's times alone.
const TICK: i128 = 100_000_000;
/// While others change a directory, a list that goes on may be read from what was there so many times as long ago as
/// reading it took: reading it anew takes a small part of the time.
const PATIENCE: u32 = 10;

/// The names of a directory at one time, of what can be an object or a prefix of some.
#[derive(Debug)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and behind the last one where it ends.
    starts: Vec<u32>,
    stamp: (i128, i128),
    /// Nanoseconds since 1970.
    began: i128,
    read: Instant,
    took: Duration,
    /// Temporary files of uploads that seem to be left over: their names.
    pub(crate) leftovers: Vec<String>,
}

/// Where pages of lists ended, at most.
const ENDS: usize = 1024;

/// Names that were read before, by the directory's inode number; and where pages of lists ended, from which clients go
/// on.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: Mutex<Kept>,
    /// Bucket and key, the latest last.
    ends: Mutex<VecDeque<(String, String)>>,
}

#[derive(Debug, Default)]
struct Kept {
    by_inode: HashMap<u64, (Arc<Names>, u64)>,
    /// Directories that are being read: by how many, and how often they have changed meanwhile.
    reading: HashMap<u64, (usize, u64)>,
    bytes: usize,
    /// Counts uses, of which each entry has its last one.
    clock: u64,
}

impl Names {
    /// Each with a slash behind it where it is a directory's.
    pub(crate) fn get(&self, at: usize) -> Option<&str> {
        let range = *self.starts.get(at)? as usize..*self.starts.get(at + 1)? as usize;
        std::str::from_utf8(&self.bytes[range]).ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The first that is not before this one.
    pub(crate) fn position(&self, of: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let range = self.starts[middle] as usize..self.starts[middle + 1] as usize;
            if &self.bytes[range] < of { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn read(dir: impl AsFd, before: &Status) -> io::Result<Self> {
        let read = Instant::now();
        let began = now_in_nanoseconds();
        let mut buffer = vec![MaybeUninit::uninit(); 128 << 10];
        let mut unsorted: Vec<u8> = Vec::new();
        let mut places: Vec<(u32, u32)> = Vec::new();
        let mut leftovers = Vec::new();
        let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // Removed meanwhile.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno.into()),
            };
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with(PUT_PREFIX) {
                leftovers.push(name.to_owned());
            }
            if matches!(name, "." | "..") || is_reserved(name) {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::RegularFile => false,
                FileType::Directory => true,
                FileType::Unknown => match status_at(dir.as_fd(), name.as_ref()).map(|status| status.kind) {
                    Ok(Kind::File) => false,
                    Ok(Kind::Directory) => true,
                    _ => continue,
                },
                _ => continue,
            };
            let start = unsorted.len() as u32;
            unsorted.extend_from_slice(name.as_bytes());
            if is_dir {
                unsorted.push(b'/');
            }
            places.push((start, unsorted.len() as u32));
        }
        places.sort_unstable_by(|a, b| unsorted[a.0 as usize..a.1 as usize].cmp(&unsorted[b.0 as usize..b.1 as usize]));
        let mut bytes = Vec::with_capacity(unsorted.len());
        let mut starts = Vec::with_capacity(places.len() + 1);
        for (start, end) in places {
            starts.push(bytes.len() as u32);
            bytes.extend_from_slice(&unsorted[start as usize..end as usize]);
        }
        starts.push(bytes.len() as u32);
        let stamp = (before.mtime, before.ctime);
        Ok(Self { bytes, starts, stamp, began, read, took: read.elapsed(), leftovers })
    }

    /// Whether this is what the directory has now; or had a moment ago, if the list goes on from an earlier page.
    fn serves(&self, now: &Status, goes_on: bool) -> bool {
        let unchanged = self.stamp == (now.mtime, now.ctime);
        let settled = now.mtime.max(now.ctime) + TICK < self.began;
        (unchanged && settled) || (goes_on && self.read.elapsed() < self.took * PATIENCE)
    }

    fn weight(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>() + 256
    }
}

impl Cache {
    /// The names of a directory that is open for reading.
    pub(crate) fn names(&self, dir: impl AsFd, goes_on: bool) -> io::Result<Arc<Names>> {
        let now = status(dir.as_fd())?;
        if let Some(known) = self.kept.lock().find(now.ino).filter(|known| known.serves(&now, goes_on)) {
            return Ok(known);
        }
        let reading = Reading::of(self, now.ino);
        let names = Arc::new(Names::read(dir, &now)?);
        let mut kept = self.kept.lock();
        if !reading.has_changed(&kept) {
            kept.keep(now.ino, &names);
        }
        drop(kept);
        Ok(names)
    }

    /// A directory was changed by whoever has this: what was read before, or is being read, is not kept.
    pub(crate) fn forget(&self, ino: u64) {
        let kept = &mut *self.kept.lock();
        if let Some((names, _)) = kept.by_inode.remove(&ino) {
            kept.bytes -= names.weight();
        }
        if let Some((_, changes)) = kept.reading.get_mut(&ino) {
            *changes += 1;
        }
    }
}

/// A directory that is being read.
struct Reading<'a> {
    cache: &'a Cache,
    ino: u64,
    /// How often it had changed while others were reading it.
    changes: u64,
}

impl<'a> Reading<'a> {
    fn of(cache: &'a Cache, ino: u64) -> Self {
        let mut kept = cache.kept.lock();
        let (readers, changes) = kept.reading.entry(ino).or_default();
        *readers += 1;
        let changes = *changes;
        drop(kept);
        Self { cache, ino, changes }
    }

    fn has_changed(&self, kept: &Kept) -> bool {
        kept.reading.get(&self.ino).is_none_or(|(_, changes)| *changes != self.changes)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.cache.kept.lock().reading.entry(self.ino) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }
}

impl Cache {
    /// A page of a list of this bucket has ended with this key.
    pub(crate) fn note_end(&self, bucket: &str, key: &str) {
        let ends = &mut *self.ends.lock();
        if ends.len() == ENDS {
            ends.pop_front();
        }
        ends.push_back((bucket.to_owned(), key.to_owned()));
    }

    /// Whether one has, of late.
    pub(crate) fn has_ended(&self, bucket: &str, key: &str) -> bool {
        self.ends.lock().iter().any(|(known, end)| known == bucket && end == key)
    }
}

impl Kept {
    fn find(&mut self, ino: u64) -> Option<Arc<Names>> {
        self.clock += 1;
        let (names, used) = self.by_inode.get_mut(&ino)?;
        *used = self.clock;
        Some(names.clone())
    }

    fn keep(&mut self, ino: u64, names: &Arc<Names>) {
        self.clock += 1;
        self.bytes += names.weight();
        if let Some((before, _)) = self.by_inode.insert(ino, (names.clone(), self.clock)) {
            self.bytes -= before.weight();
        }
        while self.bytes > KEPT && self.by_inode.len() > 1 {
            let oldest = self.by_inode.iter().min_by_key(|(_, (_, used))| *used).map(|(ino, _)| *ino);
            let Some((names, _)) = oldest.and_then(|ino| self.by_inode.remove(&ino)) else { return };
            self.bytes -= names.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};
    use std::fs;
    use std::os::fd::OwnedFd;

    fn open(dir: &std::path::Path) -> OwnedFd {
        rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn all(names: &Names) -> Vec<&str> {
        (0..names.len()).map(|at| names.get(at).unwrap()).collect()
    }

    #[test]
    fn names_are_in_the_order_of_keys_and_kmsfs_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a-", "a0", "a", ".encryption.json", ".kmsfs-put.0123456789abcdef.x", "ä"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for name in ["b", ".kmsfs-uploads", "a-b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("b.c"), "").unwrap();
        let names = Cache::default().names(open(dir.path()), false).unwrap();
        assert_eq!(all(&names), ["a", "a-", "a-b/", "a0", "b.c", "b/", "ä"]);
        assert_eq!(names.leftovers, [".kmsfs-put.0123456789abcdef.x"]);
        assert_eq!((names.position(b""), names.position(b"a-b"), names.position(b"b/x")), (0, 2, 6));
        assert_eq!(names.position("ö".as_bytes()), 7);
    }

    #[test]
    fn a_changed_directory_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let cache = Cache::default();
        assert_eq!(all(&cache.names(open(dir.path()), false).unwrap()), ["a"]);
        fs::write(dir.path().join("b"), "").unwrap();
        assert_eq!(all(&cache.names(open(dir.path()), false).unwrap()), ["a", "b"]);
    }

    #[test]
    fn an_unchanged_directory_is_read_once_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let past = std::time::SystemTime::now() - Duration::from_secs(10);
        fs::File::open(dir.path()).unwrap().set_modified(past).unwrap();
        let now = status(open(dir.path())).unwrap();
        let settled = Status { ctime: now.mtime, ..now };
        let names = Names::read(open(dir.path()), &settled).unwrap();
        assert!(names.serves(&settled, false));
        assert!(!names.serves(&Status { mtime: settled.mtime + 1, ..settled }, false));
        let unsettled = Status { ctime: names.began, ..settled };
        assert!(!Names { stamp: (unsettled.mtime, unsettled.ctime), ..names }.serves(&unsettled, false));
    }

    #[test]
    fn what_has_changed_is_not_kept_whenever_it_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::default();
        let ino = status(open(dir.path())).unwrap().ino;
        fs::write(dir.path().join("a"), "").unwrap();
        let first = cache.names(open(dir.path()), true).unwrap();
        assert!(cache.kept.lock().find(ino).is_some());
        cache.forget(ino);
        assert!(cache.kept.lock().find(ino).is_none() && cache.kept.lock().bytes == 0);
        // As it is where somebody reads it while it changes.
        let (reading, later) = (Reading::of(&cache, ino), Reading::of(&cache, ino));
        cache.forget(ino);
        let after = Reading::of(&cache, ino);
        let kept = cache.kept.lock();
        assert!(reading.has_changed(&kept) && later.has_changed(&kept) && !after.has_changed(&kept));
        drop(kept);
        drop((reading, later, after));
        assert!(cache.kept.lock().reading.is_empty());
        assert_eq!(all(&first), ["a"]);
    }

    #[test]
    fn ends_of_pages_are_known_as_long_as_there_are_not_many_later_ones() {
        let cache = Cache::default();
        cache.note_end("bucket", "key");
        assert!(cache.has_ended("bucket", "key"));
        assert!(!cache.has_ended("bucket", "another") && !cache.has_ended("another", "key"));
        for number in 0..ENDS {
            assert!(cache.has_ended("bucket", "key"), "{number}");
            cache.note_end("bucket", &number.to_string());
        }
        assert!(!cache.has_ended("bucket", "key") && cache.has_ended("bucket", "7"));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let now = status(open(dir.path())).unwrap();
        let big = || {
            let small = Names::read(open(dir.path()), &now).unwrap();
            Arc::new(Names { bytes: vec![0; KEPT / 3], ..small })
        };
        let mut kept = Kept::default();
        (1..=2).for_each(|ino| kept.keep(ino, &big()));
        assert!(kept.find(1).is_some());
        kept.keep(3, &big());
        assert!(kept.find(1).is_some() && kept.find(2).is_none() && kept.find(3).is_some());
        assert!(kept.bytes <= KEPT);
    }
}
