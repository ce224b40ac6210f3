//! The daemon killed at any moment: what was committed is there at the next mount.

use crate::harness::{Store, configuration, files_below, header, kms_with, noise, wait_until};
use rustix::mount::{UnmountFlags, unmount};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[test]
fn everything_closed_before_the_kill_is_read_by_the_next_mount() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    // A writer goes on until the mount dies under it, and tells how far it has come.
    let closed = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0.. {
                let content = noise(number, (number as usize * 7919) % 40_000);
                // `fs::write` does not tell what close(2) answered, but whether somebody answers after it does.
                let written = fs::write(bucket.join(format!("file-{number}")), content);
                if written.is_err() || rustix::fs::statvfs(&bucket).is_err() {
                    return;
                }
                closed.store(number + 1, Ordering::SeqCst);
            }
        });
        assert!(wait_until(|| closed.load(Ordering::SeqCst) > 200));
        mount.kill9();
        writer.join().unwrap();
    });
    let closed = closed.load(Ordering::SeqCst);
    let _mount = store.mount();
    for number in 0..closed {
        let content = fs::read(bucket.join(format!("file-{number}")))
            .unwrap_or_else(|error| panic!("file-{number} of {closed}: {error}: {}", store.log()));
        assert!(content == noise(number, (number as usize * 7919) % 40_000), "file-{number} of {closed}");
    }
    // The one that was being written is whole, or shorter, never wrong.
    if let Ok(content) = fs::read(bucket.join(format!("file-{closed}"))) {
        assert!(noise(closed, 40_000).starts_with(&content));
    }
}

#[test]
fn every_acknowledged_sync_of_an_overwritten_file_holds() {
    const RECORD: usize = 5000;
    const RECORDS: u64 = 20;
    let store = Store::new();
    let mut synced_before = 0;
    let bucket = store.mountpoint().join("bucket");
    for life in 0..4 {
        let mount = store.mount();
        if life == 0 {
            mount.bucket("bucket");
        }
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(bucket.join("f")).unwrap();
        // Record r was written last in the round that its bytes name; rounds before the last sync are all there.
        if life > 0 {
            let mut record = vec![0; RECORD];
            for r in 0..RECORDS {
                file.read_exact_at(&mut record, r * RECORD as u64).unwrap();
                let round =
                    (synced_before..=synced_before + 1).find(|&round| record == noise(round * RECORDS + r, RECORD));
                assert!(round.is_some(), "record {r} is of neither round {synced_before} nor the one after it");
            }
        }
        let synced = AtomicU64::new(synced_before);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in synced_before + 1.. {
                    for r in 0..RECORDS {
                        if file.write_all_at(&noise(round * RECORDS + r, RECORD), r * RECORD as u64).is_err() {
                            return;
                        }
                    }
                    if file.sync_all().is_err() {
                        return;
                    }
                    synced.store(round, Ordering::SeqCst);
                }
            });
            assert!(wait_until(|| synced.load(Ordering::SeqCst) > synced_before + 10));
            mount.kill9();
            writer.join().unwrap();
        });
        synced_before = synced.load(Ordering::SeqCst);
    }
}

#[test]
fn a_killed_store_is_read_without_being_changed_when_mounted_read_only() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("object"), noise(1, 100_000)).unwrap();
    let object = OpenOptions::new().write(true).open(bucket.join("object")).unwrap();
    object.write_all_at(&noise(2, 9000), 50_000).unwrap();
    object.sync_all().unwrap();
    mount.kill9();
    drop(object);
    let mut expected = noise(1, 100_000);
    expected[50_000..59_000].copy_from_slice(&noise(2, 9000));
    let state = || -> Vec<_> { files_below(store.store()).into_iter().map(|f| (fs::read(&f).unwrap(), f)).collect() };
    let before = state();
    let mount = store.mount_with("ro");
    assert!(fs::read(bucket.join("object")).unwrap() == expected);
    mount.unmount();
    assert!(state() == before, "a read-only mount has written to the store");
    let _mount = store.mount();
    assert!(fs::read(bucket.join("object")).unwrap() == expected);
}

