//! What of an object is committed, and what is durable.

pub(super) mod homes;
