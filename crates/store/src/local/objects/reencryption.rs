//! Another encryption for an object that exists: its data key wrapped anew, or a new data key.

use crate::object::Keyed;
use crate::{Error, Ino, Object, Result, Store, VolumeEncryption};
use kmsfs_format::sidecar::Sidecar;
use kmsfs_kms::Caller;
use kmsfs_sse::{Algorithm, Encryption, RequestError, WrappedDataKey, arn};
use std::sync::Arc;

/// Chunks that one commit encrypts again: 1 MiB.
const STEP: u64 = 256;

/// How an object comes under another encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Wrapped anew where that will do, else a new data key.
    AsNeeded,
    /// `Error::NeedsReencryption` where wrapping will not do.
    RewrapOnly,
    /// A new data key in any case.
    NewDataKey,
}

/// What was done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Its data key is wrapped anew; content, ETag and mtime stay.
    Rewrapped,
    /// It has a new data key.
    Reencrypted,
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is done.
    Done(Changed),
    /// It was told to stop, and goes on from this chunk.
    More(u64),
}

/// How an object's newest data key is wrapped. Not authenticated, unless the object is open.
#[derive(Debug, Clone, Copy)]
pub struct Wrapping<'a> {
    /// The newest data key, as it is wrapped.
    pub wrapped: &'a WrappedDataKey,
    /// Chunks may be under older data keys.
    pub unfinished: bool,
}

impl<'a> Wrapping<'a> {
    pub(crate) fn of(sidecar: &'a Sidecar) -> Self {
        Self { wrapped: &sidecar.newest().wrapped, unfinished: sidecar.keys.len() > 1 }
    }
}

impl Change {
    /// Whether the change leaves the data key as it is, and only wraps it anew. [`Error::NeedsReencryption`] where that
    /// will not do and nothing else is wanted.
    pub fn leaves_data_key(self, now: &WrappedDataKey, want: &Encryption) -> Result<bool> {
        let dsse = Algorithm::AwsKmsDsse;
        let will_do = match want.algorithm {
            Algorithm::AwsKms => {
                now.algorithm != dsse && (want.context.is_empty() || own_pairs(now).eq(want.context.iter()))
            }
            // Another wrapping under the service's own key, not one that leaves KMS.
            Algorithm::Aes256 => now.algorithm == Algorithm::Aes256 && self == Self::RewrapOnly,
            Algorithm::AwsKmsDsse => {
                now.algorithm == dsse && (want.context.is_empty() || own_pairs(now).eq(want.context.iter()))
            }
        };
        match self {
            Self::NewDataKey => Ok(false),
            Self::RewrapOnly if !will_do => Err(Error::NeedsReencryption),
            _ => Ok(will_do),
        }
    }
}

