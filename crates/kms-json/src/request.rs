//! From `X-Amz-Target` and a body to a call. Ranges, words and what is required are those of AWS's service model
//! (kms 2014-11-01); what depends on a key is the KMS's to check.

use crate::Refusal;
use crate::json::Json;
use crate::members::Members;
use kmsfs_kms::EncryptionContext;
use kmsfs_kms::api::{
    Constraints, DataKeyRequest, Expiration, GrantRequest, ImportType, IncludeKeyMaterial, KeyOrigin, KeySpec,
    KeyStoreChange, KeyStoreRequest, NewKey, PageRequest, Request, Retired, Tag, WrappingAlgorithm, WrappingKeySpec,
};
use std::ops::RangeInclusive;

/// What every target begins with.
pub const TARGET: &str = "TrentService.";

/// Bytes of a body at most. The largest that means something has a policy of 131072 characters, some of them escaped.
pub const MOST: usize = 256 << 10;

const KEY_ID: RangeInclusive<usize> = 1..=2048;
const KEY_STORE: RangeInclusive<usize> = 1..=64;
const KEY_STORE_NAME: RangeInclusive<usize> = 1..=256;
const ALIAS: RangeInclusive<usize> = 1..=256;
const DESCRIPTION: RangeInclusive<usize> = 0..=8192;
const POLICY: RangeInclusive<usize> = 1..=131_072;
const POLICY_NAME: RangeInclusive<usize> = 1..=128;
const PRINCIPAL: RangeInclusive<usize> = 1..=256;
const GRANT_ID: RangeInclusive<usize> = 1..=128;
const TOKEN: RangeInclusive<usize> = 1..=8192;
const MATERIAL_ID: RangeInclusive<usize> = 64..=64;
const PLAINTEXT: RangeInclusive<usize> = 1..=4096;
const BLOB: RangeInclusive<usize> = 1..=6144;
const BYTES: RangeInclusive<u64> = 1..=1024;

/// The call that a target and a body are. Members that AWS does not know are passed over, as AWS does.
///
/// # Errors
///
/// `UnknownOperationException` for a target that is no operation, `UnsupportedOperationException` for operations and
/// options of AWS that kmsfs has not, `SerializationException` for what is not JSON or has another type,
/// `ValidationException` for what is missing or out of its range.
pub fn request(target: &str, body: &[u8]) -> Result<Request, Refusal> {
    let operation = target.strip_prefix(TARGET).filter(|name| OPERATIONS.contains(name) || ELSEWHERE.contains(name));
    let Some(operation) = operation else { return Err(Refusal::new("UnknownOperationException", "")) };
    if ELSEWHERE.contains(&operation) {
        return Err(Refusal::unsupported(format!("{operation} is not an operation of kmsfs.")));
    }
    if body.len() > MOST {
        return Err(Refusal::new("RequestEntityTooLargeException", format!("A body has {MOST} bytes at most")));
    }
    let json = Json::parse(body).ok_or_else(|| Refusal::serialization(""))?;
    let members = Members::of(&json)?;
    let request = read(operation, &members)?;
    members.finish()?;
    Ok(request)
}

/// Those that `kmsfs kms` has.
const OPERATIONS: [&str; 42] = [
    "CancelKeyDeletion",
    "ConnectCustomKeyStore",
    "CreateAlias",
    "CreateGrant",
    "CreateKey",
    "Decrypt",
    "DeleteAlias",
    "DeleteCustomKeyStore",
    "DeleteImportedKeyMaterial",
    "DescribeCustomKeyStores",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "DisconnectCustomKeyStore",
    "EnableKey",
    "EnableKeyRotation",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateRandom",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "GetParametersForImport",
    "ImportKeyMaterial",
    "ListAliases",
    "ListGrants",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListKeys",
    "ListResourceTags",
    "ListRetirableGrants",
    "PutKeyPolicy",
    "ReEncrypt",
    "RetireGrant",
    "RevokeGrant",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateCustomKeyStore",
    "UpdateKeyDescription",
];

