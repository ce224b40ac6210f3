//! Changing the encryption of many objects: a directory is given an order, and does a piece of it.
//!
//! The order is the value of an extended attribute, since that is what reaches a mount with the caller's name on it and
//! without a control socket. The kernel asks for write permission on the inode that carries it. What came of it is
//! another attribute, whose name ends in the order's token.

use super::{Fs, Ino, Reached, Refusal, Result};
use kmsfs_kms::deadline::{self, Deadline};
use kmsfs_kms::{Caller, EncryptionContext};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::{Encryption, Request, arn, resolve};
use kmsfs_store::{self as store, Change, Changed, Dir, Object, Step, Target, Wrapping, is_as};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a piece takes, about: the kernel holds the inode that carries the order meanwhile.
const PIECE: Duration = Duration::from_millis(150);
/// Threads that do a piece of a directory, at most: others want to be served too.
const WORKERS: usize = 4;
/// Names that are looked up at once.
const NAMES: usize = 1024;
/// Failures that a piece tells, at most.
const TOLD: usize = 48;

/// What is to be done, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Chosen by whoever gives the order.
    pub token: u64,
    /// Which change.
    pub how: How,
    /// `None` leaves algorithm and key as they are: another wrapping under the key's present material, or another data
    /// key.
    pub target: Option<Request>,
    /// What the target's key resolves to, where an earlier piece has said so ([`Outcome::key_arn`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_arn: Option<String>,
    /// Only objects under this KMS key: its ARN.
    pub from_key: Option<String>,
    /// Nothing is changed, and all is counted as if it were.
    pub dry_run: bool,
    /// Where to go on in the directory, or in the object; 0 at first.
    pub from: u64,
}

/// How an object comes to its encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// By another wrapping of its data key where that is enough, else by another data key.
    AsNeeded,
    /// By another wrapping alone.
    RewrapOnly,
    /// By another data key in any case.
    NewDataKey,
}

/// What came of a piece, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Objects that are done with, whatever came of each.
    pub seen: u64,
    /// Objects whose data key was wrapped anew.
    pub rewrapped: u64,
    /// Objects whose content was encrypted anew under another data key.
    pub reencrypted: u64,
    /// Objects that are not meant, or are as they should be.
    pub skipped: u64,
    /// Name, in hexadecimal, and reason.
    pub failed: Vec<(String, String)>,
    /// Names, in hexadecimal, of objects that are given the order themselves: the kernel has to judge who may change
    /// them, or they take longer than a piece.
    pub by_itself: Vec<String>,
    /// The ARN of the target's KMS key: an alias is resolved once for all pieces, which are told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_arn: Option<String>,
    /// Why nothing at all can be done.
    pub refused: Option<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

enum Done {
    Skipped,
    As(Changed),
    /// It took too long, and goes on from there.
    More(u64),
}

impl Fs {
    pub(super) fn reencrypt(&self, ino: Ino, order: &[u8], caller: &Caller) -> Result<()> {
        let order: Order = serde_json::from_slice(order).map_err(|cause| Refusal::MalformedOrder(cause.into()))?;
        if self.options.read_only {
            return Err(Refusal::ReadOnly);
        }
        let until = Instant::now() + PIECE;
        let outcome = match self.reach(ino)? {
            Reached::Dir(dir) => self.reencrypt_names(&dir, &order, caller, until)?,
            Reached::Name(dir, name) => {
                let mut outcome = Outcome::default();
                let target = Aim::new(self, &dir, &order, caller);
                match target {
                    Ok(aim) => {
                        outcome.key_arn = aim.key_arn();
                        outcome.next = self.reencrypt_one(&aim, &name, order.from, until, &mut outcome);
                    }
                    Err(error) => outcome.refused = Some(reason(&error)),
                }
                outcome
            }
        };
        let bytes = serde_json::to_vec(&outcome).expect("numbers and strings can be serialized");
        self.outcomes.keep((caller.uid, order.token), bytes);
        Ok(())
    }

    /// Once.
    pub(super) fn reencrypted(&self, token: u64, caller: &Caller) -> Result<Vec<u8>> {
        self.outcomes.take((caller.uid, token))
    }

