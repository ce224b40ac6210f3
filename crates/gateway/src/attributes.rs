//! GetObjectAttributes and UpdateObjectEncryption.

use crate::objects::{Found, no_such_key};
use crate::refusals;
use crate::tree::{Kind, proc_path, status};
use crate::{Done, Worker, withdrawn};
use kmsfs_client::{Refused, attributes};
use kmsfs_s3::answer::{Attributes, ObjectPart, ObjectParts};
use kmsfs_s3::operation::{GetObjectAttributes, UpdateObjectEncryption};
use kmsfs_s3::{Answer, Checksum, Code, Error};
use kmsfs_sse::{Algorithm, Request};
use serde::Deserialize;
use serde_json::json;

impl Worker {
    pub(crate) fn object_attributes(&self, of: &GetObjectAttributes) -> Result<Done, Error> {
        let found = Found::look_up(&self.tree.bucket(&of.bucket)?, &of.key)?;
        let checksum = found.checksum();
        let parts = found.content.as_ref().and_then(|content| content.parts.as_ref());
        let parts = parts.filter(|_| of.attributes.object_parts).map(|parts| {
            let algorithm = checksum.as_ref().map(|checksum| checksum.algorithm);
            // S3 lists them only where they have checksums.
            let listed = parts.parts().filter_map(|part| {
                let checksum = Checksum::parse(algorithm?, part.checksum.as_deref()?);
                let size = part.range.end - part.range.start;
                checksum.is_some().then_some(ObjectPart { number: part.number, size, checksum })
            });
            let mut behind = listed.filter(|part| part.number > of.part_number_marker);
            let page: Vec<_> = behind.by_ref().take(of.max_parts as usize).collect();
            ObjectParts { count: parts.count(), parts: page, truncated: behind.next().is_some() }
        });
        let attributes = Attributes {
            modified: found.modified,
            etag: found.etag.clone(),
            size: found.size,
            storage_class: found.record.storage_class,
            checksum: checksum.clone(),
            parts,
        };
        Ok((Answer::Attributes(Box::new(attributes)), None))
    }

    /// Content, ETag and times stay: only the data key is wrapped again, which the mount does on an order.
    pub(crate) fn update_object_encryption(&self, of: &UpdateObjectEncryption) -> Result<Done, Error> {
        let inode = self.tree.bucket(&of.bucket)?.find(&of.key)?.ok_or_else(|| no_such_key(&of.key))?;
        let kind = status(&inode).map_err(|error| refusals::of_call(&error))?.kind;
        if kind != Kind::File || of.key.is_marker() {
            return Err(no_such_key(&of.key));
        }
        let path = proc_path(&inode);
        let token = u64::from_le_bytes(kmsfs_crypto::random::bytes());
        let target = Request {
            algorithm: Some(Algorithm::AwsKms),
            key_id: Some(of.key_arn.clone()),
            context: None,
            bucket_key: Some(of.bucket_key),
        };
        let order = json!({
            "token": token, "how": "RewrapOnly", "target": target, "from_key": null, "dry_run": false, "from": 0,
        });
        let failed = |error: std::io::Error| refusals::of_call(&error);
        withdrawn::check()?;
        attributes::set(&path, attributes::REENCRYPT, order.to_string().as_bytes()).map_err(failed)?;
        let outcome = attributes::get(&path, &format!("{}.{token:016x}", attributes::REENCRYPT)).map_err(failed)?;
        let outcome: Outcome = serde_json::from_str(&outcome.unwrap_or_default()).map_err(|e| failed(e.into()))?;
        match outcome.refused.or(outcome.failed.into_iter().next().map(|(_, reason)| reason)) {
            None => Ok((Answer::Done, None)),
            Some(reason) => Err(of_reason(&reason)),
        }
    }
}

/// What came of it.
#[derive(Deserialize)]
struct Outcome {
    refused: Option<String>,
    failed: Vec<(String, String)>,
}

/// Where S3 or KMS has words for it, the reason begins with the code.
fn of_reason(reason: &str) -> Error {
    match reason.split_once(": ").filter(|(code, _)| Code::parse(code).is_some()) {
        Some((code, message)) => refusals::in_their_words(Refused { code: code.into(), message: message.into() }),
        None => {
            Error::new(Code::InvalidRequest).saying(format!("The encryption of the object cannot be updated: {reason}"))
        }
    }
}
