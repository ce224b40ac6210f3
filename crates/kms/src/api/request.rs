//! What is asked for.

use super::{Expiration, GrantRequest, KeyStoreRequest, NewKey, PageRequest, Retired, Tag, WrappingKeySpec};
use crate::EncryptionContext;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// One call, with AWS's names of operations and parameters. `key_id` is a key id or an ARN and, where AWS takes one, an
/// alias.
///
/// It serializes as a whole, secrets too, for frames between processes; JSON is [`Request::to_json`]'s.
#[derive(Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // Operations and their members have AWS's names and AWS's meaning.
pub enum Request {
    CreateKey(NewKey),
    DescribeKey {
        key_id: String,
    },
    ListKeys {
        page: PageRequest,
    },
    UpdateKeyDescription {
        key_id: String,
        description: String,
    },
    DisableKey {
        key_id: String,
    },
    EnableKey {
        key_id: String,
    },
    ScheduleKeyDeletion {
        key_id: String,
        pending_window_in_days: Option<u64>,
    },
    CancelKeyDeletion {
        key_id: String,
    },
    CreateAlias {
        alias_name: String,
        target_key_id: String,
    },
    UpdateAlias {
        alias_name: String,
        target_key_id: String,
    },
    DeleteAlias {
        alias_name: String,
    },
    ListAliases {
        key_id: Option<String>,
        page: PageRequest,
    },
    TagResource {
        key_id: String,
        tags: Vec<Tag>,
    },
    UntagResource {
        key_id: String,
        tag_keys: Vec<String>,
    },
    ListResourceTags {
        key_id: String,
        page: PageRequest,
    },
    EnableKeyRotation {
        key_id: String,
        rotation_period_in_days: Option<u64>,
    },
    DisableKeyRotation {
        key_id: String,
    },
    GetKeyRotationStatus {
        key_id: String,
    },
    RotateKeyOnDemand {
        key_id: String,
    },
    ListKeyRotations {
        key_id: String,
        include_key_material: IncludeKeyMaterial,
        page: PageRequest,
    },
    GetParametersForImport {
        key_id: String,
        wrapping_algorithm: WrappingAlgorithm,
        wrapping_key_spec: WrappingKeySpec,
    },
    ImportKeyMaterial {
        key_id: String,
        import_token: Vec<u8>,
        encrypted_key_material: Vec<u8>,
        expiration: Expiration,
        import_type: Option<ImportType>,
        key_material_id: Option<String>,
    },
    DeleteImportedKeyMaterial {
        key_id: String,
        key_material_id: Option<String>,
    },
    Encrypt {
        key_id: String,
        plaintext: Zeroizing<Vec<u8>>,
        encryption_context: EncryptionContext,
    },
    Decrypt {
        ciphertext_blob: Vec<u8>,
        encryption_context: EncryptionContext,
        /// The key that the blob must name.
        key_id: Option<String>,
    },
    ReEncrypt {
        ciphertext_blob: Vec<u8>,
        source_encryption_context: EncryptionContext,
        source_key_id: Option<String>,
        destination_key_id: String,
        destination_encryption_context: EncryptionContext,
    },
    GenerateDataKey(DataKeyRequest),
    GenerateDataKeyWithoutPlaintext(DataKeyRequest),
    GenerateRandom {
        number_of_bytes: u64,
    },
    PutKeyPolicy {
        key_id: String,
        policy_name: Option<String>,
        policy: String,
        bypass_policy_lockout_safety_check: bool,
    },
    GetKeyPolicy {
        key_id: String,
        policy_name: Option<String>,
    },
    ListKeyPolicies {
        key_id: String,
        page: PageRequest,
    },
    CreateGrant {
        key_id: String,
        grant: GrantRequest,
        grant_tokens: Vec<String>,
    },
    ListGrants {
        key_id: String,
        grant_id: Option<String>,
        grantee_principal: Option<String>,
        page: PageRequest,
    },
    ListRetirableGrants {
        retiring_principal: String,
        page: PageRequest,
    },
    RevokeGrant {
        key_id: String,
        grant_id: String,
    },
    RetireGrant(Retired),
    /// About custom key stores.
    KeyStore(KeyStoreRequest),
    /// Not AWS's: the objects of the store that a key protects. Answers which key that is, as DescribeKey permits it.
    ListObjects {
        key_id: String,
        count: bool,
    },
}

