//! What the audit trail asks the KMS that keeps the keys.

use crate::LocalKms;
use crate::blob;
use crate::keyring::{Lasting, material_name};
use kmsfs_crypto::ChainKey;
use kmsfs_kms::audit::{Done, Identity, RecordSource};
use kmsfs_kms::{Error, Principal};

impl LocalKms {
    /// The key of this keyring's audit logs.
    pub fn audit_key(&self) -> Result<ChainKey, Error> {
        self.lasting(Lasting::AuditLog).map(ChainKey::new)
    }
}

impl RecordSource for LocalKms {
    fn place(&self) -> (String, String) {
        LocalKms::place(self)
    }

    fn identity(&self, who: &Principal) -> Identity {
        let principals = self.directory.principals(who);
        Identity { arn: principals.arn(), user_name: principals.user() }
    }

    fn arn_of(&self, key_id: &str) -> Option<String> {
        LocalKms::arn_of(self, key_id)
    }

    fn material_of(&self, _key_id: &str, ciphertext_blob: &[u8]) -> Option<String> {
        blob::names(ciphertext_blob).map(|names| material_name(&names.material))
    }

    fn take_done(&self) -> Vec<Done> {
        LocalKms::take_done(self)
    }

    fn version_now(&self) -> u64 {
        LocalKms::version_now(self)
    }
}
