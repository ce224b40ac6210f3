//! The front of `kmsfs serve`: HTTP/1.1, TLS, and the bytes of objects.
//!
//! It parses what strangers send, so it is given nothing that is worth taking: it has no key and no secret, opens no
//! file and makes no connection. Who signed a request the [`authority`] says; what is asked for the worker of that user
//! does ([`kmsfs_gateway`]), and hands over a descriptor that the bytes go through. Memory does not grow with objects:
//! a few hundred KiB a connection.
//!
//! It is the only package with an asynchronous runtime.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod access_log;
mod answers;
pub mod authority;
mod body;
mod calls;
mod connections;
mod front;
mod heads;
mod health;
mod late;
mod metrics;
mod outbox;
mod places;
mod receiving;
mod s3;
mod sending;
mod service;
mod stalling;
mod turns;
mod upload;
mod workers;

pub use connections::{Certificate, Listener};
pub use front::{Front, Running, Settings, tls};
