//! What AWS says about a value that cannot be.

use crate::{Code, Error};
use std::fmt::Display;

/// AWS's ValidationException about one member.
pub fn error(value: impl Display, member: &str, constraint: impl Display) -> Error {
    let text = format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
    );
    Error::new(Code::Validation, text)
}

/// A number in a range.
pub fn number(value: u64, member: &str, range: std::ops::RangeInclusive<u64>) -> Result<(), Error> {
    if value < *range.start() {
        let text = format!("Member must have value greater than or equal to {}", range.start());
        return Err(error(value, member, text));
    }
    if value > *range.end() {
        return Err(error(value, member, format!("Member must have value less than or equal to {}", range.end())));
    }
    Ok(())
}

/// Characters of a text, or bytes of what is not one.
pub fn length(len: usize, shown: &str, member: &str, range: std::ops::RangeInclusive<usize>) -> Result<(), Error> {
    if len < *range.start() {
        let text = format!("Member must have length greater than or equal to {}", range.start());
        return Err(error(shown, member, text));
    }
    if len > *range.end() {
        return Err(error(shown, member, format!("Member must have length less than or equal to {}", range.end())));
    }
    Ok(())
}
