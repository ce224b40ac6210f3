//! Bodies as boto3 sends them are the calls that they say, calls come back from JSON and from frames as they were, and
//! what is wrong is told in AWS's words.

use bincode::Options;
use kmsfs_kms::EncryptionContext;
use kmsfs_kms::api::{
    Constraints, DataKeyRequest, Expiration, GrantRequest, ImportType, IncludeKeyMaterial, KeyOrigin, KeySpec, NewKey,
    PageRequest, Request, Retired, Tag, TimeForm, WrappingAlgorithm, WrappingKeySpec,
};
use kmsfs_kms_json::{Refusal, Reply, TARGET, request};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// Target and body of each call that boto3 1.43 sends, recorded of its client: the arguments of AWS's API reference,
/// and all other ones that kmsfs has.
const BOTO3: &str = include_str!("boto3.txt");

/// Members that say what kmsfs does anyway.
const PASSED_OVER: [&str; 8] = [
    "CustomerMasterKeySpec",
    "DryRun",
    "EncryptionAlgorithm",
    "GrantTokens",
    "KeySpec",
    "KeyUsage",
    "MultiRegion",
    "SourceEncryptionAlgorithm",
];

fn as_frame(request: &Request) -> Vec<u8> {
    bincode::DefaultOptions::new().serialize(request).unwrap()
}

/// Through JSON and through a frame.
#[track_caller]
fn assert_comes_back(call: &Request) {
    let frame = as_frame(call);
    let body = call.to_json(TimeForm::Seconds).to_string();
    let again = request(&format!("{TARGET}{}", call.name()), body.as_bytes());
    assert_eq!(again.map(|again| as_frame(&again)), Ok(frame.clone()), "{body}");
    let again: Request = bincode::DefaultOptions::new().deserialize(&frame).unwrap();
    assert_eq!(again.to_json(TimeForm::Seconds).to_string(), body);
}

#[test]
fn what_boto3_sends_is_the_call_that_it_says() {
    let mut operations = BTreeSet::new();
    for line in BOTO3.lines() {
        let (target, body) = line.split_once(' ').unwrap();
        let call = request(target, body.as_bytes()).unwrap_or_else(|refusal| panic!("{line}\n{refusal}"));
        assert_eq!(target, format!("{TARGET}{}", call.name()));
        let (sent, read): (Value, Value) = (serde_json::from_str(body).unwrap(), call.to_json(TimeForm::Seconds));
        for (name, value) in sent.as_object().unwrap() {
            let same = match (&read[name], value) {
                // 1896051723 is 1896051723.0.
                (Value::Number(read), Value::Number(sent)) => read.as_f64() == sent.as_f64(),
                (read, sent) => read == sent,
            };
            let passed_over = PASSED_OVER.contains(&name.as_str()) && read[name].is_null();
            assert!(same || passed_over, "{name} of {line}\n{read}");
        }
        assert_comes_back(&call);
        operations.insert(call.name());
    }
    assert_eq!(operations.len(), 42, "{operations:?}");
}

#[track_caller]
fn refused(operation: &str, body: &str) -> (&'static str, String) {
    let Refusal { exception, message } = request(&format!("{TARGET}{operation}"), body.as_bytes()).unwrap_err();
    (exception, message)
}

