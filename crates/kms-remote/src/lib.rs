//! KMSs that are elsewhere, each behind a process of its own.
//!
//! The serving process opens no socket and shares its memory with no vendor's library. What speaks to a KMS that is
//! elsewhere is a *provider*, a process with a cage of its own, and what passes between the two are the frames of
//! [`protocol`]. A provider implements [`Backend`] and runs [`serve`]; anybody's program that speaks the protocol is
//! one as well.
//!
//! Nothing here opens a socket or starts a process: streams are given.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod backend;
mod canaries;
mod channel;
mod health;
mod joins;
mod mounts;
mod opened;
pub mod protocol;
mod remote;
mod service;
#[cfg(test)]
mod tests;
mod watching;

pub use backend::{Backend, Identity, serve};
pub use channel::Connect;
pub use remote::{Gate, RemoteKms, Settings};
