//! Somebody who can write the store but has no key: whatever he does to a closed store's files is refused, as a whole
//! or a chunk at a time, and never read as other bytes. The seven ways of docs/ARCHITECTURE.md, and copies.

mod check;
pub mod lenient;
pub mod recombination;
pub mod values;

use super::*;
use kmsfs_format::header::{ENTRIES_AT, Header, Seal};
use kmsfs_format::layout::{ChunkIndex, Geometry, PlainLen, TableId};
use kmsfs_format::sidecar::Place;
use kmsfs_store::Error;
use kmsfs_store::backend::{self, Access, Rename};

const CHUNK: usize = 4096;
const ENTRY: usize = 32;

/// A store that was closed in order, to be damaged.
#[derive(Clone)]
struct Victim {
    disk: SimulatedDisk,
    keys: Arc<KeyService>,
}

impl Victim {
    fn new(objects: &[(&str, &[u8])]) -> Self {
        let (disk, keys) = new_disk();
        let victim = Self { disk, keys };
        victim.mounted(|store| {
            let dir = bucket(store);
            store.make_dir(store.root(), OsStr::new("other"), &NewNode { mode: 0o755, ..NODE }).unwrap();
            for (name, data) in objects {
                let object = create(store, &dir, name);
                object.write(0, data).unwrap();
                object.commit().unwrap();
                store.release(&object);
            }
        });
        victim
    }

    fn mounted<T>(&self, use_it: impl FnOnce(&Arc<Store>) -> T) -> T {
        let store = open(&self.disk, &self.keys);
        let answer = use_it(&store);
        store.close().unwrap();
        answer
    }

    /// A disk of its own with the same content.
    fn copy(&self) -> Self {
        Self { disk: self.disk.crash_point().kill(), keys: self.keys.clone() }
    }

    fn dir(&self, path: &str) -> Arc<dyn backend::Dir> {
        let root = self.disk.root().unwrap();
        path.split('/').filter(|name| !name.is_empty()).fold(root, |dir, name| dir.open_dir(OsStr::new(name)).unwrap())
    }

    fn file(&self, path: &str) -> Arc<dyn backend::File> {
        let (dir, name) = path.rsplit_once('/').unwrap();
        self.dir(dir).open_file(OsStr::new(name), Access::ReadWrite).unwrap()
    }

    fn object(&self, name: &str) -> Arc<dyn backend::File> {
        self.file(&format!("buckets/{BUCKET}/{name}"))
    }

    fn segment(&self) -> Arc<dyn backend::File> {
        self.file("sidecars/00000000")
    }

    fn place(&self, name: &str) -> Place {
        Header::read(&bytes(self.object(name).as_ref(), 0, CHUNK)).unwrap().sidecar
    }

    fn record(&self, name: &str) -> Vec<u8> {
        let place = self.place(name);
        bytes(self.segment().as_ref(), place.offset(), place.bytes())
    }

    fn put_record(&self, name: &str, record: &[u8]) {
        self.segment().write_at(record, self.place(name).offset()).unwrap();
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.mounted(|store| {
            let object = store.open_object(&bucket(store), OsStr::new(name), &CALLER)?;
            let mut data = vec![0; object.attr()?.size as usize];
            let read = object.read(0, &mut data).map(|count| assert_eq!(count, data.len()));
            store.release(&object);
            read.map(|()| data)
        })
    }

