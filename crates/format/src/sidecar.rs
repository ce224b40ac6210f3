//! Records of segment files: the wrapped data key of an object, or a symlink target too long for the backing symlink.
//!
//! ```text
//! 0   magic "KMSR"        4   kind u16, units u16    8  body length u32    12  CRC-32 of all else
//! 16  object id           32  backing inode u64 (a hint, outside the MAC)  40  body, then its MAC of 32 bytes, zeros
//! ```

use super::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};
use super::data_key::{Algorithm, WrappedDataKey};
use super::{Malformed, ObjectId, VERSION};
use bincode::Options;
use serde::{Deserialize, Serialize};

/// Bytes of an allocation unit of a segment.
pub const UNIT: usize = 512;
/// Longest record, in units: enough for a symlink target or a key of a few thousand bytes.
pub const MAX_UNITS: usize = 128;

const MAGIC: &[u8; 4] = b"KMSR";
const BODY_AT: usize = 40;
const MAC: usize = 32;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the segment file.
    pub segment: u32,
    /// First unit in the segment.
    pub unit: u32,
    /// How many units, from 1 to [`MAX_UNITS`].
    pub units: u16,
}

impl Place {
    /// Bytes of its form in a header block.
    pub const LEN: usize = 16;

    /// Byte offset in the segment file.
    pub fn offset(self) -> u64 {
        u64::from(self.unit) * UNIT as u64
    }

    /// Its length in bytes.
    pub fn bytes(self) -> usize {
        usize::from(self.units) * UNIT
    }

    pub(super) fn read(block: &[u8], at: usize) -> Result<Self, Malformed> {
        let place = Self { segment: u32_at(block, at), unit: u32_at(block, at + 4), units: u16_at(block, at + 8) };
        if usize::from(place.units) > MAX_UNITS || place.units == 0 || !is_zero(&block[at + 10..at + Self::LEN]) {
            return Err(Malformed("the sidecar's place is impossible"));
        }
        Ok(place)
    }

    pub(super) fn write(self, block: &mut [u8], at: usize) {
        put(block, at, &self.segment.to_le_bytes());
        put(block, at + 4, &self.unit.to_le_bytes());
        put(block, at + 8, &self.units.to_le_bytes());
    }
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A [`Sidecar`]: the wrapped data keys of an object.
    Sidecar = 1,
    /// A symlink target that is too long for the backing symlink.
    SymlinkTarget = 2,
}

/// A record as it stands on disk; its checksum is right, its MAC is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the body is.
    pub kind: Kind,
    /// The object that it belongs to.
    pub object_id: ObjectId,
    /// The object's inode in the backing file system: a hint, outside the MAC.
    pub inode: u64,
    /// A [`Sidecar`], encoded, or a sealed symlink target.
    pub body: Vec<u8>,
    /// Of [`Record::authenticated`].
    pub mac: [u8; 32],
}

/// Units that a record with such a body takes; `None` if no record can be that long.
pub fn units_for(body: usize) -> Option<u16> {
    let units = (BODY_AT + body + MAC).div_ceil(UNIT);
    (units <= MAX_UNITS).then_some(units as u16)
}

