//! Objects with two layers of encryption, without a mount: what somebody without keys can do to them, and what they are
//! when they get another number of layers.

use super::*;
use kmsfs_format::header::{ENTRIES_AT, Header};
use kmsfs_format::layout::{ChunkIndex, Geometry, TableId};
use kmsfs_store::backend::{Access, File};
use kmsfs_store::{Change, Changed, Error, SeekTo, Step};

const CHUNK: usize = 4096;
const G: Geometry = Geometry::Dual;

struct Victim {
    disk: SimulatedDisk,
    keys: Arc<KeyService>,
    data: Vec<u8>,
}

impl Victim {
    /// Chunks in the header, in the first page and behind the first node.
    fn new() -> Self {
        let (disk, keys) = new_disk();
        let data = pattern(9, 200 * CHUNK + 77);
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        for name in ["a", "b"] {
            let (object, _) = store.create(&dir, OsStr::new(name), &NODE, &dsse("k"), name, &CALLER).unwrap();
            object.write(0, &data).unwrap();
            object.commit().unwrap();
            store.release(&object);
        }
        store.close().unwrap();
        Self { disk, keys, data }
    }

    fn copy(&self) -> Self {
        Self { disk: self.disk.crash_point().kill(), keys: self.keys.clone(), data: self.data.clone() }
    }

    fn file(&self, path: &str) -> Arc<dyn File> {
        let mut dir = self.disk.root().unwrap();
        let mut names: Vec<_> = path.split('/').collect();
        let last = names.pop().unwrap();
        for name in names {
            dir = dir.open_dir(OsStr::new(name)).unwrap();
        }
        dir.open_file(OsStr::new(last), Access::ReadWrite).unwrap()
    }

    fn object(&self, name: &str) -> Arc<dyn File> {
        self.file(&format!("buckets/{BUCKET}/{name}"))
    }

