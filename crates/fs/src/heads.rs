//! What an errno cannot say, for programs that answer as S3 does: all of HeadObject's answer in one attribute, or S3's
//! code and message where the object's key refuses the caller; and why a request for an encryption was refused.

use super::virtual_attributes::Virtual;
use super::{Fs, Ino, Refusal, Result};
use kmsfs_kms::Caller;
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::RequestError;
use kmsfs_store as store;
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ffi::OsStr;

/// Results that nobody asked for, at most.
const KEPT: usize = 64;

/// A user's ID, and a number that says which of that user's results it is.
pub(super) type Whose = (u32, u64);

/// Results, each until its user asks for it, which is once. The oldest goes when there are too many.
#[derive(Default)]
pub(super) struct Outcomes(Mutex<ranks::Outcomes, VecDeque<(Whose, Vec<u8>)>>);

impl Outcomes {
    pub(super) fn keep(&self, whose: Whose, bytes: Vec<u8>) {
        let mut kept = self.0.lock();
        kept.retain(|(other, _)| *other != whose);
        kept.push_back((whose, bytes));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    pub(super) fn take(&self, whose: Whose) -> Result<Vec<u8>> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|(other, _)| *other == whose);
        let found = at.and_then(|at| kept.remove(at));
        found.map(|(_, bytes)| bytes).ok_or(Refusal::NoAttribute)
    }
}

impl Fs {
    /// `{"ETag", "ETagIsMD5", "ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "KeyDistinguishesUsers",
    /// "PastTheCache"}`, or `{"Code", "Message"}` where S3 or KMS refuses the caller. `with`: and `"Attribute"`, what
    /// is stored under that name with `user.` before it, null where nothing is.
    pub(super) fn head(&self, ino: Ino, with: Option<&str>, caller: &Caller) -> Result<Vec<u8>> {
        let answer = self.with_object(ino, caller, |object| {
            let (tag, encryption) = (object.tag()?, object.encryption());
            let distinguishes = self.distinguishes_users(object);
            Ok(json!({
                "ETag": tag.hex,
                "ETagIsMD5": tag.is_md5,
                "ServerSideEncryption": encryption.algorithm.as_str(),
                "SSEKMSKeyId": encryption.key_arn,
                "BucketKeyEnabled": encryption.bucket_key,
                "KeyDistinguishesUsers": distinguishes,
                // Who has it open may be why the kernel keeps no page of it, whatever its key does by now.
                "PastTheCache": distinguishes || self.is_personal(ino),
            }))
        });
        let mut head = match answer {
            Ok(head) => head,
            Err(refusal) => return words_of(&refusal).ok_or(refusal),
        };
        if let Some(name) = with {
            head["Attribute"] = self.stored_text(ino, name)?;
        }
        Ok(head.to_string().into_bytes())
    }

    fn stored_text(&self, ino: Ino, name: &str) -> Result<Value> {
        let name = format!("user.{name}");
        let name = OsStr::new(&name);
        if Virtual::parse(name).is_some() {
            return Err(Refusal::NoAttribute);
        }
        match self.at(ino, |target| self.store.get_xattr(target, name)) {
            Ok(value) => String::from_utf8(value).map(Value::String).map_err(|_| Refusal::NotUtf8),
            Err(Refusal::NoAttribute) => Ok(Value::Null),
            Err(Refusal::Store(store::Error::Errno(errno))) if errno == Errno::NODATA.raw_os_error() => Ok(Value::Null),
            Err(refusal) => Err(refusal),
        }
    }

    /// Keeps S3's words for a refusal of the caller's request, which the caller may then ask for.
    pub(super) fn tell_refused(&self, ino: Ino, refusal: &Refusal, caller: &Caller) {
        if let Some(words) = words_of(refusal) {
            self.refused.keep((caller.uid, ino.0), words);
        }
    }
}

/// `{"Code", "Message"}` of what S3 or KMS has words for.
fn words_of(refusal: &Refusal) -> Option<Vec<u8>> {
    let error = match refusal {
        Refusal::Request(error) => error,
        // The request itself is right.
        Refusal::InvalidConfiguration { .. } => {
            return Some(json!({ "Code": "InvalidRequest", "Message": refusal.to_string() }).to_string().into_bytes());
        }
        _ => return None,
    };
    let (code, message) = match error {
        RequestError::Kms(error) => (kmsfs_sse::s3_code(error.code), &error.message),
        RequestError::Invalid { code, message } => ((*code).to_owned(), message),
        // It is asked for again.
        RequestError::WouldWait(_) => return None,
    };
    Some(json!({ "Code": code, "Message": message }).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_for_its_user_once_and_the_oldest_goes() {
        let outcomes = Outcomes::default();
        outcomes.keep((1, 7), b"old".to_vec());
        outcomes.keep((1, 7), b"new".to_vec());
        assert_eq!(outcomes.take((2, 7)), Err(Refusal::NoAttribute));
        assert_eq!(outcomes.take((1, 7)), Ok(b"new".to_vec()));
        assert_eq!(outcomes.take((1, 7)), Err(Refusal::NoAttribute));
        (0..=KEPT as u64).for_each(|number| outcomes.keep((1, number), Vec::new()));
        assert_eq!(outcomes.take((1, 0)), Err(Refusal::NoAttribute));
        assert_eq!(outcomes.take((1, KEPT as u64)), Ok(Vec::new()));
    }
}
