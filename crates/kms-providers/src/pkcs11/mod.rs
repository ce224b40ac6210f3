//! Keys in hardware, by PKCS#11: AES-256 keys that never leave it.
//!
//! A key is known by its label (`CKA_LABEL`). Several of one label are the versions of one key: the one with the
//! highest `CKA_ID` wraps, and each opens what it has wrapped. A data key is made of the kernel's random bytes and
//! wrapped inside the token, by AES-GCM with the encryption context as additional data; where the token has no GCM, by
//! AES key wrap (RFC 3394) of the data key and a hash of the context behind each other.

mod blob;
mod token;
mod tried;

use crate::configuration::{Invalid, Needs};
use crate::names::KeyNames;
use crate::retry::{TRY, tries};
use crate::secret::Secret;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::{Code, EncryptionContext, Error};
use kmsfs_kms_remote::protocol::{Call, Reply, Trace};
use kmsfs_kms_remote::{Backend, Identity};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use token::Token;

/// Which token, by which library.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The vendor's: `/usr/lib/softhsm/libsofthsm2.so`.
    pub library: PathBuf,
    /// The token's label.
    pub token: String,
    /// The user's PIN.
    pub pin: Secret,
    /// What wraps; AES-GCM where the token has it, if it is not given.
    pub mechanism: Option<Mechanism>,
    /// Labels of keys by ARN; a key without a place here is called as its ARN ends.
    #[serde(default)]
    pub keys: KeyNames,
}

/// What wraps data keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// `CKM_AES_GCM`.
    AesGcm,
    /// `CKM_AES_KEY_WRAP`.
    AesKeyWrap,
}

impl Configuration {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        match self.keys.wrong() {
            Some(wrong) => Err(Invalid(format!("'{wrong}' is no label of a key"))),
            None => Ok(()),
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs { files: vec![self.library.clone()], ..Needs::default() };
        needs.secret(&self.pin);
        needs
    }
}

/// The backend.
pub struct Pkcs11 {
    token: Token,
    keys: KeyNames,
    endpoint: String,
}

impl Pkcs11 {
    /// Loads the library. The token may be away. That the PIN was wrong is noted beside the configuration's file.
    ///
    /// # Errors
    ///
    /// There is no such library, or it does not start.
    pub fn new(configuration: Configuration, file: Option<&Path>) -> Result<Self, Invalid> {
        configuration.check()?;
        let Configuration { library, token, pin, mechanism, keys } = configuration;
        let endpoint = format!("{} token={token}", library.display());
        Ok(Self { token: Token::new(&library, token, pin, mechanism, file)?, keys, endpoint })
    }

    fn wrap(
        &self,
        key_id: &str,
        plaintext: &[u8],
        context: &EncryptionContext,
        (timeout, trace): (Duration, &mut Trace),
    ) -> Result<Vec<u8>, Error> {
        let label = self.keys.name_of(key_id)?;
        tries((TRY, timeout), trace, |_, _| {
            self.token.with(|session| blob::wrap(session, label, key_id, plaintext, context))
        })
    }
}

impl Backend for Pkcs11 {
    fn identity(&self) -> Identity {
        Identity { provider: "pkcs11".into(), endpoint: self.endpoint.clone() }
    }

    fn call(&self, call: &Call, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
        match call {
            Call::GenerateDataKey { key_id, context } => {
                let plaintext = SecretKey::random();
                let bytes = plaintext.duplicate().into_plaintext();
                let ciphertext_blob = self.wrap(key_id, &bytes, context, (timeout, trace))?;
                Ok(Reply::DataKey { key_id: key_id.clone(), plaintext, ciphertext_blob })
            }
            Call::Encrypt { key_id, plaintext, context } => {
                let ciphertext_blob = self.wrap(key_id, plaintext, context, (timeout, trace))?;
                Ok(Reply::Encrypted { key_id: key_id.clone(), ciphertext_blob })
            }
            Call::Decrypt { key_id, ciphertext_blob, context } => {
                let label = self.keys.name_of(key_id)?;
                let blob = blob::Blob::parse(ciphertext_blob).ok_or_else(Error::invalid_ciphertext)?;
                let plaintext = tries((TRY, timeout), trace, |_, _| {
                    self.token.with(|session| blob::unwrap(session, label, key_id, &blob, context))
                })?;
                Ok(Reply::Decrypted { key_id: key_id.clone(), plaintext })
            }
            Call::DescribeKey { key_id } => {
                let label = self.keys.name_of(key_id)?;
                let enabled =
                    tries((TRY, timeout), trace, |_, _| self.token.with(|session| session.is_enabled(label, key_id)))?;
                let key_state = if enabled { "Enabled" } else { "Disabled" }.to_owned();
                Ok(Reply::Key { key_id: key_id.clone(), key_state, description: Some(label.to_owned()) })
            }
            Call::Status => {
                let mechanism = tries((TRY, timeout), trace, |_, _| self.token.with(|session| Ok(session.mechanism)))?;
                let mut members = serde_json::Map::new();
                members.insert("Mechanism".into(), format!("{mechanism:?}").into());
                Ok(Reply::Status(members))
            }
            Call::ReEncrypt { .. } | Call::Hello { .. } => Err(Error::new(Code::UnsupportedOperation, "")),
        }
    }
}