impl Record {
    /// The record's units. Its length must have been asked of `units_for`.
    pub fn write(&self, units: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(units) * UNIT];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 4, &(self.kind as u16).to_le_bytes());
        put(&mut bytes, 6, &units.to_le_bytes());
        put(&mut bytes, 8, &(self.body.len() as u32).to_le_bytes());
        put(&mut bytes, 16, &self.object_id.0);
        put(&mut bytes, 32, &self.inode.to_le_bytes());
        put(&mut bytes, BODY_AT, &self.body);
        put(&mut bytes, BODY_AT + self.body.len(), &self.mac);
        let crc = checksum(&bytes);
        put(&mut bytes, 12, &crc.to_le_bytes());
        bytes
    }

    /// Takes a record apart; `bytes` are all of its units.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: what is there is no record, or not a whole one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < UNIT || &bytes[..4] != MAGIC {
            return Err(Malformed("there is no record at the sidecar's place"));
        }
        if usize::from(u16_at(bytes, 6)) * UNIT != bytes.len() {
            return Err(Malformed("the sidecar has another length than the header says"));
        }
        let length = u32_at(bytes, 8) as usize;
        if units_for(length) != Some(u16_at(bytes, 6)) {
            return Err(Malformed("the sidecar's length is impossible"));
        }
        if checksum(bytes) != u32_at(bytes, 12) {
            return Err(Malformed("the sidecar's checksum is wrong"));
        }
        let end = BODY_AT + length;
        if !is_zero(&bytes[end + MAC..]) {
            return Err(Malformed("unused bytes of the sidecar are not zero"));
        }
        let kind = match u16_at(bytes, 4) {
            1 => Kind::Sidecar,
            2 => Kind::SymlinkTarget,
            _ => return Err(Malformed("the record is of an unknown kind")),
        };
        Ok(Self {
            kind,
            object_id: ObjectId(array(bytes, 16)),
            inode: u64_at(bytes, 32),
            body: bytes[BODY_AT..end].to_vec(),
            mac: array(bytes, end),
        })
    }

    /// What its MAC covers: kind, object id and body, under a domain of its own.
    pub fn authenticated(kind: Kind, object_id: &ObjectId, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40 + body.len());
        bytes.extend_from_slice(b"kmsfs record");
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(kind as u16).to_le_bytes());
        bytes.extend_from_slice(&object_id.0);
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Of everything but itself.
fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..12]);
    crc.update(&record[16..]);
    crc.finalize()
}

/// The object id of a record that begins here, for the code that frees units.
pub fn owner(bytes: &[u8]) -> Option<ObjectId> {
    (bytes.len() >= 32 && &bytes[..4] == MAGIC).then(|| ObjectId(array(bytes, 16)))
}

/// The body of an object's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The bucket that it was made in.
    pub bucket: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// Never empty, in order of `first_epoch`.
    pub keys: Vec<EpochKey>,
}

/// A data key and the key epochs it serves, up to the next one's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochKey {
    /// The first key epoch that it serves.
    pub first_epoch: u16,
    /// The data key, wrapped, and what is needed to unwrap it.
    pub wrapped: WrappedDataKey,
    /// Key commitment of the cipher for `first_epoch`.
    pub commitment: [u8; 32],
}

impl Sidecar {
    /// The record's body (bincode, docs/FORMAT.md).
    pub fn encode(&self) -> Vec<u8> {
        let body = Body {
            version: VERSION,
            bucket: self.bucket.clone(),
            created: self.created,
            keys: self.keys.iter().map(BodyKey::from).collect(),
        };
        // Serializing into memory fails only past the limit, which `units_for` checks with a better message.
        encoding().serialize(&body).expect("a sidecar can be serialized")
    }

    /// Takes a body apart.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: it does not decode, is of another version, or has no key or keys in a wrong order.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed("the sidecar's body does not decode");
        let body: Body = encoding().deserialize(body).map_err(|_| malformed)?;
        if body.version != VERSION {
            return Err(Malformed("a sidecar of another format version"));
        }
        let keys = body.keys.into_iter().map(EpochKey::try_from).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() || !keys.is_sorted_by(|a, b| a.first_epoch < b.first_epoch) {
            return Err(malformed);
        }
        Ok(Self { bucket: body.bucket, created: body.created, keys })
    }

    /// The newest data key: the one that seal and sidecar are authenticated with.
    pub fn newest(&self) -> &EpochKey {
        self.keys.last().expect("a sidecar has a key")
    }
}

fn encoding() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .reject_trailing_bytes()
        .with_limit((MAX_UNITS * UNIT) as u64)
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u16,
    bucket: String,
    created: i64,
    keys: Vec<BodyKey>,
}

#[derive(Serialize, Deserialize)]
struct BodyKey {
    first_epoch: u16,
    algorithm: u8,
    key_arn: String,
    context: Vec<(String, String)>,
    ciphertext_blob: Vec<u8>,
    /// The data key under the bucket key; of two layers, the inner data key's blob.
    second: Option<Vec<u8>>,
    commitment: [u8; 32],
}

