//! Responses that are lists.

use super::object::write_checksum;
use super::{Response, owner};
use crate::answer::{ListedObject, Objects, Owner, Parts, Uploads};
use crate::operation::{ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts};
use crate::xml::write::Writer;
use crate::{ChecksumAlgorithm, ChecksumType, UploadId, escapes, token};

pub(super) fn objects(list: &ListObjects, page: &Objects) -> Response {
    let keys = Keys(list.url_encoded);
    Response::document(Writer::document("ListBucketResult", |xml| {
        xml.text("Name", &list.bucket);
        xml.text("Prefix", keys.text(&list.prefix));
        xml.text("Marker", keys.text(&list.marker));
        // Without a delimiter it is the last key, which clients have.
        let next = page.next.as_ref().filter(|_| !list.delimiter.is_empty());
        xml.optional("NextMarker", next.map(|next| keys.text(next)));
        xml.text("MaxKeys", list.max_keys);
        keys.delimiter(xml, &list.delimiter);
        xml.text("IsTruncated", page.next.is_some());
        for object in &page.objects {
            xml.within("Contents", |xml| keys.object(xml, object, Some(&page.owner)));
        }
        keys.prefixes(xml, &page.prefixes);
    }))
}

pub(super) fn objects_v2(list: &ListObjectsV2, page: &Objects) -> Response {
    let keys = Keys(list.url_encoded);
    Response::document(Writer::document("ListBucketResult", |xml| {
        xml.text("Name", &list.bucket);
        xml.text("Prefix", keys.text(&list.prefix));
        let start_after = Some(&list.start_after).filter(|start| !start.is_empty());
        xml.optional("StartAfter", start_after.map(|start| keys.text(start)));
        xml.optional("ContinuationToken", list.continuation.as_deref().map(token::encode));
        xml.optional("NextContinuationToken", page.next.as_deref().map(token::encode));
        xml.text("KeyCount", page.objects.len() + page.prefixes.len());
        xml.text("MaxKeys", list.max_keys);
        keys.delimiter(xml, &list.delimiter);
        xml.text("IsTruncated", page.next.is_some());
        for object in &page.objects {
            xml.within("Contents", |xml| keys.object(xml, object, list.fetch_owner.then_some(&page.owner)));
        }
        keys.prefixes(xml, &page.prefixes);
    }))
}

pub(super) fn versions(list: &ListObjectVersions, page: &Objects) -> Response {
    let keys = Keys(list.url_encoded);
    Response::document(Writer::document("ListVersionsResult", |xml| {
        xml.text("Name", &list.bucket);
        xml.text("Prefix", keys.text(&list.prefix));
        xml.text("KeyMarker", keys.text(&list.key_marker));
        xml.text("VersionIdMarker", list.version_id_marker.as_deref().unwrap_or_default());
        if let Some(next) = &page.next {
            xml.text("NextKeyMarker", keys.text(next));
            // A common prefix has no versions.
            let is_key = page.objects.last().is_some_and(|object| object.key == *next);
            xml.optional("NextVersionIdMarker", is_key.then_some("null"));
        }
        xml.text("MaxKeys", list.max_keys);
        keys.delimiter(xml, &list.delimiter);
        xml.text("IsTruncated", page.next.is_some());
        for object in &page.objects {
            xml.within("Version", |xml| {
                xml.text("Key", keys.text(&object.key));
                xml.text("VersionId", "null");
                xml.text("IsLatest", "true");
                write_content(xml, object, Some(&page.owner));
            });
        }
        keys.prefixes(xml, &page.prefixes);
    }))
}

pub(super) fn uploads(list: &ListMultipartUploads, page: &Uploads) -> Response {
    let keys = Keys(list.url_encoded);
    Response::document(Writer::document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", &list.bucket);
        xml.text("KeyMarker", keys.text(&list.key_marker));
        xml.text("UploadIdMarker", list.upload_id_marker.as_ref().map_or("", UploadId::as_str));
        if let Some((key, id)) = &page.next {
            xml.text("NextKeyMarker", keys.text(key));
            xml.optional("NextUploadIdMarker", id.as_ref().map(UploadId::as_str));
        }
        xml.text("Prefix", keys.text(&list.prefix));
        keys.delimiter(xml, &list.delimiter);
        xml.text("MaxUploads", list.max_uploads);
        xml.text("IsTruncated", page.next.is_some());
        for upload in &page.uploads {
            xml.within("Upload", |xml| {
                xml.text("Key", keys.text(&upload.key));
                xml.text("UploadId", upload.upload_id.as_str());
                owner(xml, "Initiator", &page.owner);
                owner(xml, "Owner", &page.owner);
                xml.text("StorageClass", upload.storage_class.name());
                xml.text("Initiated", upload.initiated.iso8601());
                write_kind(xml, upload.checksum);
            });
        }
        keys.prefixes(xml, &page.prefixes);
    }))
}

pub(super) fn parts(list: &ListParts, page: &Parts) -> Response {
    Response::document(Writer::document("ListPartsResult", |xml| {
        xml.text("Bucket", &list.bucket);
        xml.text("Key", &list.key);
        xml.text("UploadId", list.upload_id.as_str());
        owner(xml, "Initiator", &page.owner);
        owner(xml, "Owner", &page.owner);
        xml.text("StorageClass", page.storage_class.name());
        xml.text("PartNumberMarker", list.part_number_marker);
        xml.text("NextPartNumberMarker", page.parts.last().map_or(0, |part| part.number));
        xml.text("MaxParts", list.max_parts);
        xml.text("IsTruncated", page.truncated);
        write_kind(xml, page.checksum);
        for part in &page.parts {
            xml.within("Part", |xml| {
                xml.text("PartNumber", part.number);
                xml.text("LastModified", part.modified.iso8601());
                xml.text("ETag", part.etag.quoted());
                xml.text("Size", part.size);
                write_checksum(xml, part.checksum.as_ref());
            });
        }
    }))
}

fn write_kind(xml: &mut Writer, checksum: Option<(ChecksumAlgorithm, ChecksumType)>) {
    if let Some((algorithm, kind)) = checksum {
        xml.text("ChecksumAlgorithm", algorithm.name());
        xml.text("ChecksumType", kind.name());
    }
}

/// Keys, and whether they are URL-encoded.
#[derive(Clone, Copy)]
struct Keys(bool);

impl Keys {
    fn text(self, key: &str) -> String {
        if self.0 { escapes::list_encoded(key) } else { key.to_owned() }
    }

    fn delimiter(self, xml: &mut Writer, delimiter: &str) {
        xml.optional("Delimiter", Some(delimiter).filter(|text| !text.is_empty()).map(|text| self.text(text)));
        xml.optional("EncodingType", self.0.then_some("url"));
    }

    fn object(self, xml: &mut Writer, object: &ListedObject, of: Option<&Owner>) {
        xml.text("Key", self.text(&object.key));
        write_content(xml, object, of);
    }

    fn prefixes(self, xml: &mut Writer, prefixes: &[String]) {
        for prefix in prefixes {
            xml.within("CommonPrefixes", |xml| xml.text("Prefix", self.text(prefix)));
        }
    }
}

/// What a key's version has too.
fn write_content(xml: &mut Writer, object: &ListedObject, of: Option<&Owner>) {
    xml.text("LastModified", object.modified.iso8601());
    xml.text("ETag", object.etag.quoted());
    write_kind(xml, object.checksum);
    xml.text("Size", object.size);
    if let Some(of) = of {
        owner(xml, "Owner", of);
    }
    xml.text("StorageClass", object.storage_class.name());
}
