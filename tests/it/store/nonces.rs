//! Nonces: under one key no two chunks are ever encrypted with the same one, whatever crashes bring back.

use super::*;
use kmsfs::format::entry::Entry;
use kmsfs::format::header::{ENTRIES_AT, Header};
use kmsfs::format::layout::{BLOCK, Geometry};
use kmsfs::store::backend::Access;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

const CHUNK: usize = 4096;
const CHUNKS: usize = 16;

/// The object's tag entries at home.
fn entries(disk: &SimulatedDisk) -> Vec<Option<Entry>> {
    let root = disk.root().unwrap();
    let dir = root.open_dir(OsStr::new("buckets")).unwrap().open_dir(OsStr::new(BUCKET)).unwrap();
    let mut block = [0; BLOCK as usize];
    dir.open_file(OsStr::new("a"), Access::Read).unwrap().read_at(&mut block, 0).unwrap();
    assert!(Header::read(&block).is_ok());
    (0..CHUNKS).map(|n| Entry::read(&block[ENTRIES_AT..], n, Geometry::Single).unwrap()).collect()
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
        for (chunk, entry) in entries(&disk).into_iter().enumerate() {
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
