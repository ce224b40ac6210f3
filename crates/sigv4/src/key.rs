//! Signing keys, and the signatures that they make.

use kmsfs_crypto::{MacKey, SecretKey};
use zeroize::Zeroizing;

/// The secret half of an access key, as a user has it. It is zeroized when dropped, and printing it shows nothing.
pub struct SecretAccessKey(Zeroizing<Vec<u8>>);

impl SecretAccessKey {
    /// A copy of the secret's text: 40 characters where AWS makes them, of any length here.
    pub fn new(secret: &str) -> Self {
        let mut prefixed = Zeroizing::new(Vec::with_capacity(PREFIX.len() + secret.len()));
        prefixed.extend_from_slice(PREFIX);
        prefixed.extend_from_slice(secret.as_bytes());
        Self(prefixed)
    }
}

impl std::fmt::Debug for SecretAccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretAccessKey(..)")
    }
}

/// What goes before the secret where a signing key is derived.
const PREFIX: &[u8] = b"AWS4";

/// A key for the requests of one access key on one day to one service of one region. It is zeroized when dropped.
pub struct SigningKey(MacKey);

impl SigningKey {
    /// HMAC-SHA-256 of `date` (eight digits, as [`Credential::date`](crate::Credential::date) has it) under the secret,
    /// of the region under that, then of the service and of `aws4_request` (AWS IAM User Guide, "Create a signed AWS
    /// API request", step 4).
    pub fn derive(secret: &SecretAccessKey, date: &str, region: &str, service: &str) -> Self {
        let texts = [date, region, service, TERMINAL].map(str::as_bytes);
        Self(MacKey::chained(&secret.0, &texts))
    }

    /// A key that was derived elsewhere, in the process that holds the secrets.
    pub fn from_secret(key: SecretKey) -> Self {
        Self(MacKey::from_secret(key))
    }

    /// The key itself, to hand to the process that verifies.
    pub fn into_secret(self) -> SecretKey {
        self.0.into_secret()
    }

    /// The signature of the string to sign.
    pub(crate) fn sign(&self, string_to_sign: &str) -> Signature {
        Signature(self.0.tag(&[string_to_sign.as_bytes()]))
    }

    /// Whether the signature is that of the string to sign; in constant time.
    pub(crate) fn signed(&self, string_to_sign: &str, signature: &Signature) -> bool {
        self.0.verify(&[string_to_sign.as_bytes()], &signature.0)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// The last part of every credential scope of version 4.
pub(crate) const TERMINAL: &str = "aws4_request";

/// An HMAC-SHA-256, in text 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature([u8; MacKey::LEN]);

impl Signature {
    /// `None` where the text has another form: no signature is written so.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let lower = text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let mut bytes = [0; MacKey::LEN];
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
