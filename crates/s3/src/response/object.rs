//! Responses to operations on one object.

use super::{Body, Response, Server, mismatch};
use crate::answer::{Attributes, Object, ObjectPart, Upload, Written};
use crate::error::Error;
use crate::operation::{CreateMultipartUpload, GetObject, GetObjectAttributes};
use crate::xml::write::Writer;
use crate::{Checksum, Operation, StorageClass, escapes, rfc2047};

/// What S3 says of an object whose client said nothing.
const DEFAULT_TYPE: &str = "binary/octet-stream";

pub(super) fn read(get: &GetObject, object: &Object, is_head: bool) -> Response {
    let (start, end) = object.range.unwrap_or((0, object.size));
    let length = end.saturating_sub(start);
    let mut response = Response::new(if object.range.is_some() { 206 } else { 200 });
    response.push("Last-Modified", &object.modified.http_date());
    response.push("ETag", &object.etag.quoted());
    response.push("Accept-Ranges", "bytes");
    response.push("Content-Length", &length.to_string());
    if object.range.is_some() {
        let last = end.saturating_sub(1);
        response.push("Content-Range", &format!("bytes {start}-{last}/{}", object.size));
    }
    push_metadata(&mut response, get, object);
    response.push_encryption(&object.encryption);
    if object.storage_class != StorageClass::Standard {
        response.push("x-amz-storage-class", object.storage_class.name());
    }
    if object.tag_count > 0 {
        response.push("x-amz-tagging-count", &object.tag_count.to_string());
    }
    if let Some(count) = object.parts_count {
        response.push("x-amz-mp-parts-count", &count.to_string());
    }
    // A checksum is of the object or of a part, never of a range.
    let is_whole = get.range.is_none();
    if let Some(checksum) = object.checksum.as_ref().filter(|_| get.checksum_mode && is_whole) {
        push_checksum(&mut response, checksum, true);
    }
    if !is_head {
        response.body = Body::Object { offset: start, length };
    }
    response.version(get.null_version)
}

/// The object's own headers, or those that the request wants instead.
fn push_metadata(response: &mut Response, get: &GetObject, object: &Object) {
    let (own, other) = (&object.metadata, &get.overrides);
    let default = Some(DEFAULT_TYPE.to_owned());
    for (name, other, own) in [
        ("Cache-Control", &other.cache_control, &own.cache_control),
        ("Content-Disposition", &other.content_disposition, &own.content_disposition),
        ("Content-Encoding", &other.content_encoding, &own.content_encoding),
        ("Content-Language", &other.content_language, &own.content_language),
        ("Content-Type", &other.content_type, if own.content_type.is_some() { &own.content_type } else { &default }),
        ("Expires", &other.expires, &own.expires),
    ] {
        if let Some(value) = other.as_ref().or(own.as_ref()) {
            response.push(name, value);
        }
    }
    // Whoever may write the file may write its attribute: what could not have come over HTTP does not go over it.
    let user = object.metadata.user.iter();
    let pushed = user.filter(|(name, value)| {
        !value.chars().any(char::is_control) && response.push(&format!("x-amz-meta-{name}"), &rfc2047::encoded(value))
    });
    let missing = object.metadata.user.len() - pushed.count();
    if missing > 0 {
        response.push("x-amz-missing-meta", &missing.to_string());
    }
}

fn push_checksum(response: &mut Response, checksum: &Checksum, with_type: bool) {
    response.push(checksum.algorithm.header(), &checksum.text());
    if with_type {
        response.push("x-amz-checksum-type", checksum.kind().name());
    }
}