impl VolumeEncryption for Store {
    fn rewrap(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()> {
        self.change_encryption(object, want, Change::AsNeeded, key, caller, 0, &|| true).map(drop)
    }

    #[allow(clippy::too_many_arguments)]
    fn change_encryption(
        &self,
        object: &Arc<Object>,
        want: &Encryption,
        change: Change,
        key: &str,
        caller: &Caller,
        from: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Step> {
        self.admission.writable()?;
        if object.has_old_keys() {
            if let Some(next) = Self::finish_epoch(object, from, go_on)? {
                return Ok(Step::More(next));
            }
            if change != Change::RewrapOnly && self.is_under(object, want, caller)? {
                return Ok(Step::Done(Changed::Reencrypted));
            }
        }
        let (old, bucket, length) = object.with_state(|state| {
            (state.keyed.sidecar().newest().wrapped.clone(), state.keyed.sidecar().bucket.clone(), state.length())
        });
        // An empty object has nothing to encrypt again.
        let change = if length == 0 && change == Change::AsNeeded { Change::NewDataKey } else { change };
        if change.leaves_data_key(&old, want)? {
            self.replace_wrapping(object, want, key, caller)?;
            return Ok(Step::Done(Changed::Rewrapped));
        }
        let layers = |algorithm| algorithm == Algorithm::AwsKmsDsse;
        if length > self.rewritten && layers(old.algorithm) != layers(want.algorithm) {
            return Err(Error::Sse(too_large_for_other_layers(self.rewritten)));
        }
        if length > self.rewritten {
            self.begin_epoch(object, want, key, caller)?;
            if let Some(next) = Self::finish_epoch(object, 0, go_on)? {
                return Ok(Step::More(next));
            }
        } else {
            let key = self.keys.new_data_key(want, &bucket, key, caller)?;
            object.rekey_content(key)?;
        }
        Ok(Step::Done(Changed::Reencrypted))
    }

    fn unlock(&self, object: &Object, caller: &Caller) -> Result<()> {
        object.authorize(caller)
    }

    fn lock_closed(&self) -> bool {
        self.objects.lock_closed()
    }

    fn lock_if_closed(&self, ino: Ino) {
        self.objects.lock_if_closed(ino);
    }
}

impl Store {
    /// A new data key for what is written from here on; `Object::reencrypt_some` brings what is there under it.
    pub fn begin_epoch(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()> {
        let key = self.keys.new_data_key(want, &object.bucket_name(), key, caller)?;
        object.begin_epoch(key)
    }

    /// Whoever opened the object for this caller has asked for its data key: it is wrapped as it is in memory.
    fn replace_wrapping(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()> {
        let bucket = object.bucket_name();
        loop {
            let newest = object.newest_key()?;
            // Without the object's lock, which nobody holds while the KMS is asked.
            let wrapped = self.keys.wrap(newest.data_key(), want, &bucket, key, caller)?;
            let permit = self.checkpoints.permit()?;
            let (mut freed, mut is_newest) = (None, true);
            let change = |keyed: &mut Keyed| {
                // Somebody else may have begun a key epoch meanwhile.
                is_newest = keyed.sidecar().newest().commitment == *newest.commitment();
                if is_newest {
                    freed = keyed.rewrap(self, object.ino(), wrapped)?;
                }
                Ok(())
            };
            object.replace_sidecar(change, &permit)?;
            if let Some(place) = freed {
                self.objects.dead.abandon(object.id(), place);
            }
            if is_newest {
                return Ok(());
            }
        }
    }

    /// Chunk by chunk, while others read and write; a crash leaves it to whoever asks next. Answers where to go on, if
    /// it was told to stop.
    fn finish_epoch(object: &Object, from: u64, go_on: &dyn Fn() -> bool) -> Result<Option<u64>> {
        let mut from = from;
        while let Some(next) = object.reencrypt_some(from, STEP)? {
            if !go_on() {
                return Ok(Some(next));
            }
            from = next;
        }
        Ok(None)
    }

    /// Whether the newest data key is wrapped as `want` says.
    pub fn is_under(&self, object: &Arc<Object>, want: &Encryption, caller: &Caller) -> Result<bool> {
        let (now, bucket) = object
            .with_state(|state| (state.keyed.sidecar().newest().wrapped.clone(), state.keyed.sidecar().bucket.clone()));
        let key_arn = self.keys.key_arn(want, &bucket, caller)?;
        Ok(is_as(&now, want, key_arn.as_deref()))
    }
}

/// Whether a data key is wrapped as `want` says. `key_arn` is what its key resolves to.
pub fn is_as(now: &WrappedDataKey, want: &Encryption, key_arn: Option<&str>) -> bool {
    now.algorithm == want.algorithm
        && now.key_arn == key_arn.unwrap_or_default()
        && now.under_bucket_key.is_some() == want.bucket_key
        && own_pairs(now).eq(want.context.iter())
}

/// Two layers have their chunks in other places, so an object changes their number in one commit or not at all.
fn too_large_for_other_layers(most: u64) -> RequestError {
    RequestError::not_implemented(format!(
        "an object of more than {most} bytes does not get to or from aws:kms:dsse in place: copy it to a new name where that \
         encryption is the default, and rename the copy over it"
    ))
}

/// The context's pairs that a request gave.
fn own_pairs(wrapped: &WrappedDataKey) -> impl Iterator<Item = (&String, &String)> {
    wrapped.context.iter().filter(|(name, _)| *name != arn::CONTEXT_KEY)
}
