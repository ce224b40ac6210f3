//! Somebody changes the store while it is not mounted. Reading then answers EIO or the right bytes, never others, and
//! the log names the path.

use crate::harness::{Mount, Store, errno, noise};
use kmsfs_format::layout::{ChunkIndex, Geometry};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const CHUNK: usize = 4096;
/// 64 chunks in the header's table, a page with 128 more, and a second page under a node.
const CHUNKS: usize = 200;
const LEN: usize = CHUNKS * CHUNK - 1000;

/// A store with two objects in one bucket and one in another; not mounted.
struct Victim {
    store: Store,
}

impl Victim {
    fn new() -> Self {
        let store = Store::on_tmpfs();
        let mount = store.mount();
        mount.bucket("bucket");
        mount.bucket("other");
        for (seed, name) in NAMES.iter().enumerate() {
            fs::write(mount.path(name), noise(seed as u64, LEN)).unwrap();
        }
        mount.unmount();
        Self { store }
    }

    fn object(&self, name: &str) -> PathBuf {
        self.store.store().join("buckets").join(name)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.object(name)).unwrap();
        change(&mut bytes);
        // Into the same inode, as somebody would who wants to go unseen.
        fs::write(self.object(name), bytes).unwrap();
    }

    /// Mounts, reads all objects and expects that exactly these chunks of these objects cannot be read.
    #[track_caller]
    fn expect_lost(&self, lost: &[(&str, Lost)]) {
        let mount = self.store.mount();
        for (seed, name) in NAMES.iter().enumerate() {
            let found = lost_chunks(&mount, name, &noise(seed as u64, LEN));
            match lost.iter().find(|(of, _)| of == name).map(|(_, lost)| lost) {
                None => assert_eq!(found, Vec::<usize>::new(), "{name}"),
                Some(Lost::Chunks(expected)) => assert_eq!(found, *expected, "{name}"),
                Some(Lost::AtLeast(expected)) => {
                    assert!(expected.iter().all(|c| found.contains(c)), "{name}: {found:?}");
                }
            }
            if !found.is_empty() {
                self.store.expect_log(name);
            }
        }
        mount.unmount();
    }
}

const NAMES: [&str; 3] = ["bucket/one", "bucket/two", "other/three"];

enum Lost {
    Chunks(Vec<usize>),
    AtLeast(Vec<usize>),
}

fn all() -> Lost {
    Lost::Chunks((0..CHUNKS).collect())
}

/// Numbers of the chunks that answer EIO; all others have to be right.
fn lost_chunks(mount: &Mount, name: &str, content: &[u8]) -> Vec<usize> {
    let file = match File::open(mount.path(name)) {
        Ok(file) => file,
        Err(error) => {
            assert_eq!(Errno::from_io_error(&error), Some(Errno::IO), "{name}");
            return (0..CHUNKS).collect();
        }
    };
    let mut lost = Vec::new();
    for (number, expected) in content.chunks(CHUNK).enumerate() {
        // Past the page cache: the kernel would read ahead and answer a neighbour's error.
        match read_chunk(&file, number, expected.len()) {
            Ok(bytes) => assert!(bytes == expected, "{name}: chunk {number} has wrong bytes"),
            Err(error) => {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::IO), "{name} {number}");
                lost.push(number);
            }
        }
    }
    let beyond = file.read_at(&mut [0; 100], content.len() as u64);
    assert!(matches!(beyond, Ok(0) | Err(_)), "{name}: there is something beyond its end");
    lost
}

fn read_chunk(file: &File, number: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, (number * CHUNK) as u64).map_err(|error| match error.kind() {
        // A shorter object than it was is wrong bytes, not an error.
        io::ErrorKind::UnexpectedEof => panic!("chunk {number} is cut off"),
        _ => error,
    })?;
    Ok(bytes)
}

fn at(chunk: usize) -> usize {
    ChunkIndex(chunk as u64).offset(Geometry::Single) as usize
}

#[test]
fn an_untouched_store_loses_nothing() {
    Victim::new().expect_lost(&[]);
}