#[test]
fn what_is_missing_or_out_of_range_is_told_all_at_once_in_aws_words() {
    let null = |name: &str| format!("Value null at '{name}' failed to satisfy constraint: Member must not be null");
    let cases = [
        ("DescribeKey", "{}", format!("1 validation error detected: {}", null("keyId"))),
        ("DescribeKey", r#"{"KeyId": null}"#, format!("1 validation error detected: {}", null("keyId"))),
        ("Encrypt", "{}", format!("2 validation errors detected: {}; {}", null("keyId"), null("plaintext"))),
        (
            "GetParametersForImport",
            r#"{"KeyId": "k"}"#,
            format!("2 validation errors detected: {}; {}", null("wrappingAlgorithm"), null("wrappingKeySpec")),
        ),
        ("TagResource", r#"{"KeyId": "k", "Tags": [{"TagKey": "a"}]}"#, {
            format!("1 validation error detected: {}", null("tagValue"))
        }),
        ("ListKeys", r#"{"Limit": 0}"#, {
            "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value \
             greater than or equal to 1"
                .into()
        }),
        ("GenerateDataKey", r#"{"KeyId": "k", "KeySpec": "AES_512"}"#, {
            "1 validation error detected: Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy \
             enum value set: [AES_256, AES_128]"
                .into()
        }),
        ("DescribeKey", r#"{"KeyId": ""}"#, {
            "1 validation error detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length \
             greater than or equal to 1"
                .into()
        }),
        ("Encrypt", r#"{"KeyId": "k", "Plaintext": ""}"#, {
            "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=0 cap=0]' at 'plaintext' failed to \
             satisfy constraint: Member must have length greater than or equal to 1"
                .into()
        }),
        ("RetireGrant", "{}", "Please provide either a GrantToken, or a KeyId and a GrantId.".into()),
    ];
    for (operation, body, message) in cases {
        assert_eq!(refused(operation, body), ("ValidationException", message), "{operation} {body}");
    }
}