#[test]
fn a_store_copied_while_not_mounted_opens_elsewhere() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    store.sh("mkdir -p $MNT/bucket/a/b; seq 100000 > $MNT/bucket/a/b/many; ln $MNT/bucket/a/b/many $MNT/bucket/link; ln -s a/b $MNT/bucket/soft");
    mount.unmount();
    for copy in [
        "cp -a $STORE copied",
        "tar -cf - -C $STORE . | (mkdir copied && tar -xpf - -C copied)",
        "rsync -aHAX $STORE/ copied",
    ] {
        store.sh(&format!("{copy}; mv $STORE aside; mv copied $STORE"));
        let mount = store.mount();
        store.sh("seq 100000 | cmp - $MNT/bucket/soft/many; seq 100000 | cmp - $MNT/bucket/link");
        assert!(File::open(bucket.join("link")).is_ok());
        mount.unmount();
        store.sh("rm -r $STORE; mv aside $STORE");
    }
}

/// A kill between the creation of a file below and the note that it is new.
#[test]
fn what_a_kill_left_of_a_creation_is_nothing_and_its_name_can_be_used() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    let below = |name: &str| store.store().join("buckets/bucket").join(name);
    mount.kill9();
    for name in ["read", "made"] {
        fs::write(below(name), "").unwrap();
    }
    let mut mount = store.mount();
    let read = fs::read(bucket.join("read")).unwrap_err();
    assert_eq!(read.raw_os_error(), Some(libc::ENOENT), "{}", store.log());
    assert!(!below("read").exists());
    fs::write(bucket.join("made"), "new").unwrap();
    mount.remount();
    assert_eq!(fs::read(bucket.join("made")).unwrap(), b"new");
    // An object that lost its bytes is damaged, since it was no new one.
    fs::write(below("made"), "").unwrap();
    mount.remount();
    let damaged = fs::read(bucket.join("made")).unwrap_err();
    assert_eq!(damaged.raw_os_error(), Some(libc::EIO), "{}", store.log());
}

/// As journals and temporary files are, which programs look into when they start again.
#[test]
fn a_file_that_was_never_committed_before_the_kill_is_empty_and_can_be_used() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    let made = File::create(bucket.join("made")).unwrap();
    let written = File::create(bucket.join("written")).unwrap();
    written.write_all_at(&noise(1, 3 << 20), 0).unwrap();
    rustix::fs::syncfs(&written).unwrap();
    // What the kernel wrote out is at home, under no seal.
    let out = || fs::metadata(store.store().join("buckets/bucket/written")).is_ok_and(|found| found.len() > 0);
    assert!(wait_until(out), "the kernel writes nothing out");
    mount.kill9();
    drop((made, written));
    let mut mount = store.mount();
    let mut used = Vec::new();
    for name in ["made", "written"] {
        let path = bucket.join(name);
        let header = fs::read(store.store().join("buckets/bucket").join(name)).unwrap();
        if header.iter().take(4096).any(|byte| *byte != 0) {
            // A tick has committed it.
            continue;
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "{name}");
        assert_eq!(fs::read(&path).unwrap(), b"", "{name}: {}", store.log());
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.write_all_at(&noise(2, 10_000), 0).unwrap();
        used.push(path);
    }
    mount.remount();

    for path in used {
        assert!(fs::read(path).unwrap() == noise(2, 10_000));
    }
    mount.unmount();
    store.sh("kmsfs fsck --scrub --key-file $KEY $STORE");
}

