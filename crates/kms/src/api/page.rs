//! Long answers, a page at a time.

use super::validation;
use crate::{Code, Error};
use serde::{Deserialize, Serialize};

/// How much is wanted, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// 1 to 1000 entries, or all that there are.
    pub limit: Option<u64>,
    /// `Page::next` of the page before.
    pub marker: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
/// A part of a list.
pub struct Page<T> {
    /// As many as were asked for.
    pub entries: Vec<T>,
    /// Where the next one begins.
    pub next: Option<String>,
}

impl PageRequest {
    /// Entries in a fixed order; a marker is the number of those that were answered before, so that none is left out
    /// where the list only grows.
    pub fn of<T>(&self, all: Vec<T>) -> Result<Page<T>, Error> {
        if let Some(limit) = self.limit {
            validation::number(limit, "limit", 1..=1000)?;
        }
        let invalid = || Error::new(Code::InvalidMarker, "Could not deserialize marker");
        let start = match &self.marker {
            None => 0,
            Some(marker) => {
                let at: usize =
                    marker.strip_prefix("kmsfs-").and_then(|number| number.parse().ok()).ok_or_else(invalid)?;
                if at > all.len() { Err(invalid())? } else { at }
            }
        };
        let count = self.limit.map_or(all.len(), |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let end = start.saturating_add(count).min(all.len());
        let next = (end < all.len()).then(|| format!("kmsfs-{end}"));
        Ok(Page { entries: all.into_iter().skip(start).take(end - start).collect(), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_end() {
        let page = |limit, marker: Option<&str>| {
            PageRequest { limit, marker: marker.map(str::to_owned) }.of(vec![1, 2, 3, 4, 5])
        };
        let first = page(Some(2), None).unwrap();
        assert_eq!((first.entries, first.next.as_deref()), (vec![1, 2], Some("kmsfs-2")));
        assert_eq!(page(Some(2), Some("kmsfs-4")).unwrap(), Page { entries: vec![5], next: None });
        assert_eq!(page(None, None).unwrap().entries.len(), 5);
        for bad in ["", "2", "kmsfs-6", "kmsfs-x"] {
            assert_eq!(page(None, Some(bad)).unwrap_err().code, Code::InvalidMarker, "{bad}");
        }
        let text = "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have \
                    value greater than or equal to 1";
        assert_eq!(page(Some(0), None), Err(Error::new(Code::Validation, text)));
        assert!(page(Some(1001), None).is_err());
    }
}
