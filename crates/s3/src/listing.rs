//! Pages of keys and common prefixes, over whatever has the keys in order.
//!
//! Keys are ordered by their bytes: `a-` is before `a/`, and that before `a0`. A common prefix costs one skip, however
//! many keys it stands for, and a page costs what it shows.

use crate::answer::ListedUpload;
use crate::operation::{ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts};

/// Keys in the order of their bytes, from any place on.
pub trait Keys {
    /// A key that was come by, before it is looked at.
    type Found;
    /// What a list shows of it.
    type Object;
    /// Why the keys cannot be had.
    type Error;

    /// The next key is the first that is not before `target`, which is any bytes. It never goes back.
    fn skip_to(&mut self, target: &[u8]) -> Result<(), Self::Error>;

    /// The next key with what is known of it, none behind the last one.
    fn next(&mut self) -> Result<Option<(String, Self::Found)>, Self::Error>;

    /// What a list shows; none where it turns out that there is no object. Only keys that are shown are looked at, and
    /// one behind the page.
    fn look_at(&mut self, key: String, found: Self::Found) -> Result<Option<Self::Object>, Self::Error>;
}

/// What a page is to show.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What keys begin with.
    pub prefix: &'a str,
    /// What ends a common prefix; empty for none.
    pub delimiter: &'a str,
    /// The page begins behind this key; where it is a common prefix, behind all that it stands for. Empty for none.
    pub after: &'a str,
    /// Keys and common prefixes at most.
    pub max: usize,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// By key.
    pub objects: Vec<T>,
    /// Each ending in the delimiter, in the same order.
    pub prefixes: Vec<String>,
    /// Where there is more: the last key or common prefix of this page.
    pub next: Option<String>,
}

impl Page<'_> {
    /// The place where a walk over the keys begins.
    pub fn start(self) -> Vec<u8> {
        if self.after.as_bytes() < self.prefix.as_bytes() {
            return self.prefix.as_bytes().to_vec();
        }
        match self.common_prefix(self.after) {
            Some(common) if common == self.after => behind_all_of(common),
            // The first key behind it; behind none is the first of all.
            _ if self.after.is_empty() => Vec::new(),
            _ => [self.after.as_bytes(), b"\0"].concat(),
        }
    }

    /// The common prefix that stands for this key.
    pub fn common_prefix(self, key: &str) -> Option<&str> {
        let rest = key.strip_prefix(self.prefix).filter(|_| !self.delimiter.is_empty())?;
        let end = self.prefix.len() + rest.find(self.delimiter)? + self.delimiter.len();
        Some(&key[..end])
    }

    /// Walks the keys and makes the page. A page of nothing ([`Self::max`] 0) has no next one, as S3's has none.
    pub fn fill<K: Keys>(self, keys: &mut K) -> Result<Listing<K::Object>, K::Error> {
        let mut listing = Listing { objects: Vec::new(), prefixes: Vec::new(), next: None };
        if self.max == 0 {
            return Ok(listing);
        }
        keys.skip_to(&self.start())?;
        let mut last = None;
        while let Some((key, found)) = keys.next()? {
            if !key.starts_with(self.prefix) {
                break;
            }
            let is_full = listing.objects.len() + listing.prefixes.len() == self.max;
            match self.common_prefix(&key) {
                Some(_) if is_full => {
                    listing.next = last;
                    break;
                }
                Some(common) => {
                    keys.skip_to(&behind_all_of(common))?;
                    last = Some(common.to_owned());
                    listing.prefixes.push(common.to_owned());
                }
                None => {
                    let Some(object) = keys.look_at(key.clone(), found)? else { continue };
                    if is_full {
                        listing.next = last;
                        break;
                    }
                    last = Some(key);
                    listing.objects.push(object);
                }
            }
        }
        Ok(listing)
    }
}

/// Behind every key that begins with this, and before every other one behind it. No byte of UTF-8 is 255.
fn behind_all_of(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}

