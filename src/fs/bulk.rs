//! Changing the encryption of many objects: a directory is given an order, and does a piece of it.
//!
//! The order is the value of an extended attribute, since that is what reaches a mount with the caller's name on it and
//! without a control socket. The kernel asks for write permission on the inode that carries it. What came of it is another
//! attribute, whose name ends in the order's token.

use super::error::errno;
use super::{Error, Fs, Reached, Result};
use crate::kms::Caller;
use crate::sse::{Encryption, Request, arn, resolve};
use crate::store::{Change, Changed, Dir, Step, Target, Wrapping, is_as};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a piece takes, about: the kernel holds the inode that carries the order meanwhile.
const PIECE: Duration = Duration::from_millis(150);
/// Names that one piece looks up, and failures that it tells, at most.
const NAMES: usize = 4096;
const TOLD: usize = 48;
/// Results that nobody asked for, at most.
const KEPT: usize = 64;

/// What is to be done, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Chosen by whoever gives the order.
    pub token: u64,
    pub how: How,
    /// `None` leaves algorithm and key as they are: another wrapping under the key's present material, or another data key.
    pub target: Option<Request>,
    /// Only objects under this KMS key: its ARN.
    pub from_key: Option<String>,
    pub dry_run: bool,
    /// Where to go on in the directory, and in its first object; 0 at first.
    pub cursor: u64,
    pub chunk: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    AsNeeded,
    RewrapOnly,
    NewDataKey,
}

/// What came of a piece, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub seen: u64,
    pub rewrapped: u64,
    pub reencrypted: u64,
    pub skipped: u64,
    /// Name, in hexadecimal, and reason.
    pub failed: Vec<(String, String)>,
    /// Names, in hexadecimal, of objects whose permissions the kernel has to judge: they are given the order themselves.
    pub by_itself: Vec<String>,
    /// Why nothing at all can be done.
    pub refused: Option<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<(u64, u64)>,
}

/// Uid and token.
type Whose = (u32, u64);

/// Results until they are asked for.
#[derive(Default)]
pub struct Outcomes(Mutex<VecDeque<(Whose, Vec<u8>)>>);

enum Done {
    Skipped,
    As(Changed),
    More(u64),
}

impl Fs {
    pub(super) fn reencrypt(&self, ino: u64, order: &[u8], caller: &Caller) -> Result<()> {
        let order: Order = serde_json::from_slice(order).map_err(|why| {
            log::warn!("an order to reencrypt is malformed: {why}");
            Error::Errno(libc::EINVAL)
        })?;
        if self.options.read_only {
            return errno(libc::EROFS);
        }
        let until = Instant::now() + PIECE;
        let outcome = match self.reach(ino)? {
            Reached::Dir(dir) => self.reencrypt_names(&dir, &order, caller, until)?,
            Reached::Name(dir, name) => {
                let mut outcome = Outcome::default();
                let target = Aim::new(self, &dir, &order, caller);
                match target {
                    Ok(aim) => self.reencrypt_one(&aim, &name, order.chunk, until, &mut outcome),
                    Err(error) => outcome.refused = Some(reason(&error)),
                }
                outcome
            }
        };
        let bytes = serde_json::to_vec(&outcome).expect("numbers and strings can be serialized");
        let mut kept = self.outcomes.0.lock();
        kept.push_back(((caller.uid, order.token), bytes));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(())
    }

    /// Once.
    pub(super) fn reencrypted(&self, token: u64, caller: &Caller) -> Result<Vec<u8>> {
        let mut kept = self.outcomes.0.lock();
        let at = kept.iter().position(|(whose, _)| *whose == (caller.uid, token));
        let found = at.and_then(|at| kept.remove(at));
        found.map(|(_, bytes)| bytes).ok_or(Error::Errno(libc::ENODATA))
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
        let mut names: Vec<(OsString, u64)> = Vec::new();
        let mut last = order.cursor;
        let mut more = false;
        self.store.read_dir(dir, order.cursor, &mut |entry| {
            if names.len() == NAMES {
                more = true;
                return false;
            }
            last = entry.cursor;
            if matches!(entry.kind, 0 | libc::S_IFREG) {
                names.push((entry.name.to_owned(), entry.cursor));
            }
            true
        })?;
        let mut begin = order.cursor;
        let mut chunk = order.chunk;
        for (name, cursor) in names {
            let full = outcome.failed.len() + outcome.by_itself.len() >= TOLD;
            if full || (outcome.seen > 0 && Instant::now() >= until) {
                outcome.next = Some((begin, 0));
                return Ok(outcome);
            }
            self.reencrypt_one_of(&aim, &name, std::mem::take(&mut chunk), until, &mut outcome);
            if let Some((_, chunk)) = outcome.next {
                outcome.next = Some((begin, chunk));
                return Ok(outcome);
            }
            begin = cursor;
        }
        outcome.next = more.then_some((last, 0));
        Ok(outcome)
    }

