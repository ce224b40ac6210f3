//! The package as its users see it.

mod bodies;
mod oracle;
mod published;
mod refusals;
mod support;
mod tampering;
mod two_steps;
