//! People who try: another user of the machine, somebody who plants things in the store while it is not mounted,
//! somebody who looks at the process, somebody who chooses names and content.

use crate::harness::{KMS, Store};
use std::fs;

const EVE: u32 = 4_000_002;
const SECRET: &str = "the plaintext that nobody else may read";

/// A store with one object, `bucket/mine`, not mounted.
fn store_with_an_object() -> Store {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    fs::write(bucket.join("mine"), SECRET).unwrap();
    mount.unmount();
    store
}

#[test]
fn another_user_gets_neither_into_the_mount_nor_at_the_stores_files_nor_at_the_process() {
    let store = store_with_an_object();
    store.open_to_all();
    // Objects have the modes that they show; the directory around them is what keeps others out.
    assert_eq!(store.sh("find $STORE -maxdepth 0 -perm /077; find $STORE/keyring $STORE/log -perm /077"), "");
    let mount = store.mount();
    for script in ["ls $MNT", "cat $MNT/bucket/mine", "echo x >$MNT/bucket/new", "kmsfs status $MNT", "kmsfs sync $MNT"]
    {
        let answer = store.sh_as(EVE, script);
        assert!(answer.code != 0 && answer.err.contains("ermission denied"), "{script}: {answer:?}");
    }
    for script in ["cat $STORE/store.json", "ls $STORE", "cat $STORE/keyring/keyring"] {
        assert_eq!(store.sh_as(EVE, &format!("{script} 2>&1 || exit 7")).code, 7, "{script}");
    }
    let pid = mount.pid();
    for name in ["environ", "maps", "mem", "fd/0", "root"] {
        let answer = store.sh_as(EVE, &format!("head -c 1 /proc/{pid}/{name} 2>&1 || exit 7"));
        assert_eq!(answer.code, 7, "{name}: {answer:?}");
    }
    assert_eq!(store.sh_as(EVE, &format!("kill -TERM {pid} 2>&1 || exit 7")).code, 7);
    assert_eq!(fs::read_to_string(mount.path("bucket/mine")).unwrap(), SECRET);
}

#[test]
fn with_allow_other_file_modes_keep_others_out_and_only_the_mounter_administers() {
    let store = store_with_an_object();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    store.sh("chmod 600 $MNT/bucket/mine; chmod 755 $MNT/bucket");
    store.sh_as(EVE, "cat $MNT/bucket/mine").expect_failure(1, "Permission denied");
    store.sh_as(EVE, "echo x >$MNT/bucket/new").expect_failure(1, "Permission denied");
    for script in ["kmsfs status $MNT", "kmsfs sync $MNT", "kmsfs reencrypt $MNT/bucket/mine"] {
        assert_ne!(store.sh_as(EVE, script).code, 0, "{script}");
    }
    assert_eq!(fs::read_to_string(mount.path("bucket/mine")).unwrap(), SECRET);
}

#[test]
fn a_process_that_has_keys_is_in_no_core_dump_and_its_arguments_and_environment_have_no_secret() {
    let store = store_with_an_object();
    let mount = store.mount();
    let pid = mount.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let owner = store.sh(&format!("stat -c %u /proc/{pid}/mem"));
    assert_eq!(owner.trim(), "0", "not dumpable: /proc belongs to root");
    let key = fs::read(store.path("key")).unwrap();
    let is_in = |name: &str| {
        fs::read(format!("/proc/{pid}/{name}")).unwrap().windows(8).any(|bytes| key.windows(8).any(|of| of == bytes))
    };
    assert!(!is_in("cmdline") && !is_in("environ"));
}

