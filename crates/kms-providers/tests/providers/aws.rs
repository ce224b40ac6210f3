//! AWS's provider against moto and ministack, and against a server that verifies signatures.

use super::proxy::{Fault, Proxy};
use super::servers::{Server, ministack, moto};
use super::{LONG, call, context, data_key, decrypt, decrypt_within, encrypt, open, state};
use base64::Engine;
use kmsfs_kms::Code;
use kmsfs_kms_providers::Backend;
use kmsfs_kms_remote::protocol::{Call, Reply};
use kmsfs_sigv4::{Endpoint, Request, SecretAccessKey, Service, SigningKey, verify};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

fn profile(dir: &Path, id: &str, secret: &str) -> PathBuf {
    let path = dir.join("credentials");
    std::fs::write(&path, format!("[kmsfs]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn by_profile(url: &str, dir: &Path) -> Arc<dyn Backend> {
    let source = json!({"file": profile(dir, "AKIDEXAMPLE", "secret")});
    let credentials = json!({"profile": {"source": source, "name": "kmsfs"}});
    open(json!({"aws": {"region": "eu-central-1", "endpoints": [url], "credentials": credentials}}))
}

fn walk(server: &Server, re_encrypts: bool) -> (Arc<dyn Backend>, String, Vec<u8>) {
    let arn = || server.kms("CreateKey", &json!({}))["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let (key, other) = (arn(), arn());
    let proxy = Proxy::new(server.at);
    let aws = by_profile(&proxy.url(), server.dir.path());
    let (plaintext, blob) = data_key(&aws, &key, "a").unwrap();
    assert_eq!(decrypt(&aws, &key, &blob, "a").unwrap(), plaintext);
    assert_eq!(decrypt(&aws, &key, &blob, "b").unwrap_err().code, Code::InvalidCiphertext, "another context");
    // moto denies it; ministack opens it to something else, which whoever uses the key finds out.
    assert!(decrypt(&aws, &other, &blob, "a").map_or(true, |opened| opened != plaintext), "another key");
    let again = encrypt(&aws, &other, &plaintext, "b").unwrap();
    assert_eq!(decrypt(&aws, &other, &again, "b").unwrap(), plaintext);
    assert_eq!(state(&aws, &key).unwrap(), "Enabled");
    let none = format!("{}0000", &key[..key.len() - 4]);
    assert_eq!(data_key(&aws, &none, "a").unwrap_err().code, Code::NotFound);
    let moved = call(
        &aws,
        &Call::ReEncrypt {
            source_key_id: key.clone(),
            ciphertext_blob: blob.clone(),
            source_context: context("a"),
            destination_key_id: other.clone(),
            destination_context: context("c"),
        },
    );
    match moved {
        Ok(Reply::Encrypted { key_id, ciphertext_blob }) if re_encrypts => {
            assert_eq!(key_id, other);
            assert_eq!(decrypt(&aws, &other, &ciphertext_blob, "c").unwrap(), plaintext);
        }
        Err(error) if !re_encrypts => assert_eq!(error.code, Code::UnsupportedOperation),
        _ => panic!("ReEncrypt"),
    }
    for fault in [Fault::Slow, Fault::CutOff, Fault::Garbage, Fault::NoJson, Fault::Endless] {
        proxy.set(fault);
        // Two tries of one that is slow.
        let longest = Duration::from_secs(if fault == Fault::Slow { 3 } else { 1 });
        let (outcome, trace) = decrypt_within(&aws, &key, &blob, "a", longest);
        let error = outcome.unwrap_err();
        assert!(error.is_outage() && trace.attempts > 1, "{fault:?}: {error} after {}", trace.attempts);
    }
    proxy.set(Fault::Flapping);
    assert_eq!(decrypt(&aws, &key, &blob, "a").unwrap(), plaintext);
    (by_profile(&server.url(), server.dir.path()), key, blob)
}

#[test]
fn aws_walks_through_moto() {
    let Some(server) = moto() else { return };
    let (aws, key, blob) = walk(&server, true);
    server.signal("-STOP");
    let (outcome, _) = decrypt_within(&aws, &key, &blob, "a", Duration::from_secs(3));
    assert!(outcome.unwrap_err().is_outage());
    server.signal("-CONT");
    decrypt(&aws, &key, &blob, "a").unwrap();
}

#[test]
fn aws_walks_through_ministack_and_a_disabled_key_is_refused() {
    let Some(server) = ministack() else { return };
    let (aws, key, blob) = walk(&server, false);
    server.kms("DisableKey", &json!({"KeyId": key}));
    assert_eq!(decrypt(&aws, &key, &blob, "a").unwrap_err().code, Code::Disabled);
    assert_eq!(state(&aws, &key).unwrap(), "Disabled");
    server.kms("EnableKey", &json!({"KeyId": key}));
    decrypt(&aws, &key, &blob, "a").unwrap();
    server.kms("ScheduleKeyDeletion", &json!({"KeyId": key}));
    assert_eq!(decrypt(&aws, &key, &blob, "a").unwrap_err().code, Code::KmsInvalidState);
}

/// A server that is stricter than those: it takes what is signed by one access key, by its own clock, and answers each
/// Decrypt with the plaintext of 32 bytes 7, by that key.
fn strict(id: &'static str, secret: &'static str, ahead: time::Duration, key: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || while answer(&stream, id, secret, ahead, key).is_some() {});
        }
    });
    url
}

