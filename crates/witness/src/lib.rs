//! What was last seen of a store and of its keyring, kept outside both. It shows when one of them has been put back to
//! an earlier state, or is another copy of the same one.
//!
//! A [`Witness`] keeps one record; the program decides where. The store and the keyring write and compare their records
//! ([`record`], [`Sighting`]), each under a key of its own, so that nobody else can write one that is believed. A state
//! is durable before it is recorded, so after a crash a store is ahead of its record and never behind it.
//!
//! ```
//! use kmsfs_crypto::{SecretKey, StoreKey};
//! use kmsfs_witness::{Sighting, record};
//! use std::collections::BTreeMap;
//!
//! let key = StoreKey::new(SecretKey::random()).mac_key("an example");
//! let seen = BTreeMap::from([("epoch".to_owned(), 12_u64)]);
//! let kept = record(&key, &seen);
//! assert_eq!(Sighting::decode(&key, &kept).map(|sighting| sighting.of), Some(seen));
//!
//! let other = StoreKey::new(SecretKey::random()).mac_key("an example");
//! assert!(Sighting::<BTreeMap<String, u64>>::decode(&other, &kept).is_none());
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

use kmsfs_crypto::MacKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::macros::format_description;

/// The longest record, in bytes.
pub const MOST: usize = 512;

/// What a person should do about a store or keyring that is refused: the end of such a message.
pub const ADVICE: &str = "if you have put back a backup, or mean this copy, say so once with --accept-rollback; if not, somebody \
     who can write there has done it, and what was changed since is missing";

/// A place that keeps one record.
pub trait Witness: fmt::Debug + Send + Sync {
    /// The record; `None` where nothing was ever written, or the record is lost.
    ///
    /// # Errors
    ///
    /// The place cannot be read now.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;
    /// Replaces the record durably; a crash leaves the old one or the new one. `record` has at most [`MOST`] bytes.
    ///
    /// # Errors
    ///
    /// The place cannot be written now; the old record is still there.
    fn write(&self, record: &[u8]) -> io::Result<()>;
}

/// What happens to a store or keyring that is not the one last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rollback {
    /// It is refused.
    #[default]
    Refuse,
    /// It is opened, and recorded as what was last seen.
    Accept,
    /// It is opened and the difference is reported, for somebody who only looks.
    Report,
}

/// Where records are kept, if anywhere, and what happens when they do not fit.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// `None` where nothing is kept, and so nothing compared.
    pub witness: Option<Arc<dyn Witness>>,
    /// What is done with what is not what was seen.
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

/// What was seen, and when.
pub struct Sighting<T> {
    /// What the writer recorded.
    pub of: T,
    /// `2026-11-29 06:32:43 UTC`.
    pub when: String,
}

impl<T: Serialize + DeserializeOwned> Sighting<T> {
    /// Takes a record apart; `None` if it was not written under this key, or not for a `T`.
    pub fn decode(key: &MacKey, record: &[u8]) -> Option<Self> {
        let Record { of, seen, mac } = serde_json::from_slice(record).ok()?;
        let mac = hex::decode(&mac).ok()?;
        let is_whole = mac.len() == MacKey::LEN && key.verify(&[&signed(&of, seen)], &mac);
        is_whole.then(|| Self { of, when: date(seen) })
    }
}

/// A record of `of`, a struct or a map, as seen now: JSON in one line, for [`Witness::write`].
///
/// # Panics
///
/// `of` is written otherwise than as a JSON object.
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
