//! What the cryptographic calls return.

use zeroize::Zeroizing;

/// What Encrypt, and the second half of ReEncrypt and GenerateDataKey, answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphertext {
    pub key_arn: String,
    pub material_id: String,
    pub blob: Vec<u8>,
}

/// What Decrypt answers.
pub struct Plaintext {
    pub key_arn: String,
    pub material_id: String,
    pub bytes: Zeroizing<Vec<u8>>,
}
