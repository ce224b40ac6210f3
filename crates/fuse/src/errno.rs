//! What a refusal is outside of the file system: the errno that a program sees, and the line in the log that says what
//! an errno does not.

use super::statistics::Call;
use kmsfs_fs::Refusal;
use kmsfs_kms::Code;
use kmsfs_sse::RequestError;
use kmsfs_store::Error as StoreError;
use log::Level;

/// The errno of a refusal: the only place that decides it. An errno that the file system below gave passes through.
pub fn errno(refusal: &Refusal) -> i32 {
    match refusal {
        Refusal::NameTooLong => libc::ENAMETOOLONG,
        Refusal::NotFound => libc::ENOENT,
        Refusal::Exists => libc::EEXIST,
        Refusal::IsADirectory => libc::EISDIR,
        Refusal::NotADirectory => libc::ENOTDIR,
        // As between file systems: mv(1) and cp(1) then copy.
        Refusal::OtherBucket | Refusal::ConfigurationCopy => libc::EXDEV,
        // The kernel looks the name up again.
        Refusal::Stale => libc::ESTALE,
        Refusal::UnknownHandle => libc::EBADF,
        Refusal::Revoked => libc::EACCES,
        Refusal::BucketsOnly
        | Refusal::Sticky
        | Refusal::FixedAttribute
        | Refusal::NotAdministrator
        | Refusal::ConfigurationEncryption { .. }
        | Refusal::Putter { .. }
        | Refusal::InvalidConfiguration { .. }
        | Refusal::ConfigurationOwner => libc::EPERM,
        Refusal::BucketName { .. }
        | Refusal::NotUtf8
        | Refusal::MalformedRequest(_)
        | Refusal::MalformedOrder(_)
        | Refusal::NotEmpty { .. }
        | Refusal::ConfigurationKind { .. } => libc::EINVAL,
        Refusal::Unsupported | Refusal::ConfigurationSpace => libc::EOPNOTSUPP,
        Refusal::TooLong => libc::EFBIG,
        Refusal::ReadOnly => libc::EROFS,
        Refusal::NoAttribute => libc::ENODATA,
        Refusal::NoRoom => libc::ERANGE,
        Refusal::UnreadableConfiguration { .. } => libc::EIO,
        Refusal::Unwritten(cause) => errno(cause),
        // Nobody is told: the request is done again.
        Refusal::WouldWait(_) => libc::EAGAIN,
        Refusal::Request(cause) | Refusal::Configuration { cause, .. } => of_request(cause),
        Refusal::Store(error) => of_store(error),
    }
}

/// The same of a request, `call` its kind. mv(1) takes EINVAL of rename(2) for a directory that is moved into itself,
/// and says so; an EINVAL of the file system below is its own to explain.
pub(crate) fn errno_of(call: Option<Call>, refusal: &Refusal) -> i32 {
    match (call, refusal) {
        (Some(Call::Rename), Refusal::Configuration { .. } | Refusal::ConfigurationKind { .. }) => libc::EPERM,
        _ => errno(refusal),
    }
}

fn of_store(error: &StoreError) -> i32 {
    match error {
        StoreError::Errno(errno) => *errno,
        StoreError::Corrupt(_)
        | StoreError::InUse(_)
        | StoreError::Owned { .. }
        | StoreError::Unusable(_)
        | StoreError::RolledBack(_) => libc::EIO,
        StoreError::Sse(cause) => of_request(cause),
        StoreError::Locked => libc::EACCES,
        StoreError::NeedsReencryption => libc::EOPNOTSUPP,
        StoreError::ReadOnly => libc::EROFS,
        StoreError::WouldWait(_) => libc::EAGAIN,
    }
}

fn of_request(error: &RequestError) -> i32 {
    match error {
        RequestError::Kms(error) => of_kms(error.code),
        error if error.is_not_implemented() => libc::EOPNOTSUPP,
        RequestError::Invalid { .. } => libc::EINVAL,
        RequestError::WouldWait(_) => libc::EAGAIN,
    }
}

