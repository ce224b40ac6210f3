//! Uploads in parts.

use super::object::{copy_source, encryption, length, part_number, storage_class, tags};
use super::{Asked, CONDITIONS, Route};
use crate::error::{Code, Error};
use crate::operation::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, UploadPart, UploadPartCopy,
};
use crate::request::number;
use crate::xml::documents;
use crate::{ChecksumAlgorithm, ChecksumType, Metadata, Preconditions, Range, UploadId};

pub(super) fn create(asked: &Asked<'_>) -> Result<Route, Error> {
    asked.refuse_headers(CONDITIONS)?;
    Ok(CreateMultipartUpload {
        bucket: asked.bucket(),
        key: asked.key()?,
        encryption: encryption(asked)?,
        metadata: Metadata::read(asked.headers)?,
        storage_class: storage_class(asked)?.unwrap_or_default(),
        tags: tags(asked)?.unwrap_or_default(),
        checksum: checksum(asked)?,
    }
    .into())
}

fn checksum(asked: &Asked<'_>) -> Result<Option<(ChecksumAlgorithm, ChecksumType)>, Error> {
    let invalid = |message: String| Error::new(Code::InvalidRequest).saying(message);
    match (asked.algorithm("x-amz-checksum-algorithm")?, checksum_type(asked)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(invalid(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.".into(),
        )),
        (Some(algorithm), None) => Ok(Some((algorithm, algorithm.default_type()))),
        (Some(algorithm), Some(kind)) if algorithm.allows(kind) => Ok(Some((algorithm, kind))),
        (Some(algorithm), Some(kind)) => Err(invalid(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.name(),
            algorithm.name().to_ascii_lowercase()
        ))),
    }
}

fn checksum_type(asked: &Asked<'_>) -> Result<Option<ChecksumType>, Error> {
    let Some(name) = asked.headers.get("x-amz-checksum-type")? else { return Ok(None) };
    let invalid = || Error::new(Code::InvalidRequest).saying("Value for x-amz-checksum-type header is invalid.");
    ChecksumType::parse(name).map(Some).ok_or_else(invalid)
}

pub(super) fn upload(asked: &Asked<'_>) -> Result<Route, Error> {
    let upload_id = upload_id(asked)?;
    let number = asked.query.get("partNumber")?.ok_or_else(|| {
        Error::argument("This operation does not accept an upload ID without a part number", "partNumber", "")
    })?;
    let part_number = part_number(number)?;
    let (bucket, key) = (asked.bucket(), asked.key()?);
    asked.refuse_headers(CONDITIONS)?;
    asked.refuse_headers(&["content-range"])?;
    let Some(source) = asked.headers.value("x-amz-copy-source")? else {
        asked.refuse_headers(&[
            "x-amz-copy-source-range",
            "x-amz-copy-source-if-match",
            "x-amz-copy-source-if-none-match",
            "x-amz-copy-source-if-modified-since",
            "x-amz-copy-source-if-unmodified-since",
        ])?;
        let (length, checksum, content_md5) = (length(asked)?, asked.checksum()?, asked.content_md5()?);
        return Ok(UploadPart { bucket, key, upload_id, part_number, length, checksum, content_md5 }.into());
    };
    let source_range = asked.headers.get("x-amz-copy-source-range")?.map(Range::parse_source).transpose()?;
    let source_conditions = Preconditions::read(asked.headers, "x-amz-copy-source-")?;
    let source = copy_source(source)?;
    Ok(UploadPartCopy { bucket, key, upload_id, part_number, source, source_range, source_conditions }.into())
}

pub(super) fn complete(asked: &Asked<'_>) -> Result<Route, Error> {
    // What the row has of checksums is here the object's and not the document's.
    asked.refuse_headers(&["x-amz-trailer"])?;
    let (bucket, key, upload_id) = (asked.bucket(), asked.key()?, upload_id(asked)?);
    let (checksum, checksum_type, condition) =
        (asked.checksum_header()?, checksum_type(asked)?, asked.write_condition()?);
    let size = asked.headers.get("x-amz-mp-object-size")?;
    let object_size = size.map(|size| number::<u64>("x-amz-mp-object-size", size, 0)).transpose()?;
    let content_md5 = asked.content_md5()?;
    let read = move |body: &[u8]| {
        let parts = documents::complete(body)?;
        Ok(CompleteMultipartUpload { bucket, key, upload_id, parts, checksum, checksum_type, object_size, condition }
            .into())
    };
    Ok(Route::Document(super::Document { checksum: None, content_md5, read: Box::new(read) }))
}

pub(super) fn abort(asked: &Asked<'_>) -> Result<Route, Error> {
    Ok(AbortMultipartUpload { bucket: asked.bucket(), key: asked.key()?, upload_id: upload_id(asked)? }.into())
}

fn upload_id(asked: &Asked<'_>) -> Result<UploadId, Error> {
    UploadId::parse(asked.query.get("uploadId")?.unwrap_or_default())
}
