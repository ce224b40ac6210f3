//! ListObjects, ListObjectsV2 and ListObjectVersions: a page of keys and common prefixes.

use crate::objects::EMPTY_MD5;
use crate::record::{Content, Record, guessed_etag, shown_etag};
use crate::refusals;
use crate::tree::{Bucket, Kind, is_absent, proc_path, status_at};
use crate::walker::{Step, Walker, What};
use crate::{Done, Worker};
use kmsfs_client::Head;
use kmsfs_s3::answer::{ListedObject, Objects};
use kmsfs_s3::operation::{ListObjectVersions, ListObjects, ListObjectsV2};
use kmsfs_s3::{Answer, ETag, Error};
use kmsfs_sse::BucketName;
use std::ffi::OsStr;

/// What a page shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) prefix: &'a str,
    /// Empty for none.
    pub(crate) delimiter: &'a str,
    /// The key or common prefix that the page begins behind; empty for none.
    pub(crate) after: &'a str,
    /// Where it is from a page before.
    pub(crate) goes_on: bool,
    pub(crate) max: usize,
}

impl Worker {
    pub(crate) fn list_objects(&self, of: &ListObjects) -> Result<Done, Error> {
        let page = Page {
            prefix: &of.prefix,
            delimiter: &of.delimiter,
            after: &of.marker,
            goes_on: !of.marker.is_empty(),
            max: of.max_keys as usize,
        };
        self.list(&of.bucket, page)
    }

    pub(crate) fn list_objects_v2(&self, of: &ListObjectsV2) -> Result<Done, Error> {
        let page = Page {
            prefix: &of.prefix,
            delimiter: &of.delimiter,
            after: of.continuation.as_deref().unwrap_or(&of.start_after),
            goes_on: of.continuation.is_some(),
            max: of.max_keys as usize,
        };
        self.list(&of.bucket, page)
    }

    pub(crate) fn list_object_versions(&self, of: &ListObjectVersions) -> Result<Done, Error> {
        let page = Page {
            prefix: &of.prefix,
            delimiter: &of.delimiter,
            after: &of.key_marker,
            goes_on: !of.key_marker.is_empty(),
            max: of.max_keys as usize,
        };
        self.list(&of.bucket, page)
    }

    fn list(&self, name: &BucketName, page: Page<'_>) -> Result<Done, Error> {
        let bucket = self.readable_bucket(name)?;
        let mut objects = Objects { owner: self.owner.clone(), objects: Vec::new(), prefixes: Vec::new(), next: None };
        if page.max > 0 {
            self.fill(&bucket, page, &mut objects)?;
        }
        Ok((Answer::Objects(objects), None))
    }

    fn fill(&self, bucket: &Bucket, page: Page<'_>, objects: &mut Objects) -> Result<(), Error> {
        let mut walker = Walker::new(bucket, &self.names, page.prefix, page.goes_on)?;
        walker.seek(&beginning(page))?;
        let mut shown = 0;
        let mut last = None;
        while let Some(step) = walker.next()? {
            if !step.key.starts_with(page.prefix) {
                break;
            }
            if let Some(prefix) = common_prefix(&step.key, page) {
                if shown == page.max {
                    objects.next = last;
                    break;
                }
                let prefix = prefix.to_owned();
                walker.seek(&behind_all_of(&prefix))?;
                last = Some(prefix.clone());
                objects.prefixes.push(prefix);
                shown += 1;
                continue;
            }
            // Looked at only if it is shown, or to know that there is one more.
            let Some(object) = describe(&walker, step)? else { continue };
            if shown == page.max {
                objects.next = last;
                break;
            }
            last = Some(object.key.clone());
            objects.objects.push(object);
            shown += 1;
        }
        Ok(())
    }

    /// Whether there is any object in the bucket.
    pub(crate) fn has_objects(&self, bucket: &Bucket) -> Result<bool, Error> {
        let mut walker = Walker::new(bucket, &self.names, "", false)?;
        Ok(walker.next()?.is_some())
    }
}

