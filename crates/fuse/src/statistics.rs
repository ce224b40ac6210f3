//! What a mount has done since it was mounted: calls by kind, errors, bytes.

use fuser::Errno;
use kmsfs_fs::Error;
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A kind of request. Its name, in small letters, is what the log calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Lookup,
    GetAttr,
    SetAttr,
    ReadLink,
    MkNod,
    MkDir,
    Unlink,
    RmDir,
    Symlink,
    Rename,
    Link,
    Open,
    Create,
    Read,
    Write,
    Close,
    Release,
    Fsync,
    FsyncDir,
    ReadDir,
    ReadDirPlus,
    StatFs,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    Fallocate,
    LSeek,
    CopyFileRange,
}

/// In the order of the enumeration.
const CALLS: [Call; 29] = [
    Call::Lookup,
    Call::GetAttr,
    Call::SetAttr,
    Call::ReadLink,
    Call::MkNod,
    Call::MkDir,
    Call::Unlink,
    Call::RmDir,
    Call::Symlink,
    Call::Rename,
    Call::Link,
    Call::Open,
    Call::Create,
    Call::Read,
    Call::Write,
    Call::Close,
    Call::Release,
    Call::Fsync,
    Call::FsyncDir,
    Call::ReadDir,
    Call::ReadDirPlus,
    Call::StatFs,
    Call::SetXattr,
    Call::GetXattr,
    Call::ListXattr,
    Call::RemoveXattr,
    Call::Fallocate,
    Call::LSeek,
    Call::CopyFileRange,
];

#[derive(Default)]
struct Counter {
    calls: AtomicU64,
    errors: AtomicU64,
}

pub struct Statistics {
    since: Instant,
    counters: [Counter; CALLS.len()],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    bytes_copied: AtomicU64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            counters: Default::default(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            bytes_copied: AtomicU64::new(0),
        }
    }
}

impl Statistics {
    /// Does it and counts it; logs what an errno does not tell, and makes an EIO of a panic instead of losing an event
    /// loop.
    pub fn attempt<T>(&self, call: Call, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Errno> {
        let counter = &self.counters[call as usize];
        counter.calls.fetch_add(1, Ordering::Relaxed);
        let errno = match catch_unwind(AssertUnwindSafe(act)) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => {
                if let Some(text) = error.log_text() {
                    log::warn!("{}: {text}", name(call));
                }
                error.errno()
            }
            Err(_) => {
                log::error!("{}: a bug in kmsfs, answered with EIO", name(call));
                libc::EIO
            }
        };
        // These two are answers.
        if errno != libc::ENOENT && errno != libc::ENODATA {
            counter.errors.fetch_add(1, Ordering::Relaxed);
        }
        Err(Errno::from_i32(errno))
    }

    pub fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn copied(&self, bytes: u64) {
        self.bytes_copied.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Requests so far: whoever sees the same number again knows that nobody used the mount in between.
    pub fn calls(&self) -> u64 {
        self.counters.iter().map(|counter| counter.calls.load(Ordering::Relaxed)).sum()
    }

    /// Members of the answer to `kmsfs status`.
    pub fn to_json(&self) -> Map<String, Value> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let calls = CALLS.iter().zip(&self.counters).filter(|(_, counter)| count(&counter.calls) > 0);
        let operations = calls.map(|(call, counter)| {
            (format!("{call:?}"), json!({"Calls": count(&counter.calls), "Errors": count(&counter.errors)}))
        });
        let members = [
            ("UptimeSeconds", json!(self.since.elapsed().as_secs())),
            ("BytesRead", json!(count(&self.bytes_read))),
            ("BytesWritten", json!(count(&self.bytes_written))),
            ("BytesCopied", json!(count(&self.bytes_copied))),
            ("Errors", json!(self.counters.iter().map(|counter| count(&counter.errors)).sum::<u64>())),
            ("Operations", Value::Object(operations.collect())),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn name(call: Call) -> String {
    format!("{call:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_counter() {
        assert!(CALLS.iter().enumerate().all(|(n, call)| *call as usize == n));
    }

    #[test]
    fn calls_and_errors_are_counted_and_what_is_missing_is_no_error() {
        let statistics = Statistics::default();
        assert_eq!(statistics.attempt(Call::Open, || Ok(7)), Ok(7));
        for errno in [libc::ENOENT, libc::EACCES] {
            let refused: Result<(), Errno> = statistics.attempt(Call::Lookup, || Err(Error::Errno(errno)));
            assert_eq!(refused.unwrap_err().code(), errno);
        }
        let broken: Result<(), Errno> = statistics.attempt(Call::Read, || panic!("as a bug would"));
        assert_eq!(broken.unwrap_err().code(), libc::EIO);
        statistics.read(10);
        let shown = statistics.to_json();
        let operations = json!({"Lookup": {"Calls": 2, "Errors": 1}, "Open": {"Calls": 1, "Errors": 0},
            "Read": {"Calls": 1, "Errors": 1}});
        assert_eq!((&shown["Operations"], &shown["Errors"], &shown["BytesRead"]), (&operations, &json!(2), &json!(10)));
        assert_eq!(statistics.calls(), 4);
    }
}
