//! Objects of holes: what is done to them costs as much as what is in them, however long they are.

use super::*;
use kmsfs_format::layout::{ChunkIndex, Geometry};
use kmsfs_store::check::{CheckOptions, check};
use kmsfs_store::{Error, SeekTo};
use kmsfs_testing::disk::{Call, Calls};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::iter::successors;

const CHUNK: u64 = 4096;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// The simulated disk has files of up to 16 TiB.
const SIZES: [u64; 3] = [GIB, TIB, 15 * TIB];

/// Where the data of a file of that length is: a chunk each.
fn places(size: u64) -> [u64; 3] {
    [5 * CHUNK, size / 3 / CHUNK * CHUNK, size - CHUNK]
}

struct Sparse {
    disk: SimulatedDisk,
    keys: Arc<KeyService>,
    size: u64,
}

impl Sparse {
    fn new(size: u64) -> Self {
        let (disk, keys) = new_disk();
        let sparse = Self { disk, keys, size };
        sparse.mounted(|store, dir| {
            let object = create(store, dir, "o");
            for (n, place) in places(size).into_iter().enumerate() {
                object.write(place, &pattern(n as u64, CHUNK as usize)).unwrap();
            }
            object.fsync().unwrap();
            store.release(&object);
        });
        sparse
    }

    fn options() -> StoreOptions {
        StoreOptions { rewritten: 0, ..StoreOptions::default() }
    }

    /// Nothing of it is in memory at first.
    fn mounted<T>(&self, act: impl FnOnce(&Arc<Store>, &Arc<Dir>) -> T) -> T {
        let store = open_with(&self.disk, &self.keys, Self::options());
        let done = act(&store, &bucket(&store));
        store.close().unwrap();
        done
    }

    /// The calls to the disk that something makes which is done to the object.
    fn calls(&self, act: impl FnOnce(&Arc<Store>, &Arc<Object>)) -> Calls {
        self.mounted(|store, dir| {
            let before = self.disk.calls();
            let object = open_object(store, dir, "o");
            act(store, &object);
            store.release(&object);
            self.disk.calls().since(&before)
        })
    }
}

/// Costs the same at each length, but for the tree's depth, and little.
#[track_caller]
fn costs_what_is_there(act: impl Fn(&Sparse, &Arc<Store>, &Arc<Object>)) {
    let mut costs = Vec::new();
    for size in SIZES {
        let sparse = Sparse::new(size);
        let calls = sparse.calls(|store, object| act(&sparse, store, object));
        costs.push((calls.total(), format!("{calls:?}")));
    }
    assert!(costs.iter().all(|(cost, _)| *cost <= costs[0].0 + 24 && *cost < 120), "{costs:#?}");
}

fn data(object: &Object) -> Vec<u64> {
    let next = |from: u64| match object.seek(from, SeekTo::Data) {
        Ok(data) => Some(data),
        Err(error) => {
            assert_eq!(error, Error::Errno(libc::ENXIO));
            None
        }
    };
    successors(next(0), |data| next(object.seek(*data, SeekTo::Hole).unwrap())).collect()
}

#[test]
fn looking_for_data_and_holes_costs_what_is_there() {
    costs_what_is_there(|sparse, _, object| {
        assert_eq!(data(object), places(sparse.size));
        assert_eq!(object.seek(0, SeekTo::Hole).unwrap(), 0);
        assert_eq!(object.seek(sparse.size / 2, SeekTo::Hole).unwrap(), sparse.size / 2);
    });
}

#[test]
fn punching_costs_what_is_there() {
    costs_what_is_there(|sparse, store, object| {
        object.punch(0, sparse.size).unwrap();
        assert!(data(object).is_empty());
        assert_eq!(object.attr().unwrap().size, sparse.size);
        object.commit().unwrap();
        store.checkpoint().unwrap();
        object.punch(CHUNK + 1, sparse.size - 2 * CHUNK).unwrap();
        store.checkpoint().unwrap();
        assert!(object.attr().unwrap().blocks * 512 <= 12 * CHUNK, "{}", object.attr().unwrap().blocks);
    });
}

#[test]
fn punching_around_data_costs_what_is_there() {
    costs_what_is_there(|sparse, store, object| {
        let [first, second, third] = places(sparse.size);
        object.punch(first + CHUNK, second - first - CHUNK).unwrap();
        object.punch(second + CHUNK, third - second - CHUNK).unwrap();
        assert_eq!(data(object), places(sparse.size));
        object.punch(second, 1).unwrap();
        store.checkpoint().unwrap();
        let mut bytes = [1; 2];
        object.read(second, &mut bytes).unwrap();
        assert_eq!(bytes, [0, pattern(1, 2)[1]]);
    });
}