pub(super) fn written(operation: &Operation, written: &Written, server: Server<'_>) -> Result<Response, Error> {
    let mut response = match operation {
        Operation::PutObject(_) | Operation::UploadPart(_) => {
            let mut response = Response::new(200);
            response.push("ETag", &written.etag.quoted());
            if let Some(checksum) = &written.checksum {
                push_checksum(&mut response, checksum, matches!(operation, Operation::PutObject(_)));
            }
            response
        }
        Operation::CopyObject(copy) => copied("CopyObjectResult", written, true).source(copy.source.null_version),
        Operation::UploadPartCopy(copy) => copied("CopyPartResult", written, false).source(copy.source.null_version),
        Operation::CompleteMultipartUpload(complete) => {
            let key = escapes::path_encoded(complete.key.as_str());
            Response::document(Writer::document("CompleteMultipartUploadResult", |xml| {
                xml.text("Location", format!("{}/{}/{key}", server.url, complete.bucket));
                xml.text("Bucket", &complete.bucket);
                xml.text("Key", &complete.key);
                xml.text("ETag", written.etag.quoted());
                write_checksum(xml, written.checksum.as_ref());
                xml.optional("ChecksumType", written.checksum.as_ref().map(|checksum| checksum.kind().name()));
            }))
        }
        _ => return Err(mismatch()),
    };
    response.push_encryption(&written.encryption);
    Ok(response)
}

fn copied(root: &str, written: &Written, with_type: bool) -> Response {
    Response::document(Writer::document(root, |xml| {
        xml.text("LastModified", written.modified.iso8601());
        xml.text("ETag", written.etag.quoted());
        let kind = written.checksum.as_ref().map(|checksum| checksum.kind().name());
        xml.optional("ChecksumType", kind.filter(|_| with_type));
        write_checksum(xml, written.checksum.as_ref());
    }))
}

impl Response {
    fn source(mut self, null_version: bool) -> Self {
        if null_version {
            self.push("x-amz-copy-source-version-id", "null");
        }
        self
    }
}

pub(super) fn created(create: &CreateMultipartUpload, upload: &Upload) -> Response {
    let mut response = Response::document(Writer::document("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", &create.bucket);
        xml.text("Key", &create.key);
        xml.text("UploadId", upload.upload_id.as_str());
    }));
    if let Some((algorithm, kind)) = create.checksum {
        response.push("x-amz-checksum-algorithm", algorithm.name());
        response.push("x-amz-checksum-type", kind.name());
    }
    response.push_encryption(&upload.encryption);
    response
}

pub(super) fn attributes(get: &GetObjectAttributes, found: &Attributes) -> Response {
    let asked = get.attributes;
    let mut response = Response::document(Writer::document("GetObjectAttributesResponse", |xml| {
        xml.optional("ETag", asked.etag.then_some(&found.etag));
        if let Some(checksum) = found.checksum.as_ref().filter(|_| asked.checksum) {
            xml.within("Checksum", |xml| {
                write_checksum(xml, Some(checksum));
                xml.text("ChecksumType", checksum.kind().name());
            });
        }
        if let Some(parts) = found.parts.as_ref().filter(|_| asked.object_parts) {
            xml.within("ObjectParts", |xml| {
                xml.text("PartsCount", parts.count);
                // S3 lists the parts of objects alone whose parts have checksums.
                if parts.parts.iter().any(|part| part.checksum.is_some()) {
                    let next = parts.parts.last().map_or(get.part_number_marker, |part| part.number);
                    xml.text("PartNumberMarker", get.part_number_marker);
                    xml.text("NextPartNumberMarker", next);
                    xml.text("MaxParts", get.max_parts);
                    xml.text("IsTruncated", parts.truncated);
                    parts.parts.iter().for_each(|part| write_part(xml, part));
                }
            });
        }
        xml.optional("StorageClass", asked.storage_class.then(|| found.storage_class.name()));
        xml.optional("ObjectSize", asked.object_size.then_some(found.size));
    }));
    response.push("Last-Modified", &found.modified.http_date());
    response.version(get.null_version)
}

fn write_part(xml: &mut Writer, part: &ObjectPart) {
    xml.within("Part", |xml| {
        xml.text("PartNumber", part.number);
        xml.text("Size", part.size);
        write_checksum(xml, part.checksum.as_ref());
    });
}

pub(super) fn write_checksum(xml: &mut Writer, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        xml.text(checksum.algorithm.element(), checksum.text());
    }
}
