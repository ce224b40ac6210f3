//! Operations on buckets as a whole.

use super::{Asked, Route};
use crate::error::{Code, Error};
use crate::operation::{
    CreateBucket, DeleteBucket, DeleteBucketEncryption, DeleteBucketTagging, DeleteObjects, GetBucketEncryption,
    GetBucketLocation, GetBucketSetting, GetBucketTagging, HeadBucket, ListBuckets, PutBucketEncryption,
    PutBucketSetting, PutBucketTagging, Setting,
};
use crate::request::number;
use crate::xml::documents;
use crate::{Tags, token};

/// Amazon S3 API Reference, ListBuckets.
const MAX_BUCKETS: u32 = 10_000;
/// The region in which making one's own bucket again is a success, and whose name is no location.
const FIRST_REGION: &str = "us-east-1";

pub(super) fn list(asked: &Asked<'_>) -> Result<Route, Error> {
    // All buckets are in this region.
    if let Some(region) = asked.query.text("bucket-region")?.filter(|region| *region != asked.endpoint.region) {
        let message = format!("Argument value {region} is not a valid AWS Region");
        return Err(Error::argument(message, "bucket-region", region));
    }
    let max = asked.query.text("max-buckets")?.map(|text| number("max-buckets", text, 1_u32)).transpose()?;
    if let Some(max) = max.filter(|max| *max > MAX_BUCKETS) {
        let message = "Argument max-buckets must be an integer between 1 and 10000";
        return Err(Error::argument(message, "max-buckets", max.to_string()));
    }
    let after = asked.query.text("continuation-token")?.map(token::decode).transpose()?;
    let paginated = max.is_some() || after.is_some();
    let prefix = asked.query.get("prefix")?.unwrap_or_default().to_owned();
    Ok(ListBuckets { prefix, after, max: max.unwrap_or(MAX_BUCKETS), paginated }.into())
}

pub(super) fn create(asked: &Asked<'_>) -> Result<Route, Error> {
    if asked.headers.is_true("x-amz-bucket-object-lock-enabled")? {
        return Err(Error::header_not_implemented("x-amz-bucket-object-lock-enabled"));
    }
    if asked.headers.get("x-amz-object-ownership")?.is_some_and(|ownership| ownership != "BucketOwnerEnforced") {
        return Err(Error::header_not_implemented("x-amz-object-ownership"));
    }
    let (bucket, region) = (asked.bucket(), asked.endpoint.region.clone());
    let idempotent = region == FIRST_REGION;
    asked.document(move |body| {
        let configuration = documents::create_bucket(body)?;
        check_location(configuration.location.as_deref(), &region)?;
        Ok(CreateBucket { bucket, idempotent, tags: configuration.tags }.into())
    })
}

/// The bucket comes to be in the region that the request has come to, which has to be the one that it names; the first
/// region has no name there.
fn check_location(location: Option<&str>, region: &str) -> Result<(), Error> {
    let named = match location {
        None => FIRST_REGION,
        // The name that eu-west-1 had.
        Some("EU") => "eu-west-1",
        Some(FIRST_REGION) => {
            return Err(Error::new(Code::InvalidLocationConstraint).with("LocationConstraint", FIRST_REGION));
        }
        Some(location) => location,
    };
    if named == region {
        return Ok(());
    }
    let location = location.unwrap_or("unspecified");
    Err(Error::new(Code::IllegalLocationConstraintException).saying(format!(
        "The {location} location constraint is incompatible for the region specific endpoint this request was sent to."
    )))
}

macro_rules! of_the_bucket_alone {
    ($($name:ident $operation:ident,)*) => {$(
        pub(super) fn $name(asked: &Asked<'_>) -> Result<Route, Error> {
            Ok($operation { bucket: asked.bucket() }.into())
        }
    )*};
}

of_the_bucket_alone! {
    delete DeleteBucket,
    head HeadBucket,
    location GetBucketLocation,
    get_encryption GetBucketEncryption,
    delete_encryption DeleteBucketEncryption,
    get_tagging GetBucketTagging,
    delete_tagging DeleteBucketTagging,
}

pub(super) fn put_encryption(asked: &Asked<'_>) -> Result<Route, Error> {
    let bucket = asked.bucket();
    asked.document(move |body| Ok(PutBucketEncryption { bucket, configuration: documents::encryption(body)? }.into()))
}

pub(super) fn put_tagging(asked: &Asked<'_>) -> Result<Route, Error> {
    let bucket = asked.bucket();
    asked.document(move |body| {
        Ok(PutBucketTagging { bucket, tags: documents::tagging(body, Tags::MAX_ON_BUCKET)? }.into())
    })
}

pub(super) fn delete_objects(asked: &Asked<'_>) -> Result<Route, Error> {
    if asked.content_md5()?.is_none() && asked.checksum()?.is_none() {
        let message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
        return Err(Error::new(Code::InvalidRequest).saying(message));
    }
    let bucket = asked.bucket();
    asked.document(move |body| {
        let (quiet, objects) = documents::delete(body)?;
        Ok(DeleteObjects { bucket, quiet, objects }.into())
    })
}

/// The sub-resources of these requests, of which a request has one.
const SETTINGS: &[(&str, Setting)] = &[
    ("abac", Setting::Abac),
    ("accelerate", Setting::Accelerate),
    ("acl", Setting::Acl),
    ("analytics", Setting::Analytics),
    ("cors", Setting::Cors),
    ("intelligent-tiering", Setting::IntelligentTiering),
    ("inventory", Setting::Inventory),
    ("lifecycle", Setting::Lifecycle),
    ("logging", Setting::Logging),
    ("metrics", Setting::Metrics),
    ("notification", Setting::Notification),
    ("object-lock", Setting::ObjectLock),
    ("ownershipControls", Setting::OwnershipControls),
    ("policy", Setting::Policy),
    ("policyStatus", Setting::PolicyStatus),
    ("publicAccessBlock", Setting::PublicAccessBlock),
    ("replication", Setting::Replication),
    ("requestPayment", Setting::RequestPayment),
    ("versioning", Setting::Versioning),
    ("website", Setting::Website),
];

pub(super) fn setting(asked: &Asked<'_>) -> Result<Route, Error> {
    let named = SETTINGS.iter().find(|(name, _)| asked.query.has(name)).map(|(_, setting)| *setting);
    let mut setting = named.ok_or(Code::NotImplemented)?;
    if asked.query.has("id") {
        setting = Setting::NamedConfiguration;
    }
    Ok(GetBucketSetting { bucket: asked.bucket(), setting }.into())
}

pub(super) fn put_public_access_block(asked: &Asked<'_>) -> Result<Route, Error> {
    let bucket = asked.bucket();
    asked.document(move |body| {
        let is_so = documents::blocks_all_public_access(body)?;
        put(is_so, PutBucketSetting { bucket, setting: Setting::PublicAccessBlock })
    })
}

pub(super) fn put_ownership_controls(asked: &Asked<'_>) -> Result<Route, Error> {
    let bucket = asked.bucket();
    asked.document(move |body| {
        let is_so = documents::ownership(body)? == "BucketOwnerEnforced";
        put(is_so, PutBucketSetting { bucket, setting: Setting::OwnershipControls })
    })
}

/// What is so in any case may be asked for, as Terraform does; the opposite is not provided.
fn put(is_so: bool, operation: PutBucketSetting) -> Result<crate::Operation, Error> {
    let message = "kmsfs gives nobody public access, and all objects to the bucket's owner: that cannot be changed";
    if is_so { Ok(operation.into()) } else { Err(Error::new(Code::NotImplemented).saying(message)) }
}
