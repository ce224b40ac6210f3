//! `kmsfs status`: the last refusals, again and again, and whether a mount is well.

use super::{KMSFS, Place, run};
use crate::harness::{Store, json, kmsfs, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

#[test]
fn the_last_refusals_are_shown_with_file_and_reason() {
    let store = Store::new();
    let _mount = store.mount();
    let arn = store.create_key("alias/mine");
    store.sh("mkdir $MNT/my-bucket; echo content > content
        kmsfs put --server-side-encryption aws:kms --ssekms-key-id alias/mine content $MNT/my-bucket/mine > /dev/null");
    assert_eq!(json(&store.sh("kmsfs status --json $MNT"))["Refusals"], serde_json::json!([]));
    assert!(store.sh("kmsfs status $MNT").contains("\nRefusals:                none\n"));
    store.disable_key(&arn);
    assert!(wait_until(|| store.try_sh("cat $MNT/my-bucket/mine").code != 0));
    store.try_sh("cat $MNT/my-bucket/mine").expect_failure(1, "Permission denied");
    let shown = || json(&store.sh("kmsfs status --json $MNT"))["Refusals"][0].clone();
    let refusal = shown();
    assert_eq!((&refusal["Path"], &refusal["Errno"]), (&"my-bucket/mine".into(), &libc::EACCES.into()));
    assert_eq!(refusal["Call"], "open", "{refusal}");
    // The first one may have been of a read, by a program that had opened it while the key was taken away.
    store.try_sh("cat $MNT/my-bucket/mine").expect_failure(1, "Permission denied");
    assert_eq!(shown()["Times"].as_u64(), refusal["Times"].as_u64().map(|times| times + 1), "{refusal}");
    let reason = format!("KMS.DisabledException: {arn} is disabled.");
    assert!(refusal["Reason"].as_str().unwrap().contains(&reason), "{refusal}");
    let text = store.sh("kmsfs status $MNT");
    assert!(text.contains(" my-bucket/mine: ") && text.contains(&reason), "{text}");
    assert!(
        store.log().lines().any(|line| line.contains("my-bucket/mine") && line.contains(&reason)),
        "{}",
        store.log()
    );
    // One that has its path in its reason, and one about a name that there is not.
    store.try_sh("mkdir $MNT/Capitals").expect_failure(1, "Invalid argument");
    assert_eq!(shown()["Path"], "Capitals");
    store.try_sh("echo nonsense > $MNT/my-bucket/.encryption.json");
    assert_eq!(shown()["Path"], "my-bucket/.encryption.json");
    assert!(shown()["Reason"].as_str().unwrap().starts_with("my-bucket/.encryption.json: "));
}

#[test]
fn it_is_shown_again_and_again_until_it_is_unmounted() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    let mut command = kmsfs();
    command.args(["status", "--watch", "--json", &place.shown("mnt")]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut shown = 0;
    for line in lines {
        assert_eq!(json(&line.unwrap())["Mountpoint"], place.shown("mnt").as_str());
        shown += 1;
        if shown == 2 {
            assert!(wait_until(|| run(KMSFS, ["umount", &place.shown("mnt")]).code == 0));
        }
    }
    assert!(shown >= 2 && watching.wait().unwrap().success());
}

#[test]
fn whether_a_mount_is_well_is_an_exit_code() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    let check = || run(KMSFS, ["status", "--check", &place.shown("mnt")]);
    assert_eq!((check().code, check().out), (0, format!("{} is well\n", place.shown("mnt"))));
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let text = "has not answered for 10 s: kmsfs umount --force ends it";
    let hung = check();
    kill_process(pid, Signal::CONT).unwrap();
    hung.expect_failure(1, text);
    assert_eq!(check().code, 0);
    assert_eq!(run(KMSFS, ["umount", &place.shown("mnt")]).code, 0);
    check().expect_failure(1, "is not a mount of a kmsfs store");
}
