//! Operations on one object.

use super::{Asked, Route, bucket_name, null_version};
use crate::conditions::EtagMatch;
use crate::error::{Code, Error};
use crate::operation::{
    Attributes, CopyObject, CopySource, DeleteObject, DeleteObjectTagging, GetObject, GetObjectAcl,
    GetObjectAttributes, GetObjectTagging, Overrides, PutObject, PutObjectTagging, UpdateObjectEncryption,
};
use crate::request::number;
use crate::xml::documents;
use crate::{Metadata, ObjectKey, Operation, Preconditions, Range, StorageClass, Tags, escapes};

/// Of an object that is sent at once, and of a part (Amazon S3 User Guide, "Uploading objects").
pub(super) const MAX_UPLOAD: u64 = 5 << 30;
/// Amazon S3 User Guide, "Amazon S3 multipart upload limits".
const MAX_PART_NUMBER: u32 = 10_000;
/// Of a list of parts.
const MAX_PARTS: u32 = 1000;
/// Headers of a PUT that only a copy has.
const COPY_ALONE: [&str; 7] = [
    "x-amz-metadata-directive",
    "x-amz-tagging-directive",
    "x-amz-checksum-algorithm",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
];

pub(super) fn put(asked: &Asked<'_>) -> Result<Route, Error> {
    // RFC 9110, 14.5: a part of an object is never to be taken for the whole.
    asked.refuse_headers(&["content-range"])?;
    if let Some(source) = asked.headers.value("x-amz-copy-source")? {
        return copy(asked, source);
    }
    asked.refuse_headers(&COPY_ALONE)?;
    let content_md5 = asked.content_md5()?;
    Ok(PutObject {
        bucket: asked.bucket(),
        key: asked.key()?,
        length: length(asked)?,
        encryption: encryption(asked)?,
        metadata: Metadata::read(asked.headers)?,
        storage_class: storage_class(asked)?.unwrap_or_default(),
        tags: tags(asked)?.unwrap_or_default(),
        condition: asked.write_condition()?,
        checksum: asked.checksum()?,
        content_md5,
    }
    .into())
}

fn copy(asked: &Asked<'_>, source: &str) -> Result<Route, Error> {
    let replaces = |name: &str| {
        let directive = |value: &str| match value {
            "COPY" => Some(false),
            "REPLACE" => Some(true),
            _ => None,
        };
        Ok::<_, Error>(asked.headers.parse(name, directive)?.unwrap_or(false))
    };
    let metadata = Metadata::read(asked.headers)?;
    let tags = tags(asked)?.unwrap_or_default();
    let copy = CopyObject {
        bucket: asked.bucket(),
        key: asked.key()?,
        source: copy_source(source)?,
        source_conditions: Preconditions::read(asked.headers, "x-amz-copy-source-")?,
        encryption: encryption(asked)?,
        metadata: replaces("x-amz-metadata-directive")?.then_some(metadata),
        tags: replaces("x-amz-tagging-directive")?.then_some(tags),
        storage_class: storage_class(asked)?,
        checksum: asked.algorithm("x-amz-checksum-algorithm")?,
        condition: asked.write_condition()?,
    };
    copy.check_changes()?;
    Ok(copy.into())
}

/// `BUCKET/KEY` or `/BUCKET/KEY`, encoded as in a URL, and behind it perhaps `?versionId=null`.
pub(super) fn copy_source(text: &str) -> Result<CopySource, Error> {
    let wrong = |message: &str| Error::argument(message, "x-amz-copy-source", text);
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let path = escapes::form_decoded(path).ok_or_else(|| wrong("Invalid copy source encoding."))?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let form = "Invalid copy source object key";
    let (bucket, key) = path.split_once('/').filter(|(_, key)| !key.is_empty()).ok_or_else(|| wrong(form))?;
    Ok(CopySource { bucket: bucket_name(bucket)?, key: ObjectKey::parse(key)?, null_version: null_version(version)? })
}

pub(super) fn get(asked: &Asked<'_>) -> Result<Route, Error> {
    Ok(Operation::GetObject(read(asked)?).into())
}

