//! The system calls that no safe crate carries: the only file with `unsafe`.
