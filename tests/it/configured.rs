//! A directory's configuration is what was put there through the mount: taken away, exchanged or put back in the store,
//! it refuses creation and never weakens it. And who may put one.

use crate::harness::{KMS, Store, configuration, header, wait_until};
use crate::store::{CALLER, keys};
use kmsfs_fs::{Creation, Fs, FsOptions, Ino, Refusal};
use kmsfs_sse::KeyService;
use kmsfs_store::backend::{Backend, Rename};
use kmsfs_store::{self as store, Parameters, StoreOptions};
use kmsfs_testing::disk::{CrashPoint, SimulatedDisk};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

const AES256: &str = r#"{"SSEAlgorithm":"AES256"}"#;

/// Directories `a`, `b` and `c` of a bucket, the first two with configurations, aws:kms and AES256.
fn two_configurations() -> Store {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh("mkdir $MNT/bucket/a $MNT/bucket/a/below $MNT/bucket/b $MNT/bucket/c");
    mount.set_default("bucket/a", KMS, false);
    mount.set_default("bucket/b", AES256, false);
    mount.unmount();
    store
}

fn fsck(store: &Store, options: &str) -> (i32, String) {
    let answer = store.try_sh(&format!("kmsfs fsck --key-file $KEY {options} $STORE"));
    (answer.code, answer.out)
}

fn expect_algorithm(store: &Store, path: &str, algorithm: &str) {
    let probe = store.mountpoint().join(path).join("probe");
    fs::write(&probe, "x").unwrap();
    assert_eq!(header(&probe, "").unwrap(), algorithm, "{path}");
    fs::remove_file(&probe).unwrap();
}

fn expect_refusal(store: &Store, path: &str) {
    store.try_sh(&format!("echo x > $MNT/{path}/new")).expect_failure(1, "Input/output error");
}

#[test]
fn one_taken_away_in_the_store_refuses_creation_below_it_until_it_is_put_again() {
    let store = two_configurations();
    assert_eq!(fsck(&store, "").0, 0);
    store.sh("rm $STORE/buckets/bucket/a/.encryption.json");
    let (code, out) = fsck(&store, "");
    assert_ne!(code, 0, "{out}");
    assert!(out.contains("bucket/a: the configuration of this directory was taken away"), "{out}");
    let mut mount = store.mount();
    for path in ["bucket/a", "bucket/a/below"] {
        expect_refusal(&store, path);
    }
    store.expect_log(
        "bucket/a/.encryption.json: the configuration of this directory was taken away in the store: put it again",
    );
    expect_algorithm(&store, "bucket/b", "AES256");
    expect_algorithm(&store, "bucket/c", "AES256");
    mount.set_default("bucket/a", KMS, false);
    expect_algorithm(&store, "bucket/a/below", "aws:kms");
    mount.remount();
    expect_algorithm(&store, "bucket/a/below", "aws:kms");
    mount.unmount();
    assert_eq!(fsck(&store, "").0, 0);
}

#[test]
fn a_malformed_one_that_is_taken_away_in_the_store_refuses_creation_all_the_same() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh("mkdir $MNT/bucket/a; echo hello > $MNT/bucket/a/.encryption.json || true");
    mount.unmount();
    assert_eq!(fsck(&store, "").0, 0);
    store.sh("rm $STORE/buckets/bucket/a/.encryption.json");
    assert_ne!(fsck(&store, "").0, 0);
    let mount = store.mount();
    expect_refusal(&store, "bucket/a");
    mount.set_default("bucket/a", KMS, false);
    expect_algorithm(&store, "bucket/a", "aws:kms");
}

#[test]
fn a_repair_takes_what_is_there() {
    let store = two_configurations();
    store.sh("rm $STORE/buckets/bucket/a/.encryption.json");
    let (code, out) = fsck(&store, "--repair");
    assert!(out.contains("what is there holds from now on"), "{code} {out}");
    assert_eq!(fsck(&store, "").0, 0);
    let _mount = store.mount();
    expect_algorithm(&store, "bucket/a", "AES256");
}