/// A key that refuses is EACCES, a missing one ENOKEY, a bad name of one EINVAL.
fn of_kms(code: Code) -> i32 {
    match code {
        Code::Disabled | Code::KmsInvalidState | Code::AccessDenied | Code::InvalidKeyUsage => libc::EACCES,
        Code::NotFound => libc::ENOKEY,
        Code::InvalidKeyId
        | Code::InvalidArn
        | Code::InvalidAliasName
        | Code::Validation
        | Code::Tag
        | Code::InvalidMarker
        | Code::InvalidImportToken
        | Code::ExpiredImportToken
        | Code::IncorrectKeyMaterial
        | Code::MalformedPolicyDocument
        | Code::InvalidGrantId
        | Code::InvalidGrantToken => libc::EINVAL,
        // The blob is not what KMS made for this context, or is another key's: what the sidecar says is not true. The
        // others are outages, or of calls that no
        // mount makes.
        Code::InvalidCiphertext
        | Code::IncorrectKey
        | Code::KmsInternal
        | Code::KeyUnavailable
        | Code::CustomKeyStoreNotFound
        | Code::CustomKeyStoreNameInUse
        | Code::CustomKeyStoreInvalidState
        | Code::DependencyTimeout
        | Code::AwayTooLong => libc::EIO,
        Code::LimitExceeded => libc::EAGAIN,
        Code::AlreadyExists => libc::EEXIST,
        Code::UnsupportedOperation => libc::EOPNOTSUPP,
    }
}

