//! The inner path without FUSE: `cargo bench`. What whole programs see is `scripts/bench`'s to measure.

mod chunks;
mod formats;
mod keys;
mod store;

use criterion::{criterion_group, criterion_main};

criterion_group!(inner, chunks::all, formats::all, keys::all, store::all);
criterion_main!(inner);