/// What GenerateDataKey and its sibling without plaintext are asked for: a specification or a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKeyRequest {
    /// As the caller names it.
    pub key_id: String,
    /// How long it is to be.
    pub key_spec: Option<KeySpec>,
    /// How long it is to be: 1 to 1024.
    pub number_of_bytes: Option<u64>,
    /// What it is bound to.
    pub encryption_context: EncryptionContext,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names)] // AWS's names.
/// How long a data key is.
pub enum KeySpec {
    /// 32 bytes.
    Aes256,
    /// 16 bytes.
    Aes128,
}

/// Whether a key's first material, which no rotation made, is listed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IncludeKeyMaterial {
    /// It is not.
    RotationsOnly,
    /// It is.
    AllKeyMaterial,
}

/// How imported key material is wrapped on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrappingAlgorithm {
    /// RSAES-OAEP with SHA-256.
    RsaesOaepSha256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
/// Whether imported material is new to the key.
pub enum ImportType {
    /// It becomes the key's newest.
    NewKeyMaterial,
    /// It was the key's, and comes back.
    ExistingKeyMaterial,
}

impl Request {
    /// AWS's name of the call.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateKey(_) => "CreateKey",
            Self::DescribeKey { .. } => "DescribeKey",
            Self::ListKeys { .. } => "ListKeys",
            Self::UpdateKeyDescription { .. } => "UpdateKeyDescription",
            Self::DisableKey { .. } => "DisableKey",
            Self::EnableKey { .. } => "EnableKey",
            Self::ScheduleKeyDeletion { .. } => "ScheduleKeyDeletion",
            Self::CancelKeyDeletion { .. } => "CancelKeyDeletion",
            Self::CreateAlias { .. } => "CreateAlias",
            Self::UpdateAlias { .. } => "UpdateAlias",
            Self::DeleteAlias { .. } => "DeleteAlias",
            Self::ListAliases { .. } => "ListAliases",
            Self::TagResource { .. } => "TagResource",
            Self::UntagResource { .. } => "UntagResource",
            Self::ListResourceTags { .. } => "ListResourceTags",
            Self::EnableKeyRotation { .. } => "EnableKeyRotation",
            Self::DisableKeyRotation { .. } => "DisableKeyRotation",
            Self::GetKeyRotationStatus { .. } => "GetKeyRotationStatus",
            Self::RotateKeyOnDemand { .. } => "RotateKeyOnDemand",
            Self::ListKeyRotations { .. } => "ListKeyRotations",
            Self::GetParametersForImport { .. } => "GetParametersForImport",
            Self::ImportKeyMaterial { .. } => "ImportKeyMaterial",
            Self::DeleteImportedKeyMaterial { .. } => "DeleteImportedKeyMaterial",
            Self::Encrypt { .. } => "Encrypt",
            Self::Decrypt { .. } => "Decrypt",
            Self::ReEncrypt { .. } => "ReEncrypt",
            Self::GenerateDataKey(_) => "GenerateDataKey",
            Self::GenerateDataKeyWithoutPlaintext(_) => "GenerateDataKeyWithoutPlaintext",
            Self::GenerateRandom { .. } => "GenerateRandom",
            Self::PutKeyPolicy { .. } => "PutKeyPolicy",
            Self::GetKeyPolicy { .. } => "GetKeyPolicy",
            Self::ListKeyPolicies { .. } => "ListKeyPolicies",
            Self::CreateGrant { .. } => "CreateGrant",
            Self::ListGrants { .. } => "ListGrants",
            Self::ListRetirableGrants { .. } => "ListRetirableGrants",
            Self::RevokeGrant { .. } => "RevokeGrant",
            Self::RetireGrant(_) => "RetireGrant",
            Self::KeyStore(request) => request.name(),
            Self::ListObjects { .. } => "ListObjects",
        }
    }
}

