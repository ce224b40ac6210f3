//! What the cryptographic calls return.

use zeroize::Zeroizing;

/// What Encrypt, and the second half of ReEncrypt and GenerateDataKey, answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphertext {
    /// The KMS key that was used.
    pub key_arn: String,
    /// Which of its materials, hexadecimal.
    pub material_id: String,
    /// The ciphertext, which names both in a form of the KMS's own.
    pub blob: Vec<u8>,
}

/// What Decrypt answers.
pub struct Plaintext {
    /// The KMS key that was used.
    pub key_arn: String,
    /// Which of its materials, hexadecimal.
    pub material_id: String,
    /// What was encrypted.
    pub bytes: Zeroizing<Vec<u8>>,
}
