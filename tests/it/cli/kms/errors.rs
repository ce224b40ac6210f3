//! Each error of AWS KMS, raised on the command line.

use super::*;
use kmsfs_crypto::key_file;
use kmsfs_kms::Caller;
use kmsfs_kms::api::WrappingKeySpec;
use kmsfs_kms_local::{LocalKms, Moment, Unlock};
use std::collections::BTreeSet;

/// Those that AWS KMS answers these calls with, without the suffix `Exception`.
const ERRORS: &str = "AlreadyExists Disabled IncorrectKey IncorrectKeyMaterial InvalidAliasName InvalidArn InvalidCiphertext \
                      InvalidGrantId InvalidGrantToken InvalidImportToken ExpiredImportToken InvalidKeyUsage InvalidMarker \
                      KMSInternal KMSInvalidState KeyUnavailable LimitExceeded MalformedPolicyDocument NotFound Tag \
                      UnsupportedOperation Validation AccessDenied";

/// Where errors are raised, and which were.
struct Raised {
    place: Place,
    names: BTreeSet<String>,
}

impl Raised {
    /// `call` is a call's words, `said` its refusal.
    #[track_caller]
    fn refused(&mut self, call: &str, name: &str, message: &str) {
        let words: Vec<_> = call.split(' ').collect();
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        let operation: String = words[0].split('-').map(capital).collect();
        self.place.refused(&words, &operation, &format!("{name}Exception"), message);
        self.names.insert(name.to_owned());
    }

    fn answered(&self, call: &str) -> Value {
        self.place.answered(&call.split(' ').collect::<Vec<_>>())
    }
}

#[test]
fn every_error_is_raised_or_kms_md_says_why_it_cannot_be() {
    let mut raised = Raised { place: Place::with_store(), names: BTreeSet::new() };
    let arn = raised.place.new_key();
    let prefix = "arn:aws:kms:us-east-1:000000000000:";
    raised.answered(&format!("create-alias --alias-name alias/x --target-key-id {arn}"));
    let create_alias = format!("create-alias --target-key-id {arn} --alias-name");
    let exists = format!("An alias with the name {prefix}alias/x already exists\n");
    raised.refused(&format!("{create_alias} alias/x"), "AlreadyExists", &exists);
    raised.refused(
        &format!("{create_alias} alias/aws/x"),
        "InvalidAliasName",
        "Alias must not start with alias/aws/\n",
    );
    let invalid = "1 validation error detected: Value 'alias/x y' at 'aliasName' failed to satisfy constraint: Member \
                   must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$\n";
    raised.place.refused(
        &["create-alias", "--target-key-id", &arn, "--alias-name", "alias/x y"],
        "CreateAlias",
        "ValidationException",
        invalid,
    );
    raised.refused(
        "generate-random --number-of-bytes 1025",
        "Validation",
        "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have \
         value less than or equal to 1024\n",
    );
    raised.refused("describe-key --key-id arn:aws:s3:::x", "InvalidArn", "Invalid arn arn:aws:s3:::x\n");
    raised.refused("describe-key --key-id x", "NotFound", "Invalid keyId 'x'\n");
    // AWS takes no alias where a key is administered.
    for call in ["disable-key", "get-key-policy", "list-grants", "list-aliases", "get-key-rotation-status"] {
        raised.refused(&format!("{call} --key-id alias/x"), "NotFound", "Invalid keyId 'alias/x'\n");
    }
    for both_or_none in ["", " --key-spec AES_256 --number-of-bytes 32"] {
        let message = "Please specify either number of bytes or key spec.\n";
        raised.refused(&format!("generate-data-key --key-id alias/x{both_or_none}"), "Validation", message);
    }
    raised.refused("list-keys --marker x", "InvalidMarker", "Could not deserialize marker\n");
    raised.refused(
        &format!("tag-resource --key-id {arn} --tags TagKey=aws:x,TagValue=1"),
        "Tag",
        "Tag keys cannot begin with aws:\n",
    );

    let blob = text(&raised.answered("encrypt --key-id alias/x --plaintext AAAA")["CiphertextBlob"]);
    raised.refused("decrypt --ciphertext-blob AAAA", "InvalidCiphertext", "\n");
    raised.refused(&format!("decrypt --ciphertext-blob {blob} --encryption-context a=b"), "InvalidCiphertext", "\n");
    let other = raised.place.new_key();
    raised.refused(
        &format!("decrypt --ciphertext-blob {blob} --key-id {other}"),
        "IncorrectKey",
        "The key ID in the request does not identify a CMK that can perform this operation.\n",
    );

    raised.refused(
        &format!("put-key-policy --key-id {arn} --policy {{"),
        "MalformedPolicyDocument",
        "Syntax errors in policy.",
    );
    fs::write(raised.place.path("policy"), " ".repeat(32 * 1024 + 1)).unwrap();
    let policy = format!("put-key-policy --key-id {other} --policy file://{}", raised.place.shown("policy"));
    raised.refused(
        &policy,
        "LimitExceeded",
        "The key policy document is 32769 bytes long and may have 32768 at most.\n",
    );
    fs::write(
        raised.place.path("policy"),
        r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*"}]}"#,
    )
    .unwrap();
    raised.answered(&policy);
    let denied = format!(
        "User: arn:aws:iam::000000000000:root is not authorized to perform: kms:Encrypt on resource: {other} with an \
         explicit deny in a resource-based policy\n"
    );
    raised.refused(&format!("encrypt --key-id {other} --plaintext AAAA"), "AccessDenied", &denied);
    let id = "The grant ID 'x' is invalid: it has 64 hexadecimal digits.\n";
    raised.refused(&format!("revoke-grant --key-id {arn} --grant-id x"), "InvalidGrantId", id);
    raised.refused("retire-grant --grant-token x", "InvalidGrantToken", "The grant token is invalid.\n");

    raised.answered(&format!("disable-key --key-id {arn}"));
    raised.refused("encrypt --key-id alias/x --plaintext AAAA", "Disabled", &format!("{arn} is disabled.\n"));
    raised.answered(&format!("schedule-key-deletion --key-id {arn}"));
    let pending = format!("{arn} is pending deletion.\n");
    raised.refused("encrypt --key-id alias/x --plaintext AAAA", "KMSInvalidState", &pending);
    raised.refused(&format!("enable-key --key-id {arn}"), "KMSInvalidState", &pending);

    imports(&mut raised);
    an_audit_log_that_cannot_be_written(&mut raised);

    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/KMS.md")).unwrap();
    let impossible = |name: &str| document.contains(&format!("\n- `{name}Exception`: "));
    for name in ERRORS.split(' ') {
        assert_ne!(raised.names.contains(name), impossible(name), "{name} is either raised or explained");
    }
    assert!(raised.names.iter().all(|name| ERRORS.split(' ').any(|known| known == name)), "{:?}", raised.names);
}