#[test]
fn ones_exchanged_in_the_store_or_put_where_there_was_none_refuse_creation() {
    let store = two_configurations();
    store.sh("cd $STORE/buckets/bucket; mv a/.encryption.json x; mv b/.encryption.json a/.encryption.json; mv x c/.encryption.json");
    let _mount = store.mount();
    for path in ["bucket/a", "bucket/b", "bucket/c"] {
        expect_refusal(&store, path);
    }
    store.expect_log("is not the one that was put");
}

#[test]
fn an_earlier_content_of_one_refuses_creation() {
    let store = two_configurations();
    store.sh("cp -a $STORE/buckets/bucket/a/.encryption.json $STORE/kept");
    let mount = store.mount();
    mount.set_default("bucket/a", AES256, false);
    mount.set_default("bucket/a", KMS, true);
    mount.unmount();
    store.sh("cat $STORE/kept > $STORE/buckets/bucket/a/.encryption.json");
    let _mount = store.mount();
    expect_refusal(&store, "bucket/a");
}

#[test]
fn without_the_list_nothing_is_created() {
    let store = two_configurations();
    for damage in ["rm $STORE/configurations", "echo '{\"directories\":[],\"mac\":\"\"}' > $STORE/configurations"] {
        store.sh(&format!("cp -a $STORE/configurations $STORE/kept; {damage}"));
        let mount = store.mount();
        for path in ["bucket/a", "bucket/c"] {
            expect_refusal(&store, path);
        }
        mount.unmount();
        assert!(fsck(&store, "").1.contains("configurations"));
        store.sh("mv $STORE/kept $STORE/configurations");
    }
    let _mount = store.mount();
    expect_algorithm(&store, "bucket/a", "aws:kms");
}

#[test]
fn whatever_is_done_through_the_mount_is_normal() {
    let store = two_configurations();
    let mut mount = store.mount();
    store.sh("cd $MNT/bucket; mv a c/; mv c d; cp b/.encryption.json e; rm b/.encryption.json; rmdir b; mkdir b f");
    store.sh("cd $MNT/bucket; ln d/a/.encryption.json f/.encryption.json");
    for remounted in [false, true] {
        expect_algorithm(&store, "bucket/d/a/below", "aws:kms");
        expect_algorithm(&store, "bucket/f", "aws:kms");
        expect_algorithm(&store, "bucket/b", "AES256");
        if !remounted {
            mount.remount();
        }
    }
    store.sh("cd $MNT/bucket; rm f/.encryption.json; mv -T d/a/.encryption.json f/.encryption.json; mv e d/a/.encryption.json");
    for remounted in [false, true] {
        expect_algorithm(&store, "bucket/d/a/below", "AES256");
        expect_algorithm(&store, "bucket/f", "aws:kms");
        if !remounted {
            mount.remount();
        }
    }
    // Copied and restored, every inode has another number.
    mount.unmount();
    store.sh("cp -a $STORE $STORE.copy; rm -rf $STORE; mv $STORE.copy $STORE");
    assert_eq!(fsck(&store, "").0, 0);
    let mut mount = store.mount();
    expect_algorithm(&store, "bucket/f", "aws:kms");
    store.sh("rm -rf $MNT/bucket/*; mkdir $MNT/bucket/f");
    mount.remount();
    expect_algorithm(&store, "bucket/f", "AES256");
}

