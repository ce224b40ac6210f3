//! All operations that are done, with what each takes; and the sub-resources that S3 has beside them.

use super::{Asked, Place, Route, bucket, listing, multipart, object};
use crate::error::{Code, Error};
use crate::request::Query;

/// An operation.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    place: Place,
    /// Empty for none.
    pub(super) sub_resource: &'static str,
    /// Groups of the other parameters that it takes.
    pub(super) parameters: &'static [&'static [&'static str]],
    /// Groups of the `x-amz-*` headers that it takes; `*` at the end is any end.
    pub(super) headers: &'static [&'static [&'static str]],
    pub(super) make: fn(&Asked<'_>) -> Result<Route, Error>,
}

const VERSION: &[&str] = &["versionId"];
const OVERRIDES: &[&str] = &[
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];
const LIST: &[&str] = &["prefix", "delimiter", "encoding-type"];
const OPTIONAL: &[&str] = &["x-amz-optional-object-attributes"];

const SSE: &[&str] = &[
    kmsfs_sse::request::ALGORITHM,
    kmsfs_sse::request::KEY_ID,
    kmsfs_sse::request::CONTEXT,
    kmsfs_sse::request::BUCKET_KEY_ENABLED,
];
const OBJECT: &[&str] = &["x-amz-acl", "x-amz-meta-*", "x-amz-storage-class", "x-amz-tagging"];
/// Of a body.
const CHECKSUM: &[&str] = &[
    "x-amz-sdk-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];
const COPY: &[&str] = &[
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
];
/// There is no retention that could be bypassed.
const DELETE: &[&str] = &["x-amz-bypass-governance-retention"];

macro_rules! rows {
    ($($name:ident $method:ident $place:ident $sub:literal $parameters:tt $headers:tt $make:path;)*) => {
        /// Whether a PUT is a copy is decided by its row's function, which looks at `x-amz-copy-source`.
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            method: stringify!($method),
            place: Place::$place,
            sub_resource: $sub,
            parameters: &$parameters,
            headers: &$headers,
            make: $make,
        },)*];
    };
}

rows! {
    ListBuckets GET Service "" [&["max-buckets", "continuation-token", "prefix", "bucket-region"]] [] bucket::list;

    CreateBucket PUT Bucket "" [] [CHECKSUM, &["x-amz-acl", "x-amz-bucket-object-lock-enabled", "x-amz-object-ownership"]] bucket::create;
    DeleteBucket DELETE Bucket "" [] [] bucket::delete;
    HeadBucket HEAD Bucket "" [] [] bucket::head;
    ListObjects GET Bucket "" [LIST, &["marker", "max-keys"]] [OPTIONAL] listing::objects;
    ListObjectsV2 GET Bucket "list-type" [LIST, &["continuation-token", "fetch-owner", "max-keys", "start-after"]]
        [OPTIONAL] listing::objects_v2;
    ListObjectVersions GET Bucket "versions" [LIST, &["key-marker", "max-keys", "version-id-marker"]] [OPTIONAL]
        listing::versions;
    ListMultipartUploads GET Bucket "uploads" [LIST, &["key-marker", "max-uploads", "upload-id-marker"]] []
        listing::uploads;
    DeleteObjects POST Bucket "delete" [] [CHECKSUM, DELETE] bucket::delete_objects;
    GetBucketLocation GET Bucket "location" [] [] bucket::location;
    GetBucketEncryption GET Bucket "encryption" [] [] bucket::get_encryption;
    PutBucketEncryption PUT Bucket "encryption" [] [CHECKSUM] bucket::put_encryption;
    DeleteBucketEncryption DELETE Bucket "encryption" [] [] bucket::delete_encryption;
    GetBucketTagging GET Bucket "tagging" [] [] bucket::get_tagging;
    PutBucketTagging PUT Bucket "tagging" [] [CHECKSUM] bucket::put_tagging;
    DeleteBucketTagging DELETE Bucket "tagging" [] [] bucket::delete_tagging;
    GetBucketAbac GET Bucket "abac" [] [] bucket::setting;
    GetBucketAccelerateConfiguration GET Bucket "accelerate" [] [] bucket::setting;
    GetBucketAcl GET Bucket "acl" [] [] bucket::setting;
    GetBucketAnalyticsConfiguration GET Bucket "analytics" [&["id", "continuation-token"]] [] bucket::setting;
    GetBucketCors GET Bucket "cors" [] [] bucket::setting;
    GetBucketIntelligentTieringConfiguration GET Bucket "intelligent-tiering" [&["id", "continuation-token"]] []
        bucket::setting;
    GetBucketInventoryConfiguration GET Bucket "inventory" [&["id", "continuation-token"]] [] bucket::setting;
    GetBucketLifecycleConfiguration GET Bucket "lifecycle" [] [] bucket::setting;
    GetBucketLogging GET Bucket "logging" [] [] bucket::setting;
    GetBucketMetricsConfiguration GET Bucket "metrics" [&["id", "continuation-token"]] [] bucket::setting;
    GetBucketNotificationConfiguration GET Bucket "notification" [] [] bucket::setting;
    GetObjectLockConfiguration GET Bucket "object-lock" [] [] bucket::setting;
    GetBucketOwnershipControls GET Bucket "ownershipControls" [] [] bucket::setting;
    GetBucketPolicy GET Bucket "policy" [] [] bucket::setting;
    GetBucketPolicyStatus GET Bucket "policyStatus" [] [] bucket::setting;
    GetPublicAccessBlock GET Bucket "publicAccessBlock" [] [] bucket::setting;
    GetBucketReplication GET Bucket "replication" [] [] bucket::setting;
    GetBucketRequestPayment GET Bucket "requestPayment" [] [] bucket::setting;
    GetBucketVersioning GET Bucket "versioning" [] [] bucket::setting;
    GetBucketWebsite GET Bucket "website" [] [] bucket::setting;
    PutPublicAccessBlock PUT Bucket "publicAccessBlock" [] [CHECKSUM] bucket::put_public_access_block;
    PutBucketOwnershipControls PUT Bucket "ownershipControls" [] [CHECKSUM] bucket::put_ownership_controls;

    PutObject PUT Object "" []
        [SSE, OBJECT, CHECKSUM, COPY, &["x-amz-metadata-directive", "x-amz-tagging-directive", "x-amz-checksum-algorithm"]]
        object::put;
    GetObject GET Object "" [VERSION, OVERRIDES, &["partNumber"]] [&["x-amz-checksum-mode"]] object::get;
    HeadObject HEAD Object "" [VERSION, OVERRIDES, &["partNumber"]] [&["x-amz-checksum-mode"]] object::head;
    DeleteObject DELETE Object "" [VERSION] [DELETE] object::delete;
    GetObjectAttributes GET Object "attributes" [VERSION]
        [&["x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker"]] object::attributes;
    GetObjectAcl GET Object "acl" [VERSION] [] object::acl;
    UpdateObjectEncryption PUT Object "encryption" [VERSION] [CHECKSUM] object::update_encryption;
    GetObjectTagging GET Object "tagging" [VERSION] [] object::get_tagging;
    PutObjectTagging PUT Object "tagging" [VERSION] [CHECKSUM] object::put_tagging;
    DeleteObjectTagging DELETE Object "tagging" [VERSION] [] object::delete_tagging;
    CreateMultipartUpload POST Object "uploads" []
        [SSE, OBJECT, &["x-amz-checksum-algorithm", "x-amz-checksum-type"]] multipart::create;
    UploadPart PUT Object "uploadId" [&["partNumber"]] [CHECKSUM, COPY, &["x-amz-copy-source-range"]] multipart::upload;
    CompleteMultipartUpload POST Object "uploadId" []
        [CHECKSUM, &["x-amz-checksum-type", "x-amz-mp-object-size"]] multipart::complete;
    AbortMultipartUpload DELETE Object "uploadId" [] [] multipart::abort;
    ListParts GET Object "uploadId" [&["max-parts", "part-number-marker"]] [] listing::parts;
}

