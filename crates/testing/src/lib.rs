//! What kmsfs is tested with: a simulated disk that loses power, stores that make mistakes, and entry points for
//! fuzzing.
#![forbid(unsafe_code)]

pub mod disk;
pub mod fuzzing;
pub mod kms;
pub mod mistakes;