    /// Chunks that cannot be read, all others being what they were; `None` if the object is refused as a whole.
    #[track_caller]
    fn unreadable(&self, name: &str, expected: &[u8]) -> Option<Vec<usize>> {
        self.mounted(|store| {
            let object = match store.open_object(&bucket(store), OsStr::new(name), &CALLER) {
                Ok(object) => object,
                Err(Error::Corrupt(finding)) => {
                    assert!(finding.contains(name), "{finding:?} does not name the object");
                    return None;
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(object.attr().unwrap().size as usize, expected.len());
            let mut lost = Vec::new();
            for (n, chunk) in expected.chunks(CHUNK).enumerate() {
                let mut data = vec![0; chunk.len()];
                match object.read((n * CHUNK) as u64, &mut data) {
                    Ok(_) => assert!(data == chunk, "chunk {n} reads as other bytes"),
                    Err(Error::Corrupt(_)) => lost.push(n),
                    Err(error) => panic!("{error}"),
                }
            }
            store.release(&object);
            Some(lost)
        })
    }

    #[track_caller]
    fn assert_refused(&self, name: &str, expected: &[u8]) {
        assert_eq!(self.unreadable(name, expected), None, "it was opened");
    }

    #[track_caller]
    fn assert_lost(&self, name: &str, expected: &[u8], chunks: &[usize]) {
        assert_eq!(self.unreadable(name, expected).as_deref(), Some(chunks));
    }
}

fn bytes(file: &dyn backend::File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    assert_eq!(file.read_at(&mut bytes, offset).unwrap(), len);
    bytes
}

fn flip(file: &dyn backend::File, offset: u64, bit: u64) {
    let byte = bytes(file, offset, 1)[0];
    file.write_at(&[byte ^ (1 << bit)], offset).unwrap();
}

fn exchange(a: &dyn backend::File, a_at: u64, b: &dyn backend::File, b_at: u64, len: usize) {
    let (from_a, from_b) = (bytes(a, a_at, len), bytes(b, b_at, len));
    a.write_at(&from_b, a_at).unwrap();
    b.write_at(&from_a, b_at).unwrap();
}

/// Place of a chunk's ciphertext.
fn at(chunk: usize) -> u64 {
    ChunkIndex(chunk as u64).offset(Geometry::Single)
}

/// Place of its tag entry: in the header block or in its page.
fn entry_at(chunk: usize) -> u64 {
    match chunk.checked_sub(64) {
        None => (ENTRIES_AT + chunk * ENTRY) as u64,
        Some(n) => TableId { level: 0, index: n as u64 / 128 }.offset(Geometry::Single) + (n % 128 * ENTRY) as u64,
    }
}

/// With a checksum that is right again: it is no secret.
fn with_checksum(mut record: Vec<u8>) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..12]);
    crc.update(&record[16..]);
    record[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    record
}