fn answer(mut stream: &TcpStream, id: &str, secret: &str, ahead: time::Duration, key: &str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines[0].split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<_> = lines[1..].iter().filter_map(|line| line.split_once(": ")).collect();
    let find =
        |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value);
    let mut body = vec![0; find("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let now = OffsetDateTime::now_utc() + ahead;
    let (status, json) = if path == "/" {
        let bytes: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let request = Request { method: &method, path: b"/", query: b"", headers: &bytes };
        let service = Service::Other { name: "kms", body_sha256: Sha256::digest(&body).into() };
        let verified = verify(&request, &Endpoint { region: "eu-central-1", service, now }, |credential| {
            let derive = || SigningKey::derive(&SecretAccessKey::new(secret), &credential.date, "eu-central-1", "kms");
            (credential.access_key_id == id).then(derive)
        });
        let plaintext = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        match verified {
            Ok(_) => (200, json!({"KeyId": key, "Plaintext": plaintext})),
            Err(error) if error.code() == "InvalidAccessKeyId" => {
                (400, json!({"__type": "ExpiredTokenException", "message": "The security token is expired"}))
            }
            Err(error) => (400, json!({"__type": "InvalidSignatureException", "message": error.to_string()})),
        }
    } else {
        let keys = json!({"AccessKeyId": id, "SecretAccessKey": secret, "Expiration": "2099-01-01T00:00:00Z"});
        match path.as_str() {
            "/latest/api/token" if method == "PUT" => (200, json!("t")),
            _ if find("x-aws-ec2-metadata-token") != Some("\"t\"") => (401, json!({})),
            "/latest/meta-data/iam/security-credentials/" => (200, json!("role")),
            "/latest/meta-data/iam/security-credentials/\"role\"" => (200, keys),
            _ => (404, json!({})),
        }
    };
    let (json, date) = (json.to_string(), now.format(&Rfc2822).unwrap().replace("+0000", "GMT"));
    let length = json.len();
    write!(stream, "HTTP/1.1 {status} X\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{json}").ok()
}

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/a";

#[test]
fn aws_expired_credentials_are_an_outage_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let url = strict("AKIDNEW", "new", time::Duration::ZERO, KEY);
    let aws = by_profile(&url, dir.path());
    let error = decrypt(&aws, KEY, b"blob", "a").unwrap_err();
    assert!(error.is_outage() && error.message.contains("does not know who asks: ExpiredToken"), "{error}");
    profile(dir.path(), "AKIDNEW", "wrong");
    assert!(decrypt(&aws, KEY, b"blob", "a").unwrap_err().is_outage(), "a wrong secret refuses no key");
    profile(dir.path(), "AKIDNEW", "new");
    assert_eq!(decrypt(&aws, KEY, b"blob", "a").unwrap()[..], [7; 32]);
    std::fs::remove_file(dir.path().join("credentials")).unwrap();
    assert_eq!(decrypt(&aws, KEY, b"blob", "a").unwrap()[..], [7; 32], "those that are known are used");
}

