//! What is asked for.

use super::{Constraints, Expiration, GrantRequest, NewKey, PageRequest, Retired, Tag, WrappingKeySpec};
use crate::EncryptionContext;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// One call, with AWS's names of operations and parameters. `key_id` is a key id or an ARN and, where AWS takes one, an
/// alias.
///
/// It serializes as CloudTrail's `requestParameters`: plaintexts, ciphertext blobs, tokens and pages are not in them.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Request {
    CreateKey(NewKey),
    DescribeKey {
        key_id: String,
    },
    ListKeys {
        #[serde(skip)]
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
        #[serde(skip_serializing_if = "Option::is_none")]
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
        #[serde(skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
        #[serde(skip)]
        page: PageRequest,
    },
    TagResource {
        key_id: String,
        #[serde(serialize_with = "as_tags")]
        tags: Vec<Tag>,
    },
    UntagResource {
        key_id: String,
        tag_keys: Vec<String>,
    },
    ListResourceTags {
        key_id: String,
        #[serde(skip)]
        page: PageRequest,
    },
    EnableKeyRotation {
        key_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
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
        #[serde(skip)]
        page: PageRequest,
    },
    GetParametersForImport {
        key_id: String,
        wrapping_algorithm: WrappingAlgorithm,
        wrapping_key_spec: WrappingKeySpec,
    },
    ImportKeyMaterial {
        key_id: String,
        #[serde(skip)]
        import_token: Vec<u8>,
        #[serde(skip)]
        encrypted_key_material: Vec<u8>,
        #[serde(flatten, serialize_with = "as_expiration")]
        expiration: Expiration,
        #[serde(skip_serializing_if = "Option::is_none")]
        import_type: Option<ImportType>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_material_id: Option<String>,
    },
    DeleteImportedKeyMaterial {
        key_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_material_id: Option<String>,
    },
    Encrypt {
        key_id: String,
        #[serde(skip)]
        plaintext: Zeroizing<Vec<u8>>,
        #[serde(skip_serializing_if = "EncryptionContext::is_empty")]
        encryption_context: EncryptionContext,
    },
    Decrypt {
        #[serde(skip)]
        ciphertext_blob: Vec<u8>,
        #[serde(skip_serializing_if = "EncryptionContext::is_empty")]
        encryption_context: EncryptionContext,
        /// The key that the blob must name.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
    ReEncrypt {
        #[serde(skip)]
        ciphertext_blob: Vec<u8>,
        #[serde(skip_serializing_if = "EncryptionContext::is_empty")]
        source_encryption_context: EncryptionContext,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_key_id: Option<String>,
        destination_key_id: String,
        #[serde(skip_serializing_if = "EncryptionContext::is_empty")]
        destination_encryption_context: EncryptionContext,
    },
    GenerateDataKey(DataKeyRequest),
    GenerateDataKeyWithoutPlaintext(DataKeyRequest),
    GenerateRandom {
        number_of_bytes: u64,
    },
    PutKeyPolicy {
        key_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_name: Option<String>,
        policy: String,
        bypass_policy_lockout_safety_check: bool,
    },
    GetKeyPolicy {
        key_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_name: Option<String>,
    },
    ListKeyPolicies {
        key_id: String,
        #[serde(skip)]
        page: PageRequest,
    },
    CreateGrant {
        key_id: String,
        #[serde(flatten)]
        grant: GrantRequest,
        #[serde(skip)]
        grant_tokens: Vec<String>,
    },
    ListGrants {
        key_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        grant_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        grantee_principal: Option<String>,
        #[serde(skip)]
        page: PageRequest,
    },
    ListRetirableGrants {
        retiring_principal: String,
        #[serde(skip)]
        page: PageRequest,
    },
    RevokeGrant {
        key_id: String,
        grant_id: String,
    },
    RetireGrant(Retired),
    /// Not AWS's: the objects of the store that a key protects. Answers which key that is, as DescribeKey permits it.
    ListObjects {
        key_id: String,
        count: bool,
    },
}

/// What GenerateDataKey and its sibling without plaintext are asked for: a specification or a number of bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyRequest {
    pub key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_spec: Option<KeySpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_bytes: Option<u64>,
    #[serde(skip_serializing_if = "EncryptionContext::is_empty")]
    pub encryption_context: EncryptionContext,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(clippy::enum_variant_names)] // AWS's names.
pub enum KeySpec {
    #[serde(rename = "AES_256")]
    Aes256,
    #[serde(rename = "AES_128")]
    Aes128,
}

/// Whether a key's first material, which no rotation made, is listed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IncludeKeyMaterial {
    RotationsOnly,
    AllKeyMaterial,
}

