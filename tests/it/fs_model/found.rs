//! What the random operations have found, each shrunk and named.

use super::Op::*;
use super::{CONFIGURATION, Op, on_a_real_directory, p};
use kmsfs_store::backend::Rename as How;

fn run(ops: &[Op]) {
    on_a_real_directory(ops);
}

#[test]
fn an_exchange_judges_what_becomes_a_configuration() {
    run(&[
        Configure(p(&["bucket"]), 1),
        Create(p(&["bucket", "a"]), 0o644),
        Write(0, 0, 10, false),
        Release(0),
        Rename(p(&["bucket", CONFIGURATION]), p(&["bucket", "a"]), How::Exchange),
    ]);
}

/// It showed in memory only, and was forgotten with the object: the change time went back.
#[test]
fn punching_where_nothing_is_moves_no_change_time() {
    let ops = [
        Create(p(&["bucket", "a"]), 0o644),
        Release(0),
        Create(p(&["bucket", "b"]), 0o644),
        Open(p(&["bucket", "a"]), false),
        CommitAll,
        Fallocate(1, 0, 1, 0),
        Fallocate(0, 0, 1, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE),
        Create(p(&["bucket", "a"]), 0o644),
    ];
    run(&ops);
    super::ModelAndFs::new(std::sync::Arc::new(super::SimulatedDisk::new())).run(&ops);
}
