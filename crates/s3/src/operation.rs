//! What a client asks for.
//!
//! Each operation is a struct of S3's name for it; what the router has checked is in its types, so that whoever does it
//! looks only at what is stored. The bytes of objects and parts come beside these values: an operation that has some
//! says their length.

mod bucket;
mod listing;
mod multipart;
mod object;

pub use bucket::{
    CreateBucket, DeleteBucket, DeleteBucketEncryption, DeleteBucketTagging, DeleteObjects, GetBucketEncryption,
    GetBucketLocation, GetBucketSetting, GetBucketTagging, HeadBucket, ListBuckets, ObjectToDelete,
    PutBucketEncryption, PutBucketSetting, PutBucketTagging, Setting,
};
pub use listing::{ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts};
pub use multipart::{
    AbortMultipartUpload, CompleteMultipartUpload, CompletedPart, CreateMultipartUpload, UploadPart, UploadPartCopy,
};
pub use object::{
    Attributes, CopyObject, CopySource, DeleteObject, DeleteObjectTagging, GetObject, GetObjectAcl,
    GetObjectAttributes, GetObjectTagging, Overrides, PutObject, PutObjectTagging, UpdateObjectEncryption,
};

use kmsfs_sse::BucketName;
use serde::{Deserialize, Serialize};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($of:ty) $bucket:ident $key:ident,)*) => {
        /// A request that is S3's and can be done here.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Operation {
            $($(#[$doc])* $name($of),)*
        }

        impl Operation {
            /// S3's name of it, as the access log and the metrics have it.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// The bucket that it names.
            pub fn bucket(&self) -> Option<&BucketName> {
                match self {
                    $(Self::$name(_of) => operations!(@$bucket _of bucket),)*
                }
            }

            /// The object that it names.
            pub fn key(&self) -> Option<&crate::ObjectKey> {
                match self {
                    $(Self::$name(_of) => operations!(@$key _of key),)*
                }
            }
        }

        $(operations!(@from $name($of));)*
    };
    (@none $of:ident $field:ident) => { None };
    (@bucket $of:ident $field:ident) => { Some(&$of.$field) };
    (@key $of:ident $field:ident) => { Some(&$of.$field) };
    (@from HeadObject($of:ty)) => {};
    (@from $name:ident($of:ty)) => {
        impl From<$of> for Operation {
            fn from(of: $of) -> Self {
                Self::$name(of)
            }
        }
    };
}

operations! {
    /// `GET /`
    ListBuckets(ListBuckets) none none,
    /// `PUT /BUCKET`
    CreateBucket(CreateBucket) bucket none,
    /// `DELETE /BUCKET`
    DeleteBucket(DeleteBucket) bucket none,
    /// `HEAD /BUCKET`
    HeadBucket(HeadBucket) bucket none,
    /// `GET /BUCKET?location`
    GetBucketLocation(GetBucketLocation) bucket none,
    /// `PUT /BUCKET?encryption`
    PutBucketEncryption(PutBucketEncryption) bucket none,
    /// `GET /BUCKET?encryption`
    GetBucketEncryption(GetBucketEncryption) bucket none,
    /// `DELETE /BUCKET?encryption`
    DeleteBucketEncryption(DeleteBucketEncryption) bucket none,
    /// `PUT /BUCKET?tagging`
    PutBucketTagging(PutBucketTagging) bucket none,
    /// `GET /BUCKET?tagging`
    GetBucketTagging(GetBucketTagging) bucket none,
    /// `DELETE /BUCKET?tagging`
    DeleteBucketTagging(DeleteBucketTagging) bucket none,
    /// `GET /BUCKET?policy` and the like: what a bucket says of what nobody has configured.
    GetBucketSetting(GetBucketSetting) bucket none,
    /// `PUT /BUCKET?publicAccessBlock` and the like, that ask for what is so in any case.
    PutBucketSetting(PutBucketSetting) bucket none,
    /// `GET /BUCKET`
    ListObjects(ListObjects) bucket none,
    /// `GET /BUCKET?list-type=2`
    ListObjectsV2(ListObjectsV2) bucket none,
    /// `GET /BUCKET?versions`
    ListObjectVersions(ListObjectVersions) bucket none,
    /// `GET /BUCKET?uploads`
    ListMultipartUploads(ListMultipartUploads) bucket none,
    /// `POST /BUCKET?delete`
    DeleteObjects(DeleteObjects) bucket none,
    /// `PUT /BUCKET/KEY`
    PutObject(PutObject) bucket key,
    /// `PUT /BUCKET/KEY` with `x-amz-copy-source`
    CopyObject(CopyObject) bucket key,
    /// `GET /BUCKET/KEY`
    GetObject(GetObject) bucket key,
    /// `HEAD /BUCKET/KEY`
    HeadObject(GetObject) bucket key,
    /// `DELETE /BUCKET/KEY`
    DeleteObject(DeleteObject) bucket key,
    /// `GET /BUCKET/KEY?attributes`
    GetObjectAttributes(GetObjectAttributes) bucket key,
    /// `GET /BUCKET/KEY?acl`
    GetObjectAcl(GetObjectAcl) bucket key,
    /// `PUT /BUCKET/KEY?encryption`
    UpdateObjectEncryption(UpdateObjectEncryption) bucket key,
    /// `PUT /BUCKET/KEY?tagging`
    PutObjectTagging(PutObjectTagging) bucket key,
    /// `GET /BUCKET/KEY?tagging`
    GetObjectTagging(GetObjectTagging) bucket key,
    /// `DELETE /BUCKET/KEY?tagging`
    DeleteObjectTagging(DeleteObjectTagging) bucket key,
    /// `POST /BUCKET/KEY?uploads`
    CreateMultipartUpload(CreateMultipartUpload) bucket key,
    /// `PUT /BUCKET/KEY?partNumber=N&uploadId=ID`
    UploadPart(UploadPart) bucket key,
    /// The same with `x-amz-copy-source`
    UploadPartCopy(UploadPartCopy) bucket key,
    /// `POST /BUCKET/KEY?uploadId=ID`
    CompleteMultipartUpload(CompleteMultipartUpload) bucket key,
    /// `DELETE /BUCKET/KEY?uploadId=ID`
    AbortMultipartUpload(AbortMultipartUpload) bucket key,
    /// `GET /BUCKET/KEY?uploadId=ID`
    ListParts(ListParts) bucket key,
}

