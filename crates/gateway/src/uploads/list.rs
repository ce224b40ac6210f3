//! ListParts and ListMultipartUploads.

use super::{Running, own_uploads, sweep};
use crate::tree::names_in;
use crate::{Done, Worker};
use kmsfs_s3::answer::{ListedPart, ListedUpload, Parts, Uploads};
use kmsfs_s3::operation::{ListMultipartUploads, ListParts};
use kmsfs_s3::{Answer, ETag, Error, Timestamp, UploadId, listing};

impl Worker {
    pub(crate) fn list_parts(&self, of: &ListParts) -> Result<Done, Error> {
        let bucket = self.tree.bucket(&of.bucket)?;
        let running = Running::find(&bucket, &of.key, &of.upload_id)?;
        let (page, truncated) = listing::parts(of, running.parts()?, |(number, _)| *number);
        let parts = page.into_iter().map(|(number, record)| ListedPart {
            number,
            modified: Timestamp::from_unix(record.modified),
            etag: ETag::new(&record.etag),
            size: record.size,
            checksum: record.checksum,
        });
        let parts = Parts {
            owner: self.owner.clone(),
            parts: parts.collect(),
            truncated,
            storage_class: running.state.storage_class(),
            checksum: running.state.checksum(),
            encryption: running.state.encryption(),
        };
        Ok((Answer::Parts(Box::new(parts)), None))
    }

    /// Of the user's own.
    pub(crate) fn list_uploads(&self, of: &ListMultipartUploads) -> Result<Done, Error> {
        let bucket = self.readable_bucket(&of.bucket)?;
        sweep(&bucket);
        let names = match own_uploads(&bucket)? {
            Some(uploads) => names_in(&uploads)?,
            None => Vec::new(),
        };
        let ids = names.iter().filter_map(|name| UploadId::parse(name.to_str()?).ok());
        let running = ids.filter_map(|id| Running::open(&bucket, &id).ok().flatten());
        let all = running.map(|running| ListedUpload {
            key: running.state.key.as_str().to_owned(),
            initiated: Timestamp::from_unix(running.state.initiated),
            storage_class: running.state.storage_class(),
            checksum: running.state.checksum(),
            upload_id: running.id,
        });
        let (uploads, prefixes, next) = listing::uploads(of, all.collect());
        Ok((Answer::Uploads(Uploads { owner: self.owner.clone(), uploads, prefixes, next }), None))
    }
}