pub(super) fn head(asked: &Asked<'_>) -> Result<Route, Error> {
    Ok(Operation::HeadObject(read(asked)?).into())
}

fn read(asked: &Asked<'_>) -> Result<GetObject, Error> {
    let range = asked.headers.get("range")?.and_then(Range::parse);
    let part_number = asked.query.text("partNumber")?.map(part_number).transpose()?;
    if range.is_some() && part_number.is_some() {
        return Err(
            Error::new(Code::InvalidRequest).saying("Cannot specify both Range header and partNumber query parameter")
        );
    }
    let overrides = overrides(asked)?;
    if asked.request.anonymous && !overrides.is_empty() {
        return Err(Error::new(Code::InvalidRequest)
            .saying("Request specific response headers cannot be used for anonymous GET requests."));
    }
    let mode = |value: &str| value.eq_ignore_ascii_case("ENABLED").then_some(true);
    Ok(GetObject {
        bucket: asked.bucket(),
        key: asked.key()?,
        null_version: asked.null_version()?,
        conditions: Preconditions::read(asked.headers, "")?,
        range,
        part_number,
        checksum_mode: asked.headers.parse("x-amz-checksum-mode", mode)?.unwrap_or(false),
        overrides,
    })
}

fn overrides(asked: &Asked<'_>) -> Result<Overrides, Error> {
    let text = |name: &str| {
        let name = format!("response-{name}");
        let Some(value) = asked.query.get(&name)? else { return Ok(None) };
        // It becomes a header as it is.
        if value.chars().any(char::is_control) {
            return Err(Error::argument("The value cannot be a header", name, value));
        }
        Ok(Some(value.to_owned()))
    };
    Ok(Overrides {
        content_type: text("content-type")?,
        content_encoding: text("content-encoding")?,
        content_disposition: text("content-disposition")?,
        content_language: text("content-language")?,
        cache_control: text("cache-control")?,
        expires: text("expires")?,
    })
}

pub(super) fn delete(asked: &Asked<'_>) -> Result<Route, Error> {
    asked.refuse_headers(&["if-none-match", "if-modified-since", "if-unmodified-since"])?;
    Ok(DeleteObject {
        bucket: asked.bucket(),
        key: asked.key()?,
        null_version: asked.null_version()?,
        if_match: asked.headers.get("if-match")?.map(EtagMatch::parse),
    }
    .into())
}

pub(super) fn attributes(asked: &Asked<'_>) -> Result<Route, Error> {
    const HEADER: &str = "x-amz-object-attributes";
    let mut attributes = Attributes::default();
    // SDKs write a list into one header, or a header for each.
    let values = asked.headers.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(HEADER.as_bytes()));
    for value in values.flat_map(|(_, value)| value.split(|byte| *byte == b',')) {
        *match value.trim_ascii() {
            b"ETag" => &mut attributes.etag,
            b"Checksum" => &mut attributes.checksum,
            b"ObjectParts" => &mut attributes.object_parts,
            b"StorageClass" => &mut attributes.storage_class,
            b"ObjectSize" => &mut attributes.object_size,
            other => {
                return Err(Error::argument(
                    "Invalid attribute name specified",
                    HEADER,
                    String::from_utf8_lossy(other),
                ));
            }
        } = true;
    }
    if attributes == Attributes::default() {
        return Err(Error::argument(
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
            HEADER,
            "",
        ));
    }
    let count = |name: &str| asked.headers.get(name)?.map(|text| number::<u32>(name, text, 0)).transpose();
    Ok(GetObjectAttributes {
        bucket: asked.bucket(),
        key: asked.key()?,
        null_version: asked.null_version()?,
        attributes,
        max_parts: count("x-amz-max-parts")?.map_or(MAX_PARTS, |max| max.min(MAX_PARTS)),
        part_number_marker: count("x-amz-part-number-marker")?.unwrap_or(0),
    }
    .into())
}

pub(super) fn acl(asked: &Asked<'_>) -> Result<Route, Error> {
    Ok(GetObjectAcl { bucket: asked.bucket(), key: asked.key()?, null_version: asked.null_version()? }.into())
}