impl<'a> From<&'a ListObjects> for Page<'a> {
    fn from(list: &'a ListObjects) -> Self {
        let max = list.max_keys as usize;
        Self { prefix: &list.prefix, delimiter: &list.delimiter, after: &list.marker, max }
    }
}

impl<'a> From<&'a ListObjectsV2> for Page<'a> {
    fn from(list: &'a ListObjectsV2) -> Self {
        let after = list.continuation.as_deref().unwrap_or(&list.start_after);
        Self { prefix: &list.prefix, delimiter: &list.delimiter, after, max: list.max_keys as usize }
    }
}

impl<'a> From<&'a ListObjectVersions> for Page<'a> {
    fn from(list: &'a ListObjectVersions) -> Self {
        let max = list.max_keys as usize;
        Self { prefix: &list.prefix, delimiter: &list.delimiter, after: &list.key_marker, max }
    }
}

/// A page of uploads, common prefixes, and where the next one begins ([`crate::answer::Uploads::next`]).
pub type UploadsPage = (Vec<ListedUpload>, Vec<String>, Option<(String, Option<crate::UploadId>)>);

/// The page of all uploads of a bucket, in whatever order they come. Uploads of one key are in the order of their ids,
/// which is that of their beginning where ids begin with the time.
pub fn uploads(list: &ListMultipartUploads, mut all: Vec<ListedUpload>) -> UploadsPage {
    let after = &list.key_marker;
    let page = Page { prefix: &list.prefix, delimiter: &list.delimiter, after, max: list.max_uploads as usize };
    all.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
    let (mut uploads, mut prefixes, mut last) = (Vec::new(), Vec::<String>::new(), None);
    let is_shown = |upload: &ListedUpload| {
        let within = list.upload_id_marker.as_ref().is_some_and(|id| upload.key == *after && upload.upload_id > *id);
        upload.key.starts_with(page.prefix) && (within || upload.key.as_bytes() >= &page.start())
    };
    for upload in all.into_iter().filter(is_shown) {
        let common = page.common_prefix(&upload.key);
        if common.is_some_and(|common| prefixes.last().is_some_and(|last| last == common)) {
            continue;
        }
        if uploads.len() + prefixes.len() == page.max {
            return (uploads, prefixes, last);
        }
        if let Some(common) = common {
            last = Some((common.to_owned(), None));
            prefixes.push(common.to_owned());
        } else {
            last = Some((upload.key.clone(), Some(upload.upload_id.clone())));
            uploads.push(upload);
        }
    }
    (uploads, prefixes, None)
}