/// AWS's others: asymmetric and HMAC keys, several regions. Which program speaks to another KMS, and by which file, is
/// said on the machine alone (`kmsfs kms`), and by no request: it is run there.
const ELSEWHERE: [&str; 12] = [
    "CreateCustomKeyStore",
    "DeriveSharedSecret",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateMac",
    "GetKeyLastUsage",
    "GetPublicKey",
    "ReplicateKey",
    "Sign",
    "UpdatePrimaryRegion",
    "Verify",
    "VerifyMac",
];

type Read<T> = Result<T, Refusal>;

/// What is required and missing is collected in `of`, so that the call means something only if nothing was.
fn read(operation: &str, of: &Members<'_, '_>) -> Read<Request> {
    let key_id = || required(of, "KeyId", KEY_ID);
    refuse_options(operation, of)?;
    Ok(match operation {
        "ConnectCustomKeyStore" => Request::KeyStore(KeyStoreRequest::Connect { id: key_store(of)? }),
        "DisconnectCustomKeyStore" => Request::KeyStore(KeyStoreRequest::Disconnect { id: key_store(of)? }),
        "DeleteCustomKeyStore" => Request::KeyStore(KeyStoreRequest::Delete { id: key_store(of)? }),
        "DescribeCustomKeyStores" => {
            page(of, 1000)?;
            let (id, name) = (of.text("CustomKeyStoreId", KEY_STORE)?, of.text("CustomKeyStoreName", KEY_STORE_NAME)?);
            Request::KeyStore(KeyStoreRequest::Describe { id, name })
        }
        "UpdateCustomKeyStore" => update_key_store(of)?,
        "CreateKey" => Request::CreateKey(new_key(of)?),
        "DescribeKey" => Request::DescribeKey { key_id: key_id()? },
        "ListKeys" => Request::ListKeys { page: page(of, 100)? },
        "UpdateKeyDescription" => {
            Request::UpdateKeyDescription { key_id: key_id()?, description: required(of, "Description", DESCRIPTION)? }
        }
        "DisableKey" => Request::DisableKey { key_id: key_id()? },
        "EnableKey" => Request::EnableKey { key_id: key_id()? },
        "ScheduleKeyDeletion" => Request::ScheduleKeyDeletion {
            key_id: key_id()?,
            pending_window_in_days: of.number("PendingWindowInDays", 1..=365)?,
        },
        "CancelKeyDeletion" => Request::CancelKeyDeletion { key_id: key_id()? },
        "CreateAlias" => Request::CreateAlias {
            alias_name: required(of, "AliasName", ALIAS)?,
            target_key_id: required(of, "TargetKeyId", KEY_ID)?,
        },
        "UpdateAlias" => Request::UpdateAlias {
            alias_name: required(of, "AliasName", ALIAS)?,
            target_key_id: required(of, "TargetKeyId", KEY_ID)?,
        },
        "DeleteAlias" => Request::DeleteAlias { alias_name: required(of, "AliasName", ALIAS)? },
        "ListAliases" => Request::ListAliases { key_id: of.text("KeyId", KEY_ID)?, page: page(of, 50)? },
        "TagResource" => Request::TagResource { key_id: key_id()?, tags: of.required("Tags", of.list("Tags", tag)?) },
        "UntagResource" => {
            Request::UntagResource { key_id: key_id()?, tag_keys: of.required("TagKeys", of.texts("TagKeys")?) }
        }
        "ListResourceTags" => Request::ListResourceTags { key_id: key_id()?, page: page(of, 50)? },
        "EnableKeyRotation" => Request::EnableKeyRotation {
            key_id: key_id()?,
            rotation_period_in_days: of.number("RotationPeriodInDays", 90..=2560)?,
        },
        "DisableKeyRotation" => Request::DisableKeyRotation { key_id: key_id()? },
        "GetKeyRotationStatus" => Request::GetKeyRotationStatus { key_id: key_id()? },
        "RotateKeyOnDemand" => Request::RotateKeyOnDemand { key_id: key_id()? },
        "ListKeyRotations" => Request::ListKeyRotations {
            key_id: key_id()?,
            include_key_material: choice_of(
                of,
                "IncludeKeyMaterial",
                &[IncludeKeyMaterial::AllKeyMaterial, IncludeKeyMaterial::RotationsOnly],
                IncludeKeyMaterial::name,
            )?
            .unwrap_or(IncludeKeyMaterial::RotationsOnly),
            page: page(of, 100)?,
        },
        "GetParametersForImport" => parameters_for_import(of)?,
        "ImportKeyMaterial" => import(of)?,
        "DeleteImportedKeyMaterial" => Request::DeleteImportedKeyMaterial {
            key_id: key_id()?,
            key_material_id: of.text("KeyMaterialId", MATERIAL_ID)?,
        },
        "Encrypt" => {
            algorithm(of, "EncryptionAlgorithm")?;
            Request::Encrypt {
                key_id: key_id()?,
                plaintext: of.required("Plaintext", of.bytes("Plaintext", PLAINTEXT)?),
                encryption_context: of.map("EncryptionContext")?,
            }
        }
        "Decrypt" => {
            algorithm(of, "EncryptionAlgorithm")?;
            Request::Decrypt {
                ciphertext_blob: required_blob(of, "CiphertextBlob")?,
                encryption_context: of.map("EncryptionContext")?,
                key_id: of.text("KeyId", KEY_ID)?,
            }
        }
        "ReEncrypt" => {
            algorithm(of, "SourceEncryptionAlgorithm")?;
            algorithm(of, "DestinationEncryptionAlgorithm")?;
            Request::ReEncrypt {
                ciphertext_blob: required_blob(of, "CiphertextBlob")?,
                source_encryption_context: of.map("SourceEncryptionContext")?,
                source_key_id: of.text("SourceKeyId", KEY_ID)?,
                destination_key_id: required(of, "DestinationKeyId", KEY_ID)?,
                destination_encryption_context: of.map("DestinationEncryptionContext")?,
            }
        }
        "GenerateDataKey" => Request::GenerateDataKey(data_key(of)?),
        "GenerateDataKeyWithoutPlaintext" => Request::GenerateDataKeyWithoutPlaintext(data_key(of)?),
        "GenerateRandom" => Request::GenerateRandom {
            number_of_bytes: of.required("NumberOfBytes", of.number("NumberOfBytes", BYTES)?),
        },
        "PutKeyPolicy" => Request::PutKeyPolicy {
            key_id: key_id()?,
            policy_name: of.text("PolicyName", POLICY_NAME)?,
            policy: required(of, "Policy", POLICY)?,
            bypass_policy_lockout_safety_check: of.flag("BypassPolicyLockoutSafetyCheck")?,
        },
        "GetKeyPolicy" => Request::GetKeyPolicy { key_id: key_id()?, policy_name: of.text("PolicyName", POLICY_NAME)? },
        "ListKeyPolicies" => Request::ListKeyPolicies { key_id: key_id()?, page: page(of, 100)? },
        "CreateGrant" => create_grant(of)?,
        "ListGrants" => Request::ListGrants {
            key_id: key_id()?,
            grant_id: of.text("GrantId", GRANT_ID)?,
            grantee_principal: of.text("GranteePrincipal", PRINCIPAL)?,
            page: page(of, 50)?,
        },
        "ListRetirableGrants" => Request::ListRetirableGrants {
            retiring_principal: required(of, "RetiringPrincipal", PRINCIPAL)?,
            page: page(of, 50)?,
        },
        "RevokeGrant" => Request::RevokeGrant { key_id: key_id()?, grant_id: required(of, "GrantId", GRANT_ID)? },
        "RetireGrant" => Request::RetireGrant(retired(of)?),
        other => unreachable!("{other} is none of OPERATIONS"),
    })
}

