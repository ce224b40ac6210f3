//! `kmsfs kms` as people who know `aws kms` call it: answers, messages, exit codes.

mod errors;

use super::*;
use serde_json::Value;

impl Place {
    fn kms(&self, words: &[&str]) -> Answer {
        let (store, key) = (self.shown("store"), self.shown("key"));
        run(KMSFS, ["kms", "--store", &store, "--key-file", &key].iter().chain(words))
    }

    /// What it answers, as JSON; null for nothing.
    #[track_caller]
    fn answered(&self, words: &[&str]) -> Value {
        let answer = self.kms(words);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{words:?}");
        if answer.out.is_empty() { Value::Null } else { serde_json::from_str(&answer.out).unwrap() }
    }

    fn new_key(&self) -> String {
        text(&self.answered(&["create-key"])["KeyMetadata"]["Arn"])
    }

    fn parameters_for_import(&self, arn: &str, spec: &str) -> Value {
        let algorithm = "RSAES_OAEP_SHA_256";
        self.answered(&[
            "get-parameters-for-import",
            "--key-id",
            arn,
            "--wrapping-algorithm",
            algorithm,
            "--wrapping-key-spec",
            spec,
        ])
    }

    /// New key material, wrapped as people do it for AWS: where it is.
    fn wrap_with_openssl(&self, parameters: &Value) -> String {
        fs::write(self.path("public.b64"), text(&parameters["PublicKey"])).unwrap();
        let script = "base64 -d public.b64 >public && head -c 32 /dev/urandom >material && openssl pkeyutl -encrypt -pubin \
             -inkey public -keyform DER -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 \
             -pkeyopt rsa_mgf1_md:sha256 -in material -out wrapped";
        let wrapped = run("sh", ["-c", &format!("cd {} && {script}", self.shown(""))]);
        assert_eq!(wrapped.code, 0, "{wrapped:?}");
        format!("fileb://{}", self.shown("wrapped"))
    }