#[test]
fn only_root_and_the_directorys_owner_put_one_that_others_follow() {
    const ALICE: u32 = 60001;
    let store = Store::new();
    store.open_to_all();
    let mut mount = store.mount_with("allow_other");
    mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    fs::write(store.path("aes.json"), configuration(AES256, false)).unwrap();
    store.sh(&format!(
        "chmod 644 aes.json; cd $MNT/bucket; mkdir -m 1777 shared; mkdir own; chown {ALICE} own; chmod 777 ."
    ));
    let put = |script: &str| store.sh_as(ALICE, script);
    put("cp aes.json $MNT/bucket/shared/.encryption.json").expect_failure(1, "Operation not permitted");
    store.expect_log(&format!("bucket/shared/.encryption.json: user {ALICE}'s configuration is refused"));
    expect_algorithm(&store, "bucket/shared", "aws:kms");
    let ways = [
        "mv $MNT/bucket/own/n $MNT/bucket/shared/.encryption.json",
        "ln $MNT/bucket/own/n $MNT/bucket/shared/.encryption.json",
    ];
    assert_eq!(put("rm -f $MNT/bucket/shared/.encryption.json; cp aes.json $MNT/bucket/own/n").code, 0);
    for way in ways {
        put(way).expect_failure(1, "Operation not permitted");
        expect_algorithm(&store, "bucket/shared", "aws:kms");
    }
    assert_eq!(put("cp aes.json $MNT/bucket/own/.encryption.json").code, 0);
    expect_algorithm(&store, "bucket/own", "AES256");
    // Root's stays root's to put, also when somebody else owns the directory.
    mount.set_default("bucket/own", KMS, false);
    store.sh("chown 0 $MNT/bucket/own/.encryption.json");
    expect_algorithm(&store, "bucket/own", "aws:kms");
    // One that has become somebody's who may not put one refuses creation, and says so.
    store.sh(&format!("chown 0 $MNT/bucket/own; chown {ALICE} $MNT/bucket/own/.encryption.json"));
    mount.remount();
    expect_refusal(&store, "bucket/own");
    store.expect_log("it is not its owner's to put");
    assert!(wait_until(|| store.try_sh("chown 0 $MNT/bucket/own/.encryption.json").code == 0));
    expect_algorithm(&store, "bucket/own", "aws:kms");
}

/// A file system over a disk.
fn mounted(disk: &SimulatedDisk, keys: &Arc<KeyService>) -> Arc<Fs> {
    let store = store::Store::open(Arc::new(disk.clone()), keys.clone(), StoreOptions::default()).unwrap();
    Fs::new(store, FsOptions { read_only: false, keep_owners: true, noatime: true, open_dirs: 100, most_inodes: None })
}

fn creation() -> Creation {
    Creation { mode: 0o755, umask: 0, caller: CALLER }
}

fn put(fs: &Fs, dir: Ino, name: &str, content: &str) {
    let handle = match fs.lookup(dir, OsStr::new(name)) {
        Ok(entry) => fs.open(entry.ino(), true, true, &CALLER).unwrap(),
        Err(_) => fs.create(dir, OsStr::new(name), &creation()).unwrap().1,
    };
    fs.write(handle, 0, content.as_bytes(), kmsfs_fs::Writer::Anybody(CALLER)).unwrap();
    fs.flush(handle).unwrap();
    fs.release(handle);
}

const NAME: &str = ".encryption.json";

/// Each in a disk of its own, with the directories `a` and `b` of a bucket, the first with a configuration.
type Change = fn(&Fs, Ino, Ino);
const CHANGES: [(&str, Change); 6] = [
    ("another content", |fs, _, a| put(fs, a, NAME, &configuration(AES256, false))),
    ("a first one", |fs, bucket, _| {
        put(fs, fs.lookup(bucket, OsStr::new("b")).unwrap().ino(), NAME, &configuration(KMS, true));
    }),
    ("it goes", |fs, _, a| fs.unlink(a, OsStr::new(NAME)).unwrap()),
    ("it moves", |fs, bucket, a| {
        let b = fs.lookup(bucket, OsStr::new("b")).unwrap().ino();
        fs.rename(a, OsStr::new(NAME), b, OsStr::new(NAME), Rename::Replace, &CALLER).unwrap();
    }),
    ("its directory moves", |fs, bucket, _| {
        fs.rename(bucket, OsStr::new("a"), bucket, OsStr::new("z"), Rename::Replace, &CALLER).unwrap();
    }),
    ("its directory is exchanged", |fs, bucket, _| {
        fs.rename(bucket, OsStr::new("a"), bucket, OsStr::new("b"), Rename::Exchange, &CALLER).unwrap();
    }),
];

