//! A KMS that may refuse, or in which something else happens while it is asked.

use super::*;
use kmsfs_kms::Code;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

type Asked = Arc<dyn Fn(u64) -> Result<(), Error> + Send + Sync>;

/// Answers as `OneKey` does once `asked`, which hears the number of the call, lets it.
pub struct Moody {
    key: OneKey,
    pub calls: AtomicU64,
    asked: RwLock<Asked>,
}

impl Moody {
    pub fn new() -> Arc<Self> {
        let asked: Asked = Arc::new(|_| Ok(()));
        Arc::new(Self { key: OneKey::new(), calls: AtomicU64::new(0), asked: RwLock::new(asked) })
    }

    fn ask(&self) -> Result<(), Error> {
        let asked = self.asked.read().clone();
        asked(self.calls.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// From the next call on, which has number 1.
    pub fn answer(&self, asked: impl Fn(u64) -> Result<(), Error> + Send + Sync + 'static) {
        *self.asked.write() = Arc::new(asked);
        self.calls.store(0, Ordering::SeqCst);
    }
}

impl ServiceKey for Moody {
    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error> {
        self.ask()?;
        ServiceKey::generate_data_key(&self.key, context)
    }

    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error> {
        self.ask()?;
        ServiceKey::encrypt(&self.key, plaintext, context)
    }

    fn decrypt(&self, blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
        self.ask()?;
        ServiceKey::decrypt(&self.key, blob, context)
    }

    fn store_format(&self) -> Result<u16, Error> {
        self.key.store_format()
    }

    fn raise_store_format(&self, version: u16) -> Result<(), Error> {
        self.key.raise_store_format(version)
    }
}

impl Kms for Moody {
    fn generate_data_key(&self, id: &str, context: &EncryptionContext, by: &Caller) -> Result<GeneratedDataKey, Error> {
        self.ask()?;
        Kms::generate_data_key(&self.key, id, context, by)
    }

    fn encrypt(
        &self,
        id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        by: &Caller,
    ) -> Result<(String, Vec<u8>), Error> {
        self.ask()?;
        Kms::encrypt(&self.key, id, plaintext, context, by)
    }

    fn decrypt(&self, arn: &str, blob: &[u8], context: &EncryptionContext, by: &Caller) -> Result<SecretKey, Error> {
        self.ask()?;
        Kms::decrypt(&self.key, arn, blob, context, by)
    }

    fn authorize(&self, arn: &str, what: Operation, context: &EncryptionContext, by: &Caller) -> Result<(), Error> {
        self.ask()?;
        self.key.authorize(arn, what, context, by)
    }
}

/// Refuses one key, as `OneKey` has it.
pub struct Choosy {
    key: OneKey,
    refused: RwLock<Option<String>>,
}

impl Choosy {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { key: OneKey::new(), refused: RwLock::new(None) })
    }

    pub fn refuse(&self, key_arn: Option<&str>) {
        *self.refused.write() = key_arn.map(str::to_owned);
    }

    fn ask(&self, key: &str) -> Result<(), Error> {
        let refused = self.refused.read().as_ref().is_some_and(|refused| refused == key);
        if refused { Err(Error::new(Code::AccessDenied, "no")) } else { Ok(()) }
    }
}

impl Kms for Choosy {
    fn generate_data_key(&self, id: &str, context: &EncryptionContext, by: &Caller) -> Result<GeneratedDataKey, Error> {
        Kms::generate_data_key(&self.key, id, context, by)
    }

    fn encrypt(
        &self,
        id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        by: &Caller,
    ) -> Result<(String, Vec<u8>), Error> {
        Kms::encrypt(&self.key, id, plaintext, context, by)
    }

    fn decrypt(&self, arn: &str, blob: &[u8], context: &EncryptionContext, by: &Caller) -> Result<SecretKey, Error> {
        self.ask(arn)?;
        Kms::decrypt(&self.key, arn, blob, context, by)
    }

    fn authorize(&self, arn: &str, what: Operation, context: &EncryptionContext, by: &Caller) -> Result<(), Error> {
        self.ask(arn)?;
        self.key.authorize(arn, what, context, by)
    }
}
