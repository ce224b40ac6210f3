//! The attacker puts together what the store's files held at any time: only contents that were sealed are read, with
//! chunks refused at most.

use super::super::crash::{CrashedStore, SPREAD, Told, look};
use super::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// The protocol's model has the same.
const WORKLOAD: &str = "create a; write a 0 5; fsync a; create b; write b 0 2; fsync b; write a 0 2; close a; rewrap b; \
    fsync b; checkpoint; write a 2 1; fsync a; punch a 1; close a; truncate a 2; fsync a; write a 4 4; write b 0 1; \
    close b; rewrap a; fsync a; checkpoint; truncate a 0; fsync a; write a 0 3; fsync a; create t; write t 0 8; fsync t; \
    rename t b; checkpoint; write a 4 2; fsync a; punch a 2; fsync a; write a 2 2; write b 3 1; fsync b; checkpoint";

/// Whole files of the store at some time, by path.
type View = BTreeMap<String, Vec<u8>>;

fn view(victim: &Victim) -> View {
    let mut files = View::new();
    for dir in ["buckets/bucket", "sidecars"] {
        let backing = victim.dir(dir);
        let mut names = Vec::new();
        let mut note = |entry: backend::Entry<'_>| {
            names.push(entry.name.to_str().unwrap().to_string());
            true
        };
        backing.read(0, &mut note).unwrap();
        for path in names.into_iter().map(|name| format!("{dir}/{name}")) {
            let file = victim.file(&path);
            files.insert(path, bytes(file.as_ref(), 0, file.metadata().unwrap().len as usize));
        }
    }
    files
}

/// Copies a piece of a file of any time to the same or another place of any file.
fn recombine(rng: &mut StdRng, views: &[View], victim: &Victim, paths: &[String]) {
    const UNITS: [u64; 4] = [32, 512, 4096, 1 << 30];
    let path = paths.choose(rng).unwrap();
    let source = views.choose(rng).unwrap();
    let any: Vec<&String> = source.keys().collect();
    let from = if rng.random_bool(0.7) { path } else { any.choose(rng).unwrap() };
    let Some(content) = source.get(from).filter(|content| !content.is_empty()) else { return };
    let unit = *UNITS.choose(rng).unwrap();
    let start = rng.random_range(0..content.len() as u64) / unit * unit;
    let end = (start + unit).min(content.len() as u64);
    let to = if rng.random_bool(0.8) { start } else { rng.random_range(0..content.len() as u64) / unit * unit };
    let file = victim.file(path);
    if unit > content.len() as u64 {
        file.set_len(end).unwrap();
    }
    file.write_at(&content[start as usize..end as usize], to).unwrap();
}

fn is_sealed(told: &Told, reading: &super::super::crash::Reading) -> bool {
    told.objects.values().any(|known| {
        known.states.iter().any(|state| state.wrap == reading.wrap)
            && known.states.iter().any(|state| state.clone().with_wrap(reading.wrap).shows_but_for_damage(reading))
    })
}

/// Puts the store's files together at random, so many times. Answers how many objects were read whole, in part and
/// refused, or what was read and never sealed.
pub fn recombinations(seed: u64, rounds: u32) -> Result<[u32; 3], String> {
    let keys = keys();
    let crashed = CrashedStore::new(&keys, SPREAD, true);
    let points = crashed.run(WORKLOAD);
    assert_eq!(*crashed.misread.lock(), Vec::<String>::new());
    let told = &points.last().unwrap().told;
    let moments: Vec<Victim> =
        points.iter().step_by(4).map(|point| Victim { disk: point.disk.kill(), keys: keys.clone() }).collect();
    // Recovered and closed, so that all there is lies in the files.
    for victim in &moments {
        victim.mounted(|_| ());
    }
    let views: Vec<View> = moments.iter().map(view).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let [mut whole, mut partly, mut refused] = [0; 3];
    for round in 0..rounds {
        let n = rng.random_range(0..moments.len());
        let victim = moments[n].copy();
        let paths: Vec<String> = views[n].keys().filter(|path| !path.ends_with("/free")).cloned().collect();
        if paths.is_empty() {
            continue;
        }
        (0..rng.random_range(1..5)).for_each(|_| recombine(&mut rng, &views, &victim, &paths));
        let store = open(&victim.disk, &victim.keys);
        let found = look(&victim.disk, &store, SPREAD);
        store.close().unwrap();
        if let Some(wrong) = found.wrong.first() {
            return Err(format!("round {round}: {wrong}"));
        }
        for reading in found.objects.values() {
            match reading {
                Err(_) => refused += 1,
                Ok(reading) if !is_sealed(told, reading) => {
                    return Err(format!("round {round}: {reading:?} was never sealed"));
                }
                Ok(reading) if reading.sectors.contains(&None) => partly += 1,
                Ok(_) => whole += 1,
            }
        }
    }
    Ok([whole, partly, refused])
}

#[test]
fn whatever_is_recombined_only_sealed_contents_are_read() {
    let [whole, partly, refused] = recombinations(7, 600).unwrap();
    println!("read whole {whole}, in part {partly}, refused {refused}");
    assert!(whole > 0 && partly > 0 && refused > 0);
}