    /// Of a directory's: the kernel has not been asked whether the caller may change this one.
    fn reencrypt_one_of(&self, aim: &Aim<'_>, name: &OsStr, chunk: u64, until: Instant, outcome: &mut Outcome) {
        if aim.caller.uid != 0 {
            // An owner's right is in the mode, whatever ACL there is; everybody else's is for the kernel to judge.
            match self.store.stat(Target::Name(&aim.dir, name)) {
                Ok(attr) if attr.uid == aim.caller.uid && attr.mode & 0o200 != 0 => {}
                Ok(attr) if attr.mode & libc::S_IFMT != libc::S_IFREG => return,
                Ok(_) => {
                    outcome.by_itself.push(hex::encode(name.as_bytes()));
                    return;
                }
                Err(_) => return,
            }
        }
        self.reencrypt_one(aim, name, chunk, until, outcome);
    }

    fn reencrypt_one(&self, aim: &Aim<'_>, name: &OsStr, chunk: u64, until: Instant, outcome: &mut Outcome) {
        let done = match self.change_one(aim, name, chunk, until) {
            // Gone, or something else by now.
            Err(error) if matches!(error.errno(), libc::ENOENT | libc::EINVAL) && !self.is_there(aim, name) => return,
            done => done,
        };
        match done {
            Ok(Done::More(chunk)) => {
                outcome.next = Some((0, chunk));
                return;
            }
            Ok(Done::Skipped) => outcome.skipped += 1,
            Ok(Done::As(Changed::Rewrapped)) => outcome.rewrapped += 1,
            Ok(Done::As(Changed::Reencrypted)) => outcome.reencrypted += 1,
            Err(error) => outcome.failed.push((hex::encode(name.as_bytes()), reason(&error))),
        }
        outcome.seen += 1;
    }

    fn is_there(&self, aim: &Aim<'_>, name: &OsStr) -> bool {
        let attr = self.store.stat(Target::Name(&aim.dir, name));
        attr.is_ok_and(|attr| attr.mode & libc::S_IFMT == libc::S_IFREG)
    }

    fn change_one(&self, aim: &Aim<'_>, name: &OsStr, chunk: u64, until: Instant) -> Result<Done> {
        if Self::is_configuration(name) {
            return Ok(Done::Skipped);
        }
        let now = self.store.wrapping(&aim.dir, name)?;
        if aim.order.from_key.as_ref().is_some_and(|from| now.wrapped.key_arn != *from) {
            return Ok(Done::Skipped);
        }
        let change = match aim.order.how {
            How::AsNeeded => Change::AsNeeded,
            How::RewrapOnly => Change::RewrapOnly,
            How::NewDataKey => Change::NewDataKey,
        };
        let want = match &aim.want {
            Some((want, key_arn)) => {
                let mut want = want.clone();
                if want.context.is_empty() && want.algorithm == now.wrapped.algorithm {
                    // A request that names none leaves it alone.
                    want.context = present(&now).context;
                }
                let there = is_as(&now.wrapped, &want, key_arn.as_deref()) && !now.unfinished;
                if there && change != Change::NewDataKey {
                    return Ok(Done::Skipped);
                }
                want
            }
            None => present(&now),
        };
        if aim.order.dry_run {
            let rewraps = self.store.would_rewrap(&now.wrapped, &want, change)?;
            return Ok(Done::As(if rewraps { Changed::Rewrapped } else { Changed::Reencrypted }));
        }
        let object = self.store.open_object(&aim.dir, name, &aim.caller)?;
        let key = aim.dir.key_of(name);
        let go_on = || Instant::now() < until;
        let done = self.store.change_encryption(&object, &want, change, &key, &aim.caller, chunk, &go_on);
        let ino = object.ino();
        self.store.release(&object);
        self.was_used(ino);
        Ok(match done? {
            Step::Done(changed) => Done::As(changed),
            Step::More(chunk) => Done::More(chunk),
        })
    }
}

/// An order, and what it means in one directory.
struct Aim<'a> {
    order: &'a Order,
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
                let key_arn = fs.store.keys().key_arn(&want, dir.bucket().unwrap_or_default(), caller)?;
                Some((want, key_arn))
            }
        };
        Ok(Self { order, dir: dir.clone(), caller: *caller, want })
    }
}

/// The encryption that an object has, as a request for the same again.
fn present(now: &Wrapping) -> Encryption {
    let wrapped = &now.wrapped;
    let mut context = wrapped.context.clone();
    context.remove(arn::CONTEXT_KEY);
    Encryption {
        algorithm: wrapped.algorithm,
        key_id: (!wrapped.key_arn.is_empty()).then(|| wrapped.key_arn.clone()),
        bucket_key: wrapped.under_bucket_key.is_some(),
        context,
    }
}

fn reason(error: &Error) -> String {
    error.to_string()
}