/// What would change what a call does, or whom it answers, is not passed over.
fn refuse_options(operation: &str, of: &Members<'_, '_>) -> Read<()> {
    // Grants hold at once, so that no token is needed to use one.
    of.texts("GrantTokens")?;
    if of.flag("DryRun")? {
        return Err(Refusal::unsupported("DryRun is not an option of kmsfs."));
    }
    let others = ["Recipient", "CustomKeyStoreId", "XksKeyId", "KeyMaterialDescription", "DryRunModifiers"];
    let is_about_key_stores = operation.contains("CustomKeyStore");
    let mut others = others.into_iter().filter(|name| !is_about_key_stores || *name != "CustomKeyStoreId");
    match others.find(|name| of.has(name)) {
        Some(name) => Err(Refusal::unsupported(format!("{name} is not an option of kmsfs."))),
        None => Ok(()),
    }
}

fn key_store(of: &Members<'_, '_>) -> Read<String> {
    required(of, "CustomKeyStoreId", KEY_STORE)
}

/// A new name; what it is reached by is said on the machine alone.
fn update_key_store(of: &Members<'_, '_>) -> Read<Request> {
    let reached_by = [
        "XksProxyUriEndpoint",
        "XksProxyUriPath",
        "XksProxyVpcEndpointServiceName",
        "XksProxyVpcEndpointServiceOwner",
        "XksProxyAuthenticationCredential",
        "XksProxyConnectivity",
        "KeyStorePassword",
        "CloudHsmClusterId",
    ];
    if let Some(name) = reached_by.into_iter().find(|name| of.has(name)) {
        return Err(Refusal::unsupported(format!("{name} is not an option of kmsfs.")));
    }
    let name = of.text("NewCustomKeyStoreName", KEY_STORE_NAME)?;
    let change = KeyStoreChange { name, ..KeyStoreChange::default() };
    Ok(Request::KeyStore(KeyStoreRequest::Update { id: key_store(of)?, change }))
}

