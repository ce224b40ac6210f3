//! What a mount has done since it was mounted: calls by kind, errors, bytes.

use super::answer::Answer;
use super::errno::{errno_of, log_line};
use super::op::Op;
use super::refused::{self, Refusals};
use kmsfs_fs::Refusal;
use kmsfs_kms::WouldWait;
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// Of those that took as long as [`BOUNDS`] say, and of those that took longer than all.
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// Microseconds, from what is answered from memory to what waits for a KMS.
const BOUNDS: [u64; 10] = [16, 64, 256, 1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000];

impl Counter {
    fn took(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < microseconds);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Bounds in seconds with how many took no longer than that, and longer than the bound before.
    #[allow(clippy::cast_precision_loss)] // Of a sum of years.
    fn durations(&self) -> Value {
        let seconds = |microseconds: &u64| json!(*microseconds as f64 / 1e6);
        let bounds = BOUNDS.iter().map(seconds).chain([Value::Null]);
        let counts = self.durations.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<Value> = bounds.zip(counts).map(|(bound, count)| json!([bound, count])).collect();
        json!({"Seconds": self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9, "Buckets": buckets})
    }
}

/// Counters of one mount; any thread counts.
pub struct Statistics {
    since: Instant,
    counters: [Counter; CALLS.len()],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    bytes_copied: AtomicU64,
    refusals: Refusals,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            counters: Default::default(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            bytes_copied: AtomicU64::new(0),
            refusals: Refusals::default(),
        }
    }
}

