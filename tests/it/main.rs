//! Tests of the whole: the program on real mounts, the store on a simulated disk, and rules about the source.
//! A module a theme.

mod cli;
mod harness;
mod layers;
mod semantics;
mod store;