/// The line for the log, where the errno alone does not say what was wrong; `call` is the request's name. A reason that
/// names its file stands for itself.
pub(crate) fn log_line(call: &str, refusal: &Refusal) -> Option<(Level, String)> {
    match refusal {
        Refusal::NameTooLong
        | Refusal::NotFound
        | Refusal::Exists
        | Refusal::IsADirectory
        | Refusal::NotADirectory
        | Refusal::OtherBucket
        | Refusal::Sticky
        | Refusal::Stale
        | Refusal::UnknownHandle
        | Refusal::Revoked
        // The file system has said it when it began.
        | Refusal::Unwritten(_)
        | Refusal::Unsupported
        | Refusal::ConfigurationSpace
        | Refusal::ConfigurationCopy
        | Refusal::TooLong
        | Refusal::ReadOnly
        | Refusal::NoAttribute
        | Refusal::NoRoom
        | Refusal::FixedAttribute
        | Refusal::NotAdministrator
        | Refusal::NotUtf8
        | Refusal::Store(StoreError::Errno(_) | StoreError::ReadOnly | StoreError::Locked) => None,
        Refusal::BucketName { .. }
        | Refusal::BucketsOnly
        | Refusal::MalformedRequest(_)
        | Refusal::MalformedOrder(_)
        | Refusal::NotEmpty { .. }
        | Refusal::ConfigurationEncryption { .. }
        | Refusal::ConfigurationKind { .. }
        | Refusal::ConfigurationOwner
        | Refusal::Configuration { .. }
        | Refusal::InvalidConfiguration { .. }
        | Refusal::Putter { .. } => Some((Level::Warn, refusal.to_string())),
        Refusal::UnreadableConfiguration { .. } => Some((Level::Error, refusal.to_string())),
        Refusal::WouldWait(_) | Refusal::Request(_) | Refusal::Store(_) => Some((Level::Warn, format!("{call}: {refusal}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::{Error as KmsError, Waits, WouldWait};
    use kmsfs_sse::BucketNameError;
    use std::collections::BTreeSet;
    use std::error::Error;
    use std::sync::Arc;

    fn kms(code: Code) -> RequestError {
        RequestError::Kms(KmsError { code, message: "why".into() })
    }

    /// Each refusal with its errno and its line in the log, level first.
    fn table() -> Vec<(Refusal, i32, Option<&'static str>)> {
        let not_json = || serde_json::from_str::<u8>("x").unwrap_err().into();
        let path = || String::from("b/f");
        let corrupt = || Refusal::Store(StoreError::Corrupt("b/f: torn".into()));
        vec![
            (Refusal::NameTooLong, libc::ENAMETOOLONG, None),
            (
                Refusal::BucketName { name: "ab".into(), rule: BucketNameError::Length(2) },
                libc::EINVAL,
                Some(
                    "WARN mkdir ab: InvalidBucketName: The specified bucket is not valid: \
                     a bucket name has 3 to 63 characters, this one has 2",
                ),
            ),
            (Refusal::BucketsOnly, libc::EPERM, Some("WARN only buckets (directories) can be made at the root")),
            (Refusal::NotFound, libc::ENOENT, None),
            (Refusal::Exists, libc::EEXIST, None),
            (Refusal::IsADirectory, libc::EISDIR, None),
            (Refusal::NotADirectory, libc::ENOTDIR, None),
            (Refusal::OtherBucket, libc::EXDEV, None),
            (Refusal::Sticky, libc::EPERM, None),
            (Refusal::Stale, libc::ESTALE, None),
            (Refusal::UnknownHandle, libc::EBADF, None),
            (Refusal::Revoked, libc::EACCES, None),
            (Refusal::Unwritten(Arc::new(StoreError::Errno(libc::ENOSPC).into())), libc::ENOSPC, None),
            (Refusal::Unwritten(Arc::new(corrupt())), libc::EIO, None),
            (Refusal::Unsupported, libc::EOPNOTSUPP, None),
            (Refusal::ConfigurationSpace, libc::EOPNOTSUPP, None),
            (Refusal::ConfigurationCopy, libc::EXDEV, None),
            (Refusal::TooLong, libc::EFBIG, None),
            (Refusal::ReadOnly, libc::EROFS, None),
            (Refusal::NoAttribute, libc::ENODATA, None),
            (Refusal::NoRoom, libc::ERANGE, None),
            (Refusal::FixedAttribute, libc::EPERM, None),
            (Refusal::NotAdministrator, libc::EPERM, None),
            (Refusal::NotUtf8, libc::EINVAL, None),
            (kms(Code::Disabled).into(), libc::EACCES, Some("WARN open: KMS.DisabledException: why")),
            (RequestError::not_implemented("why").into(), libc::EOPNOTSUPP, Some("WARN open: NotImplemented: why")),
            (
                Refusal::MalformedRequest(not_json()),
                libc::EINVAL,
                Some("WARN a request cannot be read: expected value at line 1 column 1"),
            ),
            (
                Refusal::MalformedOrder(not_json()),
                libc::EINVAL,
                Some("WARN an order to reencrypt is malformed: expected value at line 1 column 1"),
            ),
            (
                Refusal::NotEmpty { path: path() },
                libc::EINVAL,
                Some("WARN b/f: only an empty object takes a request as a whole"),
            ),
            (
                Refusal::ConfigurationEncryption { path: path() },
                libc::EPERM,
                Some("WARN b/f: a configuration is always under AES256"),
            ),
            (
                Refusal::ConfigurationKind { path: path() },
                libc::EINVAL,
                Some("WARN b/f: only a regular file can have this name"),
            ),
            (
                Refusal::Configuration { path: path(), cause: RequestError::malformed("no rule"), holds: true },
                libc::EINVAL,
                Some("WARN b/f: MalformedXML: no rule; what was there stays in force"),
            ),
            (
                Refusal::Configuration { path: path(), cause: RequestError::malformed("no rule"), holds: false },
                libc::EINVAL,
                Some(
                    "WARN b/f: MalformedXML: no rule; \
                     nothing can be created below it until a valid one is put there or it is removed",
                ),
            ),
            (
                Refusal::InvalidConfiguration { path: path(), cause: RequestError::malformed("no rule") },
                libc::EPERM,
                Some(
                    "WARN b/f: MalformedXML: no rule; \
                     nothing can be created below it until a valid one is put there or it is removed",
                ),
            ),
            (
                Refusal::Putter { path: path(), uid: 7 },
                libc::EPERM,
                Some(
                    "WARN b/f: user 7's configuration is refused: \
                     only those of root, of the mounting user and of the directory's owner hold",
                ),
            ),
            (Refusal::ConfigurationOwner, libc::EPERM, Some("WARN it is not its owner's to put")),
            (
                Refusal::UnreadableConfiguration { path: path(), cause: Box::new(Refusal::ConfigurationOwner) },
                libc::EIO,
                Some("ERROR b/f: it is not its owner's to put; nothing can be created below it"),
            ),
            (WouldWait(Waits::Kms).into(), libc::EAGAIN, Some("WARN open: this thread must not wait for the KMS")),
            (corrupt(), libc::EIO, Some("WARN open: b/f: torn")),
            (StoreError::Errno(libc::ENOSPC).into(), libc::ENOSPC, None),
            (StoreError::Locked.into(), libc::EACCES, None),
            (StoreError::ReadOnly.into(), libc::EROFS, None),
            (
                StoreError::NeedsReencryption.into(),
                libc::EOPNOTSUPP,
                Some("WARN open: the change needs a new data key, and the object has content"),
            ),
            (StoreError::InUse(Some(7)).into(), libc::EIO, Some("WARN open: the store is in use by process 7")),
            (StoreError::Unusable("why".into()).into(), libc::EIO, Some("WARN open: why")),
            (StoreError::RolledBack("why".into()).into(), libc::EIO, Some("WARN open: why")),
        ]
    }

    #[test]
    fn every_refusal_has_an_errno_and_what_the_log_says_of_it() {
        for (refusal, expected, line) in table() {
            assert_eq!(errno(&refusal), expected, "{refusal:?}");
            let said = log_line("open", &refusal).map(|(level, text)| format!("{level} {text}"));
            assert_eq!(said.as_deref(), line, "{refusal:?}");
        }
    }

    #[test]
    fn only_what_cannot_be_a_configuration_has_another_errno_in_a_rename() {
        for (refusal, expected, _) in table() {
            let of_a_configuration =
                matches!(refusal, Refusal::Configuration { .. } | Refusal::ConfigurationKind { .. });
            let in_a_rename = if of_a_configuration { libc::EPERM } else { expected };
            assert_eq!(errno_of(Some(Call::Rename), &refusal), in_a_rename, "{refusal:?}");
            assert_eq!(errno_of(Some(Call::Link), &refusal), expected, "{refusal:?}");
        }
        assert_eq!(errno_of(Some(Call::Rename), &StoreError::Errno(libc::EINVAL).into()), libc::EINVAL);
    }

    /// The enum's variants as its source has them, by their place: four columns in, with a capital letter.
    #[test]
    fn no_refusal_is_missing_in_the_table() {
        let source = include_str!("../../fs/src/refusal.rs");
        let (_, enumeration) = source.split_once("pub enum Refusal {\n").unwrap();
        let (enumeration, _) = enumeration.split_once("\n}\n").unwrap();
        let lines = enumeration.lines().filter_map(|line| line.strip_prefix("    "));
        let names = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
        let name = |text: &str| text.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
        let listed: BTreeSet<String> = table().iter().map(|(refusal, ..)| name(&format!("{refusal:?}"))).collect();
        assert_eq!(listed, names.map(name).collect());
    }

    #[test]
    fn a_refusal_leads_to_its_cause() {
        let cause = Refusal::Store(StoreError::Corrupt("b/f: torn".into()));
        let refusals = [
            Refusal::Unwritten(Arc::new(cause.clone())),
            Refusal::UnreadableConfiguration { path: "b/f".into(), cause: Box::new(cause) },
        ];
        for refusal in refusals {
            assert_eq!(refusal.source().unwrap().to_string(), "b/f: torn");
        }
        let kms = Refusal::Configuration { path: "b/f".into(), cause: kms(Code::Disabled), holds: true };
        let request = kms.source().unwrap();
        assert_eq!(request.to_string(), "KMS.DisabledException: why");
        assert!(request.source().unwrap().is::<KmsError>());
    }

    #[test]
    fn a_refusing_key_is_eacces_a_missing_one_enokey_a_bad_name_einval() {
        let eacces = [Code::Disabled, Code::KmsInvalidState, Code::AccessDenied];
        let einval = [Code::InvalidKeyId, Code::InvalidArn];
        let eio = [
            Code::InvalidCiphertext,
            Code::KmsInternal,
            Code::KeyUnavailable,
            Code::DependencyTimeout,
            Code::AwayTooLong,
        ];
        let codes: [(&[Code], i32); 4] =
            [(&eacces, libc::EACCES), (&[Code::NotFound], libc::ENOKEY), (&einval, libc::EINVAL), (&eio, libc::EIO)];
        for (codes, expected) in codes {
            for code in codes {
                assert_eq!(errno(&kms(*code).into()), expected, "{code:?}");
            }
        }
    }

    #[test]
    fn what_is_not_provided_is_eopnotsupp_and_what_is_malformed_einval() {
        assert_eq!(of_request(&RequestError::not_implemented("x")), libc::EOPNOTSUPP);
        assert_eq!(of_request(&RequestError::malformed("x")), libc::EINVAL);
        assert_eq!(of_request(&RequestError::invalid_argument("x")), libc::EINVAL);
    }
}