#[test]
fn a_flipped_bit_costs_its_chunk() {
    let victim = Victim::new();
    for (bit, chunk) in [(0, 0), (7, 63), (3, 64), (5, 191), (1, 192), (6, 199)] {
        let place = at(chunk) + chunk;
        victim.change("bucket/one", |bytes| bytes[place] ^= 1 << bit);
        victim.expect_lost(&[("bucket/one", Lost::Chunks(vec![chunk]))]);
        victim.change("bucket/one", |bytes| bytes[place] ^= 1 << bit);
    }
    victim.expect_lost(&[]);
}

#[test]
fn a_flipped_bit_in_a_table_costs_what_it_vouches_for() {
    let victim = Victim::new();
    // The first page of entries lies before chunk 64.
    victim.change("bucket/one", |bytes| bytes[at(64) - 4096 + 33] ^= 4);
    victim.expect_lost(&[("bucket/one", Lost::Chunks((64..192).collect()))]);
}

#[test]
fn chunks_exchanged_within_an_object_are_noticed() {
    let victim = Victim::new();
    victim.change("bucket/one", |bytes| exchange(bytes, at(3), at(100), CHUNK));
    victim.expect_lost(&[("bucket/one", Lost::Chunks(vec![3, 100]))]);
}

#[test]
fn chunks_exchanged_between_objects_are_noticed() {
    let victim = Victim::new();
    let (one, two) = (fs::read(victim.object("bucket/one")).unwrap(), fs::read(victim.object("bucket/two")).unwrap());
    let range = at(70)..at(70) + CHUNK;
    victim.change("bucket/one", |bytes| bytes[range.clone()].copy_from_slice(&two[range.clone()]));
    victim.change("bucket/two", |bytes| bytes[range.clone()].copy_from_slice(&one[range.clone()]));
    victim.expect_lost(&[("bucket/one", Lost::Chunks(vec![70])), ("bucket/two", Lost::Chunks(vec![70]))]);
    // With their entries too, and whole files under each other's headers.
    victim.change("bucket/one", |bytes| bytes[4096..].copy_from_slice(&two[4096..]));
    victim.expect_lost(&[("bucket/one", all()), ("bucket/two", Lost::Chunks(vec![70]))]);
}

#[test]
fn truncation_and_growth_are_noticed_anywhere() {
    let victim = Victim::new();
    let whole = fs::read(victim.object("bucket/one")).unwrap();
    for len in [0, 1, 4095, 4096, 5000, at(64), at(192), whole.len() - 4096, whole.len() - 1] {
        victim.change("bucket/one", |bytes| bytes.truncate(len));
        let missing = (0..CHUNKS).filter(|&chunk| at(chunk) + 1 > len).collect();
        victim.expect_lost(&[("bucket/one", Lost::AtLeast(missing))]);
        victim.change("bucket/one", |bytes| bytes.clone_from(&whole));
    }
    for more in [1, 1000, 4096, 300_000] {
        for byte in [0, 7] {
            victim.change("bucket/one", |bytes| bytes.resize(whole.len() + more, byte));
            let mount = victim.store.mount();
            // The length is the seal's: what was appended is delivered to nobody.
            let lost = lost_chunks(&mount, "bucket/one", &noise(0, LEN));
            assert!(lost.is_empty() || lost.len() == CHUNKS, "{more} more: {lost:?}");
            mount.unmount();
            victim.change("bucket/one", |bytes| bytes.clone_from(&whole));
        }
    }
}

#[test]
fn zeroed_chunks_are_noticed() {
    let victim = Victim::new();
    victim.change("bucket/one", |bytes| bytes[at(5)..at(5) + CHUNK].fill(0));
    victim.store.sh(&format!("fallocate -p -o {} -l 8192 $STORE/buckets/bucket/two", at(8)));
    victim.expect_lost(&[("bucket/one", Lost::Chunks(vec![5])), ("bucket/two", Lost::Chunks(vec![8, 9]))]);
    // With their table page: a page of zeros would say that all of them are holes.
    victim.change("bucket/one", |bytes| bytes[at(64) - 4096..at(192) - 4096].fill(0));
    victim.change("bucket/two", |bytes| bytes.fill(0));
    let mut lost: Vec<usize> = vec![5];
    lost.extend(64..191);
    victim.expect_lost(&[("bucket/one", Lost::AtLeast(lost)), ("bucket/two", all())]);
}

