//! Sets of chunks, as the ranges that they are made of.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ends of ranges by their starts; no two of them touch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::object) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(in crate::object) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::object) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((first, last)) = self.0.range(..=end).next_back().map(|(first, last)| (*first, *last))
            && last >= start
        {
            self.0.remove(&first);
            (start, end) = (start.min(first), end.max(last));
        }
        self.0.insert(start, end);
    }

    pub(in crate::object) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((first, last)) = self.0.range(..range.end).next_back().map(|(first, last)| (*first, *last))
            && last > range.start
        {
            self.0.remove(&first);
            if last > range.end {
                self.0.insert(range.end, last);
            }
            if first < range.start {
                self.0.insert(first, range.start);
            }
        }
    }

    /// Takes out what is from there on.
    pub(in crate::object) fn split_off(&mut self, from: u64) -> Self {
        let mut rest = Self(self.0.split_off(&from));
        for across in self.within(from..u64::MAX).collect::<Vec<_>>() {
            self.remove(&across);
            rest.add(across);
        }
        rest
    }

    pub(in crate::object) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(first, last)| *first..*last)
    }

    /// What of a range is in the set.
    pub(in crate::object) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let before = self.0.range(..range.start).next_back().into_iter();
        let all = before.chain(self.0.range(range.start..range.end.max(range.start)));
        all.map(move |(first, last)| range.start.max(*first)..range.end.min(*last)).filter(|part| !part.is_empty())
    }

    /// What of a range is not.
    pub(in crate::object) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut missing, mut at) = (Vec::new(), range.start);
        for part in self.within(range.clone()) {
            missing.push(at..part.start);
            at = part.end;
        }
        missing.push(at..range.end);
        missing.retain(|part| !part.is_empty());
        missing
    }
}

impl From<Range<u64>> for Ranges {
    fn from(range: Range<u64>) -> Self {
        let mut ranges = Self::default();
        ranges.add(range);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn they_are_the_set_of_what_was_added_and_not_removed(
            steps in prop::collection::vec((any::<bool>(), 0..60_u64, 0..12_u64), 0..40), from in 0..60_u64, len in 0..60_u64,
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (adds, start, len) in steps {
                if adds {
                    ranges.add(start..start + len);
                    set.extend(start..start + len);
                } else {
                    ranges.remove(&(start..start + len));
                    set.retain(|n| !(start..start + len).contains(n));
                }
                prop_assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), set.clone());
                let all: Vec<_> = ranges.iter().collect();
                prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", all);
                prop_assert!(all.iter().all(|range| range.start < range.end));
            }
            prop_assert_eq!(ranges.is_empty(), set.is_empty());
            let mut before = ranges.clone();
            let rest = before.split_off(from);
            prop_assert!(before.iter().all(|range| range.end <= from) && rest.iter().all(|range| range.start >= from));
            rest.iter().for_each(|range| before.add(range));
            prop_assert_eq!(&before, &ranges);
            let within: Vec<_> = ranges.within(from..from + len).flatten().collect();
            let missing: Vec<_> = ranges.missing(from..from + len).into_iter().flatten().collect();
            prop_assert_eq!(within, (from..from + len).filter(|n| set.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(missing, (from..from + len).filter(|n| !set.contains(n)).collect::<Vec<_>>());
        }
    }
}