    fn reencrypt_names(&self, dir: &Arc<Dir>, order: &Order, caller: &Caller, until: Instant) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if dir.bucket().is_none() {
            return Ok(outcome);
        }
        let aim = match Aim::new(self, dir, order, caller) {
            Ok(aim) => aim,
            Err(error) => {
                outcome.refused = Some(reason(&error));
                return Ok(outcome);
            }
        };
        outcome.key_arn = aim.key_arn();
        let piece = Piece { until, told: AtomicUsize::new(0) };
        let mut from = order.from;
        loop {
            let (names, more) = self.some_names(dir, from)?;
            let claimed = AtomicUsize::new(0);
            outcome.add(self.work_together(&aim, &piece, &names, &claimed));
            let done = claimed.into_inner().min(names.len());
            from = names[..done].last().map_or(from, |(_, cursor)| *cursor);
            if done == names.len() && !more {
                return Ok(outcome);
            }
            if done < names.len() || piece.is_over() {
                outcome.next = Some(from);
                return Ok(outcome);
            }
        }
    }

    /// Names of regular files after a cursor, with the cursor behind each, and whether there are more.
    fn some_names(&self, dir: &Dir, from: u64) -> Result<(Vec<(OsString, u64)>, bool)> {
        let mut names = Vec::with_capacity(NAMES);
        let mut more = false;
        self.store.read_dir(dir, from, &mut |entry| {
            more = names.len() == NAMES;
            if !more && matches!(entry.kind, 0 | libc::S_IFREG) {
                names.push((entry.name.to_owned(), entry.cursor));
            }
            !more
        })?;
        Ok((names, more))
    }

    fn work_together(&self, aim: &Aim<'_>, piece: &Piece, names: &[(OsString, u64)], claimed: &AtomicUsize) -> Outcome {
        let outcome: Mutex<ranks::Outcomes, _> = Mutex::new(Outcome::default());
        let deadline = deadline::current();
        thread::scope(|scope| {
            let work = || {
                // It is one request's, whoever works on it.
                let _running = deadline.map(Deadline::begin);
                let done = self.work_on(aim, piece, names, claimed);
                outcome.lock().add(done);
            };
            for _ in 1..thread::available_parallelism().map_or(1, usize::from).min(WORKERS) {
                // Whoever cannot be had is done without.
                let _ = thread::Builder::new().name("kmsfs-bulk".into()).spawn_scoped(scope, work);
            }
            work();
        });
        outcome.into_inner()
    }

    /// Names are claimed in their order, and whoever claims one is done with it before the piece ends. The first is
    /// claimed in any case.
    fn work_on(&self, aim: &Aim<'_>, piece: &Piece, names: &[(OsString, u64)], claimed: &AtomicUsize) -> Outcome {
        let mut outcome = Outcome::default();
        while claimed.load(Ordering::Relaxed) == 0 || !piece.is_over() {
            let Some((name, _)) = names.get(claimed.fetch_add(1, Ordering::Relaxed)) else { break };
            let before = outcome.told();
            self.reencrypt_one_of(aim, name, piece.until, &mut outcome);
            piece.told.fetch_add(outcome.told() - before, Ordering::Relaxed);
        }
        outcome
    }

    /// Of a directory's: the kernel has not been asked whether the caller may change this one.
    fn reencrypt_one_of(&self, aim: &Aim<'_>, name: &OsStr, until: Instant, outcome: &mut Outcome) {
        if aim.caller.uid != 0 {
            // An owner's right is in the mode, whatever ACL there is; everybody else's is for the kernel to judge.
            match self.store.stat(Target::Name(&aim.dir, name)) {
                Ok(attr) if attr.mode & libc::S_IFMT != libc::S_IFREG => return,
                Ok(attr) if attr.uid == aim.caller.uid && attr.mode & 0o200 != 0 => {}
                Ok(_) => {
                    outcome.by_itself.push(hex::encode(name.as_bytes()));
                    return;
                }
                Err(_) => return,
            }
        }
        if self.reencrypt_one(aim, name, 0, until, outcome).is_some() {
            // It goes on where it stopped: what is under the new key is left alone.
            outcome.by_itself.push(hex::encode(name.as_bytes()));
        }
    }

    /// Answers where to go on in the object, if it took too long.
    fn reencrypt_one(
        &self,
        aim: &Aim<'_>,
        name: &OsStr,
        from: u64,
        until: Instant,
        outcome: &mut Outcome,
    ) -> Option<u64> {
        let done = match self.change_one(aim, name, from, until) {
            // Gone, or something else by now.
            Err(refusal) if is_elsewhere(&refusal) && !self.is_there(aim, name) => {
                return None;
            }
            done => done,
        };
        match done {
            Ok(Done::More(next)) => return Some(next),
            Ok(Done::Skipped) => outcome.skipped += 1,
            Ok(Done::As(Changed::Rewrapped)) => outcome.rewrapped += 1,
            Ok(Done::As(Changed::Reencrypted)) => outcome.reencrypted += 1,
            Err(error) => outcome.failed.push((hex::encode(name.as_bytes()), reason(&error))),
        }
        outcome.seen += 1;
        None
    }

    fn is_there(&self, aim: &Aim<'_>, name: &OsStr) -> bool {
        let attr = self.store.stat(Target::Name(&aim.dir, name));
        attr.is_ok_and(|attr| attr.mode & libc::S_IFMT == libc::S_IFREG)
    }

    fn change_one(&self, aim: &Aim<'_>, name: &OsStr, from: u64, until: Instant) -> Result<Done> {
        if Self::is_configuration(name) {
            return Ok(Done::Skipped);
        }
        let judged = self.judged();
        let mut want = None;
        let opened = self.store.open_if(&aim.dir, name, &aim.caller, &mut |now| want.insert(aim.judge(now)).is_ok())?;
        let (object, want) = match (opened, want) {
            (Some(object), Some(Ok(want))) => (object, want),
            (_, Some(Err(Left::Failed(error)))) => return Err(error),
            (_, Some(Err(Left::As(done)))) => return Ok(done),
            (_, None | Some(Ok(_))) => unreachable!("an object is opened as its judge says"),
        };
        let key = aim.dir.key_of(name);
        let go_on = || Instant::now() < until;
        let change = |object: &Arc<Object>| {
            Ok(self.store.change_encryption(object, &want, aim.change, &key, &aim.caller, from, &go_on)?)
        };
        let done = self.unlocking(&object, &aim.caller, change);
        let ino = object.ino();
        self.store.release(&object);
        self.was_used(ino, judged);
        Ok(match done? {
            Step::Done(changed) => Done::As(changed),
            Step::More(next) => Done::More(next),
        })
    }
}