#[test]
fn cutting_and_growing_again_costs_what_is_there() {
    costs_what_is_there(|sparse, store, object| {
        object.truncate(100).unwrap();
        object.truncate(sparse.size).unwrap();
        object.commit().unwrap();
        store.checkpoint().unwrap();
        assert!(data(object).is_empty());
        object.truncate(sparse.size / 2).unwrap();
        object.truncate(sparse.size).unwrap();
        object.fsync().unwrap();
        let mut bytes = [1; 100];
        assert_eq!(object.read(sparse.size - 100, &mut bytes).unwrap(), 100);
        assert_eq!(bytes, [0; 100]);
        store.checkpoint().unwrap();
        assert!(object.attr().unwrap().blocks * 512 <= 12 * CHUNK, "{}", object.attr().unwrap().blocks);
    });
}

#[test]
fn a_new_data_key_costs_what_is_there() {
    costs_what_is_there(|sparse, store, object| {
        store.rewrap(object, &aws_kms("one"), "o", &CALLER).unwrap();
        store.begin_epoch(object, &aws_kms("two"), "o", &CALLER).unwrap();
        let mut steps = successors(Some(0), |from| object.reencrypt_some(*from, 256).unwrap());
        assert!(steps.by_ref().take(5).count() < 5, "another step");
        assert!(!object.has_old_keys());
        assert_eq!(data(object), places(sparse.size));
    });
}

#[test]
fn a_check_costs_what_is_there() {
    let mut costs = Vec::new();
    for size in SIZES {
        let sparse = Sparse::new(size);
        sparse.mounted(|store, _| {
            let before = sparse.disk.calls();
            let report = check(store, CheckOptions { scrub: true, repair: false }, &CALLER, &mut |_| true).unwrap();
            assert_eq!(report.findings, []);
            costs.push(sparse.disk.calls().since(&before).total());
        });
    }
    assert!(costs.iter().all(|cost| *cost <= costs[0] + 24 && *cost < 120), "{costs:?}");
}

/// What a crash may have caught before it was durable is read through when it is opened.
#[test]
fn what_a_crash_caught_is_read_through_at_the_cost_of_what_is_there() {
    let mut costs = Vec::new();
    for size in SIZES {
        let (disk, keys) = new_disk();
        let store = open(&disk, &keys);
        let object = create(&store, &bucket(&store), "o");
        for place in places(size) {
            object.write(place, &pattern(1, CHUNK as usize)).unwrap();
        }
        object.commit().unwrap();
        let killed = disk.crash_point().kill();
        let store = open(&killed, &keys);
        let dir = bucket(&store);
        let before = killed.calls();
        let object = open_object(&store, &dir, "o");
        costs.push(killed.calls().since(&before).total());
        assert_eq!(data(&object), places(size));
        store.release(&object);
        store.close().unwrap();
    }
    assert!(costs.iter().all(|cost| *cost <= costs[0] + 24 && *cost < 120), "{costs:?}");
}

#[test]
fn a_damaged_object_is_written_anew_at_the_cost_of_what_is_there() {
    let mut costs = Vec::new();
    for size in SIZES {
        let sparse = Sparse::new(size);
        let root = sparse.disk.root().unwrap();
        let dir = root.open_dir(OsStr::new("buckets")).unwrap().open_dir(OsStr::new(BUCKET)).unwrap();
        let file = dir.open_file(OsStr::new("o"), kmsfs_store::backend::Access::ReadWrite).unwrap();
        file.write_at(&[1; 100], ChunkIndex(places(size)[1] / CHUNK).offset(Geometry::Single)).unwrap();
        sparse.mounted(|store, dir| {
            let before = sparse.disk.calls();
            let report = check(store, CheckOptions { scrub: true, repair: true }, &CALLER, &mut |_| true).unwrap();
            costs.push(sparse.disk.calls().since(&before).total());
            assert_eq!((report.errors_left(), report.repaired()), (0, 1), "{report:#?}");
            let object = open_object(store, dir, "o");
            assert_eq!(object.attr().unwrap().size, size);
            assert_eq!(data(&object), [places(size)[0], places(size)[2]]);
            store.release(&object);
        });
    }
    assert!(costs.iter().all(|cost| *cost <= costs[0] + 100 && *cost < 1000), "{costs:?}");
}

