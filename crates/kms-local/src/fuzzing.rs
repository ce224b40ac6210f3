//! What this package reads of files and blobs, for any bytes at all. The fuzzing targets of the testing package call
//! it.

use crate::{blob, keyring};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::EncryptionContext;

/// Reads the decrypted contents of a keyring. What can be read is written again as the same bytes.
///
/// # Panics
/// If it is written otherwise.
pub fn decode_keyring(bytes: &[u8]) {
    if let Ok(contents) = keyring::Contents::decode(bytes) {
        assert_eq!(contents.encode().as_deref(), Ok(bytes));
    }
}

/// Reads a keyring's unlock slots, as [`decode_keyring`] reads its contents.
///
/// # Panics
/// If they are written otherwise.
pub fn decode_slots(bytes: &[u8]) {
    if let Ok(slots) = keyring::Slots::decode(bytes) {
        assert_eq!(slots.encode(), bytes);
    }
}

/// Reads a keyring's backup, as [`decode_keyring`] reads its contents.
///
/// # Panics
/// If it is written otherwise.
pub fn decode_backup(bytes: &[u8]) {
    if let Ok(backup) = keyring::Backup::decode(bytes) {
        assert_eq!(backup.encode(), bytes);
    }
}

/// Whether a ciphertext blob opens under this key material, with this encryption context.
pub fn open_blob(bytes: &[u8], material: &SecretKey, context: &EncryptionContext) -> bool {
    blob::names(bytes).is_some() && blob::unwrap(bytes, material, context).is_some()
}
