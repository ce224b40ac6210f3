//! What an object's content is at present.

pub(super) mod md5;
pub(super) mod ranges;
pub(super) mod source;
pub(super) mod tables;