fn required(of: &Members<'_, '_>, name: &str, range: RangeInclusive<usize>) -> Read<String> {
    Ok(of.required(name, of.text(name, range)?))
}

fn required_blob(of: &Members<'_, '_>, name: &str) -> Read<Vec<u8>> {
    Ok(of.required(name, of.bytes(name, BLOB)?).to_vec())
}

/// AWS answers so many entries where nothing is said.
fn page(of: &Members<'_, '_>, usual: u64) -> Read<PageRequest> {
    let limit = of.number("Limit", 1..=1000)?.unwrap_or(usual);
    Ok(PageRequest { limit: Some(limit), marker: of.text("Marker", 1..=1024)? })
}

fn choice_of<T: Copy>(of: &Members<'_, '_>, name: &str, all: &[T], word: fn(T) -> &'static str) -> Read<Option<T>> {
    let choices: Vec<_> = all.iter().map(|meaning| (word(*meaning), *meaning)).collect();
    of.choice(name, &choices)
}

/// One of AWS's words, of which kmsfs has some. `None` as a meaning is for the others.
fn had_of<T: Copy>(of: &Members<'_, '_>, name: &str, choices: &[(&str, Option<T>)]) -> Read<Option<T>> {
    match of.choice(name, choices)? {
        Some(None) => {
            let had: Vec<_> = choices.iter().filter(|(_, meaning)| meaning.is_some()).map(|(word, _)| *word).collect();
            Err(Refusal::unsupported(format!("The only {name} of kmsfs is {}.", had.join(", "))))
        }
        found => Ok(found.flatten()),
    }
}