    #[track_caller]
    fn refused(&self, words: &[&str], operation: &str, code: &str, message: &str) {
        let answer = self.kms(words);
        let expected = format!("\nAn error occurred ({code}) when calling the {operation} operation: {message}");
        assert_eq!((answer.code, answer.out.as_str()), (254, ""), "{words:?}: {}", answer.err);
        assert!(answer.err.starts_with(&expected), "{words:?}\n{}\nexpected{expected}", answer.err);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[test]
fn a_key_lives_rotates_and_waits_for_its_deletion() {
    let place = Place::with_store();
    let made = place.answered(&[
        "create-key",
        "--description",
        "d",
        "--tags",
        "TagKey=team,TagValue=red",
        "TagKey=b,TagValue=",
    ]);
    let arn = text(&made["KeyMetadata"]["Arn"]);
    let tags = place.answered(&["list-resource-tags", "--key-id", &arn]);
    assert_eq!(tags["Tags"][0], serde_json::json!({"TagKey": "team", "TagValue": "red"}));
    assert_eq!(place.answered(&["untag-resource", "--key-id", &arn, "--tag-keys", "team"]), Value::Null);
    assert_eq!(place.answered(&["list-resource-tags", "--key-id", &arn])["Tags"].as_array().unwrap().len(), 1);
    assert_eq!(place.answered(&["get-key-rotation-status", "--key-id", &arn])["KeyRotationEnabled"], false);
    place.answered(&["enable-key-rotation", "--key-id", &arn, "--rotation-period-in-days", "90"]);
    let status = place.answered(&["get-key-rotation-status", "--key-id", &arn]);
    assert_eq!((&status["KeyRotationEnabled"], &status["RotationPeriodInDays"]), (&true.into(), &90.into()));
    assert_eq!(text(&place.answered(&["rotate-key-on-demand", "--key-id", &arn])["KeyId"]), arn);
    let rotations =
        place.answered(&["list-key-rotations", "--key-id", &arn, "--include-key-material", "ALL_KEY_MATERIAL"]);
    let states: Vec<_> =
        rotations["Rotations"].as_array().unwrap().iter().map(|one| text(&one["KeyMaterialState"])).collect();
    assert_eq!(states, ["CURRENT", "NON_CURRENT"]);
    assert_eq!(rotations["Rotations"][0]["RotationType"], "ON_DEMAND");
    let deletion = place.answered(&["schedule-key-deletion", "--key-id", &arn, "--pending-window-in-days", "7"]);
    assert_eq!((&deletion["KeyState"], &deletion["PendingWindowInDays"]), (&"PendingDeletion".into(), &7.into()));
    let described = place.answered(&["describe-key", "--key-id", &arn]);
    assert_eq!(described["KeyMetadata"]["DeletionDate"], deletion["DeletionDate"]);
    place.refused(
        &["generate-data-key", "--key-id", &arn, "--key-spec", "AES_256"],
        "GenerateDataKey",
        "KMSInvalidStateException",
        &format!("{arn} is pending deletion."),
    );
    assert_eq!(text(&place.answered(&["cancel-key-deletion", "--key-id", &arn])["KeyId"]), arn);
    assert_eq!(place.answered(&["describe-key", "--key-id", &arn])["KeyMetadata"]["KeyState"], "Disabled");
}

#[test]
fn what_is_encrypted_comes_back_through_files_and_standard_input() {
    let place = Place::with_store();
    let arn = place.new_key();
    place.answered(&["create-alias", "--alias-name", "alias/x", "--target-key-id", &arn]);
    fs::write(place.path("secret"), b"a secret").unwrap();
    let secret = format!("fileb://{}", place.shown("secret"));
    let context = ["--encryption-context", "purpose=test,b=2"];
    let made = place.answered(&[&["encrypt", "--key-id", "alias/x", "--plaintext", &secret], &context[..]].concat());
    assert_eq!(text(&made["KeyId"]), arn);
    let blob = text(&made["CiphertextBlob"]);
    let json = ["--encryption-context", r#"{"b": "2", "purpose": "test"}"#];
    let opened = place.answered(&[&["decrypt", "--ciphertext-blob", &blob], &json[..]].concat());
    assert_eq!(text(&opened["Plaintext"]), "YSBzZWNyZXQ=");
    place.refused(&["decrypt", "--ciphertext-blob", &blob], "Decrypt", "InvalidCiphertextException", "");
    let other = place.new_key();
    let by_other = [&["decrypt", "--ciphertext-blob", &blob, "--key-id", &other], &context[..]].concat();
    let message = "The key ID in the request does not identify a CMK that can perform this operation.";
    place.refused(&by_other, "Decrypt", "IncorrectKeyException", message);
    let moved = place.answered(&[
        "re-encrypt",
        "--ciphertext-blob",
        &blob,
        "--source-encryption-context",
        "purpose=test,b=2",
        "--destination-key-id",
        &other,
    ]);
    assert_eq!((text(&moved["SourceKeyId"]), text(&moved["KeyId"])), (arn, other));
    assert_eq!(
        text(&place.answered(&["decrypt", "--ciphertext-blob", &text(&moved["CiphertextBlob"])])["Plaintext"]),
        "YSBzZWNyZXQ="
    );
    let key = place.answered(&["generate-data-key", "--key-id", "alias/x", "--number-of-bytes", "5"]);
    assert_eq!(text(&key["Plaintext"]).len(), 8);
    let key = place.answered(&["generate-data-key-without-plaintext", "--key-id", "alias/x", "--key-spec", "AES_128"]);
    assert_eq!(key["Plaintext"], Value::Null);
    assert_eq!(text(&place.answered(&["generate-random", "--number-of-bytes", "3"])["Plaintext"]).len(), 4);
}

#[test]
fn refusals_have_the_names_and_words_of_aws() {
    let place = Place::with_store();
    let arn = place.new_key();
    let prefix = "arn:aws:kms:us-east-1:000000000000:";
    let unknown = "11111111-2222-3333-4444-555555555555";
    place.answered(&["create-alias", "--alias-name", "alias/x", "--target-key-id", &arn]);
    let describe = |key: &str, code: &str, message: &str| {
        place.refused(&["describe-key", "--key-id", key], "DescribeKey", code, message);
    };
    describe(unknown, "NotFoundException", &format!("Key '{prefix}key/{unknown}' does not exist"));
    describe("nonsense", "NotFoundException", "Invalid keyId 'nonsense'");
    describe("alias/none", "NotFoundException", &format!("Alias {prefix}alias/none is not found."));
    describe("arn:aws:s3:::x", "InvalidArnException", "Invalid arn arn:aws:s3:::x");
    let create = |name: &str, code: &str, message: &str| {
        place.refused(&["create-alias", "--alias-name", name, "--target-key-id", &arn], "CreateAlias", code, message);
    };
    create("alias/x", "AlreadyExistsException", &format!("An alias with the name {prefix}alias/x already exists"));
    create("alias/aws/y", "InvalidAliasNameException", "");
    create("y", "ValidationException", "Alias must start with the prefix \"alias/\"");
    let days = ["schedule-key-deletion", "--key-id", &arn, "--pending-window-in-days", "5"];
    let message = "1 validation error detected: Value '5' at 'pendingWindowInDays' failed to satisfy constraint: Member \
                   must have value greater than or equal to 7";
    place.refused(&days, "ScheduleKeyDeletion", "ValidationException", message);
    let twice = ["tag-resource", "--key-id", &arn, "--tags", "TagKey=a,TagValue=1", "TagKey=a,TagValue=2"];
    place.refused(&twice, "TagResource", "TagException", "Duplicate tag key: a");
    place.refused(&["list-keys", "--marker", "x"], "ListKeys", "InvalidMarkerException", "");
    let policy = ["create-key", "--policy", "{"];
    place.refused(&policy, "CreateKey", "MalformedPolicyDocumentException", "");
    let token = ["import-key-material", "--key-id", &arn, "--import-token", "AAAA", "--encrypted-key-material", "AAAA"];
    let forever = ["--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE"];
    place.refused(&[&token, &forever[..]].concat(), "ImportKeyMaterial", "InvalidImportTokenException", "");
    let parameters = ["get-parameters-for-import", "--key-id", &arn, "--wrapping-algorithm", "RSAES_OAEP_SHA_256"];
    let message = format!("{arn} origin is AWS_KMS which is not valid for this operation.");
    let parameters = [&parameters, &["--wrapping-key-spec", "RSA_2048"][..]].concat();
    place.refused(&parameters, "GetParametersForImport", "UnsupportedOperationException", &message);
    place.answered(&["disable-key", "--key-id", &arn]);
    let encrypt = ["encrypt", "--key-id", "alias/x", "--plaintext", "AAAA"];
    place.refused(&encrypt, "Encrypt", "DisabledException", &format!("{arn} is disabled."));
    place.refused(&["rotate-key-on-demand", "--key-id", &arn], "RotateKeyOnDemand", "DisabledException", "");
}

#[test]
fn grants_are_listed_a_page_at_a_time() {
    let place = Place::with_store();
    let arn = place.new_key();
    let grantee = "arn:aws:iam::000000000000:user/alice";
    let grant = |operation| {
        let words = [
            "create-grant",
            "--key-id",
            &arn,
            "--grantee-principal",
            grantee,
            "--operations",
            operation,
            "--name",
            "g",
        ];
        text(&place.answered(&words)["GrantId"])
    };
    let made = [grant("Decrypt"), grant("Encrypt")];
    let list = ["list-grants", "--key-id", &arn, "--limit", "1"];
    let first = place.answered(&list);
    assert_eq!(first["Truncated"], true);
    let marker = text(&first["NextMarker"]);
    let second = place.answered(&[&list[..], &["--marker", &marker]].concat());
    assert_eq!((&second["Truncated"], &second["NextMarker"]), (&false.into(), &Value::Null));
    assert_eq!([text(&first["Grants"][0]["GrantId"]), text(&second["Grants"][0]["GrantId"])], made);
}

#[test]
fn wrong_usage_ends_with_252_and_says_what_is_wrong() {
    let place = Place::with_store();
    for (words, message) in [
        (&["encrypt", "--key-id", "alias/x"][..], "--plaintext"),
        (&["generate-data-key", "--key-spec", "AES_256"], "--key-id"),
        (&["no-such-call"], "no-such-call"),
        (&["encrypt", "--key-id", "x", "--plaintext", "fileb:///none"], "Unable to load paramfile fileb:///none"),
        (&["encrypt", "--key-id", "x", "--plaintext", "%"], "Invalid base64"),
        (&["create-key", "--tags", "a"], "Error parsing parameter '--tags'"),
    ] {
        let answer = place.kms(words);
        assert_eq!((answer.code, answer.out.as_str()), (252, ""), "{words:?}");
        assert!(answer.err.contains(message), "{words:?}: {}", answer.err);
    }
}

#[test]
fn key_material_that_openssl_has_wrapped_is_imported() {
    let place = Place::with_store();
    let made = place.answered(&["create-key", "--origin", "EXTERNAL"]);
    let arn = text(&made["KeyMetadata"]["Arn"]);
    assert_eq!(made["KeyMetadata"]["KeyState"], "PendingImport");
    let parameters = place.parameters_for_import(&arn, "RSA_3072");
    let wrapped = place.wrap_with_openssl(&parameters);
    let imported = place.answered(&[
        "import-key-material",
        "--key-id",
        &arn,
        "--import-token",
        &text(&parameters["ImportToken"]),
        "--encrypted-key-material",
        &wrapped,
        "--expiration-model",
        "KEY_MATERIAL_DOES_NOT_EXPIRE",
    ]);
    assert_eq!(text(&imported["KeyId"]), arn);
    let described = place.answered(&["describe-key", "--key-id", &arn]);
    assert_eq!(described["KeyMetadata"]["ExpirationModel"], "KEY_MATERIAL_DOES_NOT_EXPIRE");
    assert_eq!(described["KeyMetadata"]["CurrentKeyMaterialId"], imported["KeyMaterialId"]);
    place.answered(&["delete-imported-key-material", "--key-id", &arn]);
    assert_eq!(place.answered(&["describe-key", "--key-id", &arn])["KeyMetadata"]["KeyState"], "PendingImport");
}

#[test]
fn moving_an_alias_and_rotating_a_key_in_a_mount_leave_old_objects_readable() {
    let place = Place::with_store();
    let (one, two) = (place.new_key(), place.new_key());
    place.answered(&["create-alias", "--alias-name", "alias/x", "--target-key-id", &one]);
    assert_eq!(place.mount(&[]).code, 0);
    let bucket = place.path("mnt/my-bucket");
    fs::create_dir(&bucket).unwrap();
    let rule = r#"{"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/x"}"#;
    let json = format!(r#"{{"Rules": [{{"ApplyServerSideEncryptionByDefault": {rule}}}]}}"#);
    fs::write(bucket.join(".encryption.json"), json).unwrap();
    let key_of = |name: &str| {
        let mut value = [0; 200];
        let attribute = "user.x-amz-server-side-encryption-aws-kms-key-id";
        let len = rustix::fs::getxattr(bucket.join(name), attribute, &mut value[..]).unwrap();
        String::from_utf8(value[..len].to_vec()).unwrap()
    };
    fs::write(bucket.join("first"), b"first").unwrap();
    place.answered(&["rotate-key-on-demand", "--key-id", &one]);
    place.answered(&["update-alias", "--alias-name", "alias/x", "--target-key-id", &two]);
    let moved = |n: u32| {
        fs::write(bucket.join(n.to_string()), b"later").unwrap();
        key_of(&n.to_string()) == two
    };
    let number = std::cell::Cell::new(0);
    assert!(wait_until(|| moved(number.replace(number.get() + 1))));
    assert_eq!(key_of("first"), one);
    assert_eq!(fs::read(bucket.join("first")).unwrap(), b"first");
    place.unmount();
    place.wait_for_daemon();
    assert_eq!(place.mount(&[]).code, 0);
    assert_eq!(fs::read(bucket.join("first")).unwrap(), b"first");
    place.unmount();
}

#[test]
fn every_operation_of_kms_md_has_its_test_and_every_call_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/KMS.md")).unwrap();
    let table: Vec<_> = document.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |")).collect();
    let sources =
        run("sh", ["-c", &format!("cat $(find {0}/src {0}/crates {0}/tests -name '*.rs')", root.display())]).out;
    let mut calls = String::new();
    let mut rows = 0;
    for row in table {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let test = cells[cells.len() - 1].trim_matches('`');
        if cells.len() == 4 && !test.contains(' ') {
            assert!(sources.contains(&format!("fn {test}()")), "{test} is no test");
            calls.push_str(cells[0]);
            calls.push_str(", ");
            rows += 1;
        }
    }
    assert!(rows > 10, "{rows} rows");
    let help = ["kms", "iam"].map(|service| run(KMSFS, [service, "--help"]).out);
    let commands = help
        .iter()
        .flat_map(|help| help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| line.starts_with("  ")));
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help") {
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        let name: String = command.split('-').map(capital).collect();
        let own = ["ListObjects", "TestCustomKeyStore", "VerifyAuditLog"].contains(&name.as_str());
        assert!(own || calls.contains(&format!("{name}, ")), "{name} has no row in docs/KMS.md");
    }
}
