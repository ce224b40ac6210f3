//! Random operations on a store while bytes beneath it change: whatever is read was written there once, or is a hole,
//! or is an error.

use super::victim::{CALLER, NODE, bucket, dual, encryption, new_disk, open};
use crate::disk::SimulatedDisk;
use kmsfs_store::backend::{Access, Backend, Rename};
use kmsfs_store::prelude::*;
use kmsfs_store::{Dir, Object, Store};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Of the unit that writes have: every byte in it is its value.
const SECTOR: u64 = 512;
const SECTORS: u64 = 700;

struct DamagedStore {
    disk: SimulatedDisk,
    store: Arc<Store>,
    dir: Arc<Dir>,
    /// What was ever written to a sector of any object: names move, values do not.
    written: HashMap<u64, BTreeSet<u8>>,
    value: u8,
}

/// Three bytes an operation: which, and two arguments.
pub(crate) fn run(bytes: &[u8]) {
    let disk = new_disk();
    let Some(store) = open(&disk) else { return };
    let Some(dir) = bucket(&store) else { return };
    let mut damaged = DamagedStore { disk, store, dir, written: HashMap::new(), value: 0 };
    for operation in bytes.chunks_exact(3).take(300) {
        let &[kind, one, two] = operation else { return };
        if !damaged.step(kind, one, two) {
            break;
        }
    }
    for name in NAMES {
        damaged.with_object(name, |damaged, object| (0..SECTORS).for_each(|sector| damaged.read(object, sector)));
    }
    let _ = damaged.store.close();
}

impl DamagedStore {
    /// Returns false if the store can no longer be used.
    fn step(&mut self, kind: u8, one: u8, two: u8) -> bool {
        let name = NAMES[usize::from(one % 4)];
        let sector = u64::from(one / 4) * 11 % SECTORS;
        let len = u64::from(two % 40) + 1;
        match kind % 12 {
            0 => {
                let want = if two.is_multiple_of(2) { encryption() } else { dual() };
                let _ = self
                    .store
                    .create(&self.dir, OsStr::new(name), &NODE, &want, name, &CALLER)
                    .map(|(object, _)| self.store.release(&object));
            }
            1..=3 => self.with_object(name, |damaged, object| damaged.write(object, sector, len)),
            4 => self.with_object(name, |damaged, object| (0..len).for_each(|n| damaged.read(object, sector + n))),
            5 => self.with_object(name, |_, object| drop(object.truncate(sector * SECTOR))),
            6 => self.with_object(name, |_, object| drop(object.punch(sector * SECTOR, len * SECTOR))),
            7 => self.with_object(name, |_, object| drop(object.fsync())),
            8 => drop(self.store.unlink(&self.dir, OsStr::new(name))),
            9 => {
                let to = OsStr::new(NAMES[usize::from(two % 4)]);
                let _ = self.store.rename(&self.dir, OsStr::new(name), &self.dir, to, Rename::Replace);
            }
            10 => self.damage(one, two),
            _ => return self.open_again(two),
        }
        true
    }

    fn with_object(&mut self, name: &str, act: impl FnOnce(&mut Self, &Object)) {
        if let Ok(object) = self.store.open_object(&self.dir, OsStr::new(name), &CALLER) {
            act(self, &object);
            self.store.release(&object);
        }
    }

    fn write(&mut self, object: &Object, sector: u64, len: u64) {
        self.value = self.value % 250 + 1;
        // Before, since what fails may have been done in part.
        for n in sector..sector + len {
            self.written.entry(n).or_default().insert(self.value);
        }
        let _ = object.write(sector * SECTOR, &vec![self.value; (len * SECTOR) as usize]);
    }

    fn read(&mut self, object: &Object, sector: u64) {
        let mut bytes = [0; SECTOR as usize];
        if let Ok(read) = object.read(sector * SECTOR, &mut bytes)
            && read > 0
        {
            let first = bytes[0];
            assert!(bytes[..read].iter().all(|byte| *byte == first), "sector {sector} is of two writes");
            let known = self.written.get(&sector).is_some_and(|values| values.contains(&first));
            assert!(first == 0 || known, "sector {sector} reads {first}, which was never written there");
        }
    }

    /// Flips a bit somewhere in the store.
    fn damage(&self, one: u8, two: u8) {
        let paths = ["buckets/bucket/a", "buckets/bucket/b", "sidecars/00000000", "log/redo"];
        let path = paths[usize::from(one % 4)];
        let (above, name) = path.rsplit_once('/').expect("each has a directory");
        let root = self.disk.root().expect("a disk has a root");
        let dir = above.split('/').fold(root, |dir, name| dir.open_dir(OsStr::new(name)).expect("the store has it"));
        let Ok(file) = dir.open_file(&OsString::from(name), Access::ReadWrite) else { return };
        let len = file.metadata().map_or(0, |metadata| metadata.len);
        let at = (u64::from(one / 4) * 521 + u64::from(two) * 37) % len.max(1);
        let mut byte = [0];
        if file.read_at(&mut byte, at).is_ok_and(|read| read == 1) {
            let _ = file.write_at(&[byte[0] ^ (1 << (two % 8))], at);
        }
    }

    /// Closed and opened, or killed and opened.
    fn open_again(&mut self, how: u8) -> bool {
        let disk = if how.is_multiple_of(2) {
            let _ = self.store.close();
            self.disk.crash_point().kill()
        } else {
            let disk = self.disk.crash_point().power_cuts(4, u64::from(how)).last().expect("a power cut leaves a disk");
            // For its memory alone, which a process would give back: what it writes is on the other disk.
            let _ = self.store.close();
            disk
        };
        let Some(store) = open(&disk) else { return false };
        let Some(dir) = bucket(&store) else { return false };
        (self.disk, self.store, self.dir) = (disk, store, dir);
        true
    }
}
