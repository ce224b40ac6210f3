//! Crashes workloads everywhere, and judges what each crash leaves.

use super::crashed::{Chunks, CrashedStore, Point, SPREAD};
use super::looking::{disagreements, look};
use super::told::Told;
use super::workloads::random_workload;
use crate::store::*;
use kmsfs_testing::disk::CrashPoint;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How thoroughly a workload is crashed.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Of the instants at which it may crash: one in so many.
    pub one_in: u32,
    /// Power cuts at each.
    pub cuts: usize,
    /// Second lives on what is left.
    pub lives: usize,
}

pub struct Campaign {
    seed: u64,
    rng: StdRng,
    keys: Arc<KeyService>,
    pub chunks: Chunks,
    /// Of new objects.
    pub encryption: Encryption,
    pub counts: BTreeMap<&'static str, usize>,
    found: Vec<String>,
}

impl Campaign {
    pub fn new(seed: u64) -> Self {
        Self::with_keys(seed, keys())
    }

    pub fn with_keys(seed: u64, keys: Arc<KeyService>) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { seed, rng, keys, chunks: SPREAD, encryption: aes256(), counts: BTreeMap::new(), found: Vec::new() }
    }

    pub fn keys(&self) -> &Arc<KeyService> {
        &self.keys
    }

    /// What was found wrong so far.
    pub fn found(&self) -> &[String] {
        &self.found
    }

    pub fn wrong(&mut self, what: String) {
        self.found.push(what);
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// `A || B`: B runs on disks that crashes of A left.
    pub fn check(&mut self, workload: &str, effort: Effort) {
        let durable_bucket = self.rng.random_bool(0.8);
        let crashed = CrashedStore::with(&self.keys, self.encryption.clone(), self.chunks, durable_bucket);
        self.live(&crashed, workload, effort, "");
    }

    fn live(&mut self, crashed: &Arc<CrashedStore>, workload: &str, effort: Effort, story: &str) {
        let (first, second) = workload.split_once(" || ").map_or((workload, None), |(a, b)| (a, Some(b)));
        let story = format!("{story}{first}");
        let _context = Context(self.seed, &story);
        let points = crashed.run(first);
        self.found.extend(crashed.misread.lock().drain(..).map(|what| format!("{what} [live] in: {story}")));
        self.count("workloads");
        let left = self.crash(&points, effort, &story);
        for _ in 0..effort.lives.min(left.len()) {
            let disk = left.choose(&mut self.rng).unwrap().crash_point().kill();
            let again = crashed.second_life(&self.keys, disk);
            let next = second.map_or_else(|| random_workload(&mut self.rng, 6), String::from);
            self.count("second lives");
            self.live(&again, &next, Effort { lives: 0, one_in: effort.one_in * 2, ..effort }, &format!("{story} || "));
        }
    }

    /// Crashes at some of these instants. Answers some of the disks that this left.
    pub fn crash(&mut self, points: &[Point], effort: Effort, story: &str) -> Vec<SimulatedDisk> {
        let mut left = Vec::new();
        for point in points {
            if !self.rng.random_ratio(1, effort.one_in) {
                continue;
            }
            self.count("crash points");
            self.survive(point.disk.kill(), &point.told, true, story);
            left.push(point.disk.kill());
            for disk in point.disk.power_cuts(effort.cuts, self.rng.random()) {
                if self.rng.random_bool(if effort.lives > 1 { 0.5 } else { 0.05 }) {
                    left.push(disk.crash_point().kill());
                }
                self.survive(disk, &point.told, false, story);
            }
        }
        left
    }

    /// Recovers, sometimes with a second crash on the way, and judges what is then read.
    fn survive(&mut self, disk: SimulatedDisk, told: &Told, killed: bool, story: &str) {
        let points: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
        if self.rng.random_bool(if killed { 0.3 } else { 0.02 }) {
            let points = points.clone();
            disk.watch(move |point| points.lock().push(point.clone()));
        }
        self.judge(&disk, told, killed, story);
        let points = std::mem::take(&mut *points.lock());
        for point in points.sample(&mut self.rng, 2).cloned().collect::<Vec<_>>() {
            for again in point.power_cuts(3, self.rng.random()) {
                self.count("crashes in recovery");
                self.judge(&again, told, false, story);
            }
        }
    }

    pub fn judge(&mut self, disk: &SimulatedDisk, told: &Told, killed: bool, story: &str) {
        self.count("crash states");
        // A full disk refuses recovery too: space is made before the next mount.
        disk.set_capacity(None);
        let backend: Arc<dyn Backend> = Arc::new(disk.clone());
        let options = watched(&Arc::new(Memory::of(told.record.clone())));
        let mut wrong = match Store::open(backend.clone(), self.keys.clone(), options.clone()) {
            Ok(store) => {
                // Of what comes after recovery the crash points are none of recovery.
                disk.unwatch();
                let found = look(disk, &store, self.chunks);
                let mut wrong = told.violations(&found, killed);
                if self.rng.random_bool(0.2) {
                    self.count("checks");
                    wrong.extend(disagreements(&store, &found));
                }
                wrong.extend(store.close().err().map(|error| format!("close: {error}")));
                wrong
            }
            Err(error) => vec![format!("the store does not open: {error}")],
        };
        if wrong.is_empty() && self.rng.random_bool(0.1) {
            self.count("clean mounts after it");
            let store = Store::open(backend, self.keys.clone(), options).unwrap();
            wrong = told.violations(&look(disk, &store, self.chunks), killed);
            store.close().unwrap();
        }
        let how = if killed { "kill" } else { "power cut" };
        self.found.extend(wrong.into_iter().map(|what| format!("{what} [{how}] in: {story}")));
    }

    /// Panics with what was found wrong; prints how much was looked at.
    pub fn finish(self) {
        println!("seed {}: {:?}", self.seed, self.counts);
        let mut kinds: BTreeMap<&String, usize> = BTreeMap::new();
        self.found.iter().for_each(|what| *kinds.entry(what).or_default() += 1);
        let mut report = String::new();
        for (what, count) in kinds.iter().take(12) {
            let _ = writeln!(report, "{count} x {what}");
        }
        assert!(self.found.is_empty(), "seed {}: {} violations\n{report}", self.seed, self.found.len());
    }
}

/// Says which workload a panic came from.
struct Context<'a>(u64, &'a str);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, workload: {}", self.0, self.1);
        }
    }
}

/// Seeds to go through: the given one, and as many more as KMSFS_CRASH_SEEDS says.
pub fn seeds(first: u64) -> impl Iterator<Item = u64> {
    let more = std::env::var("KMSFS_CRASH_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    (0..=more).map(move |n| first + n * 1000)
}
