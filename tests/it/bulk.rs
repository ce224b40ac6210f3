//! `kmsfs reencrypt`: keys of many objects changed while they are used, interrupted, and gone on with.

use crate::harness::{Mount, Store, header, kmsfs, noise, wait_until};
use kmsfs_crypto::key_file;
use kmsfs_kms_local::{LocalKms, Moment, Unlock, boot_id};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const KMS: &str = r#"{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"alias/old"}"#;

/// `KMSFS_BULK_OBJECTS` makes it as many as one wants to measure.
fn objects() -> usize {
    std::env::var("KMSFS_BULK_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
}

fn content(number: usize) -> Vec<u8> {
    format!("object {number}").repeat(1 + number % 50).into_bytes()
}

fn name(number: usize) -> String {
    format!("bucket/d{}/o{number}", number % 4)
}

fn fill(mount: &Mount, count: usize) {
    mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    (0..4).for_each(|dir| fs::create_dir(mount.path(&format!("bucket/d{dir}"))).unwrap());
    write(mount, 0..count);
}

fn write(mount: &Mount, numbers: Range<usize>) {
    numbers.for_each(|number| fs::write(mount.path(&name(number)), content(number)).unwrap());
}

#[track_caller]
fn all_read(mount: &Mount, count: usize) {
    for number in 0..count {
        let found = fs::read(mount.path(&name(number))).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert!(found == content(number), "{number}");
    }
}

fn summary(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn etag(path: &Path) -> Vec<u8> {
    let mut value = [0; 100];
    let len = rustix::fs::getxattr(path, "user.etag", &mut value[..]).unwrap();
    value[..len].to_vec()
}

#[test]
fn many_objects_come_under_another_key_and_the_old_one_is_rotated_before_and_deleted_afterwards() {
    let count = objects();
    let store = Store::on_tmpfs();
    let old = store.create_key("alias/old");
    store.create_key("alias/new");
    let mut mount = store.mount();
    fill(&mount, count / 2);
    store.kms(&format!("rotate-key-on-demand --key-id {old}"));
    mount.remount();
    write(&mount, count / 2..count);
    mount.remount();
    let before = |mount: &Mount, number| {
        let path = mount.path(&name(number));
        (fs::metadata(&path).unwrap().mtime_nsec(), etag(&path))
    };
    let sample: Vec<_> = (0..count).step_by(97).map(|number| before(&mount, number)).collect();

    let listed = |key: &str| store.sh(&format!("kmsfs kms --store $STORE --key-file $KEY list-objects --key-id {key}"));
    let lines = listed("alias/old");
    assert_eq!(lines.lines().count(), count);
    let expected = r#"{"Bucket":"bucket","Key":"d1/o1","ServerSideEncryption":"aws:kms","BucketKeyEnabled":false}"#;
    assert!(lines.lines().any(|line| line == expected), "{lines}");
    let scheduled = "kmsfs kms --store $STORE --key-file $KEY schedule-key-deletion --key-id";
    let warned = store.try_sh(&format!("{scheduled} {old}")).err;
    assert!(warned.contains(&format!("{count} objects are under this key")), "{warned}");
    store.kms(&format!("cancel-key-deletion --key-id {old}"));
    store.enable_key(&old);
    assert!(wait_until(|| fs::read(mount.path(&name(0))).is_ok()));
    let command = format!("kmsfs reencrypt --recursive --json --from-key {old} --ssekms-key-id alias/new $MNT/bucket");
    let would = summary(&store.sh(&command.replace("--json", "--json --dry-run")));
    assert_eq!((would["Rewrapped"].as_u64(), would["DryRun"].as_bool()), (Some(count as u64), Some(true)));
    let began = Instant::now();
    let done = summary(&store.sh(&command));
    println!("{count} objects re-wrapped in {} ms", began.elapsed().as_millis());
    assert_eq!(done["Rewrapped"], count, "a dry run has changed nothing: {done}");
    assert_eq!((&done["Skipped"], &done["Failed"]), (&1.into(), &0.into()), "the configuration is left alone");
    let again = summary(&store.sh(&command.replace(&format!("--from-key {old} "), "--wait ")));
    assert_eq!((&again["Rewrapped"], &again["Skipped"]), (&0.into(), &(count + 1).into()));

    assert_eq!(listed(&old), "");
    assert_eq!(
        store.sh("kmsfs kms --store $STORE --key-file $KEY list-objects --key-id alias/new --count"),
        format!("{count}\n")
    );
    let deletion = store.try_sh(&format!("{scheduled} {old} --pending-window-in-days 7"));
    assert!(deletion.code == 0 && deletion.err.is_empty(), "no object goes with it: {deletion:?}");
    let in_eight_days = Moment::now(boot_id()).after(Duration::from_secs(8 * 24 * 60 * 60));
    let key_file = Unlock::KeyFile(key_file::read(&store.path("key")).unwrap());
    LocalKms::open_at(&store.store().join("keyring"), &key_file, Box::new(move || in_eight_days)).unwrap();
    let gone = store.try_sh(&format!("kmsfs kms --store $STORE --key-file $KEY describe-key --key-id {old}"));
    gone.expect_failure(254, &format!("(NotFoundException) when calling the DescribeKey operation: Key '{old}'"));
    mount.remount();
    all_read(&mount, count);
    let after: Vec<_> = (0..count).step_by(97).map(|number| before(&mount, number)).collect();
    assert_eq!(sample, after, "mtime and ETag stay");
    mount.unmount();
}

#[test]
fn an_interrupted_command_and_a_killed_daemon_are_gone_on_from() {
    let count = objects();
    let store = Store::on_tmpfs();
    let old = store.create_key("alias/old");
    let new = store.create_key("alias/new");
    let mount = store.mount();
    fill(&mount, count);
    let start = || {
        let mut command = kmsfs();
        command.args(["reencrypt", "--recursive", "--json", "--ssekms-key-id", "alias/new"]);
        command.arg(store.mountpoint().join("bucket")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let is_new = |number: usize| {
        let mut value = [0; 200];
        let attribute = "user.x-amz-server-side-encryption-aws-kms-key-id";
        let len = rustix::fs::getxattr(store.mountpoint().join(name(number)), attribute, &mut value[..]).unwrap_or(0);
        value[..len] == *new.as_bytes()
    };
    let running = start();
    assert!(wait_until(|| is_new(0)));
    rustix::process::kill_process(rustix::process::Pid::from_child(&running), rustix::process::Signal::INT).unwrap();
    let output = running.wait_with_output().unwrap();
    let first = summary(&String::from_utf8_lossy(&output.stdout));
    assert!(matches!(output.status.code(), Some(0 | 130)), "{output:?}");
    assert_eq!(first["Interrupted"].as_bool(), Some(output.status.code() == Some(130)));
    all_read(&mount, count);

    store.sh("kmsfs reencrypt --recursive --ssekms-key-id alias/old $MNT/bucket");
    let running = start();
    assert!(wait_until(|| is_new(0)));
    mount.kill9();
    assert_ne!(running.wait_with_output().unwrap().status.code(), Some(130));
    let mount = store.mount();
    all_read(&mount, count);
    store.sh("kmsfs reencrypt --recursive --ssekms-key-id alias/new $MNT/bucket");
    store.disable_key(&old);
    assert!(wait_until(|| !store.try_sh("cat $MNT/bucket/.encryption.json").out.is_empty()));
    all_read(&mount, count);
    mount.unmount();
}

#[test]
fn a_large_object_is_encrypted_again_while_a_program_writes_in_it() {
    const LEN: usize = 24 << 20;
    let store = Store::on_tmpfs();
    store.create_key("alias/old");
    let mount = store.mount();
    mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    let path = mount.path("bucket/large");
    let mut expected = noise(1, LEN);
    fs::write(&path, &expected).unwrap();
    fs::hard_link(&path, mount.path("bucket/link")).unwrap();
    let before = etag(&path);
    let file = OpenOptions::new().write(true).read(true).open(&path).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = Vec::new();
            for number in 0_usize.. {
                let at = number * 7_654_321 % (LEN - 5000);
                let bytes = noise(number as u64, 5000);
                file.write_all_at(&bytes, at as u64).unwrap();
                written.push((at, bytes));
                if ended.load(Ordering::SeqCst) {
                    return written;
                }
            }
            written
        });
        let said = store.sh("kmsfs reencrypt --new-data-key $MNT/bucket/large");
        assert_eq!(said, "1 object: 0 re-wrapped, 1 re-encrypted, 0 skipped, 0 failed\n");
        ended.store(true, Ordering::SeqCst);
        for (at, bytes) in writer.join().unwrap() {
            expected[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    });
    file.sync_all().unwrap();
    drop(file);
    assert_ne!(etag(&path), before);
    store.sh("kmsfs reencrypt --server-side-encryption AES256 $MNT/bucket/large");
    mount.unmount();
    let mount = store.mount();
    assert!(fs::read(mount.path("bucket/link")).unwrap() == expected);
    mount.unmount();
}

/// The mount does not ask the kernel for each object of a directory, but the answers are as if it did.
#[test]
fn a_user_changes_the_objects_that_he_may_write_and_no_others() {
    const ALICE: u32 = 60001;
    const BOB: u32 = 60002;
    let store = Store::on_tmpfs();
    store.open_to_all();
    let old = store.create_key("alias/old");
    let new = store.create_key("alias/new");
    let mount = store.mount_with("allow_other");
    mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    let dir = mount.path("bucket/d");
    fs::create_dir(&dir).unwrap();
    for number in 0..300 {
        let (owner, group, mode) = match number % 6 {
            0 => (ALICE, ALICE, 0o600),
            1 => (BOB, BOB, 0o644),
            2 => (BOB, ALICE, 0o664),
            3 => (ALICE, ALICE, 0o400),
            4 => (BOB, BOB, 0o666),
            _ => (0, 0, 0o644),
        };
        let path = dir.join(number.to_string());
        fs::write(&path, content(number)).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(group)).unwrap();
    }
    chown(&dir, Some(ALICE), Some(ALICE)).unwrap();
    let answer = store.sh_as(ALICE, "kmsfs reencrypt --recursive --json --ssekms-key-id alias/new $MNT/bucket/d");
    assert_eq!(answer.code, 1, "{answer:?}");
    let done = summary(&answer.out);
    assert_eq!((&done["Rewrapped"], &done["Failed"]), (&150.into(), &150.into()), "{done}");
    assert!(answer.err.contains("/1: Permission denied"), "{}", answer.err);
    for number in 0..300 {
        let key = if [0, 2, 4].contains(&(number % 6)) { &new } else { &old };
        assert_eq!(&header(&dir.join(number.to_string()), "-aws-kms-key-id").unwrap(), key, "{number}");
    }
    mount.unmount();
}

#[test]
fn large_and_small_objects_of_a_directory_are_each_encrypted_again_once() {
    let store = Store::on_tmpfs();
    store.create_key("alias/old");
    let mount = store.mount();
    mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    let names: Vec<_> = (0..40).map(|number| mount.path(&format!("bucket/o{number}"))).collect();
    let length = |number: usize| if number.is_multiple_of(13) { 17 << 20 } else { 100 * number };
    for (number, path) in names.iter().enumerate() {
        fs::write(path, noise(number as u64, length(number))).unwrap();
    }
    let said = store.sh("kmsfs reencrypt --recursive --new-data-key $MNT/bucket");
    assert_eq!(said, "41 objects: 0 re-wrapped, 40 re-encrypted, 1 skipped, 0 failed\n");
    for (number, path) in names.iter().enumerate() {
        assert!(fs::read(path).unwrap() == noise(number as u64, length(number)), "{number}");
    }
    mount.unmount();
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let store = Store::on_tmpfs();
    store.create_key("alias/old");
    let mount = store.mount();
    mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    File::create(mount.path("bucket/o")).unwrap().write_all_at(b"content", 0).unwrap();
    for (arguments, code, said) in [
        ("$MNT/bucket", 2, "say --recursive"),
        ("--ssekms-key-id alias/nobody $MNT/bucket/o", 1, "KMS.NotFoundException"),
        ("--rewrap-only --server-side-encryption AES256 $MNT/bucket/o", 1, "needs a new data key"),
        ("--server-side-encryption AES256 --ssekms-key-id x $MNT/bucket/o", 2, "AES256 has no KMS key"),
        ("--rewrap-only --new-data-key $MNT/bucket/o", 2, "cannot be used with"),
        ("--ssekms-key-id alias/old $STORE", 1, "is not in a kmsfs mount"),
    ] {
        let answer = store.try_sh(&format!("kmsfs reencrypt {arguments}"));
        assert_eq!(answer.code, code, "{arguments}: {answer:?}");
        assert!(answer.err.contains(said), "{arguments}: {answer:?}");
    }
    assert_eq!(store.sh("cat $MNT/bucket/o"), "content");
    mount.unmount();
}