impl From<&EpochKey> for BodyKey {
    fn from(key: &EpochKey) -> Self {
        let wrapped = &key.wrapped;
        Self {
            first_epoch: key.first_epoch,
            algorithm: match wrapped.algorithm {
                Algorithm::Aes256 => 1,
                Algorithm::AwsKms => 2,
                Algorithm::AwsKmsDsse => 3,
            },
            key_arn: wrapped.key_arn.clone(),
            context: wrapped.context.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            ciphertext_blob: wrapped.ciphertext_blob.clone(),
            second: wrapped.inner_blob.clone().or_else(|| wrapped.under_bucket_key.clone()),
            commitment: key.commitment,
        }
    }
}

impl TryFrom<BodyKey> for EpochKey {
    type Error = Malformed;

    fn try_from(key: BodyKey) -> Result<Self, Malformed> {
        let algorithm = match key.algorithm {
            1 => Algorithm::Aes256,
            2 => Algorithm::AwsKms,
            3 => Algorithm::AwsKmsDsse,
            _ => return Err(Malformed("the sidecar names an unknown algorithm")),
        };
        let (under_bucket_key, inner_blob) = match algorithm {
            Algorithm::AwsKmsDsse if key.second.is_none() => {
                return Err(Malformed("the sidecar has one data key for two layers"));
            }
            Algorithm::AwsKmsDsse => (None, key.second),
            Algorithm::Aes256 | Algorithm::AwsKms => (key.second, None),
        };
        Ok(Self {
            first_epoch: key.first_epoch,
            wrapped: WrappedDataKey {
                algorithm,
                key_arn: key.key_arn,
                context: key.context.into_iter().collect(),
                ciphertext_blob: key.ciphertext_blob,
                under_bucket_key,
                inner_blob,
            },
            commitment: key.commitment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar() -> Sidecar {
        let wrapped = WrappedDataKey {
            algorithm: Algorithm::AwsKms,
            key_arn: "arn:aws:kms:us-east-1:000000000000:key/1".into(),
            context: [("aws:s3:arn".to_string(), "arn:aws:s3:::b/k".to_string())].into(),
            ciphertext_blob: vec![1, 2, 3],
            under_bucket_key: Some(vec![4, 5]),
            inner_blob: None,
        };
        let keys = vec![EpochKey { first_epoch: 1, wrapped, commitment: [7; 32] }];
        Sidecar { bucket: "b".into(), created: 42, keys }
    }

    #[test]
    fn a_sidecar_reads_back() {
        let body = sidecar().encode();
        assert_eq!(Sidecar::decode(&body), Ok(sidecar()));
        let units = units_for(body.len()).unwrap();
        let record = Record { kind: Kind::Sidecar, object_id: ObjectId([3; 16]), inode: 99, body, mac: [8; 32] };
        let bytes = record.write(units);
        assert_eq!(bytes.len() % UNIT, 0);
        assert_eq!(owner(&bytes), Some(ObjectId([3; 16])));
        assert_eq!(Record::read(&bytes), Ok(record));
    }

    #[test]
    fn two_layers_have_two_blobs_and_no_bucket_key() {
        let mut dual = sidecar();
        let wrapped = &mut dual.keys[0].wrapped;
        wrapped.algorithm = Algorithm::AwsKmsDsse;
        (wrapped.under_bucket_key, wrapped.inner_blob) = (None, Some(vec![4, 5]));
        let body = dual.encode();
        assert_eq!(Sidecar::decode(&body), Ok(dual.clone()));
        assert_eq!(body.len(), sidecar().encode().len());
        dual.keys[0].wrapped.inner_blob = None;
        let refused = Malformed("the sidecar has one data key for two layers");
        assert_eq!(Sidecar::decode(&dual.encode()), Err(refused));
    }

    #[test]
    fn trailing_bytes_cut_bodies_and_no_keys_are_refused() {
        let body = sidecar().encode();
        let longer = [&body[..], &[0]].concat();
        assert!(Sidecar::decode(&longer).is_err());
        assert!(Sidecar::decode(&body[..body.len() - 1]).is_err());
        assert!(Sidecar::decode(&Sidecar { keys: vec![], ..sidecar() }.encode()).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_refused_before_any_key_is_asked_for() {
        let body = sidecar().encode();
        let units = units_for(body.len()).unwrap();
        let bytes =
            Record { kind: Kind::Sidecar, object_id: ObjectId([3; 16]), inode: 99, body, mac: [8; 32] }.write(units);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::read(&damaged).is_err(), "bit {bit}");
        }
    }
}