impl Statistics {
    /// Does it and counts it; logs what an errno does not tell, and makes an EIO of a panic instead of losing an event
    /// loop. Returns the answer or the errno that the program sees; what is to be done again by another thread counts
    /// as not done.
    pub fn attempt(
        &self,
        op: &Op<'_>,
        path: impl FnOnce() -> Option<String>,
        act: impl FnOnce() -> Result<Answer, Refusal>,
    ) -> Result<Result<Answer, i32>, WouldWait> {
        let counter = op.call().map(|call| &self.counters[call as usize]);
        if let Some(counter) = counter {
            counter.calls.fetch_add(1, Ordering::Relaxed);
        }
        let since = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(act));
        if let (Some(counter), false) = (counter, matches!(done, Ok(Err(Refusal::WouldWait(_))))) {
            counter.took(since.elapsed());
        }
        let errno = match done {
            Ok(Ok(answer)) => {
                self.count_bytes(op, &answer);
                return Ok(Ok(answer));
            }
            Ok(Err(Refusal::WouldWait(wait))) => {
                if let Some(counter) = counter {
                    counter.calls.fetch_sub(1, Ordering::Relaxed);
                }
                return Err(wait);
            }
            Ok(Err(refusal)) => {
                let errno = errno_of(op.call(), &refusal);
                if let Some(line) = log_line(&name(op), &refusal) {
                    let path = path();
                    let (level, line) = refused::line(line, path.as_deref());
                    log::log!(level, "{line}");
                    self.refusals.note(&name(op), path.as_deref(), errno, &refusal.to_string());
                } else if matches!(refusal, Refusal::Revoked | Refusal::Unwritten(_)) {
                    self.refusals.note(&name(op), path().as_deref(), errno, &refusal.to_string());
                }
                errno
            }
            Err(_) => {
                log::error!("{}: a bug in kmsfs, answered with EIO", name(op));
                libc::EIO
            }
        };
        // These two are answers.
        if let (Some(counter), false) = (counter, matches!(errno, libc::ENOENT | libc::ENODATA)) {
            counter.errors.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Err(errno))
    }

    fn count_bytes(&self, op: &Op<'_>, answer: &Answer) {
        let (counter, bytes) = match (op, answer) {
            (Op::Read { .. }, Answer::Filled(read)) => (&self.bytes_read, *read as u64),
            (Op::Write { .. }, Answer::Written(written)) => (&self.bytes_written, *written),
            (Op::CopyFileRange { .. }, Answer::Written(copied)) => (&self.bytes_copied, *copied),
            _ => return,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
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
            (format!("{call:?}"), json!({"Calls": count(&counter.calls), "Errors": count(&counter.errors), "Durations": counter.durations()}))
        });
        let members = [
            ("UptimeSeconds", json!(self.since.elapsed().as_secs())),
            ("BytesRead", json!(count(&self.bytes_read))),
            ("BytesWritten", json!(count(&self.bytes_written))),
            ("BytesCopied", json!(count(&self.bytes_copied))),
            ("Errors", json!(self.counters.iter().map(|counter| count(&counter.errors)).sum::<u64>())),
            ("Operations", Value::Object(operations.collect())),
            ("Refusals", self.refusals.to_json()),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// What the log calls it.
fn name(op: &Op<'_>) -> String {
    op.call().map_or_else(String::new, |call| format!("{call:?}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::*;
    use kmsfs_fs::HandleId;
    use kmsfs_kms::Waits;
    use std::ffi::OsStr;

    #[test]
    fn every_call_has_its_own_counter() {
        assert!(CALLS.iter().enumerate().all(|(n, call)| *call as usize == n));
    }

    #[test]
    fn calls_and_errors_are_counted_and_what_is_missing_is_no_error() {
        let statistics = Statistics::default();
        let (open, read) = (Op::Open { truncate: false, write: false }, read_of(10));
        let wait = WouldWait(Waits::Kms);
        assert_eq!(statistics.attempt(&open, nowhere, || Err(wait.into())).unwrap_err(), wait);
        assert!(matches!(statistics.attempt(&open, nowhere, || Ok(Answer::Done)), Ok(Ok(Answer::Done))));
        for (refusal, errno) in [(Refusal::NotFound, libc::ENOENT), (Refusal::Revoked, libc::EACCES)] {
            let refused = statistics.attempt(&codec::lookup(OsStr::new("a")), nowhere, || Err(refusal));
            assert_eq!(refused.unwrap().unwrap_err(), errno);
        }
        assert_eq!(statistics.attempt(&read, nowhere, || panic!("as a bug would")).unwrap().unwrap_err(), libc::EIO);
        assert!(statistics.attempt(&read, nowhere, || Ok(Answer::Filled(10))).unwrap().is_ok());
        assert!(
            statistics.attempt(&Op::Status { size: 0 }, nowhere, || Ok(Answer::Done)).unwrap().is_ok(),
            "nobody uses the mount by it"
        );
        let mut shown = statistics.to_json();
        for of in shown["Operations"].as_object_mut().unwrap().values_mut() {
            let durations = of.as_object_mut().unwrap().remove("Durations").unwrap();
            let counted: u64 =
                durations["Buckets"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).sum();
            assert_eq!(counted, of["Calls"].as_u64().unwrap());
        }
        let operations = json!({"Lookup": {"Calls": 2, "Errors": 1}, "Open": {"Calls": 1, "Errors": 0},
            "Read": {"Calls": 2, "Errors": 1}});
        assert_eq!((&shown["Operations"], &shown["Errors"], &shown["BytesRead"]), (&operations, &json!(2), &json!(10)));
        assert_eq!(statistics.calls(), 5);
    }

    fn nowhere() -> Option<String> {
        None
    }

    #[test]
    fn a_duration_is_in_the_bucket_of_the_first_bound_that_it_is_not_longer_than() {
        let counter = Counter::default();
        for microseconds in [16, 17, 4_000_000, 4_000_001] {
            counter.took(Duration::from_micros(microseconds));
        }
        let durations = counter.durations();
        let counts: Vec<_> =
            durations["Buckets"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).collect();
        assert_eq!(counts, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(durations["Buckets"][0], json!([0.000_016, 1]));
        assert_eq!(durations["Buckets"][10], json!([null, 1]));
        assert_eq!(durations["Seconds"], json!(8.000_034));
    }

    fn read_of(size: u32) -> Op<'static> {
        Op::Read { handle: HandleId(1), offset: 0, size, is_access: true }
    }
}