/// Where a walk for the page begins.
fn beginning(page: Page<'_>) -> Vec<u8> {
    let Page { prefix, after, .. } = page;
    if after.is_empty() || after < prefix {
        return prefix.as_bytes().to_vec();
    }
    match common_prefix(after, page) {
        Some(common) if common == after => behind_all_of(common),
        // The first key behind it.
        _ => [after.as_bytes(), b"\0"].concat(),
    }
}

/// The prefix that the key is counted under instead of being shown.
fn common_prefix<'a>(key: &'a str, page: Page<'_>) -> Option<&'a str> {
    if page.delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(page.prefix)?;
    let at = rest.find(page.delimiter)?;
    Some(&key[..page.prefix.len() + at + page.delimiter.len()])
}

/// Before every key that does not begin with this and is behind it. No byte of UTF-8 is 255.
fn behind_all_of(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}

/// `None` where there is no object any more.
fn describe(walker: &Walker<'_>, step: Step) -> Result<Option<ListedObject>, Error> {
    let Step { key, what } = step;
    let marker = match what {
        What::Marker(marker) => marker,
        What::File => return describe_file(walker, key),
    };
    Ok(Some(ListedObject {
        key,
        modified: marker.modified(),
        etag: ETag::new(EMPTY_MD5),
        size: 0,
        storage_class: marker.record.storage_class,
        checksum: None,
    }))
}

/// A file whose content is as S3 put it is told of without asking for its key.
fn describe_file(walker: &Walker<'_>, key: String) -> Result<Option<ListedObject>, Error> {
    let Some(dir) = walker.dir() else { return Ok(None) };
    let name = key.rsplit('/').next().unwrap_or(&key);
    let status = match status_at(dir, OsStr::new(name)) {
        Ok(status) if status.kind == Kind::File => status,
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(refusals::of_call(&error)),
    };
    let path = proc_path(dir).join(name);
    // Of a file that the user may not read there is its name.
    let record = Record::of(&path).unwrap_or_default();
    let content = record.content.as_ref().filter(|content| content.seems_to_be_of(&status));
    let etag = match content {
        Some(content) => ETag::new(&content.etag),
        None => match Head::of(&path) {
            Ok(Ok(head)) => {
                let known = record.content_of(&head.stored.etag).map(|content| content.etag.clone());
                ETag::new(known.unwrap_or_else(|| shown_etag(&head)))
            }
            Err(error) if is_absent(&error) => return Ok(None),
            _ => guessed_etag(&status),
        },
    };
    let checksum = content.and_then(Content::checksum);
    Ok(Some(ListedObject {
        key,
        modified: status.modified(),
        etag,
        size: status.size,
        storage_class: record.storage_class,
        checksum: checksum.map(|checksum| (checksum.algorithm, checksum.kind())),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page<'a>(prefix: &'a str, delimiter: &'a str, after: &'a str) -> Page<'a> {
        Page { prefix, delimiter, after, goes_on: false, max: 10 }
    }

    #[test]
    fn a_page_begins_behind_a_key_or_behind_all_of_a_common_prefix() {
        assert_eq!(beginning(page("a/", "", "")), b"a/");
        assert_eq!(beginning(page("b", "", "a")), b"b");
        assert_eq!(beginning(page("", "/", "a/")), b"a0");
        assert_eq!(beginning(page("", "/", "a/x")), b"a/x\0");
        assert_eq!(beginning(page("a/", "/", "a/")), b"a/\0", "the prefix itself is a key");
        assert_eq!(beginning(page("", "", "a/")), b"a/\0");
    }

    #[test]
    fn a_common_prefix_ends_with_the_first_delimiter_behind_the_prefix() {
        assert_eq!(common_prefix("a/b/c", page("", "/", "")), Some("a/"));
        assert_eq!(common_prefix("a/b/c", page("a/", "/", "")), Some("a/b/"));
        assert_eq!(common_prefix("a/b", page("a/", "/", "")), None);
        assert_eq!(common_prefix("xAByABz", page("x", "AB", "")), Some("xAB"));
        assert_eq!(common_prefix("a", page("", "", "")), None);
    }
}