/// How imported key material is wrapped on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum WrappingAlgorithm {
    #[serde(rename = "RSAES_OAEP_SHA_256")]
    RsaesOaepSha256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ImportType {
    NewKeyMaterial,
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
            Self::ListObjects { .. } => "ListObjects",
        }
    }

    /// CloudTrail's `requestParameters`, an object.
    pub fn parameters(&self) -> Value {
        serde_json::to_value(self).expect("texts, numbers and lists of them can be serialized")
    }
}

pub fn as_tags<S: Serializer>(tags: &[Tag], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter().map(|tag| json!({"tagKey": tag.key, "tagValue": tag.value})))
}

pub fn as_constraints<S: Serializer>(constraints: &Constraints, serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = [
        ("encryptionContextSubset", &constraints.encryption_context_subset),
        ("encryptionContextEquals", &constraints.encryption_context_equals),
    ];
    serializer.collect_map(pairs.into_iter().filter(|(_, pairs)| pairs.is_some()))
}

fn as_expiration<S: Serializer>(expiration: &Expiration, serializer: S) -> Result<S::Ok, S::Error> {
    let valid_to = match expiration {
        Expiration::Never => None,
        Expiration::At(time) => Some(super::TimeForm::Text.of(*time)),
    };
    let model = ("expirationModel", json!(expiration.model()));
    serializer.collect_map([Some(model), valid_to.map(|time| ("validTo", time))].into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::KeyOrigin;

    fn key_id() -> String {
        "k".into()
    }

    #[test]
    fn parameters_are_cloudtrails_and_have_nothing_secret() {
        let context: EncryptionContext = [("a".to_owned(), "1".to_owned())].into();
        let secret = || b"secret".to_vec();
        let cases = [
            (
                Request::Encrypt {
                    key_id: "alias/x".into(),
                    plaintext: Zeroizing::new(secret()),
                    encryption_context: context.clone(),
                },
                json!({"keyId": "alias/x", "encryptionContext": {"a": "1"}}),
            ),
            (
                Request::Decrypt {
                    ciphertext_blob: secret(),
                    encryption_context: EncryptionContext::new(),
                    key_id: None,
                },
                json!({}),
            ),
            (
                Request::GenerateDataKey(DataKeyRequest {
                    key_id: key_id(),
                    key_spec: Some(KeySpec::Aes256),
                    number_of_bytes: None,
                    encryption_context: EncryptionContext::new(),
                }),
                json!({"keyId": "k", "keySpec": "AES_256"}),
            ),
            (
                Request::ImportKeyMaterial {
                    key_id: key_id(),
                    import_token: secret(),
                    encrypted_key_material: secret(),
                    expiration: Expiration::At(0),
                    import_type: Some(ImportType::NewKeyMaterial),
                    key_material_id: None,
                },
                json!({"keyId": "k", "expirationModel": "KEY_MATERIAL_EXPIRES",
                    "validTo": "1970-01-01T00:00:00.000000+00:00", "importType": "NEW_KEY_MATERIAL"}),
            ),
            (
                Request::PutKeyPolicy {
                    key_id: key_id(),
                    policy_name: None,
                    policy: "{}".into(),
                    bypass_policy_lockout_safety_check: false,
                },
                json!({"keyId": "k", "policy": "{}", "bypassPolicyLockoutSafetyCheck": false}),
            ),
            (
                Request::CreateKey(NewKey {
                    tags: vec![Tag { key: "team".into(), value: "billing".into() }],
                    origin: KeyOrigin::External,
                    ..NewKey::default()
                }),
                json!({"description": "", "tags": [{"tagKey": "team", "tagValue": "billing"}], "origin": "EXTERNAL",
                    "bypassPolicyLockoutSafetyCheck": false}),
            ),
            (
                Request::CreateGrant {
                    key_id: key_id(),
                    grant: GrantRequest {
                        grantee_principal: "alice".into(),
                        operations: vec!["Decrypt".into()],
                        constraints: Constraints { encryption_context_subset: Some(context), ..Constraints::default() },
                        ..GrantRequest::default()
                    },
                    grant_tokens: vec!["secret".into()],
                },
                json!({"keyId": "k", "granteePrincipal": "alice", "operations": ["Decrypt"],
                    "constraints": {"encryptionContextSubset": {"a": "1"}}}),
            ),
            (Request::RetireGrant(Retired::Token { grant_token: "secret".into() }), json!({})),
            (Request::ListKeys { page: PageRequest { limit: Some(3), marker: None } }, json!({})),
            (Request::ListObjects { key_id: key_id(), count: false }, json!({"keyId": "k", "count": false})),
        ];
        for (request, expected) in cases {
            assert_eq!(request.parameters(), expected, "{}", request.name());
        }
    }
}