    /// Chunks of `a` that cannot be read; all others are what they were. `None` if the object does not open.
    #[track_caller]
    fn unreadable(&self) -> Option<Vec<usize>> {
        let store = open(&self.disk, &self.keys);
        let object = match store.open_object(&bucket(&store), OsStr::new("a"), &CALLER) {
            Ok(object) => object,
            Err(Error::Corrupt(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        let mut lost = Vec::new();
        for (n, chunk) in self.data.chunks(CHUNK).enumerate() {
            let mut read = vec![0; chunk.len()];
            match object.read((n * CHUNK) as u64, &mut read) {
                Ok(_) => assert!(read == chunk, "chunk {n} reads as other bytes"),
                Err(Error::Corrupt(_)) => lost.push(n),
                Err(error) => panic!("{error}"),
            }
        }
        store.release(&object);
        store.close().unwrap();
        Some(lost)
    }
}

fn flip(file: &dyn File, at: u64) {
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn entry_at(chunk: u64) -> u64 {
    match chunk.checked_sub(32) {
        None => ENTRIES_AT as u64 + chunk * 64,
        Some(n) => TableId { level: 0, index: n / 64 }.offset(G) + n % 64 * 64,
    }
}

fn exchange(one: &dyn File, other: &dyn File, places: [u64; 2], len: usize) {
    let (mut a, mut b) = (vec![0; len], vec![0; len]);
    one.read_at(&mut a, places[0]).unwrap();
    other.read_at(&mut b, places[1]).unwrap();
    one.write_at(&b, places[0]).unwrap();
    other.write_at(&a, places[1]).unwrap();
}

#[test]
fn each_nonce_and_tag_of_both_layers_counts() {
    let victim = Victim::new();
    assert_eq!(victim.unreadable(), Some(vec![]));
    for chunk in [31, 96] {
        let damaged = victim.copy();
        flip(damaged.object("a").as_ref(), ChunkIndex(chunk).offset(G) + 5);
        assert_eq!(damaged.unreadable(), Some(vec![chunk as usize]));
        // Outer nonce, tag, epoch; inner nonce, tag; what is not used.
        for byte in [0, 11, 12, 27, 28, 30, 32, 43, 44, 59, 60, 63] {
            let damaged = victim.copy();
            flip(damaged.object("a").as_ref(), entry_at(chunk) + byte);
            let lost = damaged.unreadable();
            assert!(lost.is_none_or(|lost| lost.contains(&(chunk as usize))), "chunk {chunk}, byte {byte}");
        }
    }
}

#[test]
fn exchanged_chunks_and_layers_are_found() {
    let victim = Victim::new();
    for (one, other) in [(0_u64, 1_u64), (31, 32), (33, 95), (95, 96), (40, 199)] {
        let damaged = victim.copy();
        let file = damaged.object("a");
        exchange(file.as_ref(), file.as_ref(), [ChunkIndex(one).offset(G), ChunkIndex(other).offset(G)], CHUNK);
        assert_eq!(damaged.unreadable(), Some(vec![one as usize, other as usize]));
        exchange(file.as_ref(), file.as_ref(), [entry_at(one), entry_at(other)], 64);
        let lost = damaged.unreadable();
        assert!(lost.is_none_or(|lost| lost.contains(&(one as usize)) && lost.contains(&(other as usize))));
    }
    for chunk in [3, 50] {
        // Between objects, and the inner half of an entry for the outer.
        let damaged = victim.copy();
        let (a, b) = (damaged.object("a"), damaged.object("b"));
        exchange(a.as_ref(), b.as_ref(), [ChunkIndex(chunk).offset(G); 2], CHUNK);
        exchange(a.as_ref(), b.as_ref(), [entry_at(chunk); 2], 64);
        assert!(damaged.unreadable().is_none_or(|lost| lost.contains(&(chunk as usize))));
        let damaged = victim.copy();
        let a = damaged.object("a");
        exchange(a.as_ref(), a.as_ref(), [entry_at(chunk), entry_at(chunk) + 32], 28);
        assert!(damaged.unreadable().is_none_or(|lost| lost.contains(&(chunk as usize))));
    }
}

#[test]
fn the_suite_and_every_byte_of_both_wrapped_keys_count() {
    let victim = Victim::new();
    let damaged = victim.copy();
    damaged.object("a").write_at(&[1, 0], 10).unwrap();
    assert_eq!(damaged.unreadable(), None, "one layer");

    let mut block = vec![0; CHUNK];
    victim.object("a").read_at(&mut block, 0).unwrap();
    let place = Header::read(&block).unwrap().sidecar;
    let mut record = vec![0; place.bytes()];
    victim.file("sidecars/00000000").read_at(&mut record, place.offset()).unwrap();
    let length = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
    for at in 40..40 + length + 32 {
        let damaged = victim.copy();
        let mut record = record.clone();
        record[at] ^= 0x40;
        // Who can write the store can make checksums.
        let crc = crc32fast::hash(&[&record[..12], &record[16..]].concat());
        record[12..16].copy_from_slice(&crc.to_le_bytes());
        damaged.file("sidecars/00000000").write_at(&record, place.offset()).unwrap();
        let store = open(&damaged.disk, &damaged.keys);
        match store.open_object(&bucket(&store), OsStr::new("a"), &CALLER) {
            Err(Error::Corrupt(_) | Error::Sse(_)) => {}
            other => panic!("byte {at}: {:?}", other.map(drop)),
        }
        store.close().unwrap();
    }
}

#[test]
fn holes_stay_holes_and_open_handles_go_on_when_the_layers_change() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "a");
    let mut data = vec![0; 300 * CHUNK + 5];
    for chunk in [0, 40, 41, 100, 299] {
        let piece = pattern(chunk as u64, CHUNK);
        data[chunk * CHUNK..(chunk + 1) * CHUNK].copy_from_slice(&piece);
        object.write((chunk * CHUNK) as u64, &piece).unwrap();
    }
    object.truncate(data.len() as u64).unwrap();
    object.fsync().unwrap();
    let mut n = 0;
    for want in [dsse("k"), aws_kms("k"), dsse("l"), aes256(), dsse("k")] {
        store.rewrap(&object, &want, "a", &CALLER).unwrap();
        assert_eq!(object.encryption().algorithm, want.algorithm);
        assert!(content(&object) == data);
        assert_eq!(object.seek(CHUNK as u64, SeekTo::Data).unwrap(), 40 * CHUNK as u64);
        assert_eq!(object.seek(40 * CHUNK as u64, SeekTo::Hole).unwrap(), 42 * CHUNK as u64);
        // Writes into holes, over data and at the end, before and after a checkpoint.
        for at in [50 * CHUNK, 41 * CHUNK + 9, data.len()] {
            n += 1;
            let piece = pattern(n, 3000);
            data.resize(data.len().max(at + piece.len()), 0);
            data[at..at + piece.len()].copy_from_slice(&piece);
            object.write(at as u64, &piece).unwrap();
            if n % 2 == 0 {
                store.checkpoint().unwrap();
            }
        }
        object.punch(50 * CHUNK as u64, 2 * CHUNK as u64).unwrap();
        data[50 * CHUNK..52 * CHUNK].fill(0);
        object.commit().unwrap();
    }
    store.release(&object);
    store.close().unwrap();
    let store = open(&disk, &keys);
    let object = open_object(&store, &bucket(&store), "a");
    assert!(content(&object) == data);
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn a_full_disk_or_a_failing_one_leaves_an_object_as_many_layers_as_it_had() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "a");
    let data = pattern(3, 100 * CHUNK);
    object.write(0, &data).unwrap();
    object.fsync().unwrap();
    disk.set_capacity(Some(0));
    let refused = store.rewrap(&object, &dsse("k"), "a", &CALLER);
    assert!(matches!(refused, Err(Error::Errno(libc::ENOSPC))), "{refused:?}");
    disk.set_capacity(None);
    assert_eq!(object.encryption().algorithm, Algorithm::Aes256);
    assert!(content(&object) == data);
    object.write(5, b"more").unwrap();
    object.fsync().unwrap();
    store.rewrap(&object, &dsse("k"), "a", &CALLER).unwrap();
    assert_eq!(content(&object)[..12], [&data[..5], b"more", &data[9..12]].concat()[..]);
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn a_large_object_keeps_its_layers_and_gets_a_new_data_key_within_them() {
    let (disk, keys) = new_disk();
    let options = StoreOptions { rewritten: 100_000, ..StoreOptions::default() };
    let store = open_with(&disk, &keys, options);
    let dir = bucket(&store);
    let (object, _) = store.create(&dir, OsStr::new("a"), &NODE, &dsse("k"), "a", &CALLER).unwrap();
    let data = pattern(3, 700_000);
    object.write(0, &data).unwrap();
    object.fsync().unwrap();
    let refused = store.rewrap(&object, &aws_kms("k"), "a", &CALLER).unwrap_err();
    let Error::Sse(refused) = refused else { panic!("{refused}") };
    assert!(refused.is_not_implemented(), "{refused}");
    assert!(refused.to_string().contains("copy it to a new name"), "{refused}");
    assert_eq!(object.encryption().algorithm, Algorithm::AwsKmsDsse);
    let change = |how, key: &str| store.change_encryption(&object, &dsse(key), how, "a", &CALLER, 0, &|| true).unwrap();
    assert_eq!(change(Change::RewrapOnly, "l"), Step::Done(Changed::Rewrapped));
    assert_eq!(change(Change::NewDataKey, "m"), Step::Done(Changed::Reencrypted));
    assert!(content(&object) == data);
    store.release(&object);
    store.close().unwrap();
}