/// What S3 has and is not done here: the sub-resource, and whether it is of an object. With one of these a request is
/// never an operation of another one.
const NOT_DONE: &[(&str, Place)] = &[
    ("metadataAnnotationTable", Place::Bucket),
    ("metadataConfiguration", Place::Bucket),
    ("metadataInventoryTable", Place::Bucket),
    ("metadataJournalTable", Place::Bucket),
    ("metadataTable", Place::Bucket),
    ("session", Place::Bucket),
    ("annotation", Place::Object),
    ("legal-hold", Place::Object),
    ("renameObject", Place::Object),
    ("restore", Place::Object),
    ("retention", Place::Object),
    ("select", Place::Object),
    ("torrent", Place::Object),
];

/// The row of a request.
pub(super) fn find(method: &str, place: Place, query: Query<'_>) -> Result<&'static Row, Error> {
    if method == "OPTIONS" {
        return Err(Code::AccessForbidden.into());
    }
    let of_rows = ROWS.iter().map(|row| (row.sub_resource, row.place));
    let known = of_rows
        .chain(NOT_DONE.iter().copied())
        .filter(|(name, of)| *of == place && !name.is_empty() && query.has(name));
    let mut names: Vec<_> = known.map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let name = match names[..] {
        [] => "",
        [name] => name,
        _ => {
            let message = format!("Conflicting query string parameters: {}", names.join(", "));
            return Err(Error::argument(message, "ResourceType", names[0]));
        }
    };
    let mut rows = ROWS.iter().filter(|row| row.place == place && row.sub_resource == name).peekable();
    let methods: Vec<_> = rows.clone().map(|row| row.method).collect();
    match rows.find(|row| row.method == method) {
        Some(row) => Ok(row),
        // S3 has most of these with all methods, and a form that is POSTed to a bucket.
        None if !name.is_empty() || (place, method) == (Place::Bucket, "POST") => Err(not_done(name)),
        None => Err(Error::new(Code::MethodNotAllowed)
            .with("Method", method)
            .with("ResourceType", place.name())
            .with_header("Allow", methods.join(", "))),
    }
}

fn not_done(sub_resource: &str) -> Error {
    Error::new(Code::NotImplemented)
        .saying("A parameter you provided implies functionality that is not implemented")
        .with("Parameter", sub_resource)
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "SERVICE",
            Self::Bucket => "BUCKET",
            Self::Object => "OBJECT",
        }
    }
}