#[test]
fn a_chunk_put_back_to_an_older_version_is_noticed() {
    let victim = Victim::new();
    let before = fs::read(victim.object("bucket/one")).unwrap();
    let mount = victim.store.mount();
    let file = File::options().write(true).open(mount.path("bucket/one")).unwrap();
    // The same content again: only the version differs.
    for chunk in [2, 80] {
        file.write_all_at(&noise(0, LEN)[chunk * CHUNK..(chunk + 1) * CHUNK], (chunk * CHUNK) as u64).unwrap();
    }
    drop(file);
    mount.unmount();
    victim.expect_lost(&[]);
    let after = fs::read(victim.object("bucket/one")).unwrap();
    victim.change("bucket/one", |bytes| {
        for chunk in [2, 80] {
            bytes[at(chunk)..at(chunk) + CHUNK].copy_from_slice(&before[at(chunk)..at(chunk) + CHUNK]);
        }
    });
    victim.expect_lost(&[("bucket/one", Lost::Chunks(vec![2, 80]))]);
    // With the older table page, whose entry is right for the older chunk.
    victim.change("bucket/one", |bytes| {
        bytes.clone_from(&after);
        let page = at(64) - 4096..at(191) + 4096;
        bytes[page.clone()].copy_from_slice(&before[page]);
    });
    victim.expect_lost(&[("bucket/one", Lost::Chunks((64..192).collect()))]);
}

#[test]
fn an_object_moved_to_another_bucket_is_noticed() {
    let victim = Victim::new();
    victim.store.sh("cd $STORE/buckets; mv bucket/one other/one; mv other/three bucket/one; mv other/one other/three");
    victim.expect_lost(&[("bucket/one", all()), ("other/three", all())]);
}

#[test]
fn exchanged_sidecars_are_noticed() {
    const UNIT: usize = 512;
    let victim = Victim::new();
    let segment = victim.store.store().join("sidecars/00000000");
    let mut bytes = fs::read(&segment).unwrap();
    let records: Vec<usize> = (0..bytes.len()).step_by(UNIT).filter(|&at| bytes[at..].starts_with(b"KMSR")).collect();
    // All three were made alike, so their records are of one length.
    let units: Vec<usize> = records.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let first = records.windows(2).position(|_| true).expect("three records");
    let (left, right) = (records[first], records[first + 1]);
    exchange(&mut bytes, left, right, units[first]);
    fs::write(&segment, &bytes).unwrap();
    let mount = victim.store.mount();
    let lost = NAMES.iter().enumerate().filter(|(seed, name)| {
        let lost = lost_chunks(&mount, name, &noise(*seed as u64, LEN));
        assert!(lost.is_empty() || lost.len() == CHUNKS);
        !lost.is_empty()
    });
    assert_eq!(lost.count(), 2);
}

#[test]
fn a_copy_of_an_object_is_refused_beside_the_first() {
    let victim = Victim::new();
    victim.store.sh("cp $STORE/buckets/bucket/one $STORE/buckets/bucket/copy");
    let mount = victim.store.mount();
    assert!(fs::read(mount.path("bucket/one")).unwrap() == noise(0, LEN));
    assert_eq!(errno(File::open(mount.path("bucket/copy"))), Errno::IO);
    victim.store.expect_log("bucket/copy");
    // What cannot be read can be removed, and the first one lives on.
    fs::remove_file(mount.path("bucket/copy")).unwrap();
    mount.unmount();
    victim.expect_lost(&[]);
}

#[test]
fn what_cannot_be_read_can_be_replaced() {
    let victim = Victim::new();
    victim.change("bucket/one", |bytes| bytes[..4096].fill(0));
    let mount = victim.store.mount();
    assert_eq!(errno(fs::read(mount.path("bucket/one"))), Errno::IO);
    fs::write(mount.path("bucket/one"), noise(0, LEN)).unwrap();
    mount.unmount();
    victim.expect_lost(&[]);
}

fn exchange(bytes: &mut [u8], left: usize, right: usize, len: usize) {
    let kept = bytes[left..left + len].to_vec();
    bytes.copy_within(right..right + len, left);
    bytes[right..right + len].copy_from_slice(&kept);
}
