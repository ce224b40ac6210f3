//! What ties the records of a log together: each names its place and the hash of the one before, under a keyed hash.

use kmsfs_crypto::{ChainKey, random};
use std::fmt::Write as _;

/// Tells one chain from another: a log that nobody had written before starts a new one.
pub(crate) type ChainId = [u8; 8];

const MARK: &str = r#","chain":{"id":""#;
const HASH: &str = r#","hash":""#;
const END: &str = r#""}}"#;

/// The last record of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub id: ChainId,
    /// The first record is 1; 0 before it.
    pub sequence: u64,
    pub hash: [u8; 32],
}

/// What a record says is missing before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Bytes of the unfinished line that a crash left there.
    pub torn: u64,
    /// Records that could not be written.
    pub dropped: u64,
}

/// A record's own statement of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub head: Head,
    pub previous: [u8; 32],
    pub loss: Loss,
}

impl Head {
    pub(crate) fn start() -> Self {
        Self { id: random::bytes(), sequence: 0, hash: [0; 32] }
    }

    /// The record with its link, without line end, and the head that it becomes. `body` is a JSON object.
    pub(crate) fn seal(&self, key: &ChainKey, body: &str, loss: Loss) -> (String, Self) {
        let sequence = self.sequence + 1;
        let open = body.strip_suffix('}').expect("a record is a JSON object");
        let mut line = format!(
            r#"{open}{MARK}{}","sequence":{sequence},"previous":"{}""#,
            hex::encode(self.id),
            hex::encode(self.hash)
        );
        for (name, count) in [("torn", loss.torn), ("dropped", loss.dropped)] {
            if count > 0 {
                let _ = write!(line, r#","{name}":{count}"#);
            }
        }
        let hash = key.hash(line.as_bytes());
        let _ = write!(line, "{HASH}{}{END}", hex::encode(hash));
        (line, Self { id: self.id, sequence, hash })
    }
}

impl Link {
    /// Of a line without its end; `None` for what is no record.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (signed, hash) = line.strip_suffix(END)?.rsplit_once(HASH)?;
        let mut fields = signed.rsplit_once(MARK)?.1.split(',');
        let id = fields.next()?.strip_suffix('"')?;
        let sequence = number(fields.next()?, r#""sequence":"#)?;
        let previous = fields.next()?.strip_prefix(r#""previous":""#)?.strip_suffix('"')?;
        let mut loss = Loss::default();
        for field in fields {
            match (number(field, r#""torn":"#), number(field, r#""dropped":"#)) {
                (Some(torn), _) => loss.torn = torn,
                (_, Some(dropped)) => loss.dropped = dropped,
                _ => return None,
            }
        }
        let head = Head { id: bytes(id)?, sequence, hash: bytes(hash)? };
        Some(Self { head, previous: bytes(previous)?, loss })
    }

    /// Whether the line, whose link this is, was written by somebody who has the key.
    pub(crate) fn is_authentic(&self, key: &ChainKey, line: &[u8]) -> bool {
        let unsigned = HASH.len() + 64 + END.len();
        line.len() >= unsigned && key.verify(&line[..line.len() - unsigned], &self.head.hash)
    }
}

fn number(field: &str, name: &str) -> Option<u64> {
    field.strip_prefix(name)?.parse().ok()
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_crypto::SecretKey;

    #[test]
    fn a_link_comes_back_and_no_byte_of_the_line_can_be_changed() {
        let key = ChainKey::of_root(&SecretKey::random());
        let start = Head::start();
        let (first, head) = start.seal(&key, r#"{"a":"x\",\"hash\":\""}"#, Loss::default());
        assert!(serde_json::from_str::<serde_json::Value>(&first).is_ok(), "{first}");
        let link = Link::parse(first.as_bytes()).unwrap();
        assert_eq!(link, Link { head, previous: [0; 32], loss: Loss::default() });
        let loss = Loss { torn: 7, dropped: 9 };
        let (second, after) = head.seal(&key, "{\"b\":1}", loss);
        let link = Link::parse(second.as_bytes()).unwrap();
        assert_eq!(link, Link { head: after, previous: head.hash, loss });
        assert_eq!(after.sequence, 2);
        assert!(link.is_authentic(&key, second.as_bytes()));
        for position in 0..second.len() {
            for bit in 0..8 {
                let mut changed = second.clone().into_bytes();
                changed[position] ^= 1 << bit;
                // Letters of a hexadecimal number may change their case without changing it.
                let passes = Link::parse(&changed).is_some_and(|link| link.is_authentic(&key, &changed));
                let same = changed.to_ascii_lowercase() == second.as_bytes();
                assert!(!passes || same, "byte {position}, bit {bit}");
            }
        }
        assert!(!link.is_authentic(&ChainKey::of_root(&SecretKey::random()), second.as_bytes()));
    }
}
