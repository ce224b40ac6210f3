//! mount(8), in a mount namespace of its own, where /sbin has the helpers that scripts/install makes.

use super::{Answer, KMSFS, Place, run};
use std::fs;

/// Runs `commands` there, with `$store`, `$mnt` and `$key` set, and `mounted` to show the line of /proc/mounts. What
/// they leave mounted goes with the namespace's last process.
fn script(place: &Place, commands: &str) -> Answer {
    let layer = place.shown("layer");
    let (store, mnt, key) = (place.shown("store"), place.shown("mnt"), place.shown("key"));
    let text = format!(
        r#"
        set -eu
        store={store} mnt={mnt} key={key}
        mounted() {{ grep " $mnt " /proc/mounts || echo not mounted; }}
        mkdir -p {layer}
        mount -t tmpfs none {layer}
        mkdir {layer}/upper {layer}/work
        ln -s {KMSFS} {layer}/upper/mount.kmsfs
        ln -s {KMSFS} {layer}/upper/mount.fuse.kmsfs
        ln -s {KMSFS} {layer}/upper/fsck.kmsfs
        sbin=$(readlink -f /sbin)
        mount -t overlay -o "lowerdir=$sbin,upperdir={layer}/upper,workdir={layer}/work" overlay "$sbin"
        {commands}
        "#
    );
    run("unshare", ["--mount", "sh", "-c", &text])
}

fn shown(place: &Place, options: &str) -> String {
    format!("{} {} fuse.kmsfs {options}", place.shown("store"), place.shown("mnt"))
}

#[test]
fn both_types_mount_and_umount() {
    let place = Place::with_store();
    for kind in ["kmsfs", "fuse.kmsfs"] {
        let commands = "mount -t TYPE $store $mnt -o key-file=$key,log_file=$mnt.log,nosuid,nodev,allow_other
                        mounted; umount $mnt; mounted";
        let answer = script(&place, &commands.replace("TYPE", kind));
        assert_eq!(answer.code, 0, "{answer:?}");
        let lines: Vec<&str> = answer.out.lines().collect();
        assert!(lines[0].starts_with(&shown(&place, "rw,nosuid,nodev,relatime")), "{}", lines[0]);
        assert!(lines[0].contains("allow_other"), "{}", lines[0]);
        assert_eq!(lines[1], "not mounted");
    }
}

#[test]
fn a_line_of_fstab_mounts() {
    let place = Place::with_store();
    for kind in ["kmsfs", "fuse.kmsfs"] {
        let options = "noauto,users,exec,nofail,_netdev,x-systemd.automount,comment=mine,defaults";
        let line = format!(
            "{} {} {kind} key-file={},log_file={},{options} 0 0\n",
            place.shown("store"),
            place.shown("mnt"),
            place.shown("key"),
            place.shown("log")
        );
        fs::write(place.path("fstab"), line).unwrap();
        let fstab = place.shown("fstab");
        let answer = script(&place, &format!("mount -T {fstab} $mnt; mounted; umount $mnt; mounted"));
        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(answer.out.starts_with(&shown(&place, "rw,nosuid,nodev,relatime")), "{}", answer.out);
        assert!(answer.out.ends_with("\nnot mounted\n"), "{}", answer.out);
    }
}

#[test]
fn a_remount_changes_what_the_kernel_can_change() {
    let place = Place::with_store();
    let commands = "mount -t kmsfs $store $mnt -o key-file=$key,log_file=$mnt.log
                    mount -o remount,ro $mnt; mounted
                    mount -o remount,rw,noexec,noatime $mnt; mounted
                    mount -o remount,allow_other $mnt || echo code $?
                    mount -o remount,suid,dev $mnt; mounted
                    umount $mnt";
    let answer = script(&place, commands);
    assert_eq!(answer.code, 0, "{answer:?}");
    let lines: Vec<&str> = answer.out.lines().collect();
    assert!(lines[0].starts_with(&shown(&place, "ro,nosuid,nodev,relatime")), "{}", lines[0]);
    assert!(lines[1].starts_with(&shown(&place, "rw,nosuid,nodev,noexec,noatime")), "{}", lines[1]);
    assert_eq!(lines[2], "code 32");
    assert!(lines[3].starts_with(&shown(&place, "rw,noexec,noatime")), "{}", lines[3]);
    let text = format!("cannot remount {}: 'allow_other' cannot be changed", place.shown("mnt"));
    assert!(answer.err.contains(&text), "{}", answer.err);
}