/// A punch of many pages is committed in between, so that no more tables than a step changes have to be in memory.
#[test]
fn punching_much_data_goes_in_steps_that_leave_little_in_memory() {
    const PAGES: u64 = 1000;
    const PAGE: u64 = 128 * CHUNK;
    let (disk, keys) = new_disk();
    let options = StoreOptions { cache: 64 << 10, ..StoreOptions::default() };
    let store = open_with(&disk, &keys, options);
    let object = create(&store, &bucket(&store), "o");
    for page in 0..PAGES {
        object.write(page * PAGE, &pattern(page, 10)).unwrap();
    }
    object.fsync().unwrap();
    store.checkpoint().unwrap();
    let before = disk.calls();
    object.punch(0, PAGES * PAGE).unwrap();
    let commits = disk.calls().since(&before).of(Call::Write);
    assert!((3..8).contains(&commits), "{commits} writes to the log");
    object.fsync().unwrap();
    let before = disk.calls();
    store.checkpoint().unwrap();
    let punches = disk.calls().since(&before).of(Call::Punch);
    assert!((1..=20).contains(&punches), "{punches} holes punched");
    // Chunks and tables.
    assert!(object.attr().unwrap().blocks * 512 <= 20 * CHUNK, "{}", object.attr().unwrap().blocks);
    assert!(data(&object).is_empty());
    store.release(&object);
    store.close().unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, u64),
    Truncate(u64),
    Punch(u64, u64),
    Read(u64),
    Data(u64),
    Hole(u64),
    Commit,
    Fsync,
    Checkpoint,
    Reencrypt,
    Reopen,
    Remount,
}

/// Near the places where pages and nodes begin, and far from any.
fn place() -> impl Strategy<Value = u64> {
    let pages = |n: u64| (64 + n * 128) * CHUNK;
    let near = prop::sample::select(vec![
        0,
        64 * CHUNK,
        pages(1),
        pages(2),
        pages(127),
        pages(128),
        pages(129),
        pages(256),
        pages(128 * 128),
        pages(128 * 129),
        pages(128 * 128 * 128),
        GIB,
        TIB,
        14 * TIB,
    ]);
    let by = prop_oneof![0..3 * CHUNK, Just(0), Just(CHUNK), Just(128 * CHUNK), Just(130 * CHUNK)];
    (near, by, any::<bool>()).prop_map(|(near, by, after)| if after { near + by } else { near.saturating_sub(by) })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (place(), 1..20_000_u64).prop_map(|(at, len)| Step::Write(at, len)),
        3 => place().prop_map(Step::Truncate),
        5 => (place(), place()).prop_map(|(from, to)| Step::Punch(from.min(to), from.max(to))),
        3 => place().prop_map(Step::Read),
        3 => place().prop_map(Step::Data),
        3 => place().prop_map(Step::Hole),
        2 => Just(Step::Commit),
        2 => Just(Step::Fsync),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reencrypt),
        1 => Just(Step::Reopen),
        1 => Just(Step::Remount),
    ]
}

/// Chunks that were written, and the length.
#[derive(Default)]
struct Model {
    chunks: BTreeMap<u64, Vec<u8>>,
    len: u64,
}

impl Model {
    fn write(&mut self, at: u64, data: &[u8]) {
        for (at, byte) in (at..).zip(data) {
            let chunk = self.chunks.entry(at / CHUNK).or_insert_with(|| vec![0; CHUNK as usize]);
            chunk[(at % CHUNK) as usize] = *byte;
        }
        self.len = self.len.max(at + data.len() as u64);
    }

    /// Zeros, and holes where whole chunks of it are.
    fn punch(&mut self, from: u64, to: u64) {
        let to = to.min(self.len);
        if from >= to {
            return;
        }
        let whole_to = if to == self.len { to.next_multiple_of(CHUNK) } else { to / CHUNK * CHUNK };
        let touched: Vec<u64> = self.chunks.range(from / CHUNK..to.div_ceil(CHUNK)).map(|(chunk, _)| *chunk).collect();
        for chunk in touched {
            let (start, end) = (chunk * CHUNK, (chunk + 1) * CHUNK);
            if from <= start && end <= whole_to {
                self.chunks.remove(&chunk);
            } else {
                let bytes = self.chunks.get_mut(&chunk).unwrap();
                bytes[(from.max(start) - start) as usize..(to.min(end) - start) as usize].fill(0);
            }
        }
    }

    fn truncate(&mut self, len: u64) {
        self.chunks.retain(|chunk, _| chunk * CHUNK < len);
        if let Some(last) = self.chunks.get_mut(&(len / CHUNK)) {
            last[(len % CHUNK) as usize..].fill(0);
        }
        self.len = len;
    }

