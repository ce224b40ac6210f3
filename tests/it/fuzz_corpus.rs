//! The corpus of `fuzz/`, run over every target: what fuzzing has found stays found.

use kmsfs_testing::fuzzing::{TARGETS, run};
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn every_target_bears_its_corpus() {
    let mut inputs = 0;
    for (name, _) in TARGETS {
        let dir = corpus().join(name);
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            std::panic::catch_unwind(|| run(name, &bytes)).unwrap_or_else(|_| panic!("{}", path.display()));
            inputs += 1;
        }
    }
    println!("{inputs} inputs");
    assert!(inputs > TARGETS.len());
}

#[test]
fn every_corpus_has_its_target() {
    for entry in fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(known, _)| *known == name), "{name}");
    }
}