impl Request {
    /// Whether the call is about who may use one key, or what it is called: its policy, grants, tags or aliases. These
    /// are kept here of keys that are elsewhere too.
    pub fn is_about_users_or_names(&self) -> bool {
        matches!(
            self,
            Self::PutKeyPolicy { .. }
                | Self::GetKeyPolicy { .. }
                | Self::ListKeyPolicies { .. }
                | Self::CreateGrant { .. }
                | Self::ListGrants { .. }
                | Self::RevokeGrant { .. }
                | Self::RetireGrant(_)
                | Self::CreateAlias { .. }
                | Self::UpdateAlias { .. }
                | Self::ListAliases { .. }
                | Self::TagResource { .. }
                | Self::UntagResource { .. }
                | Self::ListResourceTags { .. }
        )
    }

    /// The one key that the call is about, as the caller names it. ReEncrypt names two, and has none here; nor has what
    /// is about an alias, a grant's token or a blob alone.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::DescribeKey { key_id }
            | Self::UpdateKeyDescription { key_id, .. }
            | Self::DisableKey { key_id }
            | Self::EnableKey { key_id }
            | Self::ScheduleKeyDeletion { key_id, .. }
            | Self::CancelKeyDeletion { key_id }
            | Self::CreateAlias { target_key_id: key_id, .. }
            | Self::UpdateAlias { target_key_id: key_id, .. }
            | Self::TagResource { key_id, .. }
            | Self::UntagResource { key_id, .. }
            | Self::ListResourceTags { key_id, .. }
            | Self::EnableKeyRotation { key_id, .. }
            | Self::DisableKeyRotation { key_id }
            | Self::GetKeyRotationStatus { key_id }
            | Self::RotateKeyOnDemand { key_id }
            | Self::ListKeyRotations { key_id, .. }
            | Self::GetParametersForImport { key_id, .. }
            | Self::ImportKeyMaterial { key_id, .. }
            | Self::DeleteImportedKeyMaterial { key_id, .. }
            | Self::Encrypt { key_id, .. }
            | Self::GenerateDataKey(DataKeyRequest { key_id, .. })
            | Self::GenerateDataKeyWithoutPlaintext(DataKeyRequest { key_id, .. })
            | Self::PutKeyPolicy { key_id, .. }
            | Self::GetKeyPolicy { key_id, .. }
            | Self::ListKeyPolicies { key_id, .. }
            | Self::CreateGrant { key_id, .. }
            | Self::ListGrants { key_id, .. }
            | Self::RevokeGrant { key_id, .. }
            | Self::RetireGrant(Retired::Id { key_id, .. })
            | Self::ListObjects { key_id, .. } => Some(key_id),
            Self::Decrypt { key_id, .. } | Self::ListAliases { key_id, .. } => key_id.as_deref(),
            Self::CreateKey(_)
            | Self::ListKeys { .. }
            | Self::DeleteAlias { .. }
            | Self::ReEncrypt { .. }
            | Self::GenerateRandom { .. }
            | Self::ListRetirableGrants { .. }
            | Self::KeyStore(_)
            | Self::RetireGrant(Retired::Token { .. }) => None,
        }
    }
}

/// What is asked for, without what is secret.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name(), self.parameters())
    }
}

impl KeySpec {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES_256",
            Self::Aes128 => "AES_128",
        }
    }
}

impl IncludeKeyMaterial {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RotationsOnly => "ROTATIONS_ONLY",
            Self::AllKeyMaterial => "ALL_KEY_MATERIAL",
        }
    }
}

impl WrappingAlgorithm {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaesOaepSha256 => "RSAES_OAEP_SHA_256",
        }
    }
}

impl ImportType {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewKeyMaterial => "NEW_KEY_MATERIAL",
            Self::ExistingKeyMaterial => "EXISTING_KEY_MATERIAL",
        }
    }
}
