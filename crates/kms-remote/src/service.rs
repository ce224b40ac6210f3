//! Direct calls, by those who use no mount.

use crate::RemoteKms;
use crate::protocol::{Call, Reply};
use kmsfs_crypto::{SecretKey, random};
use kmsfs_kms::api::{
    Answer, Ciphertext, DataKeyRequest, KeyManager, KeyMetadata, KeyOrigin, KeySpec, KeyState, Plaintext, Request,
    Service,
};
use kmsfs_kms::{Code, EncryptionContext, Error, Principal};
use zeroize::Zeroizing;

/// Most bytes of a data key, as AWS has it.
const LONGEST_DATA_KEY: u64 = 1024;
/// Most bytes that Encrypt takes, as AWS has it.
const LONGEST_PLAINTEXT: usize = 4096;

impl Service for RemoteKms {
    fn call(&self, request: &Request, _: &Principal) -> Result<Answer, Error> {
        match request {
            Request::DescribeKey { key_id } => self.metadata(key_id).map(Answer::Key),
            Request::Encrypt { plaintext, .. } if plaintext.is_empty() || plaintext.len() > LONGEST_PLAINTEXT => {
                Err(Error::new(Code::Validation, "Plaintext has 1 to 4096 bytes."))
            }
            Request::Encrypt { key_id, plaintext, encryption_context } => {
                self.seal(key_id, plaintext.clone(), encryption_context).map(Answer::Encrypted)
            }
            Request::Decrypt { ciphertext_blob, encryption_context, key_id } => {
                let key_arn = named(key_id.as_ref())?.clone();
                let bytes = self.shared().open(&key_arn, ciphertext_blob, encryption_context)?;
                Ok(Answer::Decrypted(Plaintext { key_arn, material_id: String::new(), bytes }))
            }
            Request::GenerateDataKey(asked) => {
                let (plaintext, wrapped) = self.data_key(asked)?;
                Ok(Answer::DataKey { plaintext: Some(plaintext), wrapped })
            }
            Request::GenerateDataKeyWithoutPlaintext(asked) => {
                let (_, wrapped) = self.data_key(asked)?;
                Ok(Answer::DataKey { plaintext: None, wrapped })
            }
            Request::ReEncrypt {
                ciphertext_blob,
                source_encryption_context,
                source_key_id,
                destination_key_id,
                destination_encryption_context,
            } => self.re_encrypt(
                (named(source_key_id.as_ref())?, ciphertext_blob, source_encryption_context),
                (destination_key_id, destination_encryption_context),
            ),
            _ => {
                let text = format!("{} is for the KMS that keeps the key: call it there.", request.name());
                Err(Error::new(Code::UnsupportedOperation, text))
            }
        }
    }
}

impl RemoteKms {
    fn metadata(&self, key_id: &str) -> Result<KeyMetadata, Error> {
        let (arn, state, description) = self.shared().describe(key_id)?;
        let state = match state.as_str() {
            "Enabled" => KeyState::Enabled,
            "PendingDeletion" => KeyState::PendingDeletion,
            "PendingImport" => KeyState::PendingImport,
            _ => KeyState::Disabled,
        };
        Ok(KeyMetadata {
            account_id: arn.split(':').nth(4).unwrap_or_default().to_owned(),
            key_id: arn.rsplit('/').next().unwrap_or_default().to_owned(),
            arn,
            created: 0,
            description: description.unwrap_or_default(),
            state,
            origin: KeyOrigin::External,
            manager: KeyManager::Customer,
            material_id: None,
            deletion: None,
            expiration: None,
        })
    }

    fn seal(
        &self,
        key_id: &str,
        plaintext: Zeroizing<Vec<u8>>,
        context: &EncryptionContext,
    ) -> Result<Ciphertext, Error> {
        let (key_arn, blob) = self.shared().seal(key_id, plaintext, context)?;
        Ok(Ciphertext { key_arn, material_id: String::new(), blob })
    }

    /// A provider makes keys of 32 bytes; others are made here, and wrapped there.
    fn data_key(&self, asked: &DataKeyRequest) -> Result<(Zeroizing<Vec<u8>>, Ciphertext), Error> {
        let DataKeyRequest { key_id, encryption_context: context, .. } = asked;
        let len = match (asked.key_spec, asked.number_of_bytes) {
            (Some(KeySpec::Aes256), None) => SecretKey::LEN,
            (Some(KeySpec::Aes128), None) => 16,
            (None, Some(count @ 1..=LONGEST_DATA_KEY)) => count as usize,
            _ => return Err(Error::new(Code::Validation, "Please specify either number of bytes or key spec.")),
        };
        if len == SecretKey::LEN {
            let made = self.shared().generate(key_id, context)?;
            let wrapped = Ciphertext { key_arn: made.key_arn, material_id: String::new(), blob: made.ciphertext_blob };
            return Ok((made.plaintext.into_plaintext(), wrapped));
        }
        let mut plaintext = Zeroizing::new(vec![0; len]);
        random::fill(&mut plaintext);
        let wrapped = self.seal(key_id, plaintext.clone(), context)?;
        Ok((plaintext, wrapped))
    }

    fn re_encrypt(
        &self,
        (source, blob, context): (&str, &[u8], &EncryptionContext),
        (destination, new_context): (&str, &EncryptionContext),
    ) -> Result<Answer, Error> {
        let call = Call::ReEncrypt {
            source_key_id: source.to_owned(),
            ciphertext_blob: blob.to_owned(),
            source_context: context.clone(),
            destination_key_id: destination.to_owned(),
            destination_context: new_context.clone(),
        };
        let destination = match self.shared().ask(&call) {
            Ok((Reply::Encrypted { key_id, ciphertext_blob }, _)) => {
                Ciphertext { key_arn: key_id, material_id: String::new(), blob: ciphertext_blob }
            }
            Ok(_) => return Err(self.shared().lies(Some(destination), "another operation's result")),
            Err(error) if error.code == Code::UnsupportedOperation => {
                self.seal(destination, self.shared().open(source, blob, context)?, new_context)?
            }
            Err(error) => return Err(error),
        };
        let (key_arn, bytes) = (source.to_owned(), Zeroizing::default());
        Ok(Answer::ReEncrypted { source: Plaintext { key_arn, material_id: String::new(), bytes }, destination })
    }
}

fn named(key_id: Option<&String>) -> Result<&String, Error> {
    key_id.ok_or_else(|| Error::new(Code::Validation, "Please name the key that the ciphertext was made with."))
}
