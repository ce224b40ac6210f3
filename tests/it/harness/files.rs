//! Small things to do with files.

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub const KMS: &str = r#"{"SSEAlgorithm":"aws:kms"}"#;

pub fn kms_with(key: &str) -> String {
    format!(r#"{{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"{key}"}}"#)
}

/// A file for its owner alone, which it has to be to unlock something.
pub fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// S3's configuration with one rule.
pub fn configuration(by_default: &str, bucket_key: bool) -> String {
    let bucket_key = if bucket_key { r#","BucketKeyEnabled":true"# } else { "" };
    format!(r#"{{"Rules":[{{"ApplyServerSideEncryptionByDefault":{by_default}{bucket_key}}}]}}"#)
}

/// A virtual attribute of an object: `name` is what follows `x-amz-server-side-encryption`.
pub fn header(path: &Path, name: &str) -> Result<String, Errno> {
    xattr(path, &format!("user.x-amz-server-side-encryption{name}"))
}

pub fn set_header(path: &Path, name: &str, value: &str) -> Result<(), Errno> {
    let name = format!("user.x-amz-server-side-encryption{name}");
    rustix::fs::setxattr(path, name, value.as_bytes(), XattrFlags::empty())
}

pub fn xattr(path: &Path, name: &str) -> Result<String, Errno> {
    let mut value = vec![0; 64 * 1024];
    let len = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(String::from_utf8(value).expect("these values are text"))
}

/// Of something that has to fail.
#[track_caller]
pub fn errno<T, E: Into<io::Error>>(result: Result<T, E>) -> Errno {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => Errno::from_io_error(&error.into()).expect("an error of a system call"),
    }
}

/// Bytes that differ at every offset and compress badly, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Every regular file below `dir`.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

pub fn names_in(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
