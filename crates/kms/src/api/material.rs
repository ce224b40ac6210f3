//! Key material: rotated and imported, as calls and answers describe it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// Why a key got new material.
pub enum RotationKind {
    /// It was time.
    Automatic,
    /// Somebody asked for it.
    OnDemand,
}

/// What GetKeyRotationStatus answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStatus {
    /// The key.
    pub key_arn: String,
    /// Period in days and next rotation, if it is enabled.
    pub automatic: Option<(u64, i64)>,
}

/// One material, as ListKeyRotations answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The key.
    pub key_arn: String,
    /// Hexadecimal.
    pub material_id: String,
    /// Nanoseconds since 1970.
    pub date: i64,
    /// `None` for the first material.
    pub kind: Option<RotationKind>,
    /// Whether it encrypts now.
    pub current: bool,
    /// Of imported material: whether it is there.
    pub imported: Option<bool>,
    /// Nanoseconds since 1970, of material that was imported for a time.
    pub expires: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
/// The public key that material is wrapped with on its way here.
pub enum WrappingKeySpec {
    /// 2048 bits.
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
    /// 4096 bits.
    Rsa4096,
}

impl WrappingKeySpec {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
        }
    }
}

/// Whether imported material expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// It does not.
    Never,
    /// Nanoseconds since 1970.
    At(i64),
}

impl Expiration {
    /// AWS's `ExpirationModel`.
    pub fn model(self) -> &'static str {
        match self {
            Self::Never => "KEY_MATERIAL_DOES_NOT_EXPIRE",
            Self::At(_) => "KEY_MATERIAL_EXPIRES",
        }
    }
}

/// What GetParametersForImport answers.
pub struct ImportParameters {
    /// The key.
    pub key_arn: String,
    /// Belongs to the public key.
    pub import_token: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// Nanoseconds since 1970.
    pub valid_to: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
/// What ImportKeyMaterial and DeleteImportedKeyMaterial return.
pub struct Imported {
    /// The key.
    pub key_arn: String,
    /// Hexadecimal.
    pub material_id: String,
}