/// Keys are symmetric ones.
fn algorithm(of: &Members<'_, '_>, name: &str) -> Read<()> {
    let words = ["SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"].map(|word| (word, word));
    match of.choice(name, &words)? {
        None | Some("SYMMETRIC_DEFAULT") => Ok(()),
        Some(other) => {
            let text = format!("{other} is not a valid encryption algorithm for a key of KeySpec SYMMETRIC_DEFAULT.");
            Err(Refusal::new("InvalidKeyUsageException", text))
        }
    }
}

fn tag(value: &Json<'_>) -> Read<Tag> {
    let of = Members::of(value)?;
    let (key, value) = (of.text("TagKey", 0..=usize::MAX)?, of.text("TagValue", 0..=usize::MAX)?);
    let tag = Tag { key: of.required("TagKey", key), value: of.required("TagValue", value) };
    of.finish()?;
    Ok(tag)
}

fn new_key(of: &Members<'_, '_>) -> Read<NewKey> {
    const SPECS: [(&str, Option<()>); 17] = [
        ("RSA_2048", None),
        ("RSA_3072", None),
        ("RSA_4096", None),
        ("ECC_NIST_P256", None),
        ("ECC_NIST_P384", None),
        ("ECC_NIST_P521", None),
        ("ECC_SECG_P256K1", None),
        ("SYMMETRIC_DEFAULT", Some(())),
        ("HMAC_224", None),
        ("HMAC_256", None),
        ("HMAC_384", None),
        ("HMAC_512", None),
        ("SM2", None),
        ("ML_DSA_44", None),
        ("ML_DSA_65", None),
        ("ML_DSA_87", None),
        ("ECC_NIST_EDWARDS25519", None),
    ];
    let usages =
        [("SIGN_VERIFY", None), ("ENCRYPT_DECRYPT", Some(())), ("GENERATE_VERIFY_MAC", None), ("KEY_AGREEMENT", None)];
    had_of(of, "KeySpec", &SPECS)?;
    had_of(of, "CustomerMasterKeySpec", &SPECS)?;
    had_of(of, "KeyUsage", &usages)?;
    if of.flag("MultiRegion")? {
        return Err(Refusal::unsupported("MultiRegion is not an option of kmsfs."));
    }
    let origins = [
        (KeyOrigin::AwsKms.name(), Some(KeyOrigin::AwsKms)),
        (KeyOrigin::External.name(), Some(KeyOrigin::External)),
        ("AWS_CLOUDHSM", None),
        ("EXTERNAL_KEY_STORE", None),
    ];
    Ok(NewKey {
        description: of.text("Description", DESCRIPTION)?.unwrap_or_default(),
        tags: of.list("Tags", tag)?.unwrap_or_default(),
        origin: had_of(of, "Origin", &origins)?.unwrap_or(KeyOrigin::AwsKms),
        policy: of.text("Policy", POLICY)?,
        bypass_lockout_check: of.flag("BypassPolicyLockoutSafetyCheck")?,
    })
}

fn data_key(of: &Members<'_, '_>) -> Read<DataKeyRequest> {
    Ok(DataKeyRequest {
        key_id: required(of, "KeyId", KEY_ID)?,
        key_spec: choice_of(of, "KeySpec", &[KeySpec::Aes256, KeySpec::Aes128], KeySpec::name)?,
        number_of_bytes: of.number("NumberOfBytes", BYTES)?,
        encryption_context: of.map("EncryptionContext")?,
    })
}

