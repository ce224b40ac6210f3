//! `kmsfs put-bucket-encryption`, `get-bucket-encryption` and `delete-bucket-encryption`: a bucket's default
//! encryption, with S3's answers and refusals.

use super::aws::{Ending, end, parameter, print};
use super::exit::{Failure, describe};
use super::mounted;
use super::text::shown;
use clap::Args;
use kmsfs_gateway::{Locks, Worker};
use kmsfs_s3::answer::{EncryptionConfiguration, Owner};
use kmsfs_s3::operation::{DeleteBucketEncryption, GetBucketEncryption, PutBucketEncryption};
use kmsfs_s3::{Answer, Operation};
use kmsfs_sse::{BucketName, Configuration, RequestError};
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Set a bucket's default encryption
///
/// What is refused is refused as S3 does, with its reason, and the configuration before it stays in force. Objects that
/// exist stay as they are.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  kmsfs put-bucket-encryption --server-side-encryption-configuration file://sse-config-kms.json /mnt/my-bucket
  kmsfs put-bucket-encryption --server-side-encryption-configuration \\
    '{\"Rules\":[{\"ApplyServerSideEncryptionByDefault\":{\"SSEAlgorithm\":\"aws:kms\"}}]}' /mnt/my-bucket"
)]
pub struct PutArgs {
    /// As S3 has it: JSON, or file://PATH
    #[arg(long, value_name = "JSON")]
    server_side_encryption_configuration: String,
    /// A top-level directory of a mount
    bucket: PathBuf,
}

/// Show a bucket's default encryption
///
/// Prints what S3's GetBucketEncryption answers, which put-bucket-encryption takes as it is.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = "Examples:\n  kmsfs get-bucket-encryption /mnt/my-bucket")]
pub struct GetArgs {
    /// A top-level directory of a mount
    bucket: PathBuf,
}

/// Take a bucket's default encryption away: new objects are AES256 then
#[derive(Args)]
#[command(after_help = "Examples:\n  kmsfs delete-bucket-encryption /mnt/my-bucket")]
pub struct DeleteArgs {
    /// A top-level directory of a mount
    bucket: PathBuf,
}

pub fn put(args: &PutArgs) -> ExitCode {
    end(perform(&args.bucket, "PutBucketEncryption", |bucket| {
        let text = parameter(&args.server_side_encryption_configuration, "--server-side-encryption-configuration")?;
        let configuration = Configuration::parse(text.as_bytes()).map_err(|error| match error {
            RequestError::Invalid { code, message } => {
                Ending::Refused { operation: "PutBucketEncryption", code: code.into(), message }
            }
            error => Failure::new(error.to_string()).into(),
        })?;
        Ok(Operation::PutBucketEncryption(PutBucketEncryption { bucket, configuration }))
    }))
}

pub fn get(args: &GetArgs) -> ExitCode {
    end(perform(&args.bucket, "GetBucketEncryption", |bucket| {
        Ok(Operation::GetBucketEncryption(GetBucketEncryption { bucket }))
    }))
}

pub fn delete(args: &DeleteArgs) -> ExitCode {
    end(perform(&args.bucket, "DeleteBucketEncryption", |bucket| {
        Ok(Operation::DeleteBucketEncryption(DeleteBucketEncryption { bucket }))
    }))
}

/// As `kmsfs serve` has it done for a client: by the calling user, on the mount.
fn perform(
    path: &Path,
    name: &'static str,
    operation: impl FnOnce(BucketName) -> Result<Operation, Ending>,
) -> Result<(), Ending> {
    let (mountpoint, bucket) = find(path)?;
    let operation = operation(bucket)?;
    let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(path), describe(e)));
    let locks = Locks::new().map_err(|e| failed(&e))?;
    let nobody = Owner { id: String::new(), display_name: String::new() };
    let worker = Worker::open_alone(&mountpoint, locks, nobody).map_err(|e| failed(&e))?;
    let (answer, _) = worker.perform(&operation).map_err(|error| Ending::Refused {
        operation: name,
        code: error.code().name(),
        message: error.message().to_owned(),
    })?;
    if let Answer::Encryption(EncryptionConfiguration(configuration)) = answer {
        print(Some(&json!({ "ServerSideEncryptionConfiguration": configuration.to_json() })))?;
    }
    Ok(())
}

fn find(path: &Path) -> Result<(PathBuf, BucketName), Failure> {
    let (real, mount) = mounted::holding(path)?;
    let inside = real.strip_prefix(&mount.target).unwrap_or(Path::new(""));
    let mut names = inside.iter();
    let (Some(name), None) = (names.next().and_then(|name| name.to_str()), names.next()) else {
        let text = if inside.as_os_str().is_empty() {
            "is the mount itself: name a bucket, a directory in it".to_owned()
        } else {
            "is below a bucket: S3 has a default encryption of buckets alone, .encryption.json has one of any directory"
                .to_owned()
        };
        return Err(Failure::usage(format!("{} {text}", shown(path))));
    };
    let bucket = BucketName::parse(name).map_err(|why| Failure::new(format!("{}: {why}", shown(path))))?;
    Ok((mount.target, bucket))
}
