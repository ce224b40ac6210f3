//! The owner record: who has the store, in one sector beside the lock.
//!
//! Whoever can write the store's directory can write it, so it is believed in one direction only: it makes others wait
//! or go away. None at all, or one that says that nobody has the store, leaves the decision to the lock.

use kmsfs_crypto::random;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Bytes of the file, which is always written as a whole.
pub(crate) const LEN: usize = 512;
/// Longest name of a host that Linux takes.
const LONGEST_HOST: usize = 64;
const VERSION: u8 = 1;
/// The longest lease that is written or believed.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// What a process is known by, on whichever machine the record is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The machine's name, for messages alone.
    pub host: String,
    /// Which boot of a machine it is, of all there have been.
    pub boot: String,
    /// The namespace that the process's number is of.
    pub namespace: u64,
    /// Its number.
    pub process: u32,
    /// When it was started, which another process with that number was not.
    pub started: u64,
}

/// Who has the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerRecord {
    version: u8,
    host: String,
    boot: String,
    namespace: u64,
    process: u32,
    started: u64,
    /// Random; no other mount has it.
    mount: String,
    /// One more than the owner before had.
    pub(super) epoch: u64,
    /// Grows by one each time that the lease is renewed.
    pub(super) renewal: u64,
    /// How long the lease lasts, by whoever waits for it; 0 for an owner that renews nothing.
    seconds: u32,
    /// `false` once it was given up.
    pub(super) held: bool,
}

/// Why a record is none, and the store is not touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the owner record is damaged, so that it is not known who has the store: if no machine has it mounted, --take-over")
    }
}

impl OwnerRecord {
    /// Of a new mount that follows the one that is recorded.
    pub(super) fn new(identity: &Identity, term: Option<Duration>, before: Option<&Self>) -> Self {
        let Identity { host, boot, namespace, process, started } = identity.clone();
        Self {
            version: VERSION,
            host: printable(&host),
            boot: printable(&boot),
            namespace,
            process,
            started,
            mount: hex::encode(random::bytes::<16>()),
            epoch: before.map_or(1, |before| before.epoch.saturating_add(1)),
            renewal: 0,
            seconds: term.map_or(0, |term| u32::try_from(term.as_secs()).unwrap_or(u32::MAX)),
            held: true,
        }
    }

    /// `None` of a file that nobody has written yet.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Unreadable> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if bytes.len() != LEN {
            return Err(Unreadable);
        }
        let record: Self = serde_json::from_slice(bytes.trim_ascii_end()).map_err(|_| Unreadable)?;
        let is_name = |text: &str| text.len() <= LONGEST_HOST && text == printable(text);
        let fits = record.version == VERSION
            && is_name(&record.host)
            && is_name(&record.boot)
            && record.mount.len() == 32
            && record.mount.bytes().all(|byte| byte.is_ascii_hexdigit())
            && u64::from(record.seconds) <= LONGEST.as_secs();
        if fits { Ok(Some(record)) } else { Err(Unreadable) }
    }

    pub(super) fn write(&self) -> [u8; LEN] {
        let mut sector = [b'\n'; LEN];
        let text = serde_json::to_vec(self).expect("strings and numbers can be serialized");
        // Two names of 64 bytes and numbers of 20 digits leave a hundred bytes.
        sector[..text.len()].copy_from_slice(&text);
        sector
    }

    /// Whether it is the same mount's.
    pub(super) fn is_of(&self, mount: &Self) -> bool {
        self.held && self.mount == mount.mount
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// How long the lease lasts; `None` for an owner that renews nothing.
    pub(super) fn term(&self) -> Option<Duration> {
        (self.seconds > 0).then(|| Duration::from_secs(self.seconds.into()))
    }

    pub(super) fn is_of_boot(&self, identity: &Identity) -> bool {
        !self.boot.is_empty() && self.boot == printable(&identity.boot)
    }

    pub(super) fn is_of_namespace(&self, identity: &Identity) -> bool {
        self.namespace == identity.namespace
    }

    pub(super) fn started(&self) -> u64 {
        self.started
    }
}

/// What may be in a record and in a message: a name as RFC 1123 has it, and underscores.
fn printable(name: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.bytes().take(LONGEST_HOST).map(|byte| if safe(byte) { char::from(byte) } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            host: "h".repeat(80),
            boot: "b".repeat(80),
            namespace: u64::MAX,
            process: u32::MAX,
            started: u64::MAX,
        }
    }

    #[test]
    fn the_longest_record_fits_its_sector_and_is_read_as_it_was_written() {
        let mut record = OwnerRecord::new(&identity(), Some(LONGEST), None);
        (record.epoch, record.renewal) = (u64::MAX, u64::MAX);
        assert_eq!(OwnerRecord::read(&record.write()), Ok(Some(record.clone())));
        assert_eq!(OwnerRecord::new(&identity(), None, Some(&record)).epoch, u64::MAX);
        assert_eq!(OwnerRecord::read(&[]), Ok(None));
        assert_eq!(OwnerRecord::read(&[0; LEN]), Ok(None));
    }

    #[test]
    fn whatever_else_there_is_is_no_record() {
        let record = OwnerRecord::new(&Identity { host: "host".into(), ..identity() }, Some(LONGEST), None);
        let good = String::from_utf8(record.write().to_vec()).unwrap();
        let filled = |text: &str| format!("{text:\n<512}").into_bytes()[..LEN].to_vec();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"seconds\":600", "\"seconds\":601"),
            ("\"host\":\"host\"", "\"host\":\"a\\u001b[2J\""),
            ("\"held\":true", "\"held\":1"),
            ("\"held\":true", "\"held\":true,\"more\":1"),
            ("\"epoch\":1", "\"epoch\":-1"),
            ("\"mount\":\"", "\"mount\":\"0"),
            (&record.mount[..31], &"x".repeat(31)),
        ] {
            assert!(good.contains(from), "{from}");
            assert_eq!(OwnerRecord::read(&filled(&good.trim_end().replace(from, to))), Err(Unreadable), "{to}");
        }
        for bytes in
            [&good.as_bytes()[..511], b"{}", &[b'\n'; LEN][..], &[0xff; LEN][..], &[good.as_bytes(), b"\n"].concat()]
        {
            assert_eq!(OwnerRecord::read(bytes), Err(Unreadable));
        }
    }
}