#[test]
fn aws_a_wrong_clock_is_put_right_by_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    for ahead in [time::Duration::hours(3), time::Duration::hours(-30)] {
        let url = strict("AKIDEXAMPLE", "secret", ahead, KEY);
        let aws = by_profile(&url, dir.path());
        let (outcome, trace) = decrypt_within(&aws, KEY, b"blob", "a", LONG);
        assert_eq!((outcome.unwrap()[..] == [7; 32], trace.attempts), (true, 1));
        let Reply::Status(members) = call(&aws, &Call::Status).unwrap() else { panic!("another reply") };
        let skew = members["ClockSkewSeconds"].as_i64().unwrap();
        assert!((skew + ahead.whole_seconds()).abs() < 120, "{skew}");
    }
}

#[test]
fn aws_an_answer_of_another_key_is_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let url = strict("AKIDEXAMPLE", "secret", time::Duration::ZERO, "arn:aws:kms:eu-central-1:111122223333:key/b");
    assert!(decrypt(&by_profile(&url, dir.path()), KEY, b"blob", "a").unwrap_err().is_outage());
}

/// A KMS in whose key store nothing is reached: what it answers to Decrypt and to DescribeKey.
fn in_state(decrypt: serde_json::Value, describe: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 8192];
            let read = stream.read(&mut request).unwrap_or(0);
            let describes = String::from_utf8_lossy(&request[..read]).contains("TrentService.DescribeKey");
            let (status, json) = match (describes, describe) {
                (false, _) => (400, decrypt.clone()),
                (true, Some(state)) => (200, json!({"KeyMetadata": {"Arn": KEY, "KeyState": state}})),
                (true, None) => (400, json!({"__type": "AccessDeniedException", "message": "no"})),
            };
            let json = json.to_string();
            let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", json.len());
            let _ = stream.write_all((head + &json).as_bytes());
        }
    });
    url
}

#[test]
fn aws_a_key_whose_key_store_is_away_is_an_outage_and_one_that_is_to_be_deleted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let decrypts = |name: &str, message: &str, state: Option<&'static str>| {
        let url = in_state(json!({"__type": name, "message": message}), state);
        decrypt_within(&by_profile(&url, dir.path()), KEY, b"blob", "a", Duration::from_secs(2)).0.unwrap_err()
    };
    let invalid = "KMSInvalidStateException";
    for away in [Some("Unavailable"), Some("Enabled"), Some("Updating"), Some("Creating"), None] {
        let error = decrypts(invalid, &format!("{KEY} is unavailable."), away);
        assert_eq!(error.code, Code::KeyUnavailable, "{away:?}: {error}");
    }
    for taken_away in [Some("PendingDeletion"), Some("PendingImport"), Some("PendingReplicaDeletion"), None] {
        let error = decrypts(invalid, &format!("{KEY} is pending deletion."), taken_away);
        assert_eq!(error.code, Code::KmsInvalidState, "{taken_away:?}");
    }
    for refusal in [Code::AccessDenied, Code::Disabled, Code::NotFound] {
        assert_eq!(decrypts(refusal.name(), "", Some("Enabled")).code, refusal);
    }
    let outages = [
        "CloudHsmClusterNotActiveException",
        "CustomKeyStoreInvalidStateException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "KMSInternalException",
        "LimitExceededException",
        "ThrottlingException",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "AccessDenied",
        "SomethingNewException",
    ];
    for name in outages {
        let error = decrypts(name, "", Some("Enabled"));
        assert!(error.is_outage(), "{name}: {error}");
    }
}

#[test]
fn aws_a_key_of_another_region_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let url = strict("AKIDEXAMPLE", "secret", time::Duration::ZERO, KEY);
    let aws = by_profile(&url, dir.path());
    decrypt(&aws, KEY, b"blob", "a").unwrap();
    let elsewhere = decrypt(&aws, &KEY.replace("eu-central-1", "us-east-1"), b"blob", "a").unwrap_err();
    assert!(elsewhere.is_outage() && elsewhere.message.contains("of the region us-east-1"), "{elsewhere}");
}

#[test]
fn aws_an_instance_has_its_roles_access_key() {
    let url = strict("AKIDROLE", "of the role", time::Duration::ZERO, KEY);
    let credentials = json!({"instance": {"endpoint": url}});
    let aws = open(json!({"aws": {"region": "eu-central-1", "endpoints": [url], "credentials": credentials}}));
    assert_eq!(decrypt(&aws, KEY, b"blob", "a").unwrap()[..], [7; 32]);
}
