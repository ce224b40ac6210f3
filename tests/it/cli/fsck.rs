//! `kmsfs fsck`: what it says, its exit codes, and a store that is mended.

use super::*;
use std::os::unix::fs::FileExt;

impl Place {
    fn fsck(&self, more: &[&str]) -> Answer {
        let mut words: Vec<OsString> = ["fsck", "--key-file"].map(OsString::from).to_vec();
        words.push(self.path("key").into());
        words.extend(more.iter().map(OsString::from));
        words.push(self.path("store").into());
        run(KMSFS, words)
    }

    /// Two objects in a bucket, and the store unmounted.
    fn fill(&self) {
        assert_eq!(self.mount(&[]).code, 0);
        let bucket = self.path("mnt").join("my-bucket");
        fs::create_dir(&bucket).unwrap();
        fs::write(bucket.join("one"), vec![1; 10_000]).unwrap();
        fs::write(bucket.join("two"), b"two").unwrap();
        self.unmount();
        self.wait_for_daemon();
    }
}

#[test]
fn a_store_in_order_is_said_to_be_and_left_as_it_is() {
    let place = Place::with_store();
    place.fill();
    let before = fs::read(place.path("store/log/redo")).unwrap();
    let answer = place.fsck(&["--scrub"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    let expected = "1 bucket, 0 directories, 2 objects, 0 symlinks, 0 special files, 2 sidecar records\n\
                    10003 bytes read and authenticated\n0 errors left, 0 findings mended\n";
    assert_eq!(answer.out, expected);
    assert_eq!(fs::read(place.path("store/log/redo")).unwrap(), before);
}

#[test]
fn damage_is_told_and_mended_with_the_exit_codes_of_e2fsck() {
    let place = Place::with_store();
    place.fill();
    let file = fs::File::options().write(true).open(place.path("store/buckets/my-bucket/one")).unwrap();
    file.write_all_at(b"damage", 4096 + 5000).unwrap();
    assert_eq!(place.fsck(&[]).code, 0, "the structure is right");
    let found = place.fsck(&["--scrub"]);
    assert_eq!(found.code, 4, "{found:?}");
    assert!(
        found.out.starts_with("ERROR: my-bucket/one: not what was written there: bytes 4096 to 8191\n"),
        "{found:?}"
    );
    let json: serde_json::Value = serde_json::from_str(&place.fsck(&["--scrub", "--json"]).out).unwrap();
    assert_eq!(json["ErrorsLeft"], 1);
    assert_eq!(json["Findings"][0]["Place"], "my-bucket/one");
    assert_eq!(json["Findings"][0]["Mended"], serde_json::Value::Null);
    let mended = place.fsck(&["--scrub", "--repair"]);
    assert_eq!(mended.code, 1, "{mended:?}");
    assert!(mended.out.contains("  mended: written anew; lost, and zeros now, are bytes 4096 to 8191;"), "{mended:?}");
    assert_eq!(place.fsck(&["--scrub"]).code, 0);
    assert_eq!(place.mount(&[]).code, 0);
    let mut expected = vec![1; 10_000];
    expected[4096..8192].fill(0);
    assert!(fs::read(place.path("mnt/my-bucket/one")).unwrap() == expected);
    place.unmount();
}

#[test]
fn a_store_that_is_mounted_for_writing_is_left_alone() {
    let place = Place::with_store();
    place.fill();
    assert_eq!(place.mount(&[]).code, 0);
    let refused = place.fsck(&[]);
    assert_eq!(refused.code, 8);
    assert!(refused.err.contains("the store is in use by process "), "{refused:?}");
    place.unmount();
    place.wait_for_daemon();
    assert_eq!(place.mount(&["-o", "ro"]).code, 0);
    assert_eq!(place.fsck(&["--scrub"]).code, 0, "beside a read-only mount");
    assert_eq!(place.fsck(&["--repair"]).code, 8);
    place.unmount();
}

#[test]
fn wrong_usage_and_a_wrong_key_have_codes_of_their_own() {
    let place = Place::with_store();
    assert_eq!(run(KMSFS, ["fsck", "--no-such-option"]).code, 16);
    fs::write(place.path("key"), [7; 32]).unwrap();
    let answer = place.fsck(&[]);
    assert_eq!(answer.code, 8);
    assert!(answer.err.starts_with("kmsfs: wrong key file or passphrase"), "{answer:?}");
}

#[test]
fn after_a_kill_the_log_is_looked_through_and_nothing_is_wrong() {
    let place = Place::with_store();
    place.fill();
    assert_eq!(place.mount(&[]).code, 0);
    let bucket = place.path("mnt/my-bucket");
    let file = fs::File::options().write(true).open(bucket.join("one")).unwrap();
    for n in 0..3 {
        file.write_all_at(&[n; 5000], 100).unwrap();
        file.sync_all().unwrap();
    }
    drop(file);
    for pid in place.daemons() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert!(wait_until(|| place.daemons().is_empty()));
    let _ = rustix::mount::unmount(place.path("mnt"), rustix::mount::UnmountFlags::DETACH);
    let before = fs::read(place.path("store/log/redo")).unwrap();
    assert_eq!(place.fsck(&["--scrub"]).code, 0);
    assert!(fs::read(place.path("store/log/redo")).unwrap() == before, "a check wrote the log");
    assert_eq!(place.fsck(&["--scrub", "--repair"]).code, 0);
    assert_eq!(place.mount(&[]).code, 0);
    assert_eq!(fs::read(bucket.join("one")).unwrap()[100..5100], [2; 5000]);
    place.unmount();
}