#[test]
fn failures_have_the_codes_of_mount() {
    let place = Place::with_store();
    let commands = "mount -t kmsfs $store $mnt -o key-file=$key,bogus || echo code $?
                    mount -t kmsfs $store.absent $mnt -o key-file=$key || echo code $?
                    mount -f -t kmsfs $store $mnt -o key-file=$key && echo fake
                    mount -s -t kmsfs $store $mnt -o key-file=$key,bogus,log_file=$mnt.log && echo sloppy
                    umount $mnt";
    let answer = script(&place, commands);
    assert_eq!(answer.out, "code 1\ncode 32\nfake\nsloppy\n", "{answer:?}");
    let absent = format!("kmsfs: store {}.absent does not exist\n", place.shown("store"));
    assert!(answer.err.starts_with(&format!("kmsfs: unknown mount option 'bogus'\n{absent}")), "{}", answer.err);
}

#[test]
fn fsck_checks_with_the_key_that_fstab_names() {
    let place = Place::with_store();
    let line = |key: &str| format!("{} {} kmsfs key-file={key},noauto 0 2\n", place.shown("store"), place.shown("mnt"));
    fs::write(place.path("fstab"), line(&place.shown("key"))).unwrap();
    fs::write(place.path("wrong"), line(&place.shown("absent"))).unwrap();
    let commands = "mount --bind $mnt/../fstab /etc/fstab
                    fsck -T $store; echo code $?
                    fsck -T -a $mnt || echo code $?
                    mount --bind $mnt/../wrong /etc/fstab
                    fsck.kmsfs -x $store || echo code $?
                    fsck -T $store </dev/null || echo code $?";
    let answer = script(&place, commands);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.out.matches("0 errors left").count(), 2, "{answer:?}");
    let codes: Vec<&str> = answer.out.lines().filter(|line| line.starts_with("code")).collect();
    assert_eq!(codes, ["code 0", "code 16", "code 8"], "{answer:?}");
    assert!(answer.err.contains(&place.shown("absent")), "{}", answer.err);
}

/// automount(8), with a direct map of one mount point: a visitor of another session comes in, and the mount goes again
/// when nobody uses it.
#[test]
fn automount_mounts_for_whoever_comes_and_unmounts_when_they_have_gone() {
    if !std::path::Path::new("/usr/sbin/automount").exists() {
        eprintln!("NOT RUN: there is no automount(8): apt-get install autofs");
        return;
    }
    let place = Place::with_store();
    let map = format!(
        "{} -fstype=kmsfs,key-file={},log_file={} :{}\n",
        place.shown("mnt"),
        place.shown("key"),
        place.shown("log"),
        place.shown("store")
    );
    fs::write(place.path("map"), map).unwrap();
    fs::write(place.path("master"), format!("/- file:{} --timeout=1\n", place.shown("map"))).unwrap();
    // Its fifos and its process id are in /run.
    let commands = "mount -t tmpfs none /run
                    waited() { for i in $(seq 300); do if eval \"$1\"; then return; fi; sleep 0.1; done; echo \"no: $1\"; exit 1; }
                    automount --foreground --dont-check-daemon --pid-file $mnt.pid $mnt/../master 2>$mnt.said &
                    automount=$!
                    trap 'kill $automount; wait $automount' EXIT
                    waited 'grep -q \" $mnt autofs \" /proc/mounts'
                    timeout 100 setsid --wait mkdir $mnt/bucket
                    mounted
                    waited '! grep -q \" $mnt fuse.kmsfs \" /proc/mounts'
                    timeout 100 setsid --wait ls $mnt";
    let answer = script(&place, commands);
    let said = fs::read_to_string(place.path("mnt.said")).unwrap_or_default();
    assert_eq!(answer.code, 0, "{answer:?}\n{said}\n{}", place.log());
    assert!(answer.out.contains(&shown(&place, "rw,nosuid,nodev,relatime")), "{}", answer.out);
    assert!(answer.out.ends_with("\nbucket\n"), "{}", answer.out);
    place.wait_for_daemon();
}
