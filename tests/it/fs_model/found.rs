//! What the random operations have found, each shrunk and named.

use super::Op::*;
use super::{CONFIGURATION, Op, on_a_real_directory, p};
use kmsfs::store::backend::Rename as How;

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
