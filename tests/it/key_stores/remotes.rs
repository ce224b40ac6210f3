//! Keys in AWS KMS, in another store's KMS, in hardware, and in Vault, on real mounts, with what goes wrong between.

#[allow(dead_code)]
#[path = "../../../crates/kms-providers/tests/providers/proxy.rs"]
mod proxy;

use super::{Bao, IN_TIME, connected_for, errno, kms, read_again};
use crate::harness::{Mount, Store, json, kms_with, wait_until};
use crate::http::{Server, access_key};
use proxy::{Fault, Proxy};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// How fast what is asked of a mount here fails, and is found out.
const LIMITS: &str = "--deadline 3 --revalidate 1";

/// A server of other people's, which ends with this.
struct Running(Child, SocketAddr);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// moto or ministack, which `aws.py OPERATION BODY` in the store's directory asks. `None`, said as NOT RUN, where it is
/// not installed.
fn python_server(store: &Store, name: &str) -> Option<Running> {
    let installed = std::env::var_os("KMSFS_TEST_SERVERS").filter(|dir| Path::new(dir).join(name).is_dir());
    let Some(installed) = installed else {
        eprintln!("NOT RUN: {name} is not installed");
        return None;
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("python3");
    server.env("PYTHONPATH", installed).env("HOME", store.path(".")).current_dir(store.path("."));
    if name == "moto" {
        server.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    } else {
        server.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string()).env("IOT_MTLS_ENABLED", "0");
        server.args(["-m", name]);
    }
    let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child, SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(wait_until(|| TcpStream::connect(running.1).is_ok()), "{name} does not come up");
    let ask = format!(
        r#"import sys, urllib.request as r
by = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-central-1/kms/aws4_request, SignedHeaders=host, Signature=00"
named = {{"X-Amz-Target": "TrentService." + sys.argv[1], "Authorization": by, "Content-Type": "application/x-amz-json-1.1"}}
print(r.urlopen(r.Request("http://127.0.0.1:{port}/", sys.argv[2].encode(), named, method="POST")).read().decode())
"#
    );
    fs::write(store.path("aws.py"), ask).unwrap();
    Some(running)
}

fn aws(store: &Store, operation: &str, body: &str) -> serde_json::Value {
    let printed = store.sh(&format!("python3 aws.py {operation} '{body}'"));
    serde_json::from_str(&printed).unwrap_or_default()
}

/// A custom key store of AWS's provider, for that key. Returns its id.
fn aws_store(store: &Store, key: &str, at: &str, region: &str, (id, secret): (&str, &str)) -> String {
    fs::create_dir_all(store.path("aws")).unwrap();
    credentials(store, id, secret);
    let file = store.path("aws/credentials");
    let configuration = serde_json::json!({"aws": {"region": region, "endpoints": [format!("http://{at}")],
        "credentials": {"profile": {"source": {"file": file}, "name": "kmsfs"}}}});
    fs::write(store.path("aws/aws.json"), configuration.to_string()).unwrap();
    connected_for(store, "aws", "aws", "$PWD/aws/aws.json", &format!("{key} {LIMITS}"))
}