#[test]
fn a_flipped_bit_anywhere_in_an_object_file_is_found() {
    let data = pattern(1, 700);
    let victim = Victim::new(&[("a", &data)]);
    for offset in 0..(CHUNK + data.len()) as u64 {
        let damaged = victim.copy();
        flip(damaged.object("a").as_ref(), offset, offset % 8);
        assert!(matches!(damaged.read("a"), Err(Error::Corrupt(_))), "byte {offset}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_sidecar_is_found_with_its_checksum_mended_too() {
    let data = pattern(1, 700);
    let victim = Victim::new(&[("a", &data)]);
    let record = victim.record("a");
    // The inode's number is a hint, which a copy of the store has wrong for every object.
    let hint = 32..40;
    for offset in 0..record.len() {
        let mut damaged = record.clone();
        damaged[offset] ^= 1 << (offset % 8);
        for (mended, damaged) in [(false, damaged.clone()), (true, with_checksum(damaged))] {
            let copy = victim.copy();
            copy.put_record("a", &damaged);
            match copy.read("a") {
                Err(Error::Corrupt(_)) => {}
                // A blob, or a context, that the KMS does not know.
                Err(Error::Sse(_)) if mended => {}
                Ok(read) if mended && (hint.contains(&offset) || (12..16).contains(&offset)) => assert!(read == data),
                other => panic!("byte {offset}, checksum mended: {mended}: {other:?}"),
            }
        }
    }
}

#[test]
fn chunks_exchanged_within_an_object_are_found_with_their_tag_entries_too() {
    let data = pattern(2, 330 * CHUNK);
    let victim = Victim::new(&[("a", &data)]);
    for (one, other) in [(0, 1), (3, 63), (5, 64), (64, 65), (70, 191), (100, 192), (200, 319), (10, 329)] {
        let damaged = victim.copy();
        let file = damaged.object("a");
        exchange(file.as_ref(), at(one), file.as_ref(), at(other), CHUNK);
        damaged.assert_lost("a", &data, &[one, other]);
        exchange(file.as_ref(), entry_at(one), file.as_ref(), entry_at(other), ENTRY);
        let lost = damaged.unreadable("a", &data);
        // Entries in the header are the seal's own: nothing is left. A page that fails takes what is under it along.
        assert!(lost.is_none_or(|lost| lost.contains(&one) && lost.contains(&other)), "{one} and {other}");
    }
}

#[test]
fn chunks_exchanged_between_objects_are_found_with_their_tag_entries_and_headers_too() {
    let (a, b) = (pattern(3, 200 * CHUNK), pattern(4, 200 * CHUNK));
    let victim = Victim::new(&[("a", &a), ("b", &b)]);
    for chunk in [0, 63, 64, 191, 195] {
        let damaged = victim.copy();
        let (from, to) = (damaged.object("a"), damaged.object("b"));
        exchange(from.as_ref(), at(chunk), to.as_ref(), at(chunk), CHUNK);
        damaged.assert_lost("a", &a, &[chunk]);
        damaged.assert_lost("b", &b, &[chunk]);
        exchange(from.as_ref(), entry_at(chunk), to.as_ref(), entry_at(chunk), ENTRY);
        for (name, data) in [("a", &a), ("b", &b)] {
            assert!(damaged.unreadable(name, data).is_none_or(|lost| lost.contains(&chunk)), "{chunk} of {name}");
        }
    }
    // Everything but who it is: seal and tag entries over the other's chunks.
    let damaged = victim.copy();
    exchange(damaged.object("a").as_ref(), 32, damaged.object("b").as_ref(), 32, CHUNK - 32);
    damaged.assert_refused("a", &a);
    damaged.assert_refused("b", &b);
}

#[test]
fn truncation_and_growth_are_found_at_every_place() {
    let (small, large) = (pattern(5, 3000), pattern(6, 330 * CHUNK + 17));
    let victim = Victim::new(&[("small", &small), ("large", &large)]);
    let check = |name: &str, data: &[u8], len: u64| {
        let damaged = victim.copy();
        damaged.object(name).set_len(len).unwrap();
        damaged.assert_refused(name, data);
    };
    let len = (CHUNK + small.len()) as u64;
    (0..len).step_by(13).chain(len - 9..len).for_each(|shorter| check("small", &small, shorter));
    (len + 1..len + 9)
        .chain([len + 512, 2 * 4096, 3 * 4096, 1 << 20])
        .for_each(|longer| check("small", &small, longer));
    let len = at(330) + 17;
    for block in [1, 2, 64, 65, 66, 193, 194, 195, 196, 300] {
        for more in [0, 1, 4095] {
            check("large", &large, block * 4096 + more);
        }
    }
    for len in [len - 17, len - 1, len + 1, len + 4079, len + (129 << 12)] {
        check("large", &large, len);
    }
}

/// What is read where somebody without the key has made a seal that says another length, with a file as long.
pub fn forged_length() -> Result<String, Error> {
    let victim = Victim::new(&[("a", &pattern(1, 3 * CHUNK))]);
    let file = victim.object("a");
    let Header { object_id, suite, seal, mac, sidecar } = Header::read(&bytes(file.as_ref(), 0, CHUNK)).unwrap();
    let shorter = Seal { length: PlainLen(CHUNK as u64), ..seal };
    file.write_at(&Header::write(object_id, suite, &shorter, sidecar, |_| mac), 0).unwrap();
    file.set_len(2 * CHUNK as u64).unwrap();
    victim.read("a").map(|data| format!("{} bytes are read", data.len()))
}

#[test]
fn a_seal_that_somebody_without_the_key_made_is_refused() {
    let Err(Error::Corrupt(finding)) = forged_length() else { panic!("it is accepted") };
    assert!(finding.contains("seal"), "{finding}");
}

#[test]
fn zeroed_chunks_pages_nodes_and_entries_are_no_holes() {
    let data = pattern(7, 330 * CHUNK);
    let victim = Victim::new(&[("a", &data)]);
    let zeroed = |offset: u64, len: usize, punched: bool| {
        let damaged = victim.copy();
        let file = damaged.object("a");
        if punched {
            file.punch(offset, len as u64).unwrap();
        } else {
            file.write_at(&vec![0; len], offset).unwrap();
        }
        damaged.unreadable("a", &data)
    };
    for punched in [false, true] {
        for chunk in [0, 5, 63, 64, 191, 192, 329] {
            assert_eq!(zeroed(at(chunk), CHUNK, punched), Some(vec![chunk]));
        }
        let page = |index| TableId { level: 0, index }.offset(Geometry::Single);
        assert_eq!(zeroed(page(0), CHUNK, punched), Some((64..192).collect()));
        assert_eq!(zeroed(page(2), CHUNK, punched), Some((320..330).collect()));
        // The node is above all pages.
        assert_eq!(
            zeroed(TableId { level: 1, index: 0 }.offset(Geometry::Single), CHUNK, punched),
            Some((64..330).collect())
        );
    }
    assert_eq!(zeroed(entry_at(7), ENTRY, false), None);
    assert_eq!(zeroed(entry_at(100), ENTRY, false), Some((64..192).collect()));
    assert_eq!(zeroed(0, CHUNK, false), None);
}

#[test]
fn a_chunk_put_back_to_an_older_version_is_found_with_and_without_its_tag_entry() {
    let before = pattern(8, 330 * CHUNK);
    let victim = Victim::new(&[("a", &before)]);
    let old = victim.copy();
    let mut data = before;
    victim.mounted(|store| {
        let object = open_object(store, &bucket(store), "a");
        for chunk in [1, 100, 325] {
            let new = pattern(9 + chunk as u64, CHUNK);
            object.write((chunk * CHUNK) as u64, &new).unwrap();
            data[chunk * CHUNK..(chunk + 1) * CHUNK].copy_from_slice(&new);
        }
        object.commit().unwrap();
        store.release(&object);
    });
    assert!(victim.read("a").unwrap() == data);
    let put_back = |damaged: &Victim, offset: u64, len: usize| {
        damaged.object("a").write_at(&bytes(old.object("a").as_ref(), offset, len), offset).unwrap();
    };
    for chunk in [1, 100, 325] {
        let damaged = victim.copy();
        put_back(&damaged, at(chunk), CHUNK);
        damaged.assert_lost("a", &data, &[chunk]);
        put_back(&damaged, entry_at(chunk), ENTRY);
        assert!(damaged.unreadable("a", &data).is_none_or(|lost| lost.contains(&chunk)), "chunk {chunk}");
    }
    // The old header block, which is sealed, over the new pages and chunks: what changed is not read as anything else.
    let damaged = victim.copy();
    put_back(&damaged, 0, CHUNK);
    assert!(damaged.read("a").is_err());
}

#[test]
fn an_object_file_moved_to_another_bucket_is_found() {
    let data = pattern(10, 5000);
    let victim = Victim::new(&[("a", &data)]);
    let (from, to) = (victim.dir("buckets/bucket"), victim.dir("buckets/other"));
    from.rename(OsStr::new("a"), to.as_ref(), OsStr::new("a"), Rename::Replace).unwrap();
    victim.mounted(|store| {
        let other = store.open_dir(store.root(), OsStr::new("other")).unwrap();
        let opened = store.open_object(&other, OsStr::new("a"), &CALLER);
        assert_eq!(opened.err(), Some(Error::Corrupt("other/a: it belongs to the bucket bucket".into())));
    });
}

#[test]
fn a_sidecar_exchanged_missing_or_zeroed_is_found() {
    let (a, b) = (pattern(11, 5000), pattern(12, 5000));
    let victim = Victim::new(&[("a", &a), ("b", &b)]);
    let (of_a, of_b) = (victim.record("a"), victim.record("b"));
    let damaged = victim.copy();
    damaged.put_record("a", &of_b);
    damaged.put_record("b", &of_a);
    damaged.assert_refused("a", &a);
    damaged.assert_refused("b", &b);
    // The other's data key under one's own object id.
    let damaged = victim.copy();
    let mut forged = of_b;
    forged[16..32].copy_from_slice(&of_a[16..32]);
    damaged.put_record("a", &with_checksum(forged));
    damaged.assert_refused("a", &a);
    let damaged = victim.copy();
    damaged.put_record("a", &vec![0; of_a.len()]);
    damaged.assert_refused("a", &a);
    let damaged = victim.copy();
    damaged.segment().set_len(victim.place("b").offset() + 100).unwrap();
    damaged.assert_refused("b", &b);
    let damaged = victim.copy();
    damaged.dir("sidecars").unlink(OsStr::new("00000000")).unwrap();
    damaged.assert_refused("a", &a);
}

#[test]
fn a_header_that_names_another_objects_sidecar_is_found() {
    let (a, b) = (pattern(13, 5000), pattern(14, 5000));
    let victim = Victim::new(&[("a", &a), ("b", &b)]);
    exchange(victim.object("a").as_ref(), 0, victim.object("b").as_ref(), 0, ENTRIES_AT);
    victim.assert_refused("a", &a);
    victim.assert_refused("b", &b);
}

/// Copies an object file behind the store's back.
fn copy_object(victim: &Victim, name: &str, copy: &str) {
    let file = victim.object(name);
    let content = bytes(file.as_ref(), 0, file.metadata().unwrap().len as usize);
    let made = victim.dir("buckets/bucket").create_file(OsStr::new(copy), &NODE).unwrap();
    made.write_at(&content, 0).unwrap();
}

#[test]
fn of_an_object_and_its_copy_the_second_is_refused_while_the_first_is_open() {
    let data = pattern(15, 5000);
    let victim = Victim::new(&[("a", &data)]);
    copy_object(&victim, "a", "copy");
    for (first, second) in [("a", "copy"), ("copy", "a")] {
        victim.mounted(|store| {
            let dir = bucket(store);
            let object = open_object(store, &dir, first);
            assert!(content(&object) == data);
            let refused = store.open_object(&dir, OsStr::new(second), &CALLER).err().unwrap();
            let finding = "another open file carries the same object id: it is a copy";
            assert_eq!(refused, Error::Corrupt(format!("bucket/{second}: {finding}")));
            assert!(content(&object) == data);
            store.release(&object);
        });
    }
}

#[test]
fn unlinking_a_copy_leaves_the_original_readable_whether_it_was_open_or_not() {
    let data = pattern(16, 5000);
    for opened in [false, true] {
        for still_open in [false, opened] {
            let victim = Victim::new(&[("a", &data)]);
            copy_object(&victim, "a", "copy");
            victim.mounted(|store| {
                let dir = bucket(store);
                let object = opened.then(|| open_object(store, &dir, "copy"));
                if !still_open && let Some(object) = &object {
                    store.release(object);
                }
                store.unlink(&dir, OsStr::new("copy")).unwrap();
                if still_open && let Some(object) = &object {
                    store.release(object);
                }
                store.checkpoint().unwrap();
            });
            assert!(victim.read("a").unwrap() == data, "opened: {opened}, while it was unlinked: {still_open}");
        }
    }
}

#[test]
fn a_copy_whose_key_is_wrapped_anew_leaves_the_originals_sidecar_where_it_is() {
    let data = pattern(17, 5000);
    let victim = Victim::new(&[("a", &data)]);
    copy_object(&victim, "a", "copy");
    victim.mounted(|store| {
        let object = open_object(store, &bucket(store), "copy");
        // Too long for the units that the record has, so it moves.
        store.rewrap(&object, &aws_kms(&"x".repeat(700)), "copy", &CALLER).unwrap();
        store.release(&object);
        store.checkpoint().unwrap();
    });
    assert!(victim.read("a").unwrap() == data);
    assert!(victim.read("copy").unwrap() == data);
}

#[test]
fn what_cannot_be_read_can_be_unlinked_and_overwritten() {
    let data = pattern(18, 5000);
    let victim = Victim::new(&[("a", &data), ("b", &data)]);
    flip(victim.object("a").as_ref(), 50, 3);
    flip(victim.object("b").as_ref(), 50, 3);
    victim.mounted(|store| {
        let dir = bucket(store);
        store.unlink(&dir, OsStr::new("a")).unwrap();
        let object = store.open_truncated(&dir, OsStr::new("b"), &aes256(), "b", &CALLER).unwrap();
        object.write(0, b"new").unwrap();
        object.commit().unwrap();
        store.release(&object);
    });
    assert_eq!(victim.read("a"), Err(Error::Errno(libc::ENOENT)));
    assert_eq!(victim.read("b").unwrap(), b"new");
}

#[test]
fn damage_inside_a_log_that_was_durable_makes_the_store_read_only() {
    let data = pattern(19, 5000);
    let victim = Victim::new(&[("a", &data)]);
    let store = open(&victim.disk, &victim.keys);
    let object = open_object(&store, &bucket(&store), "a");
    for n in 0..4 {
        object.write(n, b"x").unwrap();
        object.fsync().unwrap();
    }
    let killed = Victim { disk: victim.disk.crash_point().kill(), ..victim.clone() };
    flip(killed.file("log/redo").as_ref(), 4096 + 5000, 0);
    let store = open(&killed.disk, &killed.keys);
    assert!(store.read_only());
    let refused = store.create(&bucket(&store), OsStr::new("b"), &NODE, &aes256(), "b", &CALLER);
    assert_eq!(refused.err(), Some(Error::ReadOnly));
    let object = open_object(&store, &bucket(&store), "a");
    assert!(content(&object)[4..] == data[4..]);
}
