//! Another encryption for an object that exists: its data key wrapped anew, or a new data key.

use super::{Error, Object, Result, Store};
use crate::kms::Caller;
use crate::sse::{Algorithm, Encryption, WrappedDataKey, arn};
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
    NewDataKey,
}

/// What was done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Rewrapped,
    Reencrypted,
}

impl Store {
    /// What a request for another encryption does. From AES256 or aws:kms to aws:kms the data key is wrapped again, and
    /// content, ETag and mtime stay. Anything else needs a new data key: the content is encrypted again. Commits.
    pub fn rewrap(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()> {
        self.change_encryption(object, want, Change::AsNeeded, key, caller).map(drop)
    }

    /// As `rewrap`. An object that an earlier call left halfway is brought to its end first, which may be all there is to
    /// do. `key` is its S3 key.
    pub fn change_encryption(
        &self,
        object: &Arc<Object>,
        want: &Encryption,
        change: Change,
        key: &str,
        caller: &Caller,
    ) -> Result<Changed> {
        self.writable()?;
        if object.has_old_keys() {
            Self::finish_epoch(object)?;
            if change != Change::RewrapOnly && self.is_under(object, want, caller)? {
                return Ok(Changed::Reencrypted);
            }
        }
        let (old, bucket, length) = object
            .with_state(|state| (state.sidecar.newest().wrapped.clone(), state.sidecar.bucket.clone(), state.length()));
        let wrapping_will_do = want.algorithm == Algorithm::AwsKms
            && want.context.is_empty()
            && old.algorithm != Algorithm::AwsKmsDsse
            && (length > 0 || change == Change::RewrapOnly);
        if wrapping_will_do && change != Change::NewDataKey {
            let wrapped = self.keys.rewrap(&old, want, &bucket, key, caller)?;
            self.replace_wrapping(object, wrapped)?;
            return Ok(Changed::Rewrapped);
        }
        if change == Change::RewrapOnly {
            return Err(Error::NeedsReencryption);
        }
        if length > self.rewritten {
            self.begin_epoch(object, want, key, caller)?;
            Self::finish_epoch(object)?;
        } else {
            let key = self.keys.new_data_key(want, &bucket, key, caller)?;
            let mut content = vec![0; length as usize];
            object.read(0, &mut content)?;
            object.rewrite(&content, Some(key))?;
        }
        Ok(Changed::Reencrypted)
    }

    /// A new data key for what is written from here on; `Object::reencrypt_some` brings what is there under it.
    pub fn begin_epoch(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()> {
        let key = self.keys.new_data_key(want, &object.bucket_name(), key, caller)?;
        object.begin_epoch(key)
    }

    fn replace_wrapping(&self, object: &Arc<Object>, wrapped: WrappedDataKey) -> Result<()> {
        let permit = self.permit()?;
        let mut freed = None;
        object.replace_sidecar(
            |state| {
                freed = state.rewrap(self, object.ino(), wrapped)?;
                Ok(())
            },
            &permit,
        )?;
        if let Some(place) = freed {
            self.abandon(object.with_state(|state| state.id), place);
        }
        Ok(())
    }

    /// Chunk by chunk, while others read and write; a crash leaves it to whoever asks next.
    fn finish_epoch(object: &Object) -> Result<()> {
        let mut next = Some(0);
        while let Some(from) = next {
            next = object.reencrypt_some(from, STEP)?;
        }
        Ok(())
    }

    /// Whether the newest data key is wrapped as `want` says.
    pub fn is_under(&self, object: &Arc<Object>, want: &Encryption, caller: &Caller) -> Result<bool> {
        let (now, bucket) =
            object.with_state(|state| (state.sidecar.newest().wrapped.clone(), state.sidecar.bucket.clone()));
        let key_arn = self.keys.key_arn(want, &bucket, caller)?;
        Ok(is_as(&now, want, key_arn.as_deref()))
    }
}

/// `key_arn` is what `want`'s key resolves to.
pub(super) fn is_as(now: &WrappedDataKey, want: &Encryption, key_arn: Option<&str>) -> bool {
    let pairs = now.context.iter().filter(|(name, _)| *name != arn::CONTEXT_KEY);
    now.algorithm == want.algorithm
        && now.key_arn == key_arn.unwrap_or_default()
        && now.under_bucket_key.is_some() == want.bucket_key
        && pairs.eq(want.context.iter())
}
