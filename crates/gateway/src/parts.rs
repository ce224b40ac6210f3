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
    /// Parts of an upload, and their numbers.
    const MOST: u32 = 10_000;
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

    /// Whether it can be that of an object of so many bytes: whoever owns a file can write anything into its
    /// attributes.
    pub(crate) fn is_of(&self, size: u64) -> bool {
        let mut parts = 0_u32;
        let mut bytes = 0_u64;
        for &(first, count, of) in &self.runs {
            let is_number = (1..=Self::MOST).contains(&first) && (1..=Self::MOST).contains(&count);
            let Some(whole) = u64::from(count).checked_mul(of).and_then(|run| run.checked_add(bytes)) else {
                return false;
            };
            if !is_number || parts > Self::MOST {
                return false;
            }
            (parts, bytes) = (parts + count, whole);
        }
        let is_whole = self.runs.is_empty() || (parts == self.count && bytes == size);
        is_whole && (1..=Self::MOST).contains(&self.count)
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
    fn a_list_that_no_upload_has_made_is_known() {
        let list = |runs: &[(u32, u32, u64)], count| PartList { count, runs: runs.to_vec(), checksums: Vec::new() };
        assert!(list(&[(1, 2, 5), (3, 1, 2)], 3).is_of(12) && list(&[], 7).is_of(1));
        for wrong in [
            list(&[(1, 2, 5)], 2),
            list(&[(1, 2, 6)], 3),
            list(&[(u32::MAX, u32::MAX, 0)], u32::MAX),
            list(&[(1, 10_000, u64::MAX)], 10_000),
            list(&[(1, 1, 6), (2, 1, u64::MAX)], 2),
            list(&vec![(1, 10_000, 0); 1 << 20], 10_000),
            list(&[(0, 1, 12)], 1),
            list(&[], 0),
            list(&[], u32::MAX),
        ] {
            assert!(!wrong.is_of(12));
        }
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