#[test]
fn a_symlink_planted_in_the_store_leads_nowhere() {
    let store = store_with_an_object();
    fs::write(store.path("outside"), "outside").unwrap();
    store.sh("ln -s $PWD/outside $STORE/buckets/bucket/file
         mkdir out; echo out >out/x; ln -s $PWD/out $STORE/buckets/bucket/dir
         ln -s .. $STORE/buckets/bucket/loop; ln -s $PWD/out $STORE/buckets/planted-bucket");
    let mount = store.mount();
    for name in ["file", "dir", "loop"] {
        let path = mount.path("bucket").join(name);
        assert_eq!(fs::read_link(&path).unwrap_err().raw_os_error(), Some(libc::EIO), "{name}");
        assert!(fs::read(&path).is_err() && fs::read_dir(&path).is_err(), "{name}");
        assert!(fs::write(&path, "changed").is_err() && fs::write(path.join("x"), "changed").is_err(), "{name}");
    }
    assert!(fs::read_dir(mount.path("planted-bucket")).is_err());
    assert_eq!(fs::read_to_string(mount.path("bucket/mine")).unwrap(), SECRET);
    mount.unmount();
    assert_eq!(store.sh("cat outside out/x; ls out"), "outsideout\nx\n");
    let answer = store.try_sh("kmsfs fsck --key-file $KEY --scrub $STORE");
    assert_eq!(answer.code, 4, "{answer:?}");
}

/// Modes, owners, device nodes and file capabilities are the backing file system's: nothing authenticates them.
#[test]
fn set_id_bits_capabilities_and_devices_planted_in_the_store_are_worth_nothing_unless_asked_for() {
    let store = store_with_an_object();
    store.open_to_all();
    let mount = store.mount();
    store.sh("cp $(realpath $(command -v id)) $MNT/bucket/id; cp $(realpath $(command -v cat)) $MNT/bucket/cat
         chmod 755 $MNT/bucket $MNT/bucket/*; echo secret >roots; chmod 600 roots");
    mount.unmount();
    store.sh("cd $STORE/buckets/bucket; chmod 4755 id; mknod -m 666 null c 1 3; setcap cap_dac_override+ep cat");
    let gained = |options: &str| {
        let mount = store.mount_with(options);
        let scripts = ["test $($MNT/bucket/id -u) = 0", "$MNT/bucket/cat roots", ": <$MNT/bucket/null"];
        let gained = scripts.map(|script| store.sh_as(EVE, script).code == 0);
        mount.unmount();
        gained
    };
    assert_eq!(gained("allow_other"), [false; 3]);
    assert_eq!(gained("allow_other,nosuid,dev"), [false, false, true]);
    assert_eq!(gained("allow_other,suid"), [true, true, false], "they are there for whoever asks for them");
}

/// Sets an attribute and prints 0 or the errno's name.
const SET: &str = r#"set() { python3 -c 'import errno, os, sys
try: os.setxattr(sys.argv[1], "user." + sys.argv[2], sys.argv[3].encode()); print(0)
except OSError as e: print(errno.errorcode[e.errno])' "$@"; }
"#;

/// Who may set what, through names that stand for verbs: docs/SEMANTICS.md has the table.
#[test]
fn each_attribute_that_is_a_verb_is_for_those_whom_the_document_names() {
    let store = store_with_an_object();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    store.sh("mkdir -m 777 $MNT/bucket/open; : >$MNT/bucket/open/roots; chmod 777 $MNT $MNT/bucket; chmod 600 $MNT/bucket/mine");
    let set = |whose: u32, path: &str, name: &str, value: &str| {
        let answer = store.sh_as(whose, &format!("{SET}set $MNT/{path} '{name}' '{value}'"));
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().to_owned()
    };
    let order = r#"{"token":7,"how":"NewDataKey","target":null,"from_key":null,"dry_run":false,"from":0}"#;
    let aes256 = r#"{"ServerSideEncryption":"AES256"}"#;
    // The root of the mount is open to all here, so that it is kmsfs that refuses.
    assert_eq!(set(EVE, "", "x-kmsfs-sync", "1"), "EPERM");
    assert_eq!(set(0, "", "x-kmsfs-sync", "1"), "0");
    assert_eq!(set(EVE, "bucket", "x-kmsfs-sync", "1"), "ENODATA");
    let status = store.sh_as(EVE, "getfattr -n user.x-kmsfs-status $MNT 2>&1 || exit 7");
    assert_eq!(status.code, 7, "{status:?}");
    for (name, value) in
        [("x-kmsfs-reencrypt", order), ("x-kmsfs-request", aes256), ("x-amz-server-side-encryption", "AES256")]
    {
        assert_eq!(set(EVE, "bucket/mine", name, value), "EACCES", "{name}");
    }
    let before = store.sh("sha256sum $STORE/buckets/bucket/mine");
    assert_eq!(set(EVE, "bucket", "x-kmsfs-reencrypt", order), "0");
    assert_eq!(
        store.sh("sha256sum $STORE/buckets/bucket/mine"),
        before,
        "the directory is hers to write, the file is not"
    );
    // It is answered once, so in one call.
    let outcome = r#"python3 -c 'import ctypes, os
value = ctypes.create_string_buffer(65536)
path = os.environ["MNT"].encode() + b"/bucket"
ctypes.CDLL(None).getxattr(path, b"user.x-kmsfs-reencrypt.0000000000000007", value, 65536)
print(value.value)'"#;
    assert_eq!(store.sh(outcome), "b''\n", "an answer is for whoever asked");
    let told = store.sh_as(EVE, outcome).out;
    assert!(told.contains(&hex::encode("mine")), "it takes an order of its own: {told}");
    // What could be set once, and what may be a verb of a later version: nothing is stored under such a name.
    for name in
        ["x-kmsfs-create", "x-kmsfs-content-md5", "x-kmsfs-encryption", "x-kmsfs-status", "x-kmsfs-later", "etag"]
    {
        for path in ["bucket/open", "bucket/mine"] {
            let refused = if matches!(name, "x-kmsfs-encryption" | "etag") { "EPERM" } else { "ENOTSUP" };
            assert_eq!(set(0, path, name, "5d41402abc4b2a76b9719d911017c592"), refused, "{name}");
        }
    }
    assert_eq!(store.sh("getfattr -d $MNT/bucket/open $MNT/bucket/mine 2>&1"), "");
    assert_eq!(fs::read_to_string(mount.path("bucket/mine")).unwrap(), SECRET);
}

/// A key policy can go by the encryption context, so it names what the file system knows: never what a caller says.
#[test]
fn an_encryption_context_names_the_objects_own_place_whatever_a_request_says() {
    let store = store_with_an_object();
    store.open_to_all();
    let _mount = store.mount_with(&format!("allow_other,audit_log={}", store.path("audit").display()));
    store.sh("mkdir -m 777 $MNT/bucket/open; mkdir -m 1777 $MNT/bucket/tmp; : >$MNT/bucket/tmp/roots");
    let set = |path: &str, value: &str| {
        let made = format!("{SET}: >$MNT/bucket/{path}; set $MNT/bucket/{path} x-kmsfs-request '{value}'");
        let answer = store.sh_as(EVE, &made);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().to_owned()
    };
    // No member of a request names another place.
    assert_eq!(set("open/a", r#"{"ServerSideEncryption":"aws:kms","target":"../mine"}"#), "EINVAL");
    let own_arn = "eyJhd3M6czM6YXJuIjoiYXJuOmF3czpzMzo6OmJ1Y2tldC9taW5lIn0=";
    let with_arn = format!(r#"{{"ServerSideEncryption":"aws:kms","SSEKMSEncryptionContext":"{own_arn}"}}"#);
    assert_eq!(set("open/b", &with_arn), "EINVAL");
    // A name that says what it is for is in the same directory, and nobody else's.
    let kms = r#"{"ServerSideEncryption":"aws:kms"}"#;
    assert_eq!(set("tmp/.kmsfs-put.0123456789abcdef.roots", kms), "EPERM");
    assert_eq!(set("tmp/.kmsfs-put.0123456789abcdef.hers", kms), "0");
    store.sh_as(EVE, "echo x | kmsfs put --server-side-encryption aws:kms - $MNT/bucket/open/put");
    let long = "n".repeat(250);
    store.sh_as(EVE, &format!("echo x | kmsfs put --server-side-encryption aws:kms - $MNT/bucket/open/{long}"));
    assert_eq!(
        store.sh(&format!("cat $MNT/bucket/open/put $MNT/bucket/open/{long}")),
        "x
x
"
    );
    // Once there is content, it is no new object any more.
    store.sh_as(EVE, "echo x >$MNT/bucket/open/full");
    let full = store.sh_as(EVE, &format!("{SET}set $MNT/bucket/open/full x-kmsfs-request '{kms}'"));
    assert_eq!(full.out.trim(), "EINVAL");
    let audit = fs::read_to_string(store.path("audit")).unwrap();
    let named = |key: &str| audit.contains(&format!("arn:aws:s3:::bucket/{key}\""));
    assert!(named("open/put") && named("tmp/hers"), "{audit}");
    assert!(audit.contains("arn:aws:s3:::bucket/open/.kmsfs-put."), "a name that is too long names the temporary one");
    for other in ["mine", "tmp/roots"] {
        let hers = |line: &&str| line.contains(&EVE.to_string()) && line.contains(&format!("bucket/{other}\""));
        assert_eq!(audit.lines().find(hers), None);
    }
}

#[test]
fn what_is_no_object_but_stands_where_one_could_be_neither_hangs_nor_ends_the_mount() {
    let store = store_with_an_object();
    fs::write(store.path("outside"), "outside").unwrap();
    store.sh("cd $STORE/buckets/bucket; mkfifo fifo; mknod disk b 7 0; ln $OLDPWD/outside hard; : >empty
         truncate -s 15T huge; head -c 100000 /dev/urandom >noise; cp mine copy; mkdir dir; cp mine dir/below");
    let mount = store.mount();
    let bucket = mount.path("bucket");
    for name in ["hard", "empty", "huge", "noise"] {
        let error = fs::read(bucket.join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}: {error}");
        let error = fs::OpenOptions::new().append(true).open(bucket.join(name)).map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}: {error}");
    }
    // One object has one place; of two, which is the copy cannot be told, and neither gives the other's content away.
    for name in ["copy", "dir/below"] {
        assert!(fs::read_to_string(bucket.join(name)).map_or(true, |content| content == SECRET), "{name}");
    }
    store.sh("timeout 20 stat $MNT/bucket/* >/dev/null; timeout 20 ls -l $MNT/bucket >/dev/null");
    assert!(mount.peak_rss() < 256 << 20, "a length that was made up takes no memory");
    mount.unmount();
    assert_eq!(fs::read_to_string(store.path("outside")).unwrap(), "outside");
    let answer = store.try_sh("timeout 60 kmsfs fsck --key-file $KEY --scrub $STORE");
    assert_eq!(answer.code, 4, "{answer:?}");
}

#[test]
fn what_the_store_itself_needs_cannot_be_replaced_by_what_hangs_or_leads_away() {
    for name in
        ["store.json", "lock", "log/redo", "keyring/keyring", "keyring/slots.json", "sidecars", "meta", "buckets"]
    {
        for plant in ["mkfifo", "ln -s /dev/zero", "mkdir"] {
            let store = store_with_an_object();
            store.sh(&format!("mv $STORE/{name} away; {plant} $STORE/{name}"));
            if plant == "mkdir" && fs::symlink_metadata(store.path("away")).unwrap().is_dir() {
                continue;
            }
            let answer = store.try_sh("timeout 20 kmsfs mount --key-file $KEY -o log_file=log $STORE $MNT");
            assert_eq!(answer.code, 1, "{plant} {name}: {answer:?}");
            assert!(answer.err.starts_with("kmsfs: "), "{plant} {name}: {answer:?}");
            store.sh(&format!("rm -r $STORE/{name}; mv away $STORE/{name}"));
            let mount = store.mount();
            assert_eq!(fs::read_to_string(mount.path("bucket/mine")).unwrap(), SECRET, "{plant} {name}");
        }
    }
}

#[test]
fn names_that_somebody_chose_stay_on_one_line_of_logs_and_within_json() {
    let store = store_with_an_object();
    let mount = store.mount();
    let name = "x\n[2026-01-01T00:00:00Z ERROR forged] line\u{1b}[2J\"},{\"";
    let path = mount.path("bucket").join(name);
    fs::write(&path, "x").unwrap();
    mount.unmount();
    let backing = store.store().join("buckets/bucket").join(name);
    let bytes = fs::read(&backing).unwrap();
    fs::write(&backing, vec![0; bytes.len()]).unwrap();
    let mount = store.mount();
    assert!(fs::read(&path).is_err());
    drop(mount);
    let log = store.log();
    assert!(log.contains("forged"), "the damage is logged: {log}");
    assert!(!log.lines().any(|line| line.starts_with("[2026-01-01")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
    let answer = store.try_sh("kmsfs fsck --key-file $KEY --scrub --json $STORE");
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert!(report.to_string().contains("forged"), "{answer:?}");
    assert!(!answer.out.contains('\u{1b}') && !answer.err.contains('\u{1b}'), "{answer:?}");
}

/// Recursion went as deep as whoever can write the store wanted, and ended the process.
#[test]
fn directories_of_any_depth_end_neither_a_check_nor_a_recovery() {
    const DEPTH: usize = 2500;
    let store = store_with_an_object();
    let mount = store.mount();
    store.sh("echo more >>$MNT/bucket/mine");
    mount.kill9();
    // With the least stack that kmsfs goes on with. The object is nowhere, so that recovery looks everywhere.
    store.sh(&format!(
        "mv $STORE/buckets/bucket/mine aside
         python3 -c 'import os
os.chdir(os.environ[\"STORE\"] + \"/buckets/bucket\")
for _ in range({DEPTH}): os.mkdir(\"d\"); os.chdir(\"d\")'
         ulimit -s 1024
         kmsfs fsck --key-file $KEY --json $STORE >found || test $? = 4"
    ));
    let found: serde_json::Value = serde_json::from_str(&store.sh("cat found")).unwrap();
    assert_eq!(found["Directories"], DEPTH, "{found}");
    store.sh("ulimit -s 1024; kmsfs kms --store $STORE --key-file $KEY list-objects --key-id alias/aws/s3");
    store.mount().unmount();
}