/// The page of all parts of an upload, which are in the order of their numbers, and whether there are more.
pub fn parts<P>(list: &ListParts, all: impl IntoIterator<Item = P>, number: impl Fn(&P) -> u32) -> (Vec<P>, bool) {
    let mut behind = all.into_iter().filter(|part| number(part) > list.part_number_marker);
    let page: Vec<P> = behind.by_ref().take(list.max_parts as usize).collect();
    let truncated = list.max_parts > 0 && behind.next().is_some();
    (page, truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StorageClass, Timestamp, UploadId};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Keys in memory, some of which are gone when they are looked at; it counts what is asked of it.
    struct Memory<'a> {
        keys: &'a BTreeSet<String>,
        gone: &'a BTreeSet<String>,
        place: Vec<u8>,
        steps: usize,
    }

    impl Keys for Memory<'_> {
        type Found = ();
        type Object = String;
        type Error = std::convert::Infallible;

        fn skip_to(&mut self, target: &[u8]) -> Result<(), Self::Error> {
            assert!(target >= self.place.as_slice(), "it goes back");
            self.place = target.to_vec();
            Ok(())
        }

        fn next(&mut self) -> Result<Option<(String, ())>, Self::Error> {
            self.steps += 1;
            let found = self.keys.iter().find(|key| key.as_bytes() >= self.place.as_slice()).cloned();
            if let Some(key) = &found {
                self.place = [key.as_bytes(), b"\0"].concat();
            }
            Ok(found.map(|key| (key, ())))
        }

        fn look_at(&mut self, key: String, (): ()) -> Result<Option<String>, Self::Error> {
            Ok((!self.gone.contains(&key)).then_some(key))
        }
    }

    fn page(keys: &BTreeSet<String>, gone: &BTreeSet<String>, page: Page<'_>) -> (Listing<String>, usize) {
        let mut memory = Memory { keys, gone, place: Vec::new(), steps: 0 };
        let Ok(listing) = page.fill(&mut memory);
        (listing, memory.steps)
    }

    fn set(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    /// All entries, one after the other: what is no key is a common prefix.
    fn naive(keys: &BTreeSet<String>, page: Page<'_>) -> Vec<(String, bool)> {
        let mut entries: Vec<(String, bool)> = Vec::new();
        for key in keys.iter().filter(|key| key.starts_with(page.prefix)) {
            let rest = &key[page.prefix.len()..];
            let common = rest.split_once(page.delimiter).filter(|_| !page.delimiter.is_empty());
            let common = common.map(|(segment, _)| format!("{}{segment}{}", page.prefix, page.delimiter));
            let is_before = key.as_str() <= page.after || common.as_deref() == Some(page.after);
            let entry = common.map_or_else(|| (key.clone(), true), |common| (common, false));
            if !is_before && !page.after.is_empty() || page.after.is_empty() {
                entries.push(entry);
            }
        }
        entries.dedup();
        entries
    }

    fn key() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["a", "b", "-", "/", "0", "ä", "/", "\u{10ffff}"], 1..7)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_page_is_that_of_a_list_of_all(
            keys in proptest::collection::btree_set(key(), 0..40),
            gone in proptest::collection::vec(any::<bool>(), 40),
            prefix in prop_oneof![Just(String::new()), key()],
            delimiter in prop_oneof![Just(""), Just("/"), Just("a/"), Just("ä"), Just("-")],
            after in prop_oneof![Just(String::new()), key()],
            max in 0_usize..8,
        ) {
            let wanted = Page { prefix: &prefix, delimiter, after: &after, max };
            // Who is gone is shown only through a common prefix, which nobody looks into.
            let gone: BTreeSet<_> = keys.iter().zip(&gone).filter(|(key, gone)| **gone && wanted.common_prefix(key).is_none())
                .map(|(key, _)| key.clone()).collect();
            let there: BTreeSet<_> = keys.difference(&gone).cloned().collect();
            let all = naive(&there, wanted);
            let (listing, steps) = page(&keys, &gone, wanted);
            let expected: Vec<_> = all.iter().take(max).cloned().collect();
            let (objects, prefixes): (Vec<_>, Vec<_>) = expected.iter().cloned().partition(|(_, is_key)| *is_key);
            let names = |entries: Vec<(String, bool)>| entries.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            prop_assert_eq!(&listing.objects, &names(objects));
            prop_assert_eq!(&listing.prefixes, &names(prefixes));
            let next = expected.last().filter(|_| all.len() > max).map(|(name, _)| name.clone());
            prop_assert_eq!(&listing.next, &next);
            prop_assert!(steps <= max + 1 + gone.len(), "{} steps for {} entries", steps, max);
        }

        #[test]
        fn pages_one_after_the_other_are_the_whole(
            keys in proptest::collection::btree_set(key(), 0..40),
            delimiter in prop_oneof![Just(""), Just("/"), Just("a/")],
            max in 1_usize..5,
        ) {
            let (mut after, mut seen) = (String::new(), Vec::new());
            loop {
                let (listing, _) = page(&keys, &BTreeSet::new(), Page { prefix: "", delimiter, after: &after, max });
                let mut entries = [listing.objects, listing.prefixes].concat();
                entries.sort();
                seen.extend(entries);
                match listing.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            let all = naive(&keys, Page { prefix: "", delimiter, after: "", max });
            prop_assert_eq!(seen, all.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_bytes() {
        let keys = set(&["a0", "a/", "a-", "a/b", "B", "ä"]);
        let (listing, _) = page(&keys, &set(&[]), Page { prefix: "", delimiter: "", after: "", max: 10 });
        assert_eq!(listing.objects, ["B", "a-", "a/", "a/b", "a0", "ä"]);
        let (listing, _) = page(&keys, &set(&[]), Page { prefix: "a", delimiter: "/", after: "", max: 10 });
        assert_eq!((listing.objects, listing.prefixes), (vec!["a-".into(), "a0".into()], vec!["a/".into()]));
    }

    #[test]
    fn a_common_prefix_costs_one_step_and_is_passed_whole() {
        let mut keys: BTreeSet<_> = (0..1000).map(|n| format!("d/{n}")).collect();
        keys.extend(set(&["a", "z"]));
        let first = Page { prefix: "", delimiter: "/", after: "", max: 2 };
        let (listing, steps) = page(&keys, &set(&[]), first);
        assert_eq!((listing.next.as_deref(), steps), (Some("d/"), 3));
        let (listing, _) = page(&keys, &set(&[]), Page { after: "d/", ..first });
        assert_eq!((listing.objects, listing.prefixes, listing.next), (vec!["z".to_owned()], vec![], None));
        let (listing, _) = page(&keys, &set(&[]), Page { after: "d/5", ..first });
        assert_eq!(listing.prefixes, ["d/"], "a client's own place may be within one");
        let (listing, steps) = page(&keys, &set(&[]), Page { max: 0, ..first });
        assert_eq!((listing.next, steps), (None, 0));
    }

    fn upload(key: &str, id: &str) -> ListedUpload {
        ListedUpload {
            key: key.into(),
            upload_id: UploadId::parse(id).unwrap(),
            initiated: Timestamp::from_unix(0),
            storage_class: StorageClass::Standard,
            checksum: None,
        }
    }

    #[test]
    fn uploads_are_paged_by_key_and_id() {
        let all = || {
            ["k2", "k1", "k3"]
                .map(|id| upload("k", id))
                .into_iter()
                .chain([upload("d/x", "d1"), upload("d/y", "d2"), upload("z", "z1")])
                .collect::<Vec<_>>()
        };
        let mut list = ListMultipartUploads {
            bucket: kmsfs_sse::BucketName::parse("bucket").unwrap(),
            prefix: String::new(),
            delimiter: "/".into(),
            key_marker: String::new(),
            upload_id_marker: None,
            max_uploads: 2,
            url_encoded: false,
        };
        let mut seen = Vec::new();
        loop {
            let (uploads, prefixes, next) = super::uploads(&list, all());
            assert!(uploads.len() + prefixes.len() <= 2);
            seen.extend(prefixes);
            seen.extend(uploads.iter().map(|upload| upload.upload_id.as_str().to_owned()));
            let Some((key, id)) = next else { break };
            (list.key_marker, list.upload_id_marker) = (key, id);
        }
        assert_eq!(seen, ["d/", "k1", "k2", "k3", "z1"]);
        let of_prefix =
            ListMultipartUploads { prefix: "d/".into(), key_marker: String::new(), upload_id_marker: None, ..list };
        assert_eq!(super::uploads(&of_prefix, all()).0.len(), 2);
    }

    #[test]
    fn parts_are_paged_by_number() {
        let list = |marker, max| ListParts {
            bucket: kmsfs_sse::BucketName::parse("bucket").unwrap(),
            key: crate::ObjectKey::parse("k").unwrap(),
            upload_id: UploadId::parse("u").unwrap(),
            part_number_marker: marker,
            max_parts: max,
        };
        let of = |marker, max| parts(&list(marker, max), [1, 3, 7, 10_000], |part| *part);
        assert_eq!(of(0, 2), (vec![1, 3], true));
        assert_eq!(of(3, 2), (vec![7, 10_000], false));
        assert_eq!(of(10_000, 2), (vec![], false));
        assert_eq!(of(0, 0), (vec![], false));
    }
}
