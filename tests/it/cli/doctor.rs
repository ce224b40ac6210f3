//! `kmsfs doctor` and `kmsfs speed`.

use crate::harness::{NOBODY, Store, json};

#[test]
fn a_machine_on_which_stores_are_mounted_is_well() {
    let store = Store::new();
    let all = json(&store.sh("kmsfs doctor --json $STORE"));
    let found = |about: &str| all.as_array().unwrap().iter().find(|one| one["About"] == about).unwrap().clone();
    for about in ["kernel", "/dev/fuse", "clock", "file system"] {
        assert_eq!(found(about)["State"], "ok", "{all:#}");
    }
    // What is not ok has a cure, and nothing else has one.
    for one in all.as_array().unwrap() {
        assert_eq!(one["State"] != "ok", one["Cure"].is_string(), "{one}");
    }
    let text = store.sh("kmsfs doctor");
    assert!(text.lines().any(|line| line.starts_with("ok       /dev/fuse ")), "{text}");
    assert_eq!(store.sh("ls -A $STORE/buckets"), "");
}

#[test]
fn what_is_missing_is_named_with_its_cure() {
    let store = Store::new();
    store.open_to_all();
    let without_dev = store.try_sh("unshare --mount bash -c 'mount -t tmpfs none /dev; kmsfs doctor'");
    assert_eq!(without_dev.code, 1, "{without_dev:?}");
    let lines: Vec<_> = without_dev.out.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("PROBLEM  /dev/fuse      missing")).expect("the device");
    let cure = "modprobe fuse, as root; in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN";
    assert_eq!(lines[at + 1].trim_start(), cure);
    let as_user = store.sh_as(NOBODY, "kmsfs=$(command -v kmsfs); PATH=/none $kmsfs doctor --json");
    assert_eq!(as_user.code, 1, "{as_user:?}");
    let all = json(&as_user.out);
    let program = all.as_array().unwrap().iter().find(|one| one["About"] == "fusermount3").unwrap();
    assert_eq!(program["State"], "problem");
    assert!(program["Cure"].as_str().unwrap().starts_with("apt install fuse3"), "{program}");
    store.try_sh("kmsfs doctor none").expect_failure(1, "store none does not exist");
    // Where files have no modes.
    store.try_sh("kmsfs doctor /proc/self").expect_failure(1, "");
}

#[test]
fn a_mount_and_a_directory_beside_it_are_measured_and_left_as_they_were() {
    let store = Store::new();
    let _mount = store.mount();
    store.sh("mkdir $MNT/bucket native");
    let all = json(&store.sh("kmsfs speed --size 1 --files 5 --json $MNT/bucket native"));
    for suite in ["AES256, aws:kms", "aws:kms:dsse"] {
        let of = &all["CiphersMiBPerSecond"][suite];
        assert!(of["Seal"].as_u64() > Some(0) && of["Open"].as_u64() > Some(0), "{all:#}");
    }
    assert!(all["Passphrase"]["MemoryKiB"].as_u64() >= Some(32 << 10), "{all:#}");
    let in_mount = store.mountpoint().join("bucket").display().to_string();
    for (dir, is_kmsfs) in [(in_mount.as_str(), true), ("native", false)] {
        let of = &all["Directories"][dir];
        assert_eq!(of["IsKmsfs"], is_kmsfs, "{all:#}");
        for rate in ["CreatePerSecond", "ReadFilesPerSecond", "UnlinkPerSecond"] {
            assert!(of[rate].as_u64() > Some(0), "{all:#}");
        }
    }
    assert_eq!(store.sh("ls -A $MNT/bucket native | grep -c kmsfs-speed || true"), "0\n");
    let text = store.sh("kmsfs speed --size 1 --files 5 native");
    assert!(text.lines().last().unwrap().starts_with("native "), "{text}");
    store.try_sh("kmsfs speed none").expect_failure(1, "none: No such file or directory");
}
