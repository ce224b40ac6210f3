//! What was last seen of a store and of its keyring, kept outside both: one that was put back to an earlier state, or a
//! second copy that went on, is noticed by it.
//!
//! Who keeps it is the witness; who compares is the store and the keyring, each under a key of its own, so that nobody
//! else can write what is believed. What is told was durable before, so that a crash leaves them ahead of the record,
//! never behind it.
#![forbid(unsafe_code)]

use kmsfs_crypto::MacKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::macros::format_description;

/// Bytes of a record, at most.
pub const MOST: usize = 512;

/// What is to be done about a store or keyring that is refused.
pub const ADVICE: &str = "if you have put back a backup, or mean this copy, say so once with --accept-rollback; if not, somebody \
     who can write there has done it, and what was changed since is missing";

/// A place that keeps one record.
pub trait Witness: fmt::Debug + Send + Sync {
    /// `None` where nothing was ever written, or what was is lost.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;
    /// In the place of what was there, durably; a crash leaves the one or the other. At most `MOST` bytes.
    fn write(&self, record: &[u8]) -> io::Result<()>;
}

/// What is done with what is not what was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rollback {
    #[default]
    Refuse,
    /// It is what is seen from now on.
    Accept,
    /// It is opened, to be looked at.
    Report,
}

/// Who keeps what was seen, if anybody, and what follows from it.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    pub witness: Option<Arc<dyn Witness>>,
    pub rollback: Rollback,
}

/// What a witness keeps, as JSON.
#[derive(Serialize, Deserialize)]
struct Record<T> {
    #[serde(flatten)]
    of: T,
    /// Seconds since 1970.
    seen: u64,
    /// HMAC-SHA-256 of the rest, hexadecimal.
    mac: String,
}

/// What was seen, and when, as people write it.
pub struct Sighting<T> {
    pub of: T,
    pub when: String,
}

impl<T: Serialize + DeserializeOwned> Sighting<T> {
    /// `None`: it is not what was written under this key.
    pub fn decode(key: &MacKey, record: &[u8]) -> Option<Self> {
        let Record { of, seen, mac } = serde_json::from_slice(record).ok()?;
        let mac = hex::decode(&mac).ok()?;
        let is_whole = mac.len() == MacKey::LEN && key.verify(&[&signed(&of, seen)], &mac);
        is_whole.then(|| Self { of, when: date(seen) })
    }
}

/// The record of what is seen now.
pub fn record<T: Serialize>(key: &MacKey, of: &T) -> Vec<u8> {
    let seen = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mac = hex::encode(key.tag(&[&signed(of, seen)]));
    let mut text = serde_json::to_vec(&Record { of, seen, mac }).expect("strings and numbers can be serialized");
    text.push(b'\n');
    text
}

fn signed<T: Serialize>(of: &T, seen: u64) -> Vec<u8> {
    serde_json::to_vec(&(of, seen)).expect("strings and numbers can be serialized")
}

fn date(seconds: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(format).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_crypto::{SecretKey, StoreKey};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Place {
        epoch: u64,
        opening: String,
    }

    #[test]
    fn a_record_reads_back_under_its_key_and_no_changed_one_says_anything_else() {
        let key = || StoreKey::new(SecretKey::random()).mac_key("kmsfs test");
        let (right, wrong) = (key(), key());
        let place = || Place { epoch: 12, opening: "0a".repeat(16) };
        let bytes = record(&right, &place());
        assert!(bytes.len() <= MOST);
        assert_eq!(Sighting::decode(&right, &bytes).map(|sighting| sighting.of), Some(place()));
        assert!(Sighting::<Place>::decode(&wrong, &bytes).is_none());
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A digit in capitals says the same.
            if let Some(sighting) = Sighting::<Place>::decode(&right, &changed) {
                assert_eq!(sighting.of, place(), "bit {bit}");
            }
        }
        assert!((0..bytes.len() - 1).all(|len| Sighting::<Place>::decode(&right, &bytes[..len]).is_none()));
        assert!(Sighting::<Place>::decode(&right, b"").is_none());
    }
}
