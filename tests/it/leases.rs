//! A mount of a store that other machines may reach: the owner record, and what a mount does that has lost the store.
//! How long a lease lasts is said with `-o lease=`, as on a file system that is shared.

use crate::harness::{Mount, Store, errno, wait_until};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

const IN_USE: i32 = 4;

fn owner(store: &Store) -> PathBuf {
    store.store().join("owner")
}

fn record(store: &Store) -> Value {
    serde_json::from_slice(fs::read(owner(store)).unwrap().trim_ascii_end()).unwrap()
}

/// Writes the record as a mount does: in its place, in one piece.
fn write_record(store: &Store, record: &Value) {
    let text = format!("{:\n<512}", record.to_string());
    let file = OpenOptions::new().write(true).open(owner(store)).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

/// As a machine of another name would have it.
fn of_another_machine(mut record: Value) -> Value {
    record["host"] = json!("elsewhere");
    record["boot"] = json!("00000000-0000-4000-8000-000000000000");
    record["mount"] = json!("00112233445566778899aabbccddeeff");
    record["process"] = json!(4711);
    record["held"] = json!(true);
    record
}

fn signal(mount: &Mount, signal: Signal) {
    kill_process(Pid::from_raw(mount.pid().cast_signed()).unwrap(), signal).unwrap();
}

/// The mount gives EIO for what it did before, says why once, and another one has the store after it.
fn has_lost_the_store(store: &Store, mount: Mount, why: &str) {
    let file = mount.path("bucket/file");
    assert!(wait_until(|| fs::write(&file, b"too late").is_err()), "{}", store.log());
    assert_eq!(errno(fs::write(&file, b"too late")), Errno::IO);
    store.expect_log(&format!("this mount no longer has the store ({why}"));
    assert_eq!(store.log().matches("this mount no longer has the store").count(), 1);
    mount.kill9();
}

#[test]
fn a_mount_that_was_frozen_past_its_lease_gives_eio_until_the_store_is_mounted_anew() {
    let store = Store::new();
    let mount = store.mount_with("lease=3");
    fs::write(mount.bucket("bucket").join("file"), b"in time").unwrap();
    rustix::fs::syncfs(fs::File::open(mount.path("bucket")).unwrap()).unwrap();
    signal(&mount, Signal::STOP);
    // What a sleeping machine does too: the clock goes on. Nothing else can bring the end of a lease about.
    thread::sleep(Duration::from_secs(3));
    signal(&mount, Signal::CONT);
    has_lost_the_store(&store, mount, "it was not renewed in time");
    let mount = store.mount_with("lease=3");
    assert_eq!(fs::read(mount.path("bucket/file")).unwrap(), b"in time");
}

#[test]
fn a_mount_whose_store_another_machine_has_taken_gives_eio_and_names_it() {
    let store = Store::new();
    let mount = store.mount_with("lease=3");
    fs::write(mount.bucket("bucket").join("file"), b"in time").unwrap();
    write_record(&store, &of_another_machine(record(&store)));
    has_lost_the_store(&store, mount, "process 4711 on host elsewhere has taken it");
    // It is not given up in the other's name.
    assert_eq!(record(&store)["held"], true);
}

/// A mount with these options is refused, by the name of the machine that renews its record meanwhile.
fn is_refused_while_renewed(store: &Store, theirs: &Value, options: &str) {
    let refused = thread::scope(|scope| {
        let mounting = scope.spawn(|| store.try_mount(options));
        let mut renewed = theirs.clone();
        while !mounting.is_finished() {
            renewed["renewal"] = json!(renewed["renewal"].as_u64().unwrap() + 1);
            write_record(store, &renewed);
            thread::sleep(Duration::from_millis(200));
        }
        mounting.join().unwrap().err().expect("it is in use")
    });
    refused.expect_failure(IN_USE, "process 4711 on host elsewhere");
}

#[test]
fn a_store_that_another_machine_renews_is_refused_with_its_name_and_one_that_it_does_not_is_taken() {
    let store = Store::new();
    store.mount_with("lease=3").unmount();
    assert_eq!(record(&store)["held"], false);
    let theirs = of_another_machine(record(&store));
    write_record(&store, &theirs);
    is_refused_while_renewed(&store, &theirs, "lease=3");
    let mount = store.mount_with("lease=3");
    assert_eq!(record(&store)["epoch"], theirs["epoch"].as_u64().unwrap() + 1);
    mount.bucket("bucket");
}

#[test]
fn whoever_says_take_over_does_not_wait() {
    let store = Store::new();
    store.mount_with("lease=600").unmount();
    write_record(&store, &of_another_machine(record(&store)));
    // Waiting for ten minutes would be taken for a failure.
    store.sh("kmsfs mount --take-over --key-file $KEY -o lease=600,log_file=$PWD/log $STORE $MNT; umount $MNT");
    store.wait_until_closed();
    assert_eq!(record(&store)["held"], false);
}

#[test]
fn a_mount_that_was_killed_is_mounted_again_on_the_same_machine_without_waiting() {
    let store = Store::new();
    let mount = store.mount_with("lease=600");
    fs::write(mount.bucket("bucket").join("file"), b"before").unwrap();
    mount.kill9();
    assert_eq!(record(&store)["held"], true);
    let mount = store.mount_with("lease=600");
    assert_eq!(fs::read(mount.path("bucket/file")).unwrap(), b"before");
}

#[test]
fn a_lease_is_renewed_from_inside_the_cage() {
    let store = Store::new();
    let mount = store.mount_with("lease=3");
    let first = record(&store)["renewal"].as_u64().unwrap();
    assert!(wait_until(|| record(&store)["renewal"].as_u64().unwrap() > first + 1), "{}", store.log());
    fs::write(mount.bucket("bucket").join("file"), b"still here").unwrap();
    // The thread that renews has given up what the others have.
    let tasks = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        assert!(!status.contains("NoNewPrivs:\t0") && !status.contains("Seccomp:\t0"), "{status}");
    }
}

