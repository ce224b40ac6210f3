//! Ciphertext blobs: a key wrapped under a key material, self-describing. docs/FORMAT.md has the bytes.

use kmsfs_crypto::{SecretKey, envelope, sealed};
use kmsfs_kms::EncryptionContext;
use zeroize::Zeroizing;

/// Wraps a key of 256 bits.
const KEY: u8 = 1;
/// Seals bytes of any length.
const BYTES: u8 = 2;
/// Version, key id, material id.
const HEADER: usize = 33;
pub(crate) const LEN: usize = HEADER + envelope::LEN;
/// What sealing adds to bytes.
const OVERHEAD: usize = 32;

/// Which key and which of its materials a blob names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names {
    pub key: [u8; 16],
    pub material: [u8; 16],
}

pub(crate) fn wrap(names: Names, material: &SecretKey, plaintext: &SecretKey, context: &EncryptionContext) -> Vec<u8> {
    let mut blob = header(KEY, names);
    let bound_to = bound_to(&blob, context);
    blob.extend_from_slice(&envelope::wrap(material, plaintext, &bound_to));
    blob
}

/// Bytes of any length.
pub(crate) fn seal(names: Names, material: &SecretKey, plaintext: &[u8], context: &EncryptionContext) -> Vec<u8> {
    let mut blob = header(BYTES, names);
    let bound_to = bound_to(&blob, context);
    blob.extend_from_slice(&sealed::seal(material, plaintext, &bound_to));
    blob
}

fn header(version: u8, names: Names) -> Vec<u8> {
    let mut blob = vec![version];
    blob.extend_from_slice(&names.key);
    blob.extend_from_slice(&names.material);
    blob
}

/// `None` for anything that is not a blob.
pub(crate) fn names(blob: &[u8]) -> Option<Names> {
    match *blob.first()? {
        KEY if blob.len() == LEN => {}
        BYTES if blob.len() > HEADER + OVERHEAD => {}
        _ => return None,
    }
    Some(Names { key: blob[1..17].try_into().ok()?, material: blob[17..HEADER].try_into().ok()? })
}

/// A key, whichever way it was wrapped.
pub(crate) fn unwrap(blob: &[u8], material: &SecretKey, context: &EncryptionContext) -> Option<SecretKey> {
    let (header, wrapped) = blob.split_at_checked(HEADER)?;
    match header[0] {
        KEY => envelope::unwrap(material, wrapped, &bound_to(header, context)).ok(),
        _ => SecretKey::from_plaintext(&open(blob, material, context)?),
    }
}

/// The bytes that a blob of either kind holds.
pub(crate) fn open(blob: &[u8], material: &SecretKey, context: &EncryptionContext) -> Option<Zeroizing<Vec<u8>>> {
    let (header, sealed) = blob.split_at_checked(HEADER)?;
    match header[0] {
        KEY => Some(unwrap(blob, material, context)?.into_plaintext()),
        _ => sealed::open(material, sealed, &bound_to(header, context)).ok(),
    }
}

/// Header and context, each string with its length before it, so that no two contexts are written alike.
fn bound_to(header: &[u8], context: &EncryptionContext) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(&(context.len() as u32).to_le_bytes());
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    #[test]
    fn a_blob_opens_unchanged_and_with_its_context_only() {
        let material = SecretKey::random();
        let names_ = Names { key: [1; 16], material: [2; 16] };
        let right = context(&[("a", "b"), ("c", "d")]);
        let blob = wrap(names_, &material, &SecretKey::random(), &right);
        assert_eq!(names(&blob), Some(names_));
        assert!(unwrap(&blob, &material, &right).is_some());
        for wrong in [&[][..], &[("a", "b")], &[("a", "b"), ("c", "D")], &[("ab", ""), ("c", "d")]] {
            assert!(unwrap(&blob, &material, &context(wrong)).is_none(), "{wrong:?}");
        }
        for bit in 0..blob.len() * 8 {
            let mut damaged = blob.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let same = names(&damaged) == Some(names_);
            assert!(!same || unwrap(&damaged, &material, &right).is_none(), "bit {bit}");
        }
        assert_eq!(names(&[&blob[..], &[0]].concat()), None);
        assert_eq!(names(&blob[..LEN - 1]), None);
    }
}
