//! Operations on buckets as a whole.

use crate::{ETag, Tags, as_json};
use kmsfs_sse::{BucketName, Configuration};
use serde::{Deserialize, Serialize};

macro_rules! on_a_bucket {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// The bucket.
            #[serde(with = "as_json::bucket")]
            pub bucket: BucketName,
        }
    )*};
}

on_a_bucket! {
    /// Removes a bucket that has no objects and no uploads; what is left of directories in it is no obstacle.
    DeleteBucket,
    /// Whether the bucket is there and may be read.
    HeadBucket,
    /// The region, which is the server's.
    GetBucketLocation,
    /// The default encryption.
    GetBucketEncryption,
    /// Puts SSE-S3 back as the default encryption; where it is so, nothing changes.
    DeleteBucketEncryption,
    /// Answers `NoSuchTagSet` where there are no tags.
    GetBucketTagging,
    /// Removes the tags; where there are none, nothing changes.
    DeleteBucketTagging,
}

/// The buckets that the client may see, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListBuckets {
    /// What names begin with.
    pub prefix: String,
    /// The last name of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 10,000.
    pub max: u32,
    /// Whether the client asked for pages: only then is there a next one to speak of.
    pub paginated: bool,
}

/// Makes an empty bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateBucket {
    /// Its name.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// Whether one that the client owns already is a success, as in `us-east-1` and only there.
    pub idempotent: bool,
    /// Tags that it has from the beginning.
    pub tags: Tags,
}

/// Sets the default encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBucketEncryption {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// What `.encryption.json` is to hold.
    #[serde(with = "as_json::configuration")]
    pub configuration: Configuration,
}

/// Replaces the tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBucketTagging {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// All of the new ones.
    pub tags: Tags,
}

/// What nobody can configure here: the answer is that of a bucket of S3 on which nobody has. Whoever does it looks
/// whether the bucket is there and may be read, and says whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetBucketSetting {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// Which one.
    pub setting: Setting,
}

/// Asks for what is so in any case: nothing changes. Whoever does it looks whether the bucket is there and is the
/// client's to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBucketSetting {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// Which one.
    pub setting: Setting,
}

/// S3's configurations of a bucket that a new one has none of, or one that does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Setting {
    /// `?abac`: disabled.
    Abac,
    /// `?accelerate`: empty.
    Accelerate,
    /// `?acl`: the owner has full control.
    Acl,
    /// `?analytics`, without an id: an empty list.
    Analytics,
    /// `?cors`: `NoSuchCORSConfiguration`.
    Cors,
    /// `?intelligent-tiering`, without an id: an empty list.
    IntelligentTiering,
    /// `?inventory`, without an id: an empty list.
    Inventory,
    /// `?lifecycle`: `NoSuchLifecycleConfiguration`.
    Lifecycle,
    /// `?logging`: empty.
    Logging,
    /// `?metrics`, without an id: an empty list.
    Metrics,
    /// One of the four lists, with an id: `NoSuchConfiguration`.
    NamedConfiguration,
    /// `?notification`: empty.
    Notification,
    /// `?object-lock`: `ObjectLockConfigurationNotFoundError`.
    ObjectLock,
    /// `?ownershipControls`: `BucketOwnerEnforced`.
    OwnershipControls,
    /// `?policy`: `NoSuchBucketPolicy`.
    Policy,
    /// `?policyStatus`: `NoSuchBucketPolicy`.
    PolicyStatus,
    /// `?publicAccessBlock`: all that is public is blocked.
    PublicAccessBlock,
    /// `?replication`: `ReplicationConfigurationNotFoundError`.
    Replication,
    /// `?requestPayment`: `BucketOwner`.
    RequestPayment,
    /// `?versioning`: empty.
    Versioning,
    /// `?website`: `NoSuchWebsiteConfiguration`.
    Website,
}

/// Deletes up to 1000 objects, each by itself: the answer has one outcome for each of them, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteObjects {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// Whether the answer names only those that were not deleted.
    pub quiet: bool,
    /// In the order in which they came.
    pub objects: Vec<ObjectToDelete>,
}

/// One of the objects of a [`DeleteObjects`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectToDelete {
    /// Not checked yet: [`crate::ObjectKey::parse`]'s error is this object's outcome.
    pub key: String,
    /// Not checked yet: there is only `null`, another one is `NoSuchVersion`.
    pub version: Option<String>,
    /// The tag that it must have; `*` any.
    pub etag: Option<ETag>,
}