fn imports(raised: &mut Raised) {
    let inside = raised.place.new_key();
    raised.refused(
        &format!("delete-imported-key-material --key-id {inside}"),
        "UnsupportedOperation",
        &format!("{inside} origin is AWS_KMS which is not valid for this operation.\n"),
    );
    let arn = text(&raised.answered("create-key --origin EXTERNAL")["KeyMetadata"]["Arn"]);
    let import = |token: &str, material: &str| {
        format!(
            "import-key-material --key-id {arn} --import-token {token} --encrypted-key-material {material} \
             --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE"
        )
    };
    let not_given = "The import token is not one that this key was given\n";
    raised.refused(&import("AAAA", "AAAA"), "InvalidImportToken", not_given);
    let in_2023 = || Moment { date: 1_700_000_000_000_000_000, ..Moment::now([0; 16]) };
    let unlock = Unlock::KeyFile(key_file::read(&raised.place.path("key")).unwrap());
    let kms = LocalKms::open_at(&raised.place.path("store/keyring"), &unlock, Box::new(in_2023)).unwrap();
    let root = kms.administer(Caller { uid: 0, gid: 0, pid: std::process::id() });
    let old = root.get_parameters_for_import(&arn, WrappingKeySpec::Rsa2048).unwrap();
    fs::write(raised.place.path("token"), old.import_token).unwrap();
    let token = format!("fileb://{}", raised.place.shown("token"));
    let expired = "The import token has expired: get new parameters\n";
    raised.refused(&import(&token, "AAAA"), "ExpiredImportToken", expired);

    let parameters = raised.place.parameters_for_import(&arn, "RSA_2048");
    let token = text(&parameters["ImportToken"]);
    let first = raised.place.wrap_with_openssl(&parameters);
    raised.answered(&import(&token, &first));
    raised.answered(&format!("delete-imported-key-material --key-id {arn}"));
    let other = raised.place.wrap_with_openssl(&parameters);
    let identical = "The key material in the request is not identical to the key material that was previously imported \
                     into this KMS key.\n";
    raised.refused(&import(&token, &other), "IncorrectKeyMaterial", identical);
}

fn an_audit_log_that_cannot_be_written(raised: &mut Raised) {
    let (store, key, log) = (raised.place.shown("store"), raised.place.shown("key"), raised.place.shown("audit"));
    let command = format!("{KMSFS} kms --store {store} --key-file {key} --audit-log {log} list-keys");
    let answer = run("bash", ["-c", &format!("trap '' XFSZ; ulimit -f 0; {command} 2>&1")]);
    let expected = "\nAn error occurred (KMSInternalException) when calling the ListKeys operation: no key is used while \
                    the audit log cannot be written: File too large";
    assert!(answer.code == 254 && answer.out.starts_with(expected), "{answer:?}");
    raised.names.insert("KMSInternal".to_owned());
}
