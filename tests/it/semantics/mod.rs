//! docs/SEMANTICS.md, claim by claim, on a real mount.

mod buckets;
mod encryption;
mod files;
mod keys;
mod mounted;
mod requests;

use std::collections::BTreeSet;

/// The tests that the document names and the tests that are here are the same.
#[test]
fn every_claim_is_run_and_every_test_is_a_claim() {
    let claimed: BTreeSet<String> = include_str!("../../../docs/SEMANTICS.md")
        .split("[test: semantics::")
        .skip(1)
        .filter_map(|rest| rest.split_once(']'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let modules = [
        ("buckets", include_str!("buckets.rs")),
        ("encryption", include_str!("encryption.rs")),
        ("requests", include_str!("requests.rs")),
        ("keys", include_str!("keys.rs")),
        ("files", include_str!("files.rs")),
    ];
    let run: BTreeSet<String> = modules.iter().flat_map(|(module, source)| tests_of(module, source)).collect();
    assert_eq!(claimed, run);
}

fn tests_of(module: &str, source: &str) -> Vec<String> {
    source
        .split("#[test]\nfn ")
        .skip(1)
        .filter_map(|rest| rest.split_once('('))
        .map(|(name, _)| format!("{module}::{name}"))
        .collect()
}
