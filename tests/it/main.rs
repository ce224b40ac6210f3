//! One binary, a module a theme.

mod store;