#[test]
fn a_power_cut_in_a_change_leaves_a_directory_with_the_old_one_or_the_new() {
    for (change, act) in CHANGES {
        let (disk, keys) = (SimulatedDisk::new(), keys());
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        store::create(&disk, &parameters, keys.service()).unwrap();
        let fs = mounted(&disk, &keys);
        let bucket = fs.mkdir(fs.root(), OsStr::new("bucket"), &creation()).unwrap().ino();
        let a = fs.mkdir(bucket, OsStr::new("a"), &creation()).unwrap().ino();
        fs.mkdir(bucket, OsStr::new("b"), &creation()).unwrap();
        put(&fs, a, NAME, &configuration(KMS, false));
        fs.store().checkpoint().unwrap();
        disk.sync_all().unwrap();
        let points: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
        let seen = points.clone();
        disk.watch(move |point| seen.lock().push(point.clone()));
        act(&fs, bucket, a);
        disk.unwatch();
        let points = std::mem::take(&mut *points.lock());
        assert!(points.len() > 5, "{change}: {}", points.len());
        for (n, point) in points.iter().enumerate() {
            for cut in point.power_cuts(6, 1).chain([point.kill()]) {
                expect_usable(&cut, &keys, &format!("{change}, call {n}"));
            }
        }
    }
}

#[test]
fn one_goes_from_a_full_disk_too() {
    let (disk, keys) = (SimulatedDisk::new(), keys());
    let parameters = Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
    store::create(&disk, &parameters, keys.service()).unwrap();
    let fs = mounted(&disk, &keys);
    let bucket = fs.mkdir(fs.root(), OsStr::new("bucket"), &creation()).unwrap().ino();
    put(&fs, bucket, NAME, &configuration(KMS, false));
    fs.store().checkpoint().unwrap();
    disk.set_capacity(Some(0));
    fs.unlink(bucket, OsStr::new(NAME)).unwrap();
    disk.set_capacity(None);
    fs.store().close().unwrap();
    let fs = mounted(&disk, &keys);
    let bucket = fs.lookup(fs.root(), OsStr::new("bucket")).unwrap().ino();
    fs.create(bucket, OsStr::new("new"), &creation()).unwrap();
}

/// Every directory takes new files, and does so after its configuration was changed once more.
fn expect_usable(disk: &SimulatedDisk, keys: &Arc<KeyService>, story: &str) {
    let fs = mounted(disk, keys);
    let bucket = fs.lookup(fs.root(), OsStr::new("bucket")).unwrap().ino();
    let mut configured = 0;
    for name in ["a", "b", "z"] {
        let Ok(dir) = fs.lookup(bucket, OsStr::new(name)) else { continue };
        let dir = dir.ino();
        match fs.create(dir, OsStr::new("new"), &creation()) {
            Ok((_, handle)) => fs.release(handle),
            // The file was made, and not yet what is in it: nothing is created until somebody says.
            Err(Refusal::InvalidConfiguration { .. }) if story.starts_with("a first one") && name == "b" => {}
            Err(error) => panic!("{story}: {name}: {error}"),
        }
        configured += usize::from(fs.lookup(dir, OsStr::new(NAME)).is_ok_and(|entry| entry.attr.size > 0));
        put(&fs, dir, NAME, &configuration(KMS, false));
    }
    assert!(configured > 0 || story.starts_with("it goes"), "{story}: it is lost");
    fs.store().close().unwrap();
    let fs = mounted(disk, keys);
    let bucket = fs.lookup(fs.root(), OsStr::new("bucket")).unwrap().ino();
    let dir = fs.lookup(bucket, OsStr::new("b")).unwrap().ino();
    fs.create(dir, OsStr::new("more"), &creation()).unwrap_or_else(|error| panic!("{story}, afterwards: {error}"));
}
