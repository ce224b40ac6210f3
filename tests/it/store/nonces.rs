//! Nonces: under one key no two chunks are ever encrypted with the same one, whatever crashes bring back.

use super::*;
use kmsfs_crypto::{ChunkTag, random};
use kmsfs_format::entry::Entry;
use kmsfs_format::header::{ENTRIES_AT, Header};
use kmsfs_format::layout::{BLOCK, Geometry};
use kmsfs_store::backend::Access;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeSet, HashMap};

const CHUNK: usize = 4096;
const CHUNKS: usize = 16;

/// The object's tag entries at home.
fn entries(disk: &SimulatedDisk, geometry: Geometry) -> Vec<Option<Entry>> {
    let root = disk.root().unwrap();
    let dir = root.open_dir(OsStr::new("buckets")).unwrap().open_dir(OsStr::new(BUCKET)).unwrap();
    let mut block = [0; BLOCK as usize];
    dir.open_file(OsStr::new("a"), Access::Read).unwrap().read_at(&mut block, 0).unwrap();
    assert!(Header::read(&block).is_ok());
    (0..CHUNKS).map(|n| Entry::read(&block[ENTRIES_AT..], n, geometry).unwrap()).collect()
}

#[test]
fn no_nonce_comes_twice_under_a_key_in_a_long_life_with_crashes() {
    let (mut disk, keys) = new_disk();
    let mut rng = StdRng::seed_from_u64(1);
    // Few encryptions a key epoch, so that there are many epochs too.
    let options = StoreOptions { encryptions: 300, ..StoreOptions::default() };
    let mut store = open_with(&disk, &keys, options.clone());
    let mut object = create(&store, &bucket(&store), "a");
    object.write(0, &pattern(0, CHUNKS * CHUNK)).unwrap();
    object.fsync().unwrap();
    // By epoch and nonce: chunk and tag.
    let mut seen: HashMap<(u16, [u8; 12]), (usize, [u8; 16])> = HashMap::new();
    let mut crashes = 0;
    for round in 0..1500 {
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..CHUNKS * CHUNK - 5000);
            object.write(at as u64, &pattern(round, 5000)).unwrap();
        }
        // What is seen is at home then; a kill finds what went through the log, a power cut what was synced.
        store.checkpoint().unwrap();
        for (chunk, entry) in entries(&disk, Geometry::Single).into_iter().enumerate() {
            let Entry { tag, epoch } = entry.unwrap();
            let before = seen.insert((epoch, tag.outer.nonce), (chunk, tag.outer.tag));
            assert!(before.is_none_or(|before| before == (chunk, tag.outer.tag)), "round {round}, chunk {chunk}");
        }
        if rng.random_ratio(1, 12) {
            object.write(0, &pattern(round, 9000)).unwrap();
            let point = disk.crash_point();
            disk = if rng.random() { point.kill() } else { point.power_cuts(3, round).next().unwrap() };
            // The store that crashed has no disk to write to any more, and nothing to say.
            store = open_with(&disk, &keys, options.clone());
            object = open_object(&store, &bucket(&store), "a");
            crashes += 1;
        }
    }
    let epochs = seen.keys().map(|(epoch, _)| epoch).max().unwrap();
    println!("{} nonces, {crashes} crashes, {epochs} key epochs", seen.len());
    assert!(seen.len() > 3000 && crashes > 80 && *epochs > 10);
    store.release(&object);
    store.close().unwrap();
}

/// A nonce, its chunk and its layer, and the tag, which tells ciphertexts apart.
type Use = ([u8; 12], usize, u8, [u8; 16]);

fn uses(disk: &SimulatedDisk, geometry: Geometry) -> Vec<Use> {
    let of = |(chunk, entry): (usize, Option<Entry>)| {
        let ChunkTag { outer, inner } = entry.unwrap().tag;
        let layers = [Some((outer, 0)), inner.map(|inner| (inner, 1))].into_iter().flatten();
        layers.map(move |(tag, layer)| (tag.nonce, chunk, layer, tag.tag))
    };
    entries(disk, geometry).into_iter().enumerate().flat_map(of).collect()
}

/// What a machine writes that goes on from here: one chunk, some, a part of one, a large request. Answers all nonces
/// that come to lie on the disk, a line for each.
fn go_on(store: &Arc<Store>, object: &Object, disk: &SimulatedDisk, geometry: Geometry, fill: u8) -> String {
    let writes = [(0, CHUNK), (CHUNK as u64, 3 * CHUNK), (5000, 10), (0, CHUNKS * CHUNK)];
    let after = writes.into_iter().zip(0..).flat_map(|((at, len), round)| {
        object.write(at, &vec![fill ^ round; len]).unwrap();
        store.checkpoint().unwrap();
        uses(disk, geometry)
    });
    after.fold(String::new(), |lines, one| lines + &format!("{one:?}\n"))
}

/// A virtual machine that is resumed twice from one snapshot of its memory: the same keys, the same objects, and at the
/// worst the same random numbers. Clones of the process are the machines.
#[test]
fn clones_with_the_same_random_numbers_share_no_nonce_unless_they_write_the_same() {
    for (encryption, geometry, layers) in [(aes256(), Geometry::Single, 1), (dsse("key"), Geometry::Dual, 2)] {
        let (disk, keys) = new_disk();
        let store = open(&disk, &keys);
        let object = store.create(&bucket(&store), OsStr::new("a"), &NODE, &encryption, "a", &CALLER).unwrap().0;
        object.write(0, &pattern(0, CHUNKS * CHUNK)).unwrap();
        store.checkpoint().unwrap();
        let before: BTreeSet<String> = uses(&disk, geometry).iter().map(|one| format!("{one:?}")).collect();
        random::repeat(Some(7));
        let clone_that_writes = |fill| {
            let act = || go_on(&store, &object, &disk, geometry, fill).into_bytes();
            let answer = String::from_utf8(kmsfs_sys::in_a_clone(act).unwrap()).unwrap();
            answer.lines().filter(|line| !before.contains(*line)).map(String::from).collect::<BTreeSet<_>>()
        };
        let (one, other, again) = (clone_that_writes(16), clone_that_writes(128), clone_that_writes(16));
        random::repeat(None);
        // 1 + 3 + 1 chunks, and all of them.
        assert_eq!((one.len(), other.len()), ((5 + CHUNKS) * layers, (5 + CHUNKS) * layers));
        // The random numbers did come again: the same plaintext has the same nonce and the same tag.
        assert_eq!(one, again);
        let nonce = |line: &String| line[..line.find(']').unwrap()].to_string();
        let nonces = |lines: &BTreeSet<String>| lines.iter().map(nonce).collect::<BTreeSet<_>>();
        assert_eq!(nonces(&one).len(), one.len(), "twice in one machine: {one:?}");
        assert!(nonces(&one).is_disjoint(&nonces(&other)), "{one:?}\n{other:?}");
        store.release(&object);
        store.close().unwrap();
    }
}