#[test]
fn without_a_lease_there_is_no_record_and_no_renewal_and_auto_needs_none_on_a_file_system_of_its_own() {
    let store = Store::new();
    store.mount().unmount();
    store.mount_with("lease=auto").unmount();
    assert!(!owner(&store).exists());
    // Where a lease was used before, others are told who has the store.
    store.mount_with("lease=3").unmount();
    let mount = store.mount();
    let found = record(&store);
    assert_eq!((&found["seconds"], &found["held"]), (&json!(0), &json!(true)));
    assert_eq!(found["process"], mount.pid());
    mount.unmount();
    // Of another machine whose disk this was.
    write_record(&store, &of_another_machine(found));
    store.mount().unmount();
    assert_eq!(record(&store)["held"], false);
}

#[test]
fn without_a_lease_a_record_that_says_nothing_keeps_nobody_from_a_copy_or_from_the_store() {
    let store = Store::new();
    store.mount_with("lease=3").unmount();
    let mount = store.mount();
    fs::write(mount.bucket("bucket").join("file"), b"in both").unwrap();
    rustix::fs::syncfs(fs::File::open(mount.path("bucket")).unwrap()).unwrap();
    store.sh("cp -a $STORE copy; mkdir other; kmsfs mount --key-file $KEY -o log_file=$PWD/log copy other");
    assert_eq!(store.sh("cat other/bucket/file; umount other"), "in both");
    mount.unmount();
    for bytes in [&b"no record"[..], &[0xff; 4096]] {
        fs::write(owner(&store), bytes).unwrap();
        store.mount().unmount();
        assert_eq!(fs::read(owner(&store)).unwrap(), bytes);
    }
    fs::remove_file(owner(&store)).unwrap();
    fs::create_dir(owner(&store)).unwrap();
    store.mount().unmount();
}

#[test]
fn without_a_lease_a_store_that_another_machine_renews_is_refused_all_the_same() {
    let store = Store::new();
    store.mount_with("lease=3").unmount();
    let theirs = of_another_machine(record(&store));
    write_record(&store, &theirs);
    is_refused_while_renewed(&store, &theirs, "");
}

/// The protocol of leases as a program, which finds each mistake that is made in it.
#[test]
fn the_model_of_leases_holds() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/lease_model.py");
    let said = crate::harness::Answer::of({
        let mut command = Command::new("python3");
        command.arg(model);
        command
    });
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("nobody writes into another's log"), "{said:?}");
}
