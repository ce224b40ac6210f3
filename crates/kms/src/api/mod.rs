//! The calls of AWS KMS as values: what is asked for, and what is answered. The command line, the audit trail and
//! whatever else carries calls share them; how a call is spelled (arguments, JSON) is the carrier's alone.

mod answer;
mod cryptography;
mod grants;
mod json;
mod key_stores;
mod keys;
mod material;
mod page;
mod request;
pub mod validation;

pub use answer::{Answer, TimeForm};
pub use cryptography::{Ciphertext, Plaintext};
pub use grants::{Constraints, Grant, GrantEntry, GrantRequest, OPERATIONS, Retired};
pub(crate) use json::small;
pub use key_stores::{KeyStore, KeyStoreChange, KeyStoreLimits, KeyStoreRequest, NewKeyStore};
pub use keys::{AliasEntry, Deletion, KeyManager, KeyMetadata, KeyOrigin, KeyState, NewKey, Tag};
pub use material::{Expiration, ImportParameters, Imported, Rotation, RotationKind, RotationStatus, WrappingKeySpec};
pub use page::{Page, PageRequest};
pub use request::{DataKeyRequest, ImportType, IncludeKeyMaterial, KeySpec, Request, WrappingAlgorithm};

use super::{Error, Principal};

/// A KMS that administers keys and encrypts for whoever calls it directly, rather than through a mount.
pub trait Service: Send + Sync {
    /// Makes the call on behalf of the caller.
    ///
    /// # Errors
    ///
    /// AWS's error for it: a refusal, or `Error::is_outage` where the KMS could not answer.
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error>;
}