/// When to stop.
struct Piece {
    until: Instant,
    /// Failures and the like so far.
    told: AtomicUsize,
}

impl Piece {
    fn is_over(&self) -> bool {
        self.told.load(Ordering::Relaxed) >= TOLD || Instant::now() >= self.until
    }
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.seen += other.seen;
        self.rewrapped += other.rewrapped;
        self.reencrypted += other.reencrypted;
        self.skipped += other.skipped;
        self.failed.extend(other.failed);
        self.by_itself.extend(other.by_itself);
    }

    fn told(&self) -> usize {
        self.failed.len() + self.by_itself.len()
    }
}

/// An object that is not opened: what is to be said of it.
enum Left {
    As(Done),
    Failed(Refusal),
}

impl From<store::Error> for Left {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// An order, and what it means in one directory.
struct Aim<'a> {
    order: &'a Order,
    change: Change,
    dir: Arc<Dir>,
    caller: Caller,
    /// With the ARN that the key resolves to.
    want: Option<(Encryption, Option<String>)>,
}

impl<'a> Aim<'a> {
    fn new(fs: &Fs, dir: &Arc<Dir>, order: &'a Order, caller: &Caller) -> Result<Self> {
        let want = match &order.target {
            None => None,
            Some(request) => {
                let want = resolve(Some(request), None)?;
                let (keys, bucket) = (fs.store.keys(), dir.bucket().unwrap_or_default());
                let key_arn = match &order.key_arn {
                    Some(known) => {
                        keys.check_wrapping(&want, bucket, caller)?;
                        Some(known.clone())
                    }
                    None => keys.key_arn(&want, bucket, caller)?,
                };
                Some((want, key_arn))
            }
        };
        let change = match order.how {
            How::AsNeeded => Change::AsNeeded,
            How::RewrapOnly => Change::RewrapOnly,
            How::NewDataKey => Change::NewDataKey,
        };
        Ok(Self { order, change, dir: dir.clone(), caller: *caller, want })
    }

    fn key_arn(&self) -> Option<String> {
        self.want.as_ref().and_then(|(_, key_arn)| key_arn.clone())
    }

    /// The encryption that an object is to have, if it is to be changed at all.
    fn judge(&self, now: &Wrapping<'_>) -> std::result::Result<Encryption, Left> {
        if self.order.from_key.as_ref().is_some_and(|from| now.wrapped.key_arn != *from) {
            return Err(Left::As(Done::Skipped));
        }
        let want = match &self.want {
            Some((want, key_arn)) => {
                let mut want = want.clone();
                if want.context.is_empty() && want.algorithm == now.wrapped.algorithm {
                    // A request that names none leaves it alone.
                    want.context = own_context(now);
                }
                let there = is_as(now.wrapped, &want, key_arn.as_deref()) && !now.unfinished;
                if there && self.change != Change::NewDataKey {
                    return Err(Left::As(Done::Skipped));
                }
                want
            }
            None => present(now),
        };
        if self.order.dry_run {
            let rewraps = self.change.leaves_data_key(now.wrapped, &want)?;
            return Err(Left::As(Done::As(if rewraps { Changed::Rewrapped } else { Changed::Reencrypted })));
        }
        Ok(want)
    }
}

/// The encryption that an object has, as a request for the same again.
fn present(now: &Wrapping<'_>) -> Encryption {
    let wrapped = now.wrapped;
    Encryption {
        algorithm: wrapped.algorithm,
        key_id: (!wrapped.key_arn.is_empty()).then(|| wrapped.key_arn.clone()),
        bucket_key: wrapped.under_bucket_key.is_some(),
        context: own_context(now),
    }
}

fn own_context(now: &Wrapping<'_>) -> EncryptionContext {
    let mut context = now.wrapped.context.clone();
    context.remove(arn::CONTEXT_KEY);
    context
}

/// The name may have gone, or mean something else than a regular file.
fn is_elsewhere(refusal: &Refusal) -> bool {
    refusal.is_not_found() || refusal.is_of_store(Errno::INVAL)
}

fn reason(refusal: &Refusal) -> String {
    refusal.to_string()
}
