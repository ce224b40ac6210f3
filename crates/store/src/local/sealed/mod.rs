//! What is sealed under the store's key and says which store this is: `store.json`, which openings led to it, which
//! directories have a configuration, and what a witness outside last saw of it.

pub mod configured;
pub(crate) mod openings;
pub(crate) mod parameters;
pub(crate) mod seal;
pub(crate) mod seen;
