//! Tests of the whole: the program on real mounts, the store on a simulated disk, and rules about the source.
//! A module a theme.

mod cli;
mod golden;
mod harness;

mod access;
mod attackers;
mod audit;
mod backup;
mod below;
mod bigfile;
mod bulk;
mod config;
mod configured;
mod costs;
mod dual;
mod format;
mod fs_model;
mod fuzz_corpus;
mod git;
mod keyring;
mod keys;
mod kill9;
mod layers;
mod mmap;
mod mounting;
mod names;
mod parts;
mod plaintext;
mod posix;
mod private;
mod processes;
mod readme;
mod reliability;
mod revocation;
mod running;
mod sandbox;
mod semantics;
mod sqlite;
mod store;
mod tampering;
mod tools;
mod tree;
mod under_load;
mod unlocking;
mod walkthrough;
