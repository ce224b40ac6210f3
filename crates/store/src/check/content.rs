//! Reading everything that an object holds.

use crate::{Error, Object, Result, SeekTo};
use kmsfs_format::layout::CHUNK;
use std::ops::Range;

/// Read at once while nothing is wrong.
const PIECE: u64 = 1 << 20;

/// What reading an object through found.
pub(crate) struct Scrubbed {
    /// Bytes that are what was written.
    pub bytes: u64,
    /// Byte ranges that are not, merged.
    pub damaged: Vec<Range<u64>>,
}

/// Holes are authenticated by the tables, and not read.
pub(crate) fn scrub(object: &Object) -> Result<Scrubbed> {
    let length = object.attr()?.size;
    let mut found = Scrubbed { bytes: 0, damaged: Vec::new() };
    let mut buffer = vec![0; PIECE as usize];
    let mut at = 0;
    while at < length {
        let end = match object.seek(at, SeekTo::Data) {
            Ok(data) => {
                at = data;
                (at / PIECE + 1) * PIECE
            }
            Err(Error::Errno(libc::ENXIO)) => break,
            // A table that says where data is: the chunks that it describes are told one by one.
            Err(Error::Corrupt(_)) => (at / PIECE + 1) * PIECE,
            Err(error) => return Err(error),
        };
        piece(object, at..end.min(length), &mut buffer, &mut found)?;
        at = end;
    }
    Ok(found)
}

fn piece(object: &Object, range: Range<u64>, buffer: &mut [u8], found: &mut Scrubbed) -> Result<()> {
    match object.read(range.start, &mut buffer[..(range.end - range.start) as usize]) {
        Ok(read) => found.bytes += read as u64,
        Err(Error::Corrupt(_) | Error::Errno(libc::EIO)) if range.end - range.start > CHUNK => {
            let mut at = range.start;
            while at < range.end {
                let end = ((at / CHUNK + 1) * CHUNK).min(range.end);
                piece(object, at..end, buffer, found)?;
                at = end;
            }
        }
        Err(Error::Corrupt(_) | Error::Errno(libc::EIO)) => add(&mut found.damaged, range),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Adds a range behind the others, to the last one where they touch.
pub(crate) fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// For a message: the first of them, and how many more.
pub(crate) fn ranges(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> =
        ranges.iter().take(SHOWN).map(|range| format!("{} to {}", range.start, range.end - 1)).collect();
    if ranges.len() > SHOWN {
        text.push(format!("and {} more ranges", ranges.len() - SHOWN));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_a_message_shows_eight() {
        let mut found = Vec::new();
        for range in [0..4096, 4096..8192, 12288..16384] {
            add(&mut found, range);
        }
        assert_eq!(ranges(&found), "0 to 8191, 12288 to 16383");
        let many: Vec<_> = (0..10).map(|n| n * 10..n * 10 + 1).collect();
        assert!(ranges(&many).ends_with("70 to 70, and 2 more ranges"));
    }
}