    fn read(&self, from: u64, len: u64) -> Vec<u8> {
        let byte = |at: u64| self.chunks.get(&(at / CHUNK)).map_or(0, |chunk| chunk[(at % CHUNK) as usize]);
        (from..self.len.min(from + len)).map(byte).collect()
    }

    fn data(&self, from: u64) -> Result<u64, Error> {
        let next = self.chunks.range(from / CHUNK..).next().filter(|_| from < self.len);
        next.map(|(chunk, _)| from.max(chunk * CHUNK)).ok_or(Error::Errno(libc::ENXIO))
    }

    fn hole(&self, from: u64) -> Result<u64, Error> {
        if from >= self.len {
            return Err(Error::Errno(libc::ENXIO));
        }
        let mut chunk = from / CHUNK;
        while self.chunks.contains_key(&chunk) {
            chunk += 1;
        }
        Ok(self.len.min(from.max(chunk * CHUNK)))
    }
}

fn run(steps: &[Step], want: &Encryption) {
    let (disk, keys) = new_disk();
    let options = StoreOptions { cache: 30_000, log_bound: 1 << 20, rewritten: 0, ..StoreOptions::default() };
    let mut store = open_with(&disk, &keys, options.clone());
    let mut dir = bucket(&store);
    let mut object = store.create(&dir, OsStr::new("o"), &NODE, want, "o", &CALLER).unwrap().0;
    let mut model = Model::default();
    for (n, step) in steps.iter().enumerate() {
        match *step {
            Step::Write(at, len) => {
                let data = pattern(n as u64, len as usize);
                object.write(at, &data).unwrap();
                model.write(at, &data);
            }
            Step::Truncate(len) => {
                object.truncate(len).unwrap();
                model.truncate(len);
            }
            Step::Punch(from, to) => {
                object.punch(from, to - from).unwrap();
                model.punch(from, to);
            }
            Step::Read(at) => {
                let mut bytes = vec![0; 2 * CHUNK as usize];
                let read = object.read(at, &mut bytes).unwrap();
                assert!(bytes[..read] == model.read(at, 2 * CHUNK), "step {n}: {step:?}");
            }
            Step::Data(at) => assert_eq!(object.seek(at, SeekTo::Data), model.data(at), "step {n}: {step:?}"),
            Step::Hole(at) => assert_eq!(object.seek(at, SeekTo::Hole), model.hole(at), "step {n}: {step:?}"),
            Step::Commit => object.commit().unwrap(),
            Step::Fsync => object.fsync().unwrap(),
            Step::Checkpoint => store.checkpoint().unwrap(),
            Step::Reencrypt => {
                store.begin_epoch(&object, want, "o", &CALLER).unwrap();
                let mut from = Some(0);
                while let Some(at) = from {
                    from = object.reencrypt_some(at, 3).unwrap();
                }
            }
            Step::Reopen | Step::Remount => {
                let anew = matches!(step, Step::Remount).then_some(|| open_with(&disk, &keys, options.clone()));
                (store, dir, object) = reopened(store, dir, object, anew);
            }
        }
        assert_eq!(object.attr().unwrap().size, model.len, "step {n}");
    }
    for (chunk, bytes) in &model.chunks {
        let mut found = vec![0; CHUNK as usize];
        let read = object.read(chunk * CHUNK, &mut found).unwrap();
        assert!(found[..read] == bytes[..read], "chunk {chunk}");
    }
    let runs = model.chunks.keys().filter(|chunk| **chunk == 0 || !model.chunks.contains_key(&(**chunk - 1)));
    assert_eq!(data(&object), runs.map(|chunk| chunk * CHUNK).collect::<Vec<_>>());
    // Nothing is left of what is not there, but for tables and what waits for the end of a page.
    object.fsync().unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let used = object.attr().unwrap().blocks / 8;
    let most = model.chunks.len() as u64 * 7 + 60;
    assert!(used <= most, "{used} blocks for {} chunks", model.chunks.len());
    store.release(&object);
    store.close().unwrap();
    let report = {
        let store = open_with(&disk, &keys, StoreOptions { read_only: true, ..options });
        check(&store, CheckOptions { scrub: true, repair: false }, &CALLER, &mut |_| true).unwrap()
    };
    assert_eq!(report.findings, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_far_apart_read_back_as_from_a_map(steps in prop::collection::vec(step(), 1..60), dual: bool) {
        run(&steps, &if dual { dsse("one") } else { aws_kms("one") });
    }
}