#[test]
fn configurations_and_rotated_keys_hold_across_kills() {
    let store = Store::new();
    let keys = ["alias/one", "alias/two"].map(|alias| store.create_key(alias));
    let config = |number: u64| configuration(&kms_with(&keys[number as usize % 2]), number.is_multiple_of(3));
    let bucket = store.mountpoint().join("bucket");
    // Number n: a configuration saved by renaming, then an object under it.
    let change = |number: u64| -> io::Result<()> {
        let save = |name: &str, content: &[u8]| {
            let file = File::create(bucket.join(name))?;
            file.write_all_at(content, 0)?;
            file.sync_all()
        };
        save("new", config(number).as_bytes())?;
        fs::rename(bucket.join("new"), bucket.join(".encryption.json"))?;
        File::open(&bucket)?.sync_all()?;
        save(&format!("object-{number}"), &noise(number, 5000))
    };
    let mut acknowledged = 0;
    for life in 0..4 {
        let mount = store.mount();
        if life == 0 {
            mount.bucket("bucket");
            change(0).unwrap();
        }
        let found = fs::read_to_string(bucket.join(".encryption.json")).unwrap();
        assert!([acknowledged, acknowledged + 1].map(config).contains(&found), "after {acknowledged}: {found}");
        for number in 0..=acknowledged {
            let path = bucket.join(format!("object-{number}"));
            assert!(fs::read(&path).unwrap() == noise(number, 5000), "{number}: {}", store.log());
            assert_eq!(header(&path, "-aws-kms-key-id").as_ref(), Ok(&keys[number as usize % 2]), "{number}");
        }
        let done = AtomicU64::new(acknowledged);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut number = acknowledged + 1;
                while change(number).is_ok() {
                    done.store(number, Ordering::SeqCst);
                    number += 1;
                }
            });
            for key in &keys {
                store.kms(&format!("rotate-key-on-demand --key-id {key}"));
            }
            assert!(wait_until(|| done.load(Ordering::SeqCst) > acknowledged + 5));
            mount.kill9();
            writer.join().unwrap();
        });
        acknowledged = done.load(Ordering::SeqCst);
    }
    for key in &keys {
        let rotations = store.kms(&format!("list-key-rotations --key-id {key}"));
        assert_eq!(rotations["Rotations"].as_array().unwrap().len(), 4, "{rotations}");
    }
}

/// Each holds pages that are not written, and asks for data and holes again and again.
const SEEKERS: &str = r#"
import itertools, os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o644)
for round in itertools.count():
    os.pwrite(fd, b"x" * (1 << 20), round % 8 << 20)
    os.lseek(fd, 0, os.SEEK_DATA)
    if round == 3: print("goes on", flush=True)
"#;

/// The kernel waits for the daemon to write pages back, and a thread of the daemon waits for the kernel.
#[test]
fn nobody_who_asks_for_data_and_holes_waits_for_ever_after_the_kill() {
    let store = Store::new();
    for life in 0..3 {
        let mount = store.mount_with("threads=2");
        let bucket = mount.path("bucket");
        fs::create_dir_all(&bucket).unwrap();
        let mut seekers = Vec::new();
        for number in 0..16 {
            let mut command = Command::new("python3");
            command.args(["-c", SEEKERS]).arg(bucket.join(format!("{life}-{number}")));
            let mut seeker = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let said = BufReader::new(seeker.stdout.take().unwrap());
            seekers.push((seeker, said));
        }
        let mut seekers: Vec<_> = seekers
            .into_iter()
            .map(|(seeker, mut said)| {
                let mut line = String::new();
                said.read_line(&mut line).unwrap();
                assert_eq!(line, "goes on\n");
                seeker
            })
            .collect();
        thread::scope(|scope| {
            let killed = scope.spawn(|| mount.kill9());
            let ended = wait_until(|| killed.is_finished() && seekers.iter_mut().all(ends));
            if !ended {
                // Or neither they nor this test would ever end.
                let _ = unmount(store.mountpoint(), UnmountFlags::FORCE);
                let _ = unmount(store.mountpoint(), UnmountFlags::DETACH);
            }
            for seeker in &mut seekers {
                let _ = seeker.kill();
                seeker.wait().unwrap();
            }
            assert!(ended, "somebody waits for a daemon that was killed");
        });
    }
    let mount = store.mount();
    fs::write(mount.path("bucket/after"), b"content").unwrap();
    assert_eq!(fs::read(mount.path("bucket/after")).unwrap(), b"content");
    mount.unmount();
}

fn ends(process: &mut Child) -> bool {
    process.try_wait().unwrap().is_some()
}