pub(super) fn get_tagging(asked: &Asked<'_>) -> Result<Route, Error> {
    Ok(GetObjectTagging { bucket: asked.bucket(), key: asked.key()?, null_version: asked.null_version()? }.into())
}

pub(super) fn delete_tagging(asked: &Asked<'_>) -> Result<Route, Error> {
    Ok(DeleteObjectTagging { bucket: asked.bucket(), key: asked.key()?, null_version: asked.null_version()? }.into())
}

pub(super) fn put_tagging(asked: &Asked<'_>) -> Result<Route, Error> {
    let (bucket, key, null_version) = (asked.bucket(), asked.key()?, asked.null_version()?);
    asked.document(move |body| {
        let tags = documents::tagging(body, Tags::MAX_ON_OBJECT)?;
        Ok(PutObjectTagging { bucket, key, null_version, tags }.into())
    })
}

pub(super) fn update_encryption(asked: &Asked<'_>) -> Result<Route, Error> {
    let (bucket, key, null_version) = (asked.bucket(), asked.key()?, asked.null_version()?);
    asked.document(move |body| {
        let (key_arn, bucket_key) = documents::object_encryption(body)?;
        Ok(UpdateObjectEncryption { bucket, key, null_version, key_arn, bucket_key }.into())
    })
}

/// Bytes of the object or the part: of what they are sent in they are without the chunks' frames.
pub(super) fn length(asked: &Asked<'_>) -> Result<u64, Error> {
    let decoded = asked.headers.get("x-amz-decoded-content-length")?;
    let text = decoded.map_or_else(|| asked.headers.get("content-length"), |text| Ok(Some(text)))?;
    let length: u64 = number("Content-Length", text.ok_or(Code::MissingContentLength)?, 0)?;
    if length > MAX_UPLOAD {
        return Err(Error::new(Code::EntityTooLarge)
            .with("ProposedSize", length.to_string())
            .with("MaxSizeAllowed", MAX_UPLOAD.to_string()));
    }
    Ok(length)
}

pub(super) fn encryption(asked: &Asked<'_>) -> Result<kmsfs_sse::Request, Error> {
    use kmsfs_sse::request::{ALGORITHM, BUCKET_KEY_ENABLED, CONTEXT, KEY_ID};
    let mut request = kmsfs_sse::Request::default();
    for name in [ALGORITHM, KEY_ID, CONTEXT, BUCKET_KEY_ENABLED] {
        let Some(value) = asked.headers.value(name)? else { continue };
        // Any case is taken where an SDK writes a boolean of its language.
        let lower = value.to_ascii_lowercase();
        let value = if name == BUCKET_KEY_ENABLED { &lower } else { value };
        let named = |error: Error| error.with("ArgumentName", name).with("ArgumentValue", value);
        request.set_header(name, value).map_err(|error| named(error.into()))?;
    }
    request.check()?;
    Ok(request)
}

pub(super) fn storage_class(asked: &Asked<'_>) -> Result<Option<StorageClass>, Error> {
    const HEADER: &str = "x-amz-storage-class";
    let Some(name) = asked.headers.get(HEADER)? else { return Ok(None) };
    match (StorageClass::parse(name), name) {
        (Some(class), _) => Ok(Some(class)),
        // What is archived has to be restored before it is read.
        (None, "GLACIER" | "DEEP_ARCHIVE") => Err(Error::header_not_implemented(HEADER)),
        (None, _) => Err(Error::new(Code::InvalidStorageClass).with("StorageClassRequested", name)),
    }
}

pub(super) fn tags(asked: &Asked<'_>) -> Result<Option<Tags>, Error> {
    asked.headers.get("x-amz-tagging")?.map(Tags::parse_header).transpose()
}

pub(super) fn part_number(text: &str) -> Result<u32, Error> {
    let message = "Part number must be an integer between 1 and 10000, inclusive";
    let wrong = || Error::argument(message, "partNumber", text);
    let number: u32 = number("partNumber", text, 1).map_err(|_| wrong())?;
    if number <= MAX_PART_NUMBER { Ok(number) } else { Err(wrong()) }
}
