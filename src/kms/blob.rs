//! Ciphertext blobs: a key wrapped under a key material, self-describing. docs/FORMAT.md has the bytes.

use super::EncryptionContext;
use crate::crypto::{SecretKey, envelope};

const VERSION: u8 = 1;
/// Version, key id, material id.
const HEADER: usize = 33;
pub const LEN: usize = HEADER + envelope::LEN;

/// Which key and which of its materials a blob names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    pub key: [u8; 16],
    pub material: [u8; 16],
}

pub fn wrap(names: Names, material: &SecretKey, plaintext: &SecretKey, context: &EncryptionContext) -> Vec<u8> {
    let mut blob = vec![VERSION];
    blob.extend_from_slice(&names.key);
    blob.extend_from_slice(&names.material);
    let bound_to = bound_to(&blob, context);
    blob.extend_from_slice(&envelope::wrap(material, plaintext, &bound_to));
    blob
}

/// `None` for anything that is not a blob.
pub fn names(blob: &[u8]) -> Option<Names> {
    if blob.len() != LEN || blob[0] != VERSION {
        return None;
    }
    Some(Names { key: blob[1..17].try_into().ok()?, material: blob[17..HEADER].try_into().ok()? })
}

pub fn unwrap(blob: &[u8], material: &SecretKey, context: &EncryptionContext) -> Option<SecretKey> {
    let (header, envelope) = blob.split_at_checked(HEADER)?;
    envelope::unwrap(material, envelope, &bound_to(header, context)).ok()
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
