//! The same by TLS.

use super::{Served, access_key};
use crate::harness::{Answer, kmsfs, wait_until};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// A certificate for localhost, signed by itself, and its key.
fn make_certificate(served: &Served) {
    make_certificate_as(served, "tls");
}

fn make_certificate_as(served: &Served, name: &str) {
    served.store.sh(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
         -keyout {name}.key -out {name}.pem 2>openssl.said && chmod 600 {name}.key",
    ));
}

/// The certificate under which a new connection is made.
fn presented(address: &str) -> String {
    let served = std::process::Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", "localhost"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&served.stdout).into_owned();
    let certificate = text.split_once("-----BEGIN CERTIFICATE-----");
    let certificate = certificate.and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"));
    certificate.map(|(certificate, _)| certificate.to_owned()).unwrap_or_default()
}

#[test]
fn a_certificate_that_was_renewed_is_presented_after_sighup_and_one_that_is_none_is_not() {
    let served = Served::new();
    let path = |name: &str| served.store.path(name).display().to_string();
    let read = |name: &str| std::fs::read_to_string(served.store.path(name)).unwrap();
    make_certificate_as(&served, "next");
    make_certificate(&served);
    let options = format!("--tls-cert {} --tls-key {}", path("tls.pem"), path("tls.key"));
    let server = super::Server::start(&served.store, &options);
    let is = |pem: &str, shown: &str| !shown.is_empty() && pem.contains(shown);
    let first = read("tls.pem");
    assert!(is(&first, &presented(&server.address)));
    // A key of another certificate.
    served.store.sh("cp next.pem tls.pem");
    server.signal(rustix::process::Signal::HUP);
    assert!(wait_until(|| server.said().contains("the certificate stays the one before")), "{}", server.said());
    assert!(is(&first, &presented(&server.address)));
    // By rename, as those do who renew certificates.
    served.store.sh("mv next.key tls.key; mv next.pem tls.pem");
    server.signal(rustix::process::Signal::HUP);
    let next = read("tls.pem");
    assert!(wait_until(|| is(&next, &presented(&server.address))), "{}", server.said());
    server.end();
}

#[test]
fn an_object_goes_in_and_out_by_tls() {
    let served = Served::new();
    make_certificate(&served);
    let path = |name: &str| served.store.path(name).display().to_string();
    let options = format!("--tls-cert {} --tls-key {}", path("tls.pem"), path("tls.key"));
    let server = super::Server::start(&served.store, &options);
    let client = server.client(&access_key(&served.store, "root"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(served.store.path("tls.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let ask = |method: &str, target: &str, body: &[u8]| {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(&server.address).unwrap());
        let signed = client.sign(method, target, &[], body).with("connection", "close");
        stream.write_all(&[signed.head().as_bytes(), body].concat()).unwrap();
        let mut text = Vec::new();
        BufReader::new(stream).read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    assert!(ask("PUT", "/bucket", b"").starts_with("HTTP/1.1 200 "));
    assert!(ask("PUT", "/bucket/x", b"my name is Bond").starts_with("HTTP/1.1 200 "));
    assert_eq!(std::fs::read(served.mount.path("bucket/x")).unwrap(), b"my name is Bond");
    assert!(ask("GET", "/bucket/x", b"").ends_with("\r\n\r\nmy name is Bond"));
    server.end();

    // A key that others could read is none.
    served.store.sh("chmod 644 tls.key");
    let mut command = kmsfs();
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(options.split(' ')).arg(served.store.mountpoint());
    Answer::of(command).expect_failure(1, "private key");
}
