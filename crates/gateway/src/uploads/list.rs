//! ListParts and ListMultipartUploads.

use super::{Running, names_in, sweep};
use crate::refusals;
use crate::tree::{is_absent, open_beneath};
use crate::{Done, Worker};
use kmsfs_s3::answer::{ListedPart, ListedUpload, Parts, Uploads};
use kmsfs_s3::operation::{ListMultipartUploads, ListParts};
use kmsfs_s3::{Answer, ETag, Error, Timestamp, UPLOADS_DIRECTORY, UploadId};
use rustix::fs::{Mode, OFlags};
use std::path::Path;

impl Worker {
    pub(crate) fn list_parts(&self, of: &ListParts) -> Result<Done, Error> {
        let bucket = self.tree.bucket(&of.bucket)?;
        let running = Running::find(&bucket, &of.key, &of.upload_id)?;
        let mut behind = running.parts()?.into_iter().filter(|(number, _)| *number > of.part_number_marker);
        let page = behind.by_ref().take(of.max_parts as usize).map(|(number, record)| ListedPart {
            number,
            modified: Timestamp::from_unix(record.modified),
            etag: ETag::new(&record.etag),
            size: record.size,
            checksum: record.checksum,
        });
        let parts = page.collect();
        let parts = Parts {
            owner: self.owner.clone(),
            parts,
            truncated: behind.next().is_some(),
            storage_class: running.state.storage_class(),
            checksum: running.state.checksum(),
        };
        Ok((Answer::Parts(Box::new(parts)), None))
    }

    /// Of those that the user may see.
    pub(crate) fn list_uploads(&self, of: &ListMultipartUploads) -> Result<Done, Error> {
        let bucket = self.readable_bucket(&of.bucket)?;
        sweep(&bucket);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let names = match open_beneath(bucket.dir(), Path::new(UPLOADS_DIRECTORY), flags, Mode::empty()) {
            Ok(uploads) => names_in(&uploads)?,
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => return Err(refusals::of_call(&error)),
        };
        let ids = names.iter().filter_map(|name| UploadId::parse(name.to_str()?).ok());
        let mut all: Vec<Running> = ids.filter_map(|id| Running::open(&bucket, &id).ok().flatten()).collect();
        all.retain(|running| running.state.key.as_str().starts_with(&of.prefix));
        all.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut uploads = Uploads { owner: self.owner.clone(), uploads: Vec::new(), prefixes: Vec::new(), next: None };
        let marked = all.iter().find(|running| of.upload_id_marker.as_ref() == Some(&running.id)).map(order);
        let marked = marked.map(|(key, initiated, id)| (key.to_owned(), initiated, id.to_owned()));
        let mut last = None;
        for running in all {
            let key = running.state.key.as_str();
            let is_shown_already = match &marked {
                Some((of_key, initiated, id)) if *of_key == of.key_marker => {
                    order(&running) <= (of_key.as_str(), *initiated, id.as_str())
                }
                _ => key <= of.key_marker.as_str(),
            };
            let prefix = common_prefix(key, of).map(str::to_owned);
            let is_in_shown = |prefix: &String| *prefix == of.key_marker || uploads.prefixes.last() == Some(prefix);
            if is_shown_already || prefix.as_ref().is_some_and(is_in_shown) {
                continue;
            }
            if uploads.uploads.len() + uploads.prefixes.len() == of.max_uploads as usize {
                uploads.next = last;
                break;
            }
            if let Some(prefix) = prefix {
                last = Some((prefix.clone(), None));
                uploads.prefixes.push(prefix);
                continue;
            }
            last = Some((key.to_owned(), Some(running.id.clone())));
            uploads.uploads.push(ListedUpload {
                key: key.to_owned(),
                upload_id: running.id,
                initiated: Timestamp::from_unix(running.state.initiated),
                storage_class: running.state.storage_class(),
                checksum: running.state.checksum(),
            });
        }
        Ok((Answer::Uploads(uploads), None))
    }
}

fn order(running: &Running) -> (&str, i64, &str) {
    (running.state.key.as_str(), running.state.initiated, running.id.as_str())
}

fn common_prefix<'a>(key: &'a str, of: &ListMultipartUploads) -> Option<&'a str> {
    let at = key.strip_prefix(of.prefix.as_str())?.find(of.delimiter.as_str()).filter(|_| !of.delimiter.is_empty())?;
    Some(&key[..of.prefix.len() + at + of.delimiter.len()])
}
