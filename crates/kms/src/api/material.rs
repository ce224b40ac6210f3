//! Key material: rotated and imported, as calls and answers describe it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationKind {
    Automatic,
    OnDemand,
}

/// What GetKeyRotationStatus answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStatus {
    pub key_arn: String,
    /// Period in days and next rotation, if it is enabled.
    pub automatic: Option<(u64, i64)>,
}

/// One material, as ListKeyRotations answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    pub key_arn: String,
    pub material_id: String,
    pub date: i64,
    /// `None` for the first material.
    pub kind: Option<RotationKind>,
    pub current: bool,
    /// Of imported material: whether it is there.
    pub imported: Option<bool>,
    pub expires: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrappingKeySpec {
    Rsa2048,
    Rsa3072,
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
    pub key_arn: String,
    pub import_token: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// Nanoseconds since 1970.
    pub valid_to: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub key_arn: String,
    pub material_id: String,
}
