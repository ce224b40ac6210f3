use super::{KMSFS, Place, mode, run};
use crate::harness::write_secret;
use std::fs;

#[test]
fn init_makes_a_store_and_says_how_to_mount_it() {
    let place = Place::empty();
    let made = run(KMSFS, ["init", "--key-file", &place.shown("key"), &place.shown("store")]);
    assert_eq!(made.code, 0, "{made:?}");
    let command = format!("kmsfs mount --key-file {} {} MOUNTPOINT\n", place.shown("key"), place.shown("store"));
    assert!(made.out.ends_with(&command), "{}", made.out);
    assert!(made.out.contains("account   000000000000") && made.out.contains("region    us-east-1"), "{}", made.out);
    assert_eq!((mode(&place.path("store")), mode(&place.path("key"))), (0o700, 0o600));
    assert_eq!(fs::metadata(place.path("key")).unwrap().len(), 32);
}

#[test]
fn init_refuses_what_is_not_empty_and_leaves_it_alone() {
    let place = Place::empty();
    fs::create_dir(place.path("store")).unwrap();
    fs::write(place.path("store").join("mine"), b"x").unwrap();
    let refused = run(KMSFS, ["init", "--key-file", &place.shown("key"), &place.shown("store")]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    assert_eq!(refused.err, format!("kmsfs: store {}: the directory is not empty\n", place.shown("store")));
    assert_eq!(fs::read(place.path("store").join("mine")).unwrap(), b"x");
    assert!(!place.path("key").exists());
}

#[test]
fn init_says_what_to_do_with_a_fresh_disk() {
    let place = Place::empty();
    fs::create_dir_all(place.path("disk/lost+found")).unwrap();
    let init = |store: &str| run(KMSFS, ["init", "--key-file", &place.shown("key"), &place.shown(store)]);
    let refused = init("disk");
    assert_eq!(refused.code, 1);
    assert!(refused.err.ends_with(&format!("name a directory in it, such as {}\n", place.shown("disk/store"))));
    assert!(!place.path("key").exists());
    assert_eq!(init("disk/store").code, 0);
}

#[test]
fn init_that_fails_leaves_nothing_behind() {
    let place = Place::empty();
    let keyring = place.path("ring");
    fs::write(&keyring, b"a file is in the way").unwrap();
    let words = ["init", "--key-file", &place.shown("key"), "--keyring", &place.shown("ring"), &place.shown("store")];
    assert_eq!(run(KMSFS, words).code, 1);
    assert!(!place.path("store").exists() && !place.path("key").exists());
    fs::remove_file(&keyring).unwrap();
    let no_key = run(KMSFS, ["init", "--passphrase-file", &place.shown("absent"), &place.shown("store")]);
    assert_eq!(no_key.code, 1, "{no_key:?}");
    assert!(no_key.err.contains(&place.shown("absent")), "{}", no_key.err);
    assert!(!place.path("store").exists());
}

#[test]
fn wrong_usage_has_an_exit_code_of_its_own() {
    for words in [
        &["mount"][..],
        &["frobnicate"],
        &["init", "--region", "US East", "store"],
        &["init", "--account-id", "123", "store"],
        &["mount", "-o", "cipher=none", "store", "mnt"],
        &["stat"],
    ] {
        let answer = run(KMSFS, words);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{words:?}: {answer:?}");
        assert!(!answer.err.is_empty());
    }
    let unknown = run(KMSFS, ["mount", "-o", "ro,cipher=none", "store", "mnt"]);
    assert_eq!(unknown.err, "kmsfs: unknown mount option 'cipher=none'\n");
    assert_eq!(run(KMSFS, ["kms", "--frobnicate"]).code, 252);
    assert_eq!(run(KMSFS, ["put", "--server-side-encryption", "rot13", "file", "path"]).code, 252);
    assert_eq!(run(KMSFS, ["--help"]).code, 0);
}

#[test]
fn mount_says_what_is_wrong_with_the_store() {
    let place = Place::with_store();
    let mount = |store: &str| {
        let answer = run(
            KMSFS,
            [
                "mount",
                "-o",
                &place.log_option(),
                "--key-file",
                &place.shown("key"),
                &place.shown(store),
                &place.shown("mnt"),
            ],
        );
        (answer.code, answer.err)
    };
    assert_eq!(mount("absent"), (1, format!("kmsfs: store {} does not exist\n", place.shown("absent"))));
    let (code, text) = mount("key");
    assert!(code == 1 && text.contains("is not a kmsfs store"), "{text}");
    fs::create_dir(place.path("other")).unwrap();
    let (code, text) = mount("other");
    assert!(code == 1 && text.contains("not a kmsfs store"), "{text}");
    assert_eq!(place.mounted(), None);
}

#[test]
fn mount_says_what_is_wrong_with_the_mount_point() {
    let place = Place::with_store();
    let mount = |target: &str| {
        let answer = run(
            KMSFS,
            [
                "mount",
                "-o",
                &place.log_option(),
                "--key-file",
                &place.shown("key"),
                &place.shown("store"),
                &place.shown(target),
            ],
        );
        (answer.code, answer.err)
    };
    assert_eq!(mount("absent"), (1, format!("kmsfs: mount point {} does not exist\n", place.shown("absent"))));
    assert_eq!(mount("key"), (1, format!("kmsfs: mount point {} is not a directory\n", place.shown("key"))));
    let (code, text) = mount("store");
    assert!(code == 1 && text.contains("overlap"), "{text}");
}

#[test]
fn a_wrong_key_has_an_exit_code_of_its_own() {
    let place = Place::with_store();
    fs::write(place.path("key"), [7; 32]).unwrap();
    let refused = place.mount(&[]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.starts_with("kmsfs: "), "{}", refused.err);
    write_secret(&place.path("pass"), "not it\n");
    let words = [
        "mount",
        "-o",
        &place.log_option(),
        "--passphrase-file",
        &place.shown("pass"),
        &place.shown("store"),
        &place.shown("mnt"),
    ];
    let refused = run(KMSFS, words);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert_eq!(place.mounted(), None);
}

#[test]
fn a_passphrase_opens_what_it_closed() {
    let place = Place::empty();
    write_secret(&place.path("pass"), "correct horse\n");
    let made = run(KMSFS, ["init", "--passphrase-file", &place.shown("pass"), &place.shown("store")]);
    assert_eq!(made.code, 0, "{made:?}");
    let words = [
        "mount",
        "-o",
        &place.log_option(),
        "--passphrase-file",
        &place.shown("pass"),
        &place.shown("store"),
        &place.shown("mnt"),
    ];
    let mounted = run(KMSFS, words);
    assert_eq!(mounted.code, 0, "{mounted:?}");
    place.unmount();
    place.wait_for_daemon();
}

#[test]
fn put_and_stat_work_in_a_mount_only() {
    let place = Place::empty();
    fs::write(place.path("file"), b"x").unwrap();
    let put = run(KMSFS, ["put", &place.shown("file"), &place.shown("copy")]);
    let text = format!("kmsfs: {} is not in a kmsfs mount\n", place.shown("copy"));
    assert_eq!((put.code, put.err, put.out.as_str()), (1, text, ""));
    assert!(!place.path("copy").exists());
    let stat = run(KMSFS, ["stat", &place.shown("file")]);
    assert_eq!((stat.code, stat.err), (1, format!("kmsfs: {} is not in a kmsfs mount\n", place.shown("file"))));
}
