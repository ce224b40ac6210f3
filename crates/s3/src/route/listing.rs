//! Operations that list.

use super::{Asked, Route};
use crate::error::{Code, Error};
use crate::operation::{ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts};
use crate::{ObjectKey, UploadId, token};

/// Entries of a page, of all lists (Amazon S3 API Reference).
const MAX_ENTRIES: u32 = 1000;

pub(super) fn objects(asked: &Asked<'_>) -> Result<Route, Error> {
    let (prefix, delimiter, url_encoded) = what(asked)?;
    let (marker, max_keys) = (place(asked, "marker")?, asked.query.count("max-keys", MAX_ENTRIES)?);
    Ok(ListObjects { bucket: asked.bucket(), prefix, delimiter, marker, max_keys, url_encoded }.into())
}

pub(super) fn objects_v2(asked: &Asked<'_>) -> Result<Route, Error> {
    match asked.query.get("list-type")? {
        Some("2") => {}
        other => return Err(Error::argument("Invalid List Type selected", "list-type", other.unwrap_or_default())),
    }
    let (prefix, delimiter, url_encoded) = what(asked)?;
    let fetch_owner = match asked.query.text("fetch-owner")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(Error::argument("Invalid fetch-owner value", "fetch-owner", other)),
    };
    let continuation = match asked.query.get("continuation-token")? {
        Some("") => {
            return Err(Error::argument("The continuation token provided is incorrect", "continuation-token", ""));
        }
        token => token.map(token::decode).transpose()?,
    };
    Ok(ListObjectsV2 {
        bucket: asked.bucket(),
        prefix,
        delimiter,
        start_after: place(asked, "start-after")?,
        continuation,
        max_keys: asked.query.count("max-keys", MAX_ENTRIES)?,
        url_encoded,
        fetch_owner,
    }
    .into())
}

pub(super) fn versions(asked: &Asked<'_>) -> Result<Route, Error> {
    let (prefix, delimiter, url_encoded) = what(asked)?;
    let key_marker = place(asked, "key-marker")?;
    let version_id_marker = asked.query.text("version-id-marker")?.map(str::to_owned);
    if key_marker.is_empty() && version_id_marker.is_some() {
        let message = "A version-id marker cannot be specified without a key marker.";
        return Err(Error::argument(message, "version-id-marker", version_id_marker.unwrap_or_default()));
    }
    super::null_version(version_id_marker.as_deref())?;
    Ok(ListObjectVersions {
        bucket: asked.bucket(),
        prefix,
        delimiter,
        key_marker,
        version_id_marker,
        max_keys: asked.query.count("max-keys", MAX_ENTRIES)?,
        url_encoded,
    }
    .into())
}

pub(super) fn uploads(asked: &Asked<'_>) -> Result<Route, Error> {
    let (prefix, delimiter, url_encoded) = what(asked)?;
    let key_marker = place(asked, "key-marker")?;
    // Without a key's marker S3 does not look at it.
    let id = asked.query.text("upload-id-marker")?.filter(|_| !key_marker.is_empty());
    let wrong = |id| Error::argument("Invalid uploadId marker", "upload-id-marker", id);
    let upload_id_marker = id.map(|id| UploadId::parse(id).map_err(|_| wrong(id))).transpose()?;
    Ok(ListMultipartUploads {
        bucket: asked.bucket(),
        prefix,
        delimiter,
        key_marker,
        upload_id_marker,
        max_uploads: asked.query.count("max-uploads", MAX_ENTRIES)?,
        url_encoded,
    }
    .into())
}

pub(super) fn parts(asked: &Asked<'_>) -> Result<Route, Error> {
    let upload_id = UploadId::parse(asked.query.get("uploadId")?.unwrap_or_default())?;
    let part_number_marker = asked.query.number("part-number-marker", 0)?.unwrap_or(0);
    let max_parts = asked.query.count("max-parts", MAX_ENTRIES)?;
    Ok(ListParts { bucket: asked.bucket(), key: asked.key()?, upload_id, part_number_marker, max_parts }.into())
}

/// Prefix, delimiter, and whether keys are URL-encoded.
fn what(asked: &Asked<'_>) -> Result<(String, String, bool), Error> {
    let url_encoded = match asked.query.text("encoding-type")? {
        None => false,
        Some("url") => true,
        Some(other) => {
            return Err(Error::argument("Invalid Encoding Method specified in Request", "encoding-type", other));
        }
    };
    Ok((place(asked, "prefix")?, place(asked, "delimiter")?, url_encoded))
}

/// A key or the beginning of one, which here need not be one that can be.
fn place(asked: &Asked<'_>, name: &str) -> Result<String, Error> {
    let text = asked.query.get(name)?.unwrap_or_default();
    if text.len() > ObjectKey::MAX_LEN {
        return Err(Error::new(Code::KeyTooLongError)
            .with("Size", text.len().to_string())
            .with("MaxSizeAllowed", ObjectKey::MAX_LEN.to_string()));
    }
    Ok(text.to_owned())
}
