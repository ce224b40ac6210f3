//! The cryptographic calls, made directly rather than through a mount.

use super::Administrator;
use crate::blob;
use crate::keyring::material_name;
use kmsfs_crypto::random;
use kmsfs_kms::api::validation;
use kmsfs_kms::api::{Ciphertext, Plaintext};
use kmsfs_kms::{EncryptionContext, Error};
use zeroize::Zeroizing;

const PLAINTEXT: std::ops::RangeInclusive<usize> = 1..=4096;
const BLOB: std::ops::RangeInclusive<usize> = 1..=6144;
const BYTES: std::ops::RangeInclusive<u64> = 1..=1024;

/// How long a data key is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKeySpec {
    /// 16 bytes.
    Aes128,
    /// 32 bytes.
    Aes256,
    /// So many bytes: 1 to 1024.
    Bytes(u64),
}

impl DataKeySpec {
    fn bytes(self) -> Result<usize, Error> {
        let count = match self {
            Self::Aes128 => 16,
            Self::Aes256 => 32,
            Self::Bytes(count) => count,
        };
        validation::number(count, "numberOfBytes", BYTES)?;
        Ok(count as usize)
    }
}

impl Administrator<'_> {
    /// Encrypts 1 to 4096 bytes.
    pub fn encrypt(&self, key_id: &str, plaintext: &[u8], context: &EncryptionContext) -> Result<Ciphertext, Error> {
        validation::length(plaintext.len(), "**REDACTED**", "plaintext", PLAINTEXT)?;
        let (key_arn, names) = self.kms.usable_for(key_id, "Encrypt", context, &self.caller)?;
        let material = self.kms.unwrapped(names)?;
        let blob = blob::seal(names, &material, plaintext, context);
        Ok(Ciphertext { key_arn, material_id: material_name(&names.material), blob })
    }

    /// `key_id`: the key that the blob must name, where it is given.
    pub fn decrypt(&self, blob: &[u8], context: &EncryptionContext, key_id: Option<&str>) -> Result<Plaintext, Error> {
        self.open(blob, context, key_id, "Decrypt")
    }

    /// Answers what it was encrypted under before (without its plaintext), and what it is now.
    pub fn re_encrypt(
        &self,
        blob: &[u8],
        source: (&EncryptionContext, Option<&str>),
        destination: (&EncryptionContext, &str),
    ) -> Result<(Plaintext, Ciphertext), Error> {
        let mut plaintext = self.open(blob, source.0, source.1, "ReEncryptFrom")?;
        let (context, key_id) = destination;
        let (key_arn, names) = self.kms.usable_for(key_id, "ReEncryptTo", context, &self.caller)?;
        let blob = blob::seal(names, &*self.kms.unwrapped(names)?, &plaintext.bytes, context);
        plaintext.bytes = Zeroizing::default();
        Ok((plaintext, Ciphertext { key_arn, material_id: material_name(&names.material), blob }))
    }

    /// Random bytes, and the same encrypted. `action` is what a policy has to allow.
    pub fn generate_data_key(
        &self,
        key_id: &str,
        spec: DataKeySpec,
        context: &EncryptionContext,
        action: &str,
    ) -> Result<(Zeroizing<Vec<u8>>, Ciphertext), Error> {
        let mut bytes = Zeroizing::new(vec![0; spec.bytes()?]);
        random::fill(&mut bytes);
        let (key_arn, names) = self.kms.usable_for(key_id, action, context, &self.caller)?;
        let blob = blob::seal(names, &*self.kms.unwrapped(names)?, &bytes, context);
        Ok((bytes, Ciphertext { key_arn, material_id: material_name(&names.material), blob }))
    }

    /// So many random bytes: 1 to 1024.
    pub fn generate_random(&self, count: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
        validation::number(count, "numberOfBytes", BYTES)?;
        let mut bytes = Zeroizing::new(vec![0; count as usize]);
        random::fill(&mut bytes);
        Ok(bytes)
    }

    fn open(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        key_id: Option<&str>,
        action: &str,
    ) -> Result<Plaintext, Error> {
        validation::length(blob.len(), "**REDACTED**", "ciphertextBlob", BLOB)?;
        let names = blob::names(blob).ok_or_else(Error::invalid_ciphertext)?;
        let key_arn = self.kms.named_by(names, key_id, action, context, &self.caller)?;
        let material = self.kms.unwrapped(names)?;
        let bytes = blob::open(blob, &material, context).ok_or_else(Error::invalid_ciphertext)?;
        Ok(Plaintext { key_arn, material_id: material_name(&names.material), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALLER, code, kms};
    use super::*;
    use kmsfs_kms::{Code, Kms, ServiceKey};

    fn context(value: &str) -> EncryptionContext {
        [("purpose".to_owned(), value.to_owned())].into()
    }

    #[test]
    fn what_was_encrypted_is_decrypted_with_the_same_context_and_by_its_own_key_only() {
        let (_dir, kms) = kms();
        let admin = kms.administer(CALLER);
        let (one, two) = (kms.create_key("").unwrap().arn, kms.create_key("").unwrap().arn);
        for len in [1, 31, 32, 33, 4096] {
            let plaintext = vec![len as u8; len];
            let made = admin.encrypt(&one, &plaintext, &context("a")).unwrap();
            assert_eq!(made.key_arn, one);
            assert!(made.blob.len() <= 6144);
            let opened = admin.decrypt(&made.blob, &context("a"), None).unwrap();
            assert_eq!((&opened.bytes[..], opened.key_arn), (&plaintext[..], one.clone()));
            assert_eq!(opened.material_id, made.material_id);
            for other in [context("b"), EncryptionContext::new()] {
                assert_eq!(admin.decrypt(&made.blob, &other, None).err(), Some(Error::invalid_ciphertext()));
            }
            assert_eq!(code(admin.decrypt(&made.blob, &context("a"), Some(&two))), Code::IncorrectKey);
            assert!(admin.decrypt(&made.blob, &context("a"), Some(&one)).is_ok());
        }
        for len in [0, 4097] {
            assert_eq!(code(admin.encrypt(&one, &vec![0; len], &context("a"))), Code::Validation);
        }
        assert_eq!(code(admin.decrypt(&[], &context("a"), None)), Code::Validation);
        assert_eq!(code(admin.decrypt(&[1; 6145], &context("a"), None)), Code::Validation);
        assert_eq!(code(admin.decrypt(&[1; 100], &context("a"), None)), Code::InvalidCiphertext);
    }

    #[test]
    fn re_encrypting_changes_key_and_context_and_shows_nothing() {
        let (_dir, kms) = kms();
        let admin = kms.administer(CALLER);
        let (one, two) = (kms.create_key("").unwrap().arn, kms.create_key("").unwrap().arn);
        let made = admin.encrypt(&one, b"secret", &context("a")).unwrap();
        let (from, to) = admin.re_encrypt(&made.blob, (&context("a"), None), (&context("b"), &two)).unwrap();
        assert_eq!((from.key_arn, from.bytes.len(), to.key_arn), (one.clone(), 0, two.clone()));
        assert_eq!(&admin.decrypt(&to.blob, &context("b"), Some(&two)).unwrap().bytes[..], b"secret");
        kms.set_enabled(&two, false).unwrap();
        let refused = admin.re_encrypt(&made.blob, (&context("a"), None), (&context("b"), &two)).err();
        assert_eq!(refused, Some(Error::new(Code::Disabled, format!("{two} is disabled."))));
    }

    #[test]
    fn data_keys_have_the_length_that_was_asked_for() {
        let (_dir, kms) = kms();
        let admin = kms.administer(CALLER);
        let key = kms.create_key("").unwrap().arn;
        for (spec, len) in [(DataKeySpec::Aes128, 16), (DataKeySpec::Aes256, 32), (DataKeySpec::Bytes(1024), 1024)] {
            let (plaintext, made) = admin.generate_data_key(&key, spec, &context("a"), "GenerateDataKey").unwrap();
            assert_eq!(plaintext.len(), len);
            assert_eq!(admin.decrypt(&made.blob, &context("a"), None).unwrap().bytes, plaintext);
        }
        for bad in [0, 1025] {
            let refused = admin.generate_data_key(&key, DataKeySpec::Bytes(bad), &context("a"), "GenerateDataKey");
            assert_eq!(code(refused), Code::Validation);
            assert_eq!(code(admin.generate_random(bad)), Code::Validation);
        }
        assert_eq!(admin.generate_random(7).unwrap().len(), 7);
        assert_ne!(admin.generate_random(16).unwrap(), admin.generate_random(16).unwrap());
    }

    #[test]
    fn a_mounts_blobs_are_the_same_and_the_services_own_are_nobodys() {
        let (_dir, kms) = kms();
        let admin = kms.administer(CALLER);
        let key = kms.create_key("").unwrap().arn;
        let generated = Kms::generate_data_key(&*kms, &key, &context("a"), &CALLER).unwrap();
        assert_eq!(admin.decrypt(&generated.ciphertext_blob, &context("a"), None).unwrap().bytes.len(), 32);
        let (_, made) = admin.generate_data_key(&key, DataKeySpec::Aes256, &context("a"), "GenerateDataKey").unwrap();
        assert!(Kms::decrypt(&*kms, &key, &made.blob, &context("a"), &CALLER).is_ok());
        let (_, blob) = ServiceKey::generate_data_key(&*kms, &context("a")).unwrap();
        assert_eq!(code(admin.decrypt(&blob, &context("a"), None)), Code::InvalidCiphertext);
    }
}
