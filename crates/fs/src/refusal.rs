//! Why the file system refuses an operation. What a front end makes of a refusal is its own affair: the FUSE layer has
//! the errno of each, and writes the line in the log.

use kmsfs_kms::WouldWait;
use kmsfs_sse::{BucketNameError, RequestError};
use kmsfs_store as store;
use rustix::io::Errno;
use std::ffi::OsString;
use std::sync::Arc;

const NOTHING_CREATED: &str = "nothing can be created below it until a valid one is put there or it is removed";

/// The reason for a refusal. Its text says what was wrong, in S3's or KMS's words where there are any, and names the
/// file where the reason does not follow from the request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    // ---- names
    /// A name is longer than [`crate::NAME_MAX`].
    #[error("a name has at most {} bytes", crate::NAME_MAX)]
    NameTooLong,
    /// A bucket's name breaks one of S3's rules.
    #[error("mkdir {}: {rule}", .name.display())]
    BucketName {
        /// The name.
        name: OsString,
        /// The rule that it breaks.
        #[source]
        rule: BucketNameError,
    },
    /// A file, symlink or special file would be in no bucket.
    #[error("only buckets (directories) can be made at the root")]
    BucketsOnly,
    /// Nothing has this name or this number.
    #[error("no such file or directory")]
    NotFound,
    /// Something else has the name.
    #[error("the name is taken")]
    Exists,
    /// A rename onto a directory.
    #[error("a file cannot replace a directory")]
    IsADirectory,
    /// A directory's rename onto something else.
    #[error("a directory cannot replace a file")]
    NotADirectory,
    /// Links and renames stay in their bucket, and buckets are not renamed: S3 has a copy for that.
    #[error("an object is linked and renamed within its bucket only")]
    OtherBucket,
    /// In a sticky directory the name is another user's.
    #[error("the directory is sticky, and the object there is another user's")]
    Sticky,

    // ---- inodes and handles
    /// The inode number means another inode by now, or none that has a name: whoever resolved a name does so again.
    #[error("the inode has no name any more")]
    Stale,
    /// No open file has this number.
    #[error("no such handle")]
    UnknownHandle,
    /// The handle's opener may no longer use the object's key.
    #[error("the key was taken away from whoever opened the file")]
    Revoked,
    /// An earlier write-back failed with this cause: what programs would write now would not reach the disk either.
    #[error("what was written before cannot be written back: {0}")]
    Unwritten(#[source] Arc<Refusal>),

    // ---- what is not provided
    /// A mode of fallocate(2), or an attribute of the service's own that does not exist.
    #[error("this is not supported")]
    Unsupported,
    /// A configuration is one text, which is replaced as a whole.
    #[error("a configuration has no holes and no space of its own")]
    ConfigurationSpace,
    /// copy_file_range(2) leaves a configuration to its caller, who reads and writes.
    #[error("a configuration is copied by reading and writing it")]
    ConfigurationCopy,
    /// The file, or the configuration, would be longer than it can be.
    #[error("the file would be too long")]
    TooLong,
    /// Nothing can be changed in this mount.
    #[error("the file system is mounted read-only")]
    ReadOnly,

    // ---- attributes
    /// The attribute does not exist, or the inode is none of those that have it.
    #[error("no such attribute")]
    NoAttribute,
    /// The caller may ask for the size, and then again.
    #[error("the attribute's value is longer than the caller has room for")]
    NoRoom,
    /// The service shows the attribute, and nobody sets or removes it; or it would be the root's, which lies in no
    /// bucket.
    #[error("the attribute cannot be changed")]
    FixedAttribute,
    /// Only root and whoever runs the mount may.
    #[error("this is for root and for whoever runs the mount")]
    NotAdministrator,
    /// The value of one of S3's headers is no text.
    #[error("a header's value is UTF-8")]
    NotUtf8,

    // ---- requests for an encryption
    /// S3 or KMS refuses the request: its code and message.
    #[error(transparent)]
    Request(RequestError),
    /// A whole request for an encryption is not the JSON that it should be.
    #[error("a request cannot be read: {0}")]
    MalformedRequest(#[source] NotJson),
    /// An order ([`crate::bulk::Order`]) is not the JSON that it should be.
    #[error("an order to reencrypt is malformed: {0}")]
    MalformedOrder(#[source] NotJson),
    /// The object has content under the encryption that it has.
    #[error("{path}: only an empty object takes a request as a whole")]
    NotEmpty {
        /// The object's path.
        path: String,
    },

    // ---- configurations
    /// Another encryption was asked for.
    #[error("{path}: a configuration is always under AES256")]
    ConfigurationEncryption {
        /// The configuration's path.
        path: String,
    },
    /// A directory, symlink or special file would have a configuration's name.
    #[error("{path}: only a regular file can have this name")]
    ConfigurationKind {
        /// The path that it would have.
        path: String,
    },
    /// What was written is no configuration.
    #[error("{path}: {cause}; {}", if *holds { "what was there stays in force" } else { NOTHING_CREATED })]
    Configuration {
        /// The configuration's path.
        path: String,
        /// What is wrong with the text.
        #[source]
        cause: RequestError,
        /// Whether a valid one is there still, or none was to be replaced. Otherwise it is empty now.
        holds: bool,
    },
    /// A configuration was wanted, and what is there is none: no file is to be encrypted as if nobody had wanted one.
    #[error("{path}: {cause}; {NOTHING_CREATED}")]
    InvalidConfiguration {
        /// The configuration's path.
        path: String,
        /// What was wrong with the text that was last put there, as far as that is known.
        #[source]
        cause: RequestError,
    },
    /// Other people's objects would follow a configuration of somebody who may not put one there.
    #[error(
        "{path}: user {uid}'s configuration is refused: \
         only those of root, of the mounting user and of the directory's owner hold"
    )]
    Putter {
        /// The configuration's path.
        path: String,
        /// Whose it is, or who put it.
        uid: u32,
    },
    /// The configuration that would be in force has another owner than those whose configurations hold.
    #[error("it is not its owner's to put")]
    ConfigurationOwner,
    /// There is a configuration, and it cannot be told what it says.
    #[error("{path}: {cause}; nothing can be created below it")]
    UnreadableConfiguration {
        /// The configuration's path.
        path: String,
        /// Why it cannot be read, or does not hold.
        #[source]
        cause: Box<Refusal>,
    },

    /// Nothing was done that doing it again would not do too: it takes a thread that may wait.
    #[error(transparent)]
    WouldWait(#[from] WouldWait),

    /// The store's reason, with the errno of the file system below it where that gave one.
    #[error(transparent)]
    Store(store::Error),
}

/// Why a text is not the JSON that is wanted. Two that say the same are equal.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct NotJson(Arc<serde_json::Error>);

impl From<serde_json::Error> for NotJson {
    fn from(error: serde_json::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for NotJson {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// What an operation returns.
pub type Result<T, E = Refusal> = std::result::Result<T, E>;

impl Refusal {
    /// Nothing is there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound) || self.is_of_store(Errno::NOENT)
    }

    /// What was asked for was removed or moved meanwhile.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_not_found()
            || matches!(self, Self::Stale | Self::NotADirectory)
            || self.is_of_store(Errno::STALE)
            || self.is_of_store(Errno::NOTDIR)
    }

    /// The file system below refused with this errno.
    pub(crate) fn is_of_store(&self, errno: Errno) -> bool {
        matches!(self, Self::Store(error) if error.is_errno(errno))
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Sse(error) => Self::Request(error),
            store::Error::WouldWait(wait) => Self::WouldWait(wait),
            error => Self::Store(error),
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::WouldWait(wait) => Self::WouldWait(wait),
            error => Self::Request(error),
        }
    }
}
