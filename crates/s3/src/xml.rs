//! Documents: those of requests are read into the values that they are, answers are written.

pub(crate) mod documents;
mod tree;
pub(crate) mod write;
