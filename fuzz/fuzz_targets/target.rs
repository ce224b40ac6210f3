//! Runs the target that `KMSFS_FUZZ_TARGET` names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("KMSFS_FUZZ_TARGET").expect("KMSFS_FUZZ_TARGET names a target"));

fuzz_target!(|bytes: &[u8]| kmsfs_testing::fuzzing::run(&TARGET, bytes));
