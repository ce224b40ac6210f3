//! `kmsfs stat`: what HeadObject returns for an object, and which encryption new objects in a directory get.

use super::exit::{Exit, Failure, describe};
use super::mounted;
use super::text::{pretty, shown};
use clap::Args;
use kmsfs_client::{Stored, attributes};
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use time::OffsetDateTime;
use time::macros::format_description;

/// Show an object's size, ETag and encryption, or a directory's encryption configuration
///
/// Prints what S3's HeadObject answers of an object, and of a directory the configuration in force for
/// new objects and the .encryption.json that it comes from. Of several paths each is one line of JSON,
/// which begins with its Path.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct StatArgs {
    /// Objects or directories in a mount
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs stat /mnt/my-bucket/bond.json
  kmsfs stat /mnt/my-bucket
  find /mnt/my-bucket -type f -exec kmsfs stat {} + | jq -r .SSEKMSKeyId";

/// Prints a result for every path; a failure is reported on standard error, and the other paths follow.
pub fn run(args: &StatArgs) -> ExitCode {
    let several = args.paths.len() > 1;
    let mut code = ExitCode::SUCCESS;
    for path in &args.paths {
        match stat(path) {
            Ok(members) if several => println!("{}", with_path(path, members)),
            Ok(members) => print!("{}", pretty(&Value::Object(members))),
            Err(failure) => {
                eprintln!("kmsfs: {failure}");
                code = Exit::Failure.into();
            }
        }
    }
    code
}

fn stat(path: &Path) -> Result<Map<String, Value>, Failure> {
    let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(path), describe(e)));
    let metadata = fs::metadata(path).map_err(|e| failed(&e))?;
    let (real, mount) = mounted::holding(path)?;
    if mount.target == real {
        let text = format!("{} is the mount itself: buckets, the directories in it, have encryption", shown(path));
        return Err(Failure::new(text));
    }
    if metadata.is_dir() {
        return configuration(&real).map_err(|e| failed(&e));
    }
    if !metadata.is_file() {
        return Err(Failure::new(format!("{} is not an object", shown(path))));
    }
    let stored = Stored::of(&real).map_err(|e| failed(&e))?;
    Ok(head_object(&stored, metadata.len(), metadata.mtime()))
}

/// S3 returns a key only where there is one, and a bucket key only where it is on.
pub fn encryption_members(stored: &Stored) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("ServerSideEncryption".into(), stored.algorithm.as_str().into());
    if let Some(arn) = &stored.key_arn {
        members.insert("SSEKMSKeyId".into(), arn.as_str().into());
    }
    if stored.bucket_key {
        members.insert("BucketKeyEnabled".into(), true.into());
    }
    members
}

/// `mtime` in seconds since 1970, which is as fine as S3's LastModified.
fn head_object(stored: &Stored, len: u64, mtime: i64) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("LastModified".into(), last_modified(mtime).into());
    answer.insert("ContentLength".into(), len.into());
    answer.insert("ETag".into(), stored.quoted_etag().into());
    answer.extend(encryption_members(stored));
    answer
}

/// As aws writes it: `2026-11-23T14:50:48+00:00`.
pub fn last_modified(mtime: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+00:00");
    // Times that no calendar has are those of the ends of the calendar.
    let bound = if mtime < 0 { time::PrimitiveDateTime::MIN } else { time::PrimitiveDateTime::MAX };
    let when = OffsetDateTime::from_unix_timestamp(mtime).unwrap_or(bound.assume_utc());
    when.format(format).unwrap_or_default()
}

fn configuration(directory: &Path) -> io::Result<Map<String, Value>> {
    let text = attributes::get(directory, attributes::CONFIGURATION)?;
    let text = text.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(io::Error::other(format!("{} is not a JSON object", attributes::CONFIGURATION))),
    }
}

fn with_path(path: &Path, members: Map<String, Value>) -> Value {
    let mut line = Map::new();
    line.insert("Path".into(), json!(path.to_string_lossy()));
    line.extend(members);
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_sse::Algorithm;

    #[test]
    fn an_object_is_shown_as_head_object_does() {
        let stored = Stored {
            etag: "056a".into(),
            algorithm: Algorithm::AwsKms,
            key_arn: Some("arn:aws:kms:us-east-1:000000000000:key/k".into()),
            bucket_key: true,
        };
        let text = r#"{"LastModified":"2023-11-14T22:13:20+00:00","ContentLength":12,"ETag":"\"056a\"","ServerSideEncryption":"aws:kms","SSEKMSKeyId":"arn:aws:kms:us-east-1:000000000000:key/k","BucketKeyEnabled":true}"#;
        assert_eq!(Value::Object(head_object(&stored, 12, 1_700_000_000)).to_string(), text);
    }

    #[test]
    fn an_aes256_object_names_no_key() {
        let stored = Stored { etag: "e".into(), algorithm: Algorithm::Aes256, key_arn: None, bucket_key: false };
        let answer = Value::Object(head_object(&stored, 0, 0));
        let expected = json!({"LastModified": "1970-01-01T00:00:00+00:00", "ContentLength": 0, "ETag": "\"e\"",
            "ServerSideEncryption": "AES256"});
        assert_eq!(answer, expected);
    }

    #[test]
    fn times_beyond_the_calendar_do_not_fail() {
        assert_eq!(last_modified(i64::MAX), "9999-12-31T23:59:59+00:00");
        assert_eq!(last_modified(-1), "1969-12-31T23:59:59+00:00");
    }

    #[test]
    fn of_several_paths_each_line_names_its_own() {
        let line = with_path(Path::new("/mnt/b/k"), Map::from_iter([("ContentLength".to_string(), json!(1))]));
        assert_eq!(line.to_string(), r#"{"Path":"/mnt/b/k","ContentLength":1}"#);
    }

    #[test]
    fn what_is_not_in_a_mount_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let message = stat(dir.path()).unwrap_err().message;
        assert_eq!(message, format!("{} is not in a kmsfs mount", dir.path().display()));
    }
}
