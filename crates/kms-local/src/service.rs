//! The key of the service itself, in the same keyring.

use super::blob::{self, Names};
use super::local::{LocalKms, SERVICE};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::{Code, EncryptionContext, Error, ServiceKey};

impl ServiceKey for LocalKms {
    fn rolled_back(&self) -> Option<String> {
        LocalKms::rolled_back(self).map(ToOwned::to_owned)
    }

    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error> {
        let key = SecretKey::random();
        let blob = ServiceKey::encrypt(self, &key, context)?;
        Ok((key, blob))
    }

    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error> {
        let names = self.ask(|contents| {
            let material = contents.service.last();
            let material = material.ok_or_else(|| Error::new(Code::KmsInternal, "the service has no key"))?;
            Ok(Names { key: SERVICE, material: material.id })
        })?;
        Ok(blob::wrap(names, &*self.unwrapped(names)?, plaintext, context))
    }

    fn decrypt(&self, ciphertext_blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
        let names = blob::names(ciphertext_blob).filter(|names| names.key == SERVICE);
        let names = names.ok_or_else(Error::invalid_ciphertext)?;
        self.ask(|_| Ok(()))?;
        let material = self.unwrapped(names)?;
        blob::unwrap(ciphertext_blob, &material, context).ok_or_else(Error::invalid_ciphertext)
    }

    fn store_format(&self) -> Result<u16, Error> {
        self.ask(|contents| Ok(contents.store_format()))
    }

    fn raise_store_format(&self, version: u16) -> Result<(), Error> {
        if self.store_format()? >= version {
            return Ok(());
        }
        self.change(|contents, _| {
            contents.raise_store_format(version);
            Ok(())
        })
    }
}
