//! One binary, a module a theme.

mod cli;
mod store;
