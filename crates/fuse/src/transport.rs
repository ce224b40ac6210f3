//! Ways by which requests come from the kernel and answers go back.
//!
//! A transport decodes a request into an [`Op`](crate::op::Op), gives it to the [`Runner`](crate::runner::Runner)
//! together with a [`Reply`](crate::answer::Reply) of its own, and encodes the answer. It decides nothing.

pub(crate) mod fuser;
pub(crate) mod rings;

/// What carries the requests of a mount and their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Reads and writes of /dev/fuse.
    Device,
    /// Rings of io_uring; /dev/fuse for what is forgotten, and for what the kernel is told.
    Rings,
}

impl Carrier {
    /// As the status and the log call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "/dev/fuse",
            Self::Rings => "io_uring",
        }
    }
}
