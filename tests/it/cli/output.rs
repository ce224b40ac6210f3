//! `kmsfs kms` as `aws kms`: queries, formats, pages and documents; and `kmsfs put` with aws' exit codes.

use crate::harness::{Store, json};
use std::fs;

/// What aws' own formatter makes of an answer.
const FORMATTER: &str = r"
import json, sys
from types import SimpleNamespace
from awscli.formatter import get_formatter
kind, answer, operation = sys.argv[1:]
get_formatter(kind, SimpleNamespace(color='off', query=None))(operation, json.load(open(answer)))
";

#[test]
fn answers_have_the_formats_of_aws() {
    let store = Store::new();
    if store.try_sh("python3 -c 'import awscli.formatter'").code != 0 {
        eprintln!("NOT RUN: awscli is not here to be compared with");
        return;
    }
    let id = store.create_key("alias/mine").rsplit('/').next().unwrap().to_owned();
    store.create_key("alias/other");
    store.kms(&format!("tag-resource --key-id {id} --tags TagKey=a,TagValue=1 TagKey=b,TagValue="));
    fs::write(store.path("formatter.py"), FORMATTER).unwrap();
    for (operation, line) in [
        ("ListKeys", "list-keys".to_owned()),
        ("DescribeKey", format!("describe-key --key-id {id}")),
        ("ListAliases", "list-aliases".to_owned()),
        ("ListResourceTags", format!("list-resource-tags --key-id {id}")),
        ("ListGrants", format!("list-grants --key-id {id}")),
        ("GetKeyPolicy", format!("get-key-policy --key-id {id}")),
    ] {
        let kms = format!("kmsfs kms --store $STORE --key-file $KEY {line}");
        fs::write(store.path("answer"), store.sh(&kms)).unwrap();
        for format in ["text", "table"] {
            let expected = store.sh(&format!("python3 formatter.py {format} answer {operation}"));
            assert_eq!(store.sh(&format!("{kms} --output {format}")), expected, "{line}");
        }
        let read = "python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'";
        if store.try_sh("python3 -c 'import yaml'").code == 0 {
            let same = json(&store.sh(&format!("{kms} --output yaml | {read}")));
            assert_eq!(same, json(&store.sh(&kms)), "{line}");
        }
    }
}

#[test]
fn a_query_prints_what_it_finds_and_a_wrong_one_does_nothing() {
    let store = Store::new();
    let arn = store.create_key("alias/mine");
    let id = arn.rsplit('/').next().unwrap();
    let kms = "kmsfs kms --store $STORE --key-file $KEY";
    let script = format!("{kms} describe-key --key-id {id} --query KeyMetadata.Arn --output text --no-cli-pager");
    assert_eq!(store.sh(&script), format!("{arn}\n"));
    assert_eq!(store.sh(&format!("{kms} --query 'length(Keys)' list-keys")), "1\n");
    store.try_sh(&format!("{kms} create-key --query '['")).expect_failure(252, "Bad value for --query [: ");
    assert_eq!(store.sh(&format!("{kms} list-keys --query 'length(Keys)'")), "1\n");
    // A query that fails on the answer comes too late: what was done is said to be done, and printed.
    let failed = store.try_sh(&format!("{kms} create-key --query 'length(KeyMetadata.Enabled)'"));
    failed.expect_failure(252, "CreateKey is done, and this is its whole answer: the query failed on it: ");
    let made = json(&failed.out)["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    assert!(store.sh(&format!("{kms} list-keys --query 'Keys[].KeyId' --output text")).contains(&made));
    let iam = "kmsfs iam --store $STORE --key-file $KEY list-access-keys --query AccessKeyMetadata --output json";
    assert_eq!(store.sh(iam), "[]\n");
}

#[test]
fn lists_are_paged_as_aws_pages_them() {
    let store = Store::new();
    let mut all: Vec<String> = (0..5).map(|n| store.create_key(&format!("alias/{n}"))).collect();
    all.sort();
    let page = |more: &str| json(&store.sh(&format!("kmsfs kms --store $STORE --key-file $KEY list-keys {more}")));
    let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = page(&format!("--max-items 2 {token}"));
        assert_eq!(answer.get("Truncated"), None);
        found.extend(answer["Keys"].as_array().unwrap().iter().map(|key| key["KeyArn"].as_str().unwrap().to_owned()));
        pages += 1;
        match answer["NextToken"].as_str() {
            Some(next) => token = format!("--starting-token '{next}'"),
            None => break,
        }
    }
    found.sort();
    assert_eq!((found, pages), (all, 3));
    assert_eq!(page("--max-items 100000")["Keys"].as_array().unwrap().len(), 5);
    let none = "kmsfs kms --store $STORE --key-file $KEY create-key --max-items 2";
    store.try_sh(none).expect_failure(252, "this operation lists nothing");
    assert_eq!(page("")["Keys"].as_array().unwrap().len(), 5);
}

