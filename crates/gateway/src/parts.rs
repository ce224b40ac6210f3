//! Which parts an object was made of, in a few bytes whatever their number.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Parts with numbers and sizes, runs of equal ones told once; checksums where there is room for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartList {
    /// How many there are in all.
    #[serde(rename = "Count")]
    count: u32,
    /// First number, how many parts from there on, and the size of each; none where they would take too much room.
    #[serde(rename = "Runs", default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<(u32, u32, u64)>,
    /// Of each part, in Base64; none where they would take too much room.
    #[serde(rename = "Checksums", default, skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<String>,
}

/// One of the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u32,
    /// Where it is in the object, in bytes.
    pub(crate) range: Range<u64>,
    /// In Base64.
    pub(crate) checksum: Option<String>,
}

impl PartList {
    /// File systems keep 4 KiB of attributes with a file, in all.
    const MOST_RUNS: usize = 24;
    const MOST_CHECKSUM_BYTES: usize = 1024;

    /// Of numbers in ascending order with sizes and checksums in Base64.
    pub(crate) fn new<'a>(parts: impl IntoIterator<Item = (u32, u64, Option<&'a str>)>) -> Self {
        let mut list = Self::default();
        let mut checksums = Vec::new();
        for (number, size, checksum) in parts {
            list.count += 1;
            checksums.extend(checksum.map(str::to_owned));
            match list.runs.last_mut() {
                Some((first, count, of)) if *first + *count == number && *of == size => *count += 1,
                _ => list.runs.push((number, 1, size)),
            }
        }
        if list.runs.len() > Self::MOST_RUNS {
            list.runs.clear();
        }
        let len: usize = checksums.iter().map(|text| text.len() + 3).sum();
        if checksums.len() == list.count as usize && len <= Self::MOST_CHECKSUM_BYTES {
            list.checksums = checksums;
        }
        list
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// All of them in their order; nothing where that was too much to keep.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        let numbers =
            self.runs.iter().flat_map(|&(first, count, size)| (first..first + count).map(move |at| (at, size)));
        let mut checksums = self.checksums.iter();
        let mut offset = 0;
        numbers.map(move |(number, size)| {
            let range = offset..offset + size;
            offset = range.end;
            Part { number, range, checksum: checksums.next().cloned() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_equal_parts_are_two_runs() {
        let list = PartList::new((1..=10_000).map(|number| (number, if number < 10_000 { 8 << 20 } else { 5 }, None)));
        assert_eq!((list.count(), list.runs.len()), (10_000, 2));
        assert!(serde_json::to_string(&list).unwrap().len() < 100);
        let last = list.parts().last().unwrap();
        assert_eq!((last.number, last.range), (10_000, 9_999 * (8 << 20)..9_999 * (8 << 20) + 5));
    }

    #[test]
    fn checksums_are_kept_as_long_as_there_is_room() {
        let list = |count: u32| PartList::new((1..=count).map(|number| (number, 7, Some("AAAAAA=="))));
        assert!(list(20).parts().all(|part| part.checksum.as_deref() == Some("AAAAAA==")));
        assert!(list(2000).parts().all(|part| part.checksum.is_none()));
        assert_eq!(list(2000).parts().count(), 2000);
    }

    #[test]
    fn a_list_that_is_too_long_is_a_number_alone() {
        let list = PartList::new((1..=10_000).map(|number| (number, u64::from(number), Some("AAAAAA=="))));
        assert_eq!((list.count(), list.parts().count()), (10_000, 0));
        assert!(serde_json::to_string(&list).unwrap().len() < 100);
    }
}