fn credentials(store: &Store, id: &str, secret: &str) {
    let text = format!("[kmsfs]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    crate::harness::write_secret(&store.path("aws/credentials"), &text);
}

/// An object under that key, which another mount reads, and a bucket of many that come under it and go back.
fn walk(store: &Store, mount: &mut Mount, key: &str) {
    mount.bucket("bucket");
    mount.set_default("bucket", &kms_with(key), false);
    for name in ["open", "closed"] {
        fs::write(store.path("mnt/bucket").join(name), name).unwrap();
    }
    assert!(store.sh("kmsfs stat $MNT/bucket/open").contains(key));
    let count = std::env::var("KMSFS_BULK_OBJECTS").map_or(100, |count| count.parse::<usize>().unwrap());
    let own = store.create_key("alias/own");
    mount.bucket("many");
    mount.set_default("many", &kms_with(&own), false);
    store.sh(&format!("for i in $(seq {count}); do echo $i > $MNT/many/$i; done"));
    for target in [key, own.as_str()] {
        let reencrypt = format!("kmsfs reencrypt --recursive --wait --json --ssekms-key-id {target} $MNT/many");
        let done = json(&store.sh(&reencrypt));
        assert_eq!((&done["Rewrapped"], &done["Failed"]), (&count.into(), &0.into()), "{done}");
        assert!(store.sh("kmsfs stat $MNT/many/7").contains(target));
    }
    remount(store, mount);
    let sum = store.sh("cat $MNT/many/[0-9]* | sort -n | md5sum");
    assert_eq!(sum, store.sh(&format!("seq {count} | md5sum")));
    assert_eq!(fs::read(store.path("mnt/bucket/open")).unwrap(), b"open");
}

/// Nobody knows a key afterwards.
fn remount(store: &Store, mount: &mut Mount) {
    mount.remount();
    assert!(store.path("mnt/bucket").is_dir());
}

/// What is open goes on, and what is not is EIO in time, while `fault` lasts.
fn is_outage(store: &Store, mount: &mut Mount, fault: impl FnOnce(), mend: impl FnOnce()) {
    remount(store, mount);
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    fault();
    let since = Instant::now();
    assert_eq!(errno(File::open(store.path("mnt/bucket/closed"))), Some(libc::EIO), "{}", store.log());
    assert!(since.elapsed() < IN_TIME);
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
    // Canaries are not answered either.
    let outages = || json(&store.sh("kmsfs status --json $MNT"))["KeyStores"].to_string();
    assert!(wait_until(|| outages().contains("\"State\":\"Away")), "{}", outages());
    assert_eq!(read_again(&mut open).unwrap(), b"open");
    mend();
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/closed")).is_ok_and(|content| content == b"closed")));
    assert_eq!(read_again(&mut open).unwrap(), b"open");
}

fn signal(store: &Store, pid: u32, name: &str) {
    store.sh(&format!("kill -{name} {pid}"));
}

#[test]
fn keys_of_aws_kms_at_ministack_walk_through_and_are_taken_away_there() {
    let store = Store::new();
    let Some(server) = python_server(&store, "ministack") else { return };
    let key = aws(&store, "CreateKey", "{}")["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let proxy = Proxy::new(server.1);
    let at = proxy.at.to_string();
    aws_store(&store, &key, &at, "eu-central-1", ("AKIDEXAMPLE", "secret"));
    let mut mount = store.mount();
    walk(&store, &mut mount, &key);
    for fault in [Fault::Slow, Fault::CutOff, Fault::Garbage, Fault::NoJson, Fault::Endless] {
        is_outage(&store, &mut mount, || proxy.set(fault), || proxy.set(Fault::None));
    }
    proxy.set(Fault::Flapping);
    remount(&store, &mut mount);
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/closed")).is_ok()), "it is tried again");
    proxy.set(Fault::None);
    let pid = server.0.id();
    is_outage(&store, &mut mount, || signal(&store, pid, "STOP"), || signal(&store, pid, "CONT"));

    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    aws(&store, "DisableKey", &format!(r#"{{"KeyId": "{key}"}}"#));
    assert!(wait_until(|| errno(read_again(&mut open)) == Some(libc::EACCES)), "{}", store.log());
    assert_eq!(errno(File::open(store.path("mnt/bucket/closed"))), Some(libc::EACCES));
    aws(&store, "EnableKey", &format!(r#"{{"KeyId": "{key}"}}"#));
    assert!(wait_until(|| read_again(&mut open).is_ok_and(|content| content == b"open")), "{}", store.log());
}

#[test]
fn keys_of_aws_kms_at_moto_walk_through_and_are_away_when_it_is() {
    let store = Store::new();
    let Some(server) = python_server(&store, "moto") else { return };
    let key = aws(&store, "CreateKey", "{}")["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let at = server.1.to_string();
    aws_store(&store, &key, &at, "eu-central-1", ("AKIDEXAMPLE", "secret"));
    let mut mount = store.mount();
    walk(&store, &mut mount, &key);
    let pid = server.0.id();
    is_outage(&store, &mut mount, || signal(&store, pid, "STOP"), || signal(&store, pid, "CONT"));
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    drop(server);
    assert_eq!(errno(File::open(store.path("mnt/bucket/closed"))), Some(libc::EIO));
    assert_eq!(read_again(&mut open).unwrap(), b"open");
}

#[test]
fn keys_of_another_store_served_are_used_denied_and_given_back() {
    let there = Store::made_with("--region eu-central-1 --account-id 111122223333");
    let there_mount = there.mount();
    let server = Server::start(&there, "");
    let key = there.create_key("alias/orders");
    let access = access_key(&there, "root");
    let store = Store::new();
    let id = aws_store(&store, &key, &server.address, "eu-central-1", (&access.id, &access.secret));
    let mut mount = store.mount();
    walk(&store, &mut mount, &key);
    let pid = server.pid();
    is_outage(&store, &mut mount, || signal(&there, pid, "STOP"), || signal(&there, pid, "CONT"));
    // An access key that has ended, or a wrong one, says nothing of the KMS key.
    let put_to_rest = |status: &str| {
        there.sh(&format!(
            "kmsfs iam --store $STORE --key-file $KEY update-access-key --user-name root --access-key-id {} --status {status}",
            access.id
        ));
    };
    // The server there hears of it a moment later.
    let test = format!(
        "kmsfs kms --store $STORE --key-file $KEY test-custom-key-store --custom-key-store-id {id} --key-id {key}"
    );
    let is_refused = || store.try_sh(&test).code != 0;
    let rest = || {
        put_to_rest("Inactive");
        assert!(wait_until(is_refused));
    };
    is_outage(&store, &mut mount, rest, || put_to_rest("Active"));
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    there.disable_key(&key);
    assert!(wait_until(|| errno(read_again(&mut open)) == Some(libc::EACCES)), "{}", store.log());
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EACCES));
    there.enable_key(&key);
    assert!(wait_until(|| read_again(&mut open).is_ok_and(|content| content == b"open")), "{}", store.log());
    // One object alone is denied there.
    let mut other = File::open(store.path("mnt/bucket/closed")).unwrap();
    let policy = |condition: &str| {
        let deny = format!(
            r#"{{"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*", "Condition": {{"StringEquals": {{"kms:EncryptionContext:aws:s3:arn": "{condition}"}}}}}}"#
        );
        let allow = r#"{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}"#;
        let policy = format!(r#"{{"Version": "2012-10-17", "Statement": [{allow}, {deny}]}}"#);
        fs::write(there.path("policy.json"), policy).unwrap();
        there.sh(&format!(
            "kmsfs kms --store $STORE --key-file $KEY put-key-policy --key-id {key} --policy file://policy.json"
        ));
    };
    policy("arn:aws:s3:::bucket/open");
    assert!(wait_until(|| errno(read_again(&mut open)) == Some(libc::EACCES)), "{}", store.log());
    assert_eq!(read_again(&mut other).unwrap(), b"closed");
    assert_eq!(fs::read(store.path("mnt/bucket/closed")).unwrap(), b"closed");
    policy("arn:aws:s3:::bucket/nobody");
    assert!(wait_until(|| read_again(&mut open).is_ok_and(|content| content == b"open")), "{}", store.log());
    drop((open, other));
    drop(mount);
    server.end();
    drop(there_mount);
}

/// `softhsm.py make|destroy LABEL ID`, of AES-256 keys that never leave the token.
const SOFTHSM: &str = r#"import ctypes as c, struct, sys
l, U = c.CDLL("/usr/lib/softhsm/libsofthsm2.so"), c.c_ulong
class Attribute(c.Structure): _fields_ = [("type", U), ("value", c.c_void_p), ("len", U)]
class Mechanism(c.Structure): _fields_ = [("type", U), ("parameter", c.c_void_p), ("len", U)]
kept = []
def attribute(kind, value):
    kept.append(c.create_string_buffer(value, len(value)))
    return Attribute(kind, c.cast(kept[-1], c.c_void_p), len(value))
def check(rv):
    if rv: sys.exit("error %x" % rv)
check(l.C_Initialize(None))
slots, count, session = (U * 8)(), U(8), U()
check(l.C_GetSlotList(c.c_ubyte(1), slots, c.byref(count)))
check(l.C_OpenSession(U(slots[0]), U(6), None, None, c.byref(session)))
check(l.C_Login(session, U(1), b"4711", U(4)))
label, id = sys.argv[2].encode(), sys.argv[3].encode()
if sys.argv[1] == "make":
    yes = [attribute(kind, b"\1") for kind in (0x1, 0x2, 0x103, 0x104, 0x105, 0x106, 0x107)]
    all = yes + [attribute(0x162, b"\0"), attribute(0x3, label), attribute(0x102, id), attribute(0x161, struct.pack("@L", 32))]
    made = U()
    check(l.C_GenerateKey(session, c.byref(Mechanism(0x1080, None, 0)), (Attribute * len(all))(*all), U(len(all)), c.byref(made)))
else:
    all, found, count = [attribute(0x3, label), attribute(0x102, id)], (U * 8)(), U()
    check(l.C_FindObjectsInit(session, (Attribute * 2)(*all), U(2)))
    check(l.C_FindObjects(session, found, U(8), c.byref(count)))
    check(l.C_FindObjectsFinal(session))
    for at in range(count.value): check(l.C_DestroyObject(session, U(found[at])))
"#;

#[test]
fn keys_in_a_token_walk_through_are_away_with_it_and_are_taken_away() {
    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/orders";
    if !Path::new("/usr/lib/softhsm/libsofthsm2.so").exists() {
        eprintln!("NOT RUN: SoftHSM2 is not installed");
        return;
    }
    let store = Store::new();
    fs::create_dir_all(store.path("hsm/tokens")).unwrap();
    let conf = store.path("hsm/softhsm2.conf");
    let tokens = store.path("hsm/tokens");
    fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    fs::write(store.path("softhsm.py"), SOFTHSM).unwrap();
    crate::harness::write_secret(&store.path("hsm/pin"), "4711");
    let configuration = serde_json::json!({"pkcs11": {"library": "/usr/lib/softhsm/libsofthsm2.so", "token": "kmsfs",
        "pin": {"file": store.path("hsm/pin")}}});
    fs::write(store.path("hsm/hsm.json"), configuration.to_string()).unwrap();
    let sh = |script: &str| store.sh(&format!("export SOFTHSM2_CONF=$PWD/hsm/softhsm2.conf\n{script}"));
    sh("softhsm2-util --init-token --free --label kmsfs --so-pin 1234 --pin 4711 >/dev/null");
    sh("python3 softhsm.py make orders 1");
    let arns = format!("arn:aws:kms:eu-central-1:111122223333: {LIMITS}");
    let id = connected_for(&store, "hsm", "pkcs11", "$PWD/hsm/hsm.json", &arns);
    let test = format!(
        "kmsfs kms --store $STORE --key-file $KEY test-custom-key-store --custom-key-store-id {id} --key-id {KEY}"
    );
    assert!(sh(&test).contains(r#""Provider": "pkcs11""#));
    let mounting = || store.mounting().variable("SOFTHSM2_CONF", conf.to_str().unwrap());
    let mut mount = mounting().start();
    walk(&store, &mut mount, KEY);

    // A wrong PIN is tried once, by whichever process.
    drop(mount);
    crate::harness::write_secret(&store.path("hsm/pin"), "0000");
    let mount = mounting().start();
    assert_eq!(errno(File::open(store.path("mnt/bucket/closed"))), Some(libc::EIO));
    assert!(wait_until(|| store.path("hsm/hsm.json.wrong-pin").exists()));
    let refused = store.try_sh(&format!("export SOFTHSM2_CONF=$PWD/hsm/softhsm2.conf\n{test}"));
    assert!(refused.code != 0 && refused.err.contains("is not tried again until"), "{refused:?}");
    crate::harness::write_secret(&store.path("hsm/pin"), "4711");
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/closed")).is_ok_and(|content| content == b"closed")));
    assert!(!store.path("hsm/hsm.json.wrong-pin").exists());

    // Another version wraps from now on, and the older one opens what it has wrapped.
    sh("python3 softhsm.py make orders 2");
    let mut open = File::open(store.path("mnt/bucket/open")).unwrap();
    assert!(wait_until(|| fs::write(store.path("mnt/bucket/second"), b"second").is_ok()));
    assert_eq!(fs::read(store.path("mnt/bucket/second")).unwrap(), b"second");
    sh("python3 softhsm.py destroy orders 1; python3 softhsm.py destroy orders 2");
    assert!(wait_until(|| errno(read_again(&mut open)) == Some(libc::EACCES)), "{}", store.log());
    assert!(wait_until(|| errno(fs::write(store.path("mnt/bucket/new"), b"x")) == Some(libc::ENOKEY)));
    drop(open);
    drop(mount);
}

#[test]
fn keys_of_vault_walk_through_and_are_away_while_it_is_sealed() {
    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/invoices";
    let store = Store::new();
    let Some((bao, port)) = Bao::start(&store) else { return };
    let proxy = Proxy::new(SocketAddr::from(([127, 0, 0, 1], port)));
    fs::create_dir(store.path("vault")).unwrap();
    crate::harness::write_secret(&store.path("vault/token"), "root");
    let configuration = serde_json::json!({"vault": {"endpoints": [proxy.url()],
        "auth": {"token": {"file": store.path("vault/token")}}, "timeout": 1}});
    fs::write(store.path("vault/vault.json"), configuration.to_string()).unwrap();
    let arns = format!("arn:aws:kms:eu-central-1:111122223333: {LIMITS}");
    connected_for(&store, "vault", "vault", "$PWD/vault/vault.json", &arns);
    let mut mount = store.mount();
    walk(&store, &mut mount, KEY);
    for fault in [Fault::Slow, Fault::CutOff, Fault::Garbage, Fault::NoJson, Fault::Endless] {
        is_outage(&store, &mut mount, || proxy.set(fault), || proxy.set(Fault::None));
    }
    is_outage(&store, &mut mount, || bao.signal(&store, "STOP"), || bao.signal(&store, "CONT"));
    let unseal = Bao::unseal_key(&store);
    is_outage(
        &store,
        &mut mount,
        || drop(store.sh("python3 vault.py PUT sys/seal")),
        || drop(store.sh(&format!(r#"python3 vault.py PUT sys/unseal '{{"key": "{unseal}"}}'"#))),
    );
    assert!(kms(&store, "describe-custom-key-stores").contains("CONNECTED"));
}