#[test]
fn what_has_another_type_is_no_call() {
    let cases = [
        ("DescribeKey", r#"{"KeyId": 5}"#, "NUMBER_VALUE can not be converted to a String"),
        ("DescribeKey", r#"{"KeyId": {}}"#, "Start of structure or map found where not expected"),
        ("DescribeKey", r#"{"KeyId": []}"#, "Start of list found where not expected"),
        ("DescribeKey", "[]", "Start of list found where not expected"),
        ("DescribeKey", "\"x\"", "STRING_VALUE can not be converted to a Structure"),
        ("ListKeys", r#"{"Limit": "5"}"#, "STRING_VALUE can not be converted to an Integer"),
        ("ListKeys", r#"{"Limit": 1.5}"#, "DECIMAL_VALUE can not be converted to an Integer"),
        ("ListKeys", r#"{"Limit": 3000000000}"#, "NUMBER_VALUE can not be converted to an Integer"),
        ("Encrypt", r#"{"KeyId": "k", "Plaintext": "a"}"#, "STRING_VALUE can not be converted to a Blob"),
        ("Encrypt", r#"{"KeyId": "k", "Plaintext": "YQ=="  , "EncryptionContext": {"a": 1}}"#, {
            "NUMBER_VALUE can not be converted to a String"
        }),
        ("Encrypt", r#"{"KeyId": "k", "Plaintext": "YQ==", "DryRun": "true"}"#, {
            "STRING_VALUE can not be converted to a Boolean"
        }),
        ("UntagResource", r#"{"KeyId": "k", "TagKeys": "a"}"#, "STRING_VALUE can not be converted to a List"),
        (
            "ImportKeyMaterial",
            r#"{"KeyId":"k","ImportToken":"YQ==","EncryptedKeyMaterial":"YQ==","ValidTo":"2030"}"#,
            { "STRING_VALUE can not be converted to a Timestamp" },
        ),
        ("DescribeKey", "", ""),
        ("DescribeKey", "{", ""),
        ("DescribeKey", r#"{"KeyId": "k"} x"#, ""),
    ];
    for (operation, body, message) in cases {
        assert_eq!(refused(operation, body), ("SerializationException", message.to_owned()), "{operation} {body}");
    }
}

#[test]
fn what_kmsfs_has_not_is_refused_and_what_nobody_knows_is_passed_over() {
    for target in
        ["", "DescribeKey", "TrentService.", "TrentService.describeKey", "Trent.DescribeKey", "TrentService.X"]
    {
        assert_eq!(request(target, b"{}").unwrap_err().exception, "UnknownOperationException", "{target}");
    }
    let encrypt = |more: &str| format!(r#"{{"KeyId": "k", "Plaintext": "YQ=="{more}}}"#);
    for (operation, body) in [
        ("Sign", "{}".to_owned()),
        ("CreateCustomKeyStore", r#"{"CustomKeyStoreName": "n"}"#.to_owned()),
        ("UpdateCustomKeyStore", r#"{"CustomKeyStoreId": "cks-1", "XksProxyUriPath": "/kms/xks/v1"}"#.to_owned()),
        ("GetPublicKey", "{}".to_owned()),
        ("Encrypt", encrypt(r#", "DryRun": true"#)),
        ("GenerateRandom", r#"{"NumberOfBytes": 1, "Recipient": {}}"#.to_owned()),
        ("GenerateRandom", r#"{"NumberOfBytes": 1, "CustomKeyStoreId": "x"}"#.to_owned()),
        ("CreateKey", r#"{"KeySpec": "RSA_2048"}"#.to_owned()),
        ("CreateKey", r#"{"KeyUsage": "SIGN_VERIFY"}"#.to_owned()),
        ("CreateKey", r#"{"MultiRegion": true}"#.to_owned()),
        ("CreateKey", r#"{"Origin": "AWS_CLOUDHSM"}"#.to_owned()),
    ] {
        assert_eq!(refused(operation, &body).0, "UnsupportedOperationException", "{operation} {body}");
    }
    let usage = encrypt(r#", "EncryptionAlgorithm": "RSAES_OAEP_SHA_256""#);
    assert_eq!(refused("Encrypt", &usage).0, "InvalidKeyUsageException");
    let unknown = encrypt(r#", "Unknown": [{"a": [1, 2]}], "KeyId": "last", "EncryptionContext": null"#);
    let call = request("TrentService.Encrypt", unknown.as_bytes()).unwrap();
    assert_eq!(call.to_json(TimeForm::Seconds), json!({"KeyId": "last", "Plaintext": "YQ=="}));
}

#[test]
fn a_body_is_bounded() {
    let long = format!(r#"{{"KeyId": "{}"}}"#, "k".repeat(1 << 20));
    let refusal = request("TrentService.DescribeKey", long.as_bytes()).unwrap_err();
    assert_eq!((refusal.exception, Reply::refusal(&refusal).status), ("RequestEntityTooLargeException", 413));
    let policy = "p".repeat(131_072);
    let body = json!({"KeyId": "k", "Policy": policy}).to_string();
    assert!(request("TrentService.PutKeyPolicy", body.as_bytes()).is_ok());
}

#[test]
fn what_is_secret_is_not_shown() {
    let body = br#"{"KeyId": "k", "Plaintext": "c2VjcmV0", "EncryptionContext": {"Purpose": "Test"}}"#;
    let call = request("TrentService.Encrypt", body).unwrap();
    let shown = format!("{call:?}");
    assert_eq!(shown, r#"Encrypt {"keyId":"k","encryptionContext":{"Purpose":"Test"}}"#);
    assert_eq!(format!("{:?}", Reply { status: 200, body: Zeroizing::new(vec![1, 2]) }), "Reply 200 of 2 bytes");
}

#[test]
fn a_time_may_have_a_fraction() {
    let import = |valid_to: &str| {
        let body = format!(
            r#"{{"KeyId": "k", "ImportToken": "YQ==", "EncryptedKeyMaterial": "YQ==", "ValidTo": {valid_to}}}"#
        );
        match request("TrentService.ImportKeyMaterial", body.as_bytes()) {
            Ok(Request::ImportKeyMaterial { expiration, .. }) => Ok(expiration),
            Ok(_) => panic!("it is another call"),
            Err(refusal) => Err(refusal.exception),
        }
    };
    assert_eq!(import("1900000000"), Ok(Expiration::At(1_900_000_000_000_000_000)));
    assert_eq!(import("1.900000000123E9"), Ok(Expiration::At(1_900_000_000_123_000_000)));
    assert_eq!(import("-0.001"), Ok(Expiration::At(-1_000_000)));
    for far in ["1e300", "-1e300", "99999999999999999999", "9300000000", "1e12"] {
        assert_eq!(import(far), Err("SerializationException"), "{far}");
    }
    assert_eq!(import("null"), Err("ValidationException"));
}

fn text(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    vec(any::<char>(), range).prop_map(String::from_iter)
}

fn key_id() -> impl Strategy<Value = String> {
    text(1..=40)
}

fn context() -> impl Strategy<Value = EncryptionContext> {
    btree_map(text(0..=5), text(0..=5), 0..3)
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..=most)
}

fn page() -> impl Strategy<Value = PageRequest> {
    (1..=1000_u64, option::of(text(1..=9))).prop_map(|(limit, marker)| PageRequest { limit: Some(limit), marker })
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    vec((text(0..=5), text(0..=5)).prop_map(|(key, value)| Tag { key, value }), 0..3)
}

fn data_key() -> impl Strategy<Value = DataKeyRequest> {
    let key_spec = option::of(prop_oneof![Just(KeySpec::Aes256), Just(KeySpec::Aes128)]);
    let parts = (key_id(), key_spec, option::of(1..=1024_u64), context());
    parts.prop_map(|(key_id, key_spec, number_of_bytes, encryption_context)| DataKeyRequest {
        key_id,
        key_spec,
        number_of_bytes,
        encryption_context,
    })
}

fn new_key() -> impl Strategy<Value = NewKey> {
    let origin = prop_oneof![Just(KeyOrigin::AwsKms), Just(KeyOrigin::External)];
    let parts = (text(0..=9), tags(), origin, option::of(text(1..=9)), any::<bool>());
    parts.prop_map(|(description, tags, origin, policy, bypass_lockout_check)| NewKey {
        description,
        tags,
        origin,
        policy,
        bypass_lockout_check,
    })
}

fn grant() -> impl Strategy<Value = GrantRequest> {
    let both = (option::of(context()), option::of(context()));
    let parts = (text(1..=9), option::of(text(1..=9)), vec(text(0..=9), 0..3), both, option::of(text(1..=9)));
    parts.prop_map(|(grantee_principal, retiring_principal, operations, (subset, equals), name)| GrantRequest {
        grantee_principal,
        retiring_principal,
        operations,
        constraints: Constraints { encryption_context_subset: subset, encryption_context_equals: equals },
        name,
    })
}

/// Milliseconds, which is what JSON carries.
fn expiration() -> impl Strategy<Value = Expiration> {
    let at =
        (-9_000_000_000_000..9_000_000_000_000_i64).prop_map(|milliseconds| Expiration::At(milliseconds * 1_000_000));
    prop_oneof![Just(Expiration::Never), at]
}

fn material_id() -> impl Strategy<Value = Option<String>> {
    option::of("[0-9a-f]{64}".prop_map(String::from))
}

fn administrative() -> impl Strategy<Value = Request> {
    prop_oneof![
        new_key().prop_map(Request::CreateKey),
        key_id().prop_map(|key_id| Request::DescribeKey { key_id }),
        page().prop_map(|page| Request::ListKeys { page }),
        (key_id(), text(0..=9)).prop_map(|(key_id, description)| Request::UpdateKeyDescription { key_id, description }),
        (key_id(), option::of(1..=365_u64)).prop_map(|(key_id, pending_window_in_days)| {
            Request::ScheduleKeyDeletion { key_id, pending_window_in_days }
        }),
        (key_id(), key_id()).prop_map(|(alias_name, target_key_id)| Request::CreateAlias { alias_name, target_key_id }),
        (option::of(key_id()), page()).prop_map(|(key_id, page)| Request::ListAliases { key_id, page }),
        (key_id(), tags()).prop_map(|(key_id, tags)| Request::TagResource { key_id, tags }),
        (key_id(), vec(text(0..=9), 0..3)).prop_map(|(key_id, tag_keys)| Request::UntagResource { key_id, tag_keys }),
        (key_id(), option::of(90..=2560_u64)).prop_map(|(key_id, rotation_period_in_days)| {
            Request::EnableKeyRotation { key_id, rotation_period_in_days }
        }),
        (key_id(), any::<bool>(), page()).prop_map(|(key_id, all, page)| {
            let include_key_material =
                if all { IncludeKeyMaterial::AllKeyMaterial } else { IncludeKeyMaterial::RotationsOnly };
            Request::ListKeyRotations { key_id, include_key_material, page }
        }),
        (key_id(), option::of(text(1..=9)), text(1..=9), any::<bool>()).prop_map(
            |(key_id, policy_name, policy, bypass_policy_lockout_safety_check)| Request::PutKeyPolicy {
                key_id,
                policy_name,
                policy,
                bypass_policy_lockout_safety_check,
            }
        ),
        (key_id(), grant(), vec(text(0..=9), 0..3)).prop_map(|(key_id, grant, grant_tokens)| Request::CreateGrant {
            key_id,
            grant,
            grant_tokens
        }),
        (key_id(), option::of(text(1..=9)), option::of(text(1..=9)), page()).prop_map(
            |(key_id, grant_id, grantee_principal, page)| Request::ListGrants {
                key_id,
                grant_id,
                grantee_principal,
                page,
            }
        ),
        text(1..=9).prop_map(|grant_token| Request::RetireGrant(Retired::Token { grant_token })),
        (key_id(), text(1..=9)).prop_map(|(key_id, grant_id)| Request::RetireGrant(Retired::Id { key_id, grant_id })),
    ]
}

fn of_material() -> impl Strategy<Value = Request> {
    let specs = [WrappingKeySpec::Rsa2048, WrappingKeySpec::Rsa3072, WrappingKeySpec::Rsa4096];
    let kind = option::of(prop_oneof![Just(ImportType::NewKeyMaterial), Just(ImportType::ExistingKeyMaterial)]);
    prop_oneof![
        (key_id(), 0..3_usize).prop_map(move |(key_id, spec)| Request::GetParametersForImport {
            key_id,
            wrapping_algorithm: WrappingAlgorithm::RsaesOaepSha256,
            wrapping_key_spec: specs[spec],
        }),
        (key_id(), bytes(30), bytes(30), expiration(), kind, material_id()).prop_map(
            |(key_id, import_token, encrypted_key_material, expiration, import_type, key_material_id)| {
                Request::ImportKeyMaterial {
                    key_id,
                    import_token,
                    encrypted_key_material,
                    expiration,
                    import_type,
                    key_material_id,
                }
            }
        ),
        (key_id(), material_id())
            .prop_map(|(key_id, key_material_id)| Request::DeleteImportedKeyMaterial { key_id, key_material_id }),
    ]
}

fn cryptographic() -> impl Strategy<Value = Request> {
    prop_oneof![
        (key_id(), bytes(4096), context()).prop_map(|(key_id, plaintext, encryption_context)| Request::Encrypt {
            key_id,
            plaintext: Zeroizing::new(plaintext),
            encryption_context,
        }),
        (bytes(6144), context(), option::of(key_id())).prop_map(|(ciphertext_blob, encryption_context, key_id)| {
            Request::Decrypt { ciphertext_blob, encryption_context, key_id }
        }),
        (bytes(30), context(), option::of(key_id()), key_id(), context()).prop_map(
            |(ciphertext_blob, source, source_key_id, destination_key_id, destination)| Request::ReEncrypt {
                ciphertext_blob,
                source_encryption_context: source,
                source_key_id,
                destination_key_id,
                destination_encryption_context: destination,
            }
        ),
        data_key().prop_map(Request::GenerateDataKey),
        data_key().prop_map(Request::GenerateDataKeyWithoutPlaintext),
        (1..=1024_u64).prop_map(|number_of_bytes| Request::GenerateRandom { number_of_bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_call_comes_back_from_json_and_from_a_frame(
        call in prop_oneof![administrative(), of_material(), cryptographic()]
    ) {
        assert_comes_back(&call);
    }

    /// Bodies of boto3 with a piece of something else in them.
    #[test]
    fn whatever_is_read_comes_back(line in 0..57_usize, at in any::<prop::sample::Index>(), piece in ".{0,6}", cut in 0..4_usize) {
        let (target, body) = BOTO3.lines().nth(line).unwrap_or_default().split_once(' ').unwrap();
        let mut chars: Vec<char> = body.chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, piece.chars());
        let body = String::from_iter(chars);
        match request(target, body.as_bytes()) {
            Ok(call) => assert_comes_back(&call),
            Err(refusal) => prop_assert!(Reply::refusal(&refusal).status == 400),
        }
    }
}