impl Operation {
    /// Whether nobody can tell afterwards that it was done.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::ListBuckets(_)
            | Self::HeadBucket(_)
            | Self::GetBucketLocation(_)
            | Self::GetBucketEncryption(_)
            | Self::GetBucketTagging(_)
            | Self::GetBucketSetting(_)
            | Self::ListObjects(_)
            | Self::ListObjectsV2(_)
            | Self::ListObjectVersions(_)
            | Self::ListMultipartUploads(_)
            | Self::GetObject(_)
            | Self::HeadObject(_)
            | Self::GetObjectAttributes(_)
            | Self::GetObjectAcl(_)
            | Self::GetObjectTagging(_)
            | Self::ListParts(_) => true,
            Self::CreateBucket(_)
            | Self::DeleteBucket(_)
            | Self::PutBucketEncryption(_)
            | Self::DeleteBucketEncryption(_)
            | Self::PutBucketTagging(_)
            | Self::DeleteBucketTagging(_)
            | Self::PutBucketSetting(_)
            | Self::DeleteObjects(_)
            | Self::PutObject(_)
            | Self::CopyObject(_)
            | Self::DeleteObject(_)
            | Self::UpdateObjectEncryption(_)
            | Self::PutObjectTagging(_)
            | Self::DeleteObjectTagging(_)
            | Self::CreateMultipartUpload(_)
            | Self::UploadPart(_)
            | Self::UploadPartCopy(_)
            | Self::CompleteMultipartUpload(_)
            | Self::AbortMultipartUpload(_) => false,
        }
    }

    /// How many bytes of an object or a part come beside it; none where it has no such body.
    pub fn content_length(&self) -> Option<u64> {
        match self {
            Self::PutObject(put) => Some(put.length),
            Self::UploadPart(part) => Some(part.length),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, ObjectKey, StorageClass, Tags, WriteCondition};

    fn put() -> PutObject {
        let mut encryption = kmsfs_sse::Request::default();
        encryption.set_header(kmsfs_sse::request::ALGORITHM, "aws:kms").unwrap();
        encryption.set_header(kmsfs_sse::request::CONTEXT, "eyJhIjoiYiJ9").unwrap();
        PutObject {
            bucket: BucketName::parse("bucket").unwrap(),
            key: ObjectKey::parse("a/b").unwrap(),
            length: 7,
            encryption,
            metadata: Metadata { user: [("x".into(), "ä".into())].into(), ..Metadata::default() },
            storage_class: StorageClass::GlacierIr,
            tags: Tags::new(vec![("k".into(), String::new())], Tags::MAX_ON_OBJECT).unwrap(),
            condition: Some(WriteCondition::Absent),
            checksum: None,
            content_md5: Some([7; 16]),
        }
    }

    /// The form between the processes describes nothing: what skips a field or asks what comes next cannot be read.
    #[test]
    fn operations_cross_between_processes() {
        let configuration = kmsfs_sse::Configuration::default();
        let bucket = BucketName::parse("bucket").unwrap();
        for operation in
            [Operation::from(put()), Operation::from(PutBucketEncryption { bucket: bucket.clone(), configuration })]
        {
            let bytes = bincode::serialize(&operation).unwrap();
            assert_eq!(bincode::deserialize::<Operation>(&bytes).unwrap(), operation);
            assert_eq!(operation.bucket(), Some(&bucket));
        }
        assert_eq!(Operation::from(put()).name(), "PutObject");
        assert_eq!(Operation::from(put()).key().unwrap().as_str(), "a/b");
        assert_eq!(Operation::from(put()).content_length(), Some(7));
    }

    /// Whoever reads them on the other side need not check again.
    #[test]
    fn what_was_not_checked_is_not_read() {
        let bytes = bincode::serialize(&Operation::from(put())).unwrap();
        let at = bytes.windows(3).position(|three| three == b"a/b").unwrap();
        let mut wrong = bytes;
        wrong[at..at + 3].copy_from_slice(b"../");
        assert!(bincode::deserialize::<Operation>(&wrong).is_err());
    }
}
