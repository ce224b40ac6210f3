//! What happens while a KMS is away, and what is told of it.

use super::{IN_TIME, KEY, errno, kms, make_bucket, providers, read_again, signal, store};
use crate::harness::{Store, json, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::time::Instant;

/// The KMS cannot be reached: its provider cannot be started any more.
fn leave(store: &Store) {
    fs::rename(store.path("provider.py"), store.path("away.py")).unwrap();
    signal(store, "KILL");
}

fn come_back(store: &Store) {
    fs::rename(store.path("away.py"), store.path("provider.py")).unwrap();
}

fn signal_is_seen(store: &Store) -> bool {
    providers(store).is_empty()
}

#[test]
fn what_is_away_at_mount_is_said_and_the_store_mounts() {
    let (store, _) = store();
    fs::rename(store.path("provider.py"), store.path("away.py")).unwrap();
    let mount = store.mount();
    store.expect_log("KMS hsm: what needs its keys fails until it can be used: ");
    mount.bucket("plain");
    fs::write(store.path("mnt/plain/file"), b"x").unwrap();
    make_bucket(&mount);
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
    come_back(&store);
    assert!(wait_until(|| fs::write(store.path("mnt/bucket/new"), b"x").is_ok()));
}

#[test]
fn without_offline_what_is_open_goes_on_and_nothing_is_opened() {
    let (store, id) = store();
    kms(&store, &format!("update-custom-key-store --custom-key-store-id {id} --deadline 2 --revalidate 1"));
    let mount = store.mount();
    make_bucket(&mount);
    for name in ["open", "closed"] {
        fs::write(store.path("mnt/bucket").join(name), name).unwrap();
    }
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    leave(&store);
    assert!(wait_until(|| signal_is_seen(&store)));
    let since = Instant::now();
    assert_eq!(errno(File::open(store.path("mnt/bucket/closed"))), Some(libc::EIO));
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
    assert!(since.elapsed() < IN_TIME);
    store.expect_log("KMS hsm: it is away");
    // Canaries are looked at, and that they are not answered takes nothing away.
    assert!(wait_until(|| {
        let status = json(&store.sh("kmsfs status --json $MNT"));
        status["KeyStores"]["hsm"]["Outages"].as_u64() > Some(7)
    }));
    assert_eq!(read_again(&mut open).unwrap(), b"open");
    come_back(&store);
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/closed")).is_ok_and(|content| content == b"closed")));
}

#[test]
fn within_offline_what_was_opened_before_is_opened_and_nothing_else() {
    let (store, id) = store();
    let limits = "--deadline 2 --revalidate 1 --offline 3600";
    kms(&store, &format!("update-custom-key-store --custom-key-store-id {id} {limits}"));
    let described = json(&kms(&store, "describe-custom-key-stores"));
    let described = &described["CustomKeyStores"][0];
    assert_eq!((&described["Deadline"], &described["Offline"]), (&2.into(), &3600.into()), "{described}");
    let mut mount = store.mount();
    make_bucket(&mount);
    for name in ["opened", "never"] {
        fs::write(store.path("mnt/bucket").join(name), name).unwrap();
    }
    mount.remount();
    assert_eq!(fs::read(store.path("mnt/bucket/opened")).unwrap(), b"opened");
    leave(&store);
    for _ in 0..20 {
        assert_eq!(fs::read(store.path("mnt/bucket/opened")).unwrap(), b"opened");
    }
    assert_eq!(errno(File::open(store.path("mnt/bucket/never"))), Some(libc::EIO));
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
    // Somebody here takes the key away: that goes by no KMS.
    kms(&store, &format!("disconnect-custom-key-store --custom-key-store-id {id}"));
    assert!(wait_until(|| errno(File::open(store.path("mnt/bucket/opened"))) == Some(libc::EACCES)));
    kms(&store, &format!("connect-custom-key-store --custom-key-store-id {id}"));
    assert!(wait_until(|| errno(File::open(store.path("mnt/bucket/opened"))) == Some(libc::EIO)), "it was forgotten");
    come_back(&store);
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/never")).is_ok_and(|content| content == b"never")));
}

#[test]
fn what_is_open_ends_after_offline_and_goes_on_when_the_kms_is_back() {
    let (store, id) = store();
    let limits = "--deadline 2 --revalidate 1 --offline 1";
    kms(&store, &format!("update-custom-key-store --custom-key-store-id {id} {limits}"));
    let mount = store.mount();
    make_bucket(&mount);
    fs::write(store.path("mnt/bucket/open"), b"open").unwrap();
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    leave(&store);
    assert!(wait_until(|| errno(read_again(&mut open)) == Some(libc::EACCES)), "{}", store.log());
    store.expect_log("it is away for longer than 1 s: what is open ends");
    come_back(&store);
    assert!(wait_until(|| read_again(&mut open).is_ok_and(|content| content == b"open")), "{}", store.log());
}

#[test]
fn another_plaintext_is_found_out_and_takes_nothing_away() {
    let (store, _) = store();
    let mount = store.mount();
    make_bucket(&mount);
    for name in ["open", "closed"] {
        fs::write(store.path("mnt/bucket").join(name), name).unwrap();
    }
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    let example = fs::read_to_string(store.path("provider.py")).unwrap();
    let lying = example.replace("base64.b64encode(mask(p, blob[:16], blob[16:-32]))", "base64.b64encode(b'x' * 32)");
    assert_ne!(lying, example);
    fs::write(store.path("provider.py"), lying).unwrap();
    signal(&store, "KILL");
    assert!(wait_until(|| errno(File::open(store.path("mnt/bucket/closed"))) == Some(libc::EIO)));
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
    assert_eq!(read_again(&mut open).unwrap(), b"open");
    store.expect_log("makes no sense: what it has wrapped does not open again");
    fs::write(store.path("provider.py"), &example).unwrap();
    // One that was ended for that is not there any more.
    for pid in providers(&store) {
        store.try_sh(&format!("kill -KILL {pid}"));
    }
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/closed")).is_ok_and(|content| content == b"closed")));
}

#[test]
fn the_audit_trail_says_how_a_kms_was_asked_and_when_it_was_away() {
    let (store, _) = store();
    // As its own records have the request.
    let example = fs::read_to_string(store.path("provider.py")).unwrap();
    let numbered = example.replace(
        r#"{"id": request["id"], **answer}"#,
        r#"{"id": request["id"], "requestId": "r-1", "attempts": 2, **answer}"#,
    );
    assert_ne!(numbered, example);
    fs::write(store.path("provider.py"), numbered).unwrap();
    let mount = store.mount_with(&format!("audit_log={}", store.path("audit.log").display()));
    make_bucket(&mount);
    fs::write(store.path("mnt/bucket/invoice"), b"x").unwrap();
    leave(&store);
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
    come_back(&store);
    assert!(wait_until(|| fs::write(store.path("mnt/bucket/new"), b"x").is_ok()));
    let records = || -> Vec<Value> {
        let text = fs::read_to_string(store.path("audit.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let named = |name: &str| records().into_iter().find(|record| record["eventName"] == name);
    assert!(wait_until(|| named("CustomKeyStoreBack").is_some()));
    let made = named("GenerateDataKey").unwrap();
    let of = &made["additionalEventData"];
    assert_eq!(of["keyProvider"], "hsm");
    let call = &of["remoteCalls"][0];
    let expected = ("GenerateDataKey", "example", "r-1", 2);
    let said = (&call["eventName"], &call["provider"], &call["requestID"], &call["attempts"]);
    assert_eq!(said, (&expected.0.into(), &expected.1.into(), &expected.2.into(), &expected.3.into()), "{made}");
    assert_eq!(call["endpoint"], store.path("hsm/key").display().to_string());
    assert!(call["milliseconds"].is_u64(), "{made}");
    assert_eq!(of["remoteCalls"][1]["eventName"], "Decrypt", "it is opened again");
    let (away, back) = (named("CustomKeyStoreAway").unwrap(), named("CustomKeyStoreBack").unwrap());
    assert_eq!(away["requestParameters"]["customKeyStoreName"], "hsm");
    assert!(away["requestParameters"]["reason"].as_str().is_some_and(|why| !why.is_empty()), "{away}");
    assert!(back["requestParameters"]["milliseconds"].is_u64(), "{back}");
    assert_eq!(away["eventType"], "AwsServiceEvent");
    let verified = store.sh("kmsfs kms --store $STORE --key-file $KEY verify-audit-log audit.log");
    assert!(verified.contains("records are authentic"), "{verified}");
}

#[test]
fn the_status_says_how_a_key_store_is() {
    let (store, id) = store();
    let mount = store.mount();
    make_bucket(&mount);
    fs::write(store.path("mnt/bucket/invoice"), b"x").unwrap();
    let status = || json(&store.sh("kmsfs status --json $MNT"))["KeyStores"]["hsm"].clone();
    let said = status();
    assert_eq!((&said["State"], &said["Provider"]), (&"Connected".into(), &"example".into()), "{said}");
    assert!(said["Answered"].as_u64() >= Some(2) && said["LatencyMilliseconds"].is_u64(), "{said}");
    assert_eq!((&said["InFlight"], &said["Queued"], &said["KeysAway"]), (&0.into(), &0.into(), &Value::Array(vec![])));
    leave(&store);
    assert!(wait_until(|| {
        let _ = File::options().write(true).open(store.path("mnt/bucket/invoice"));
        status()["State"] == "Away, asked once a second"
    }));
    assert!(status()["AwayMilliseconds"].is_u64());
    kms(&store, &format!("disconnect-custom-key-store --custom-key-store-id {id}"));
    assert!(wait_until(|| status()["State"] == "Disconnected"));
    let tested = store.try_sh(&format!(
        "kmsfs kms --store $STORE --key-file $KEY test-custom-key-store --custom-key-store-id {id} --key-id {KEY}"
    ));
    assert!(tested.code != 0 && tested.err.contains("connect-custom-key-store"), "{tested:?}");
}

#[test]
fn a_test_of_a_key_store_says_what_was_tried_and_what_to_do() {
    let (store, id) = store();
    let test = format!(
        "kmsfs kms --store $STORE --key-file $KEY test-custom-key-store --custom-key-store-id {id} --key-id {KEY}"
    );
    let tested = json(&store.sh(&test));
    for check in ["Reach", "DescribeKey", "GenerateDataKey", "Encrypt", "Decrypt", "EncryptionContext"] {
        assert_eq!(tested["Checks"][check], "OK", "{tested}");
    }
    let example = fs::read_to_string(store.path("provider.py")).unwrap();
    let denies = |call: &str| {
        let denying = example.replace(
            "        answer = {\"result\"",
            &format!(
                "        if request[\"operation\"] == \"{call}\":\n            raise PermissionError(\"no\")\n        answer = {{\"result\""
            ),
        );
        denying.replace("ERRORS = {", "ERRORS = {PermissionError: \"AccessDeniedException\", ")
    };
    for call in ["DescribeKey", "GenerateDataKey", "Encrypt", "Decrypt"] {
        fs::write(store.path("provider.py"), denies(call)).unwrap();
        let refused = store.try_sh(&test);
        let right = format!("let this machine's identity use {call}");
        assert!(refused.code == 254 && refused.err.contains(&right), "{call}: {refused:?}");
    }
    // A wrong clock, a seal, and an identity that is not known are told apart from a key that is refused.
    for (says, advice) in [
        ("{\"ClockSkewSeconds\": 4000}", "set it right"),
        ("{\"Sealed\": True}", "unseal it"),
        ("{\"IdentityError\": \"expired\"}", "renew the token"),
    ] {
        let wrong = example.replace("CALLS = {", &format!("CALLS = {{\n    \"Status\": lambda p: {says},"));
        assert_ne!(wrong, example);
        fs::write(store.path("provider.py"), wrong).unwrap();
        let refused = store.try_sh(&test);
        assert!(refused.code == 254 && refused.err.contains(advice), "{says}: {refused:?}");
    }
}