fn parameters_for_import(of: &Members<'_, '_>) -> Read<Request> {
    let algorithms = [
        ("RSAES_PKCS1_V1_5", None),
        ("RSAES_OAEP_SHA_1", None),
        ("RSAES_OAEP_SHA_256", Some(WrappingAlgorithm::RsaesOaepSha256)),
        ("RSA_AES_KEY_WRAP_SHA_1", None),
        ("RSA_AES_KEY_WRAP_SHA_256", None),
        ("SM2PKE", None),
    ];
    let specs = [WrappingKeySpec::Rsa2048, WrappingKeySpec::Rsa3072, WrappingKeySpec::Rsa4096];
    let specs: Vec<_> = specs.map(|spec| (spec.name(), Some(spec))).into_iter().chain([("SM2", None)]).collect();
    let key_id = required(of, "KeyId", KEY_ID)?;
    let absent = ["WrappingAlgorithm", "WrappingKeySpec"].into_iter().filter(|name| !of.has(name));
    absent.for_each(|name| of.required(name, None));
    // Where a word is missing or none, the call is refused before it means anything.
    Ok(Request::GetParametersForImport {
        key_id,
        wrapping_algorithm: had_of(of, "WrappingAlgorithm", &algorithms)?.unwrap_or(WrappingAlgorithm::RsaesOaepSha256),
        wrapping_key_spec: had_of(of, "WrappingKeySpec", &specs)?.unwrap_or(WrappingKeySpec::Rsa2048),
    })
}

fn import(of: &Members<'_, '_>) -> Read<Request> {
    let models = [("KEY_MATERIAL_EXPIRES", true), ("KEY_MATERIAL_DOES_NOT_EXPIRE", false)];
    let kinds = [ImportType::NewKeyMaterial, ImportType::ExistingKeyMaterial];
    let invalid = |text: &str| Refusal::new("ValidationException", text);
    let key_id = required(of, "KeyId", KEY_ID)?;
    let (import_token, encrypted_key_material) =
        (required_blob(of, "ImportToken")?, required_blob(of, "EncryptedKeyMaterial")?);
    let expiration = match (of.choice("ExpirationModel", &models)?.unwrap_or(true), of.time("ValidTo")?) {
        (true, Some(time)) => Expiration::At(time),
        (true, None) => {
            return Err(invalid("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"));
        }
        (false, None) => Expiration::Never,
        (false, Some(_)) => {
            return Err(invalid(
                "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
            ));
        }
    };
    Ok(Request::ImportKeyMaterial {
        key_id,
        import_token,
        encrypted_key_material,
        expiration,
        import_type: choice_of(of, "ImportType", &kinds, ImportType::name)?,
        key_material_id: of.text("KeyMaterialId", MATERIAL_ID)?,
    })
}

fn create_grant(of: &Members<'_, '_>) -> Read<Request> {
    let mut constraints = Constraints::default();
    if let Some(within) = of.structure("Constraints")? {
        let pairs = |name: &str| -> Read<Option<EncryptionContext>> {
            if within.has(name) { within.map(name).map(Some) } else { Ok(None) }
        };
        constraints.encryption_context_subset = pairs("EncryptionContextSubset")?;
        constraints.encryption_context_equals = pairs("EncryptionContextEquals")?;
    }
    Ok(Request::CreateGrant {
        key_id: required(of, "KeyId", KEY_ID)?,
        grant: GrantRequest {
            grantee_principal: required(of, "GranteePrincipal", PRINCIPAL)?,
            retiring_principal: of.text("RetiringPrincipal", PRINCIPAL)?,
            operations: of.required("Operations", of.texts("Operations")?),
            constraints,
            name: of.text("Name", 1..=256)?,
        },
        grant_tokens: of.texts("GrantTokens")?.unwrap_or_default(),
    })
}

/// By its token, or by its key and id.
fn retired(of: &Members<'_, '_>) -> Read<Retired> {
    let (token, key_id, grant_id) =
        (of.text("GrantToken", TOKEN)?, of.text("KeyId", KEY_ID)?, of.text("GrantId", GRANT_ID)?);
    match (token, key_id, grant_id) {
        (Some(grant_token), None, None) => Ok(Retired::Token { grant_token }),
        (None, Some(key_id), Some(grant_id)) => Ok(Retired::Id { key_id, grant_id }),
        _ => Err(Refusal::new("ValidationException", "Please provide either a GrantToken, or a KeyId and a GrantId.")),
    }
}