#[test]
fn parameters_are_taken_from_a_document_and_its_form_is_shown() {
    let store = Store::new();
    let kms = "kmsfs kms --store $STORE --key-file $KEY";
    let document = r#"{"Description": "from a document", "Tags": [{"TagKey": "a", "TagValue": "1"}]}"#;
    fs::write(store.path("input.json"), document).unwrap();
    let made = json(&store.sh(&format!("{kms} create-key --cli-input-json file://input.json")));
    assert_eq!(made["KeyMetadata"]["Description"], "from a document");
    let id = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    assert_eq!(store.kms(&format!("list-resource-tags --key-id {id}"))["Tags"][0]["TagKey"], "a");
    let other = json(&store.sh(&format!("{kms} create-key --description option --cli-input-json '{document}'")));
    assert_eq!(other["KeyMetadata"]["Description"], "option");
    let context =
        r#"{"KeyId": "ID", "EncryptionContext": {"purpose": "test"}, "Plaintext": "c2VjcmV0"}"#.replace("ID", id);
    let blob = json(&store.sh(&format!("{kms} encrypt --cli-input-json '{context}'")));
    let blob = blob["CiphertextBlob"].as_str().unwrap();
    store.try_sh(&format!("{kms} decrypt --ciphertext-blob {blob}")).expect_failure(254, "InvalidCiphertextException");
    let plain = json(&store.sh(&format!("{kms} decrypt --ciphertext-blob {blob} --encryption-context purpose=test")));
    assert_eq!(plain["Plaintext"], "c2VjcmV0");
    let wrong = |input: &str| store.try_sh(&format!("{kms} describe-key --cli-input-json '{input}'"));
    wrong(r#"{"KeyIdd": "x"}"#).expect_failure(252, "Unknown parameter in input: \"KeyIdd\", must be one of: KeyId");
    wrong("x").expect_failure(252, "Error parsing parameter 'cli-input-json': Invalid JSON received: ");
    wrong("file://none").expect_failure(252, "Unable to load paramfile file://none: No such file or directory");
    wrong("{}").expect_failure(252, "--key-id");
    // What is shown can be filled in and given. Nothing has to be opened for it.
    let shown = store.sh("kmsfs kms encrypt --generate-cli-skeleton");
    let expected = r#"{"KeyId":"","Plaintext":"","EncryptionContext":{"KeyName":""}}"#;
    assert_eq!(json(&shown).to_string(), expected);
    let shown = json(&store.sh("kmsfs kms schedule-key-deletion --generate-cli-skeleton input"));
    assert_eq!(shown.to_string(), r#"{"KeyId":"","PendingWindowInDays":0}"#);
}

#[test]
fn an_object_is_put_into_a_directory_quietly_and_refusals_have_the_codes_of_aws() {
    let store = Store::new();
    let _mount = store.mount();
    store.sh("mkdir -p $MNT/my-bucket/directory; echo content > bond.json");
    assert_eq!(store.sh("kmsfs put --quiet bond.json $MNT/my-bucket/directory"), "");
    assert_eq!(store.sh("cat $MNT/my-bucket/directory/bond.json"), "content\n");
    assert!(store.sh("kmsfs put bond.json $MNT/my-bucket/").contains("ETag"));
    assert_eq!(store.sh("cat $MNT/my-bucket/bond.json"), "content\n");
    store
        .try_sh("echo x | kmsfs put - $MNT/my-bucket")
        .expect_failure(252, "say what the object in it is to be called");
    let refused = store.try_sh("kmsfs put --ssekms-key-id alias/none bond.json $MNT/my-bucket/x");
    refused.expect_failure(254, "\nAn error occurred (InvalidArgument) when calling the PutObject operation: ");
    let refused = store
        .try_sh("kmsfs put --server-side-encryption aws:kms --ssekms-key-id alias/none bond.json $MNT/my-bucket/x");
    refused.expect_failure(254, "(KMS.NotFoundException) when calling the PutObject operation: ");
    store.try_sh("kmsfs put").expect_failure(252, "required arguments were not provided");
    store.try_sh("kmsfs put none $MNT/my-bucket/x").expect_failure(1, "kmsfs: none: No such file or directory");
    assert_eq!(store.sh("ls -A $MNT/my-bucket"), "bond.json\ndirectory\n");
}

#[test]
fn a_document_runs_nothing_and_reads_no_file() {
    let store = Store::new();
    let arn = store.create_key("alias/mine");
    let kms = "kmsfs kms --store $STORE";
    // Without a key file, so that an option of the document could open the keyring.
    let document = format!(
        r#"{{"KeyId": "{arn}", "GranteePrincipal": "{arn}", "Operations": ["Decrypt"],
            "GrantTokens": ["x", "--passphrase-command=touch ran"]}}"#
    );
    fs::write(store.path("grant.json"), document).unwrap();
    for more in ["", "--key-file $KEY"] {
        let refused =
            store.try_sh(&format!("{kms} create-grant {more} --cli-input-json file://grant.json < /dev/null"));
        assert!(refused.code != 0 && !refused.err.contains("are both given"), "{refused:?}");
        assert!(!store.path("ran").exists());
    }
    store.sh("echo c2VjcmV0 > secret");
    for input in [r#"{"KeyId": "K", "Plaintext": "fileb://secret"}"#, r#"{"KeyId": "K", "Plaintext": "file://secret"}"#]
    {
        let refused = store.try_sh(&format!("{kms} --key-file $KEY encrypt --cli-input-json '{input}'"));
        refused.expect_failure(252, "Plaintext: file:// and fileb:// are not read within the document");
    }
}
