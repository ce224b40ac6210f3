//! `kmsfs umount`: plainly, lazily and by force.

use super::{KMSFS, Place, run};
use crate::harness::{Store, wait_until};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

impl Place {
    fn umount(&self, more: &[&str]) -> crate::harness::Answer {
        run(KMSFS, [&["umount"], more, &[&self.shown("mnt")]].concat())
    }

    /// A bucket with an object, and a process that has it open, named as that.
    fn with_reader(&self) -> Reader {
        assert_eq!(self.mount(&[]).code, 0);
        fs::create_dir(self.path("mnt/bucket")).unwrap();
        fs::write(self.path("mnt/bucket/object"), b"content").unwrap();
        let mut command = Command::new("sleep");
        let object = fs::File::open(self.path("mnt/bucket/object")).unwrap();
        Reader(command.arg0("reader").arg("600").stdin(Stdio::from(object)).spawn().unwrap())
    }
}

struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_unused_mount_goes_and_the_store_is_closed_when_it_returns() {
    let place = Place::with_store();
    for by_store in [false, true] {
        assert_eq!(place.mount(&[]).code, 0);
        let gone = if by_store { run(KMSFS, ["umount", &place.shown("store")]) } else { place.umount(&[]) };
        assert_eq!((gone.code, gone.out.as_str(), gone.err.as_str()), (0, "", ""));
        assert_eq!(place.mounted(), None);
        let lock = fs::File::open(place.path("store/lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    }
    place.wait_for_daemon();
    let text = format!("kmsfs: {} is not a mount of a kmsfs store\n", place.shown("mnt"));
    assert_eq!((place.umount(&[]).code, place.umount(&[]).err), (1, text));
    let text = format!("kmsfs: the store {} is not mounted: kmsfs mount mounts it\n", place.shown("store"));
    assert_eq!(run(KMSFS, ["umount", &place.shown("store")]).err, text);
}

#[test]
fn a_mount_in_use_stays_and_it_is_said_who_uses_it() {
    let place = Place::with_store();
    let reader = place.with_reader();
    let refused = place.umount(&[]);
    let user = format!("process {} (sleep, open: {})", reader.0.id(), place.shown("mnt/bucket/object"));
    let cure = "end them, or say --lazy to take it away when they are done, or --force to give them errors";
    let text = format!("kmsfs: {} is in use by {user}: {cure}\n", place.shown("mnt"));
    assert_eq!((refused.code, refused.err), (1, text));
    assert!(place.mounted().is_some());
    drop(reader);
    assert!(wait_until(|| place.umount(&[]).code == 0));
    place.wait_for_daemon();
}

#[test]
fn lazily_it_leaves_its_place_and_its_user_goes_on() {
    let place = Place::with_store();
    let reader = place.with_reader();
    assert_eq!(place.umount(&["--lazy"]).code, 0);
    assert_eq!(place.mounted(), None);
    let open = format!("/proc/{}/fd/0", reader.0.id());
    assert_eq!(fs::read(open).unwrap(), b"content");
    assert!(!place.daemons().is_empty());
    drop(reader);
    place.wait_for_daemon();
}

#[test]
fn by_force_it_ends_and_its_user_is_named_and_gets_errors() {
    let place = Place::with_store();
    let reader = place.with_reader();
    let forced = place.umount(&["--force"]);
    let expected = format!("process {} (sleep, open: ", reader.0.id());
    assert!(forced.code == 0 && forced.err.contains(&expected), "{forced:?}");
    assert!(forced.err.ends_with(") had it in use, and gets errors from now on\n"), "{forced:?}");
    assert_eq!(place.mounted(), None);
    place.wait_for_daemon();
    assert!(fs::read(format!("/proc/{}/fd/0", reader.0.id())).is_err());
    drop(reader);
    assert_eq!(place.mount(&[]).code, 0);
    assert_eq!(fs::read(place.path("mnt/bucket/object")).unwrap(), b"content");
    assert_eq!(place.umount(&[]).code, 0);
}

#[test]
fn a_mount_whose_process_has_ended_is_taken_away() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    place.wait_for_daemon();
    let target = place.path("mnt");
    assert!(wait_until(|| fs::metadata(&target).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))));
    let status = run(KMSFS, ["status", &place.shown("mnt")]);
    let text = format!("the kmsfs process behind this mount has ended: kmsfs umount {} takes", place.shown("mnt"));
    status.expect_failure(1, &text);
    assert_eq!(place.umount(&[]).code, 0);
    assert_eq!(place.mounted(), None);
    assert_eq!(place.mount(&[]).err, "");
    assert_eq!(place.umount(&[]).code, 0);
}

#[test]
fn a_connection_that_cannot_be_ended_is_an_error_and_the_mount_stays() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let refused = store.sh_as(1234, "bin/kmsfs umount --force $MNT");
    refused.expect_failure(1, "its connection cannot be ended, and it stays: ");
    store.sh("mkdir $MNT/bucket; echo content > $MNT/bucket/object; cat $MNT/bucket/object");
    mount.unmount();
}
