use super::mounted::{MountedStore, errno, run};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[test]
fn directories_at_the_root_are_buckets() {
    let w = MountedStore::new();
    fs::create_dir(w.at("my-bucket")).unwrap();
    fs::write(w.at("my-bucket/key"), "x").unwrap();
    assert_eq!(errno(fs::remove_dir(w.at("my-bucket"))), Errno::NOTEMPTY);
    fs::remove_file(w.at("my-bucket/key")).unwrap();
    fs::remove_dir(w.at("my-bucket")).unwrap();
    assert_eq!(fs::read_dir(w.at("")).unwrap().count(), 0);
}

#[test]
fn bucket_names_follow_s3s_rules() {
    let w = MountedStore::new();
    for (name, rule) in [
        ("MyBucket", "consists of a-z, 0-9, '.' and '-'"),
        ("ab", "3 to 63 characters"),
        ("a..b", "two dots in a row"),
        ("192.168.5.4", "IPv4"),
        ("xn--bucket", "does not begin with \"xn--\""),
        ("bucket-s3alias", "does not end with \"-s3alias\""),
    ] {
        assert_eq!(errno(fs::create_dir(w.at(name))), Errno::INVAL, "{name}");
        w.expect_log(rule);
    }
    assert_eq!(fs::read_dir(w.at("")).unwrap().count(), 0);
}

#[test]
fn the_root_holds_nothing_but_buckets() {
    let w = MountedStore::new();
    assert_eq!(errno(fs::write(w.at("file"), "x")), Errno::PERM);
    assert_eq!(errno(fs::write(w.at(".encryption.json"), "{}")), Errno::PERM);
    assert_eq!(errno(std::os::unix::fs::symlink("target", w.at("link"))), Errno::PERM);
    assert_eq!(errno(w.make_fifo("fifo")), Errno::PERM);
    assert_eq!(fs::read_dir(w.at("")).unwrap().count(), 0);
}

#[test]
fn renames_and_links_stay_within_a_bucket() {
    let w = MountedStore::with_buckets(&["one", "two"]);
    fs::write(w.at("one/file"), "x").unwrap();
    fs::create_dir(w.at("one/dir")).unwrap();
    for (from, to) in [("one", "three"), ("one/file", "two/file"), ("one/dir", "two/dir"), ("one/dir", "three")] {
        assert_eq!(errno(fs::rename(w.at(from), w.at(to))), Errno::XDEV, "{from} to {to}");
    }
    assert_eq!(errno(fs::hard_link(w.at("one/file"), w.at("two/file"))), Errno::XDEV);
    fs::rename(w.at("one/file"), w.at("one/dir/file")).unwrap();
    fs::hard_link(w.at("one/dir/file"), w.at("one/file")).unwrap();
    assert_eq!(fs::read(w.at("one/file")).unwrap(), b"x");
}

#[test]
fn moving_to_another_bucket_encrypts_anew() {
    let w = MountedStore::with_buckets(&["one", "two"]);
    w.set_default("two", r#"{"SSEAlgorithm":"aws:kms"}"#, None);
    fs::write(w.at("one/file"), "content").unwrap();
    run("mv", &[&w.at("one/file"), &w.at("two/file")]).unwrap();
    assert!(!w.at("one/file").exists());
    assert_eq!(fs::read(w.at("two/file")).unwrap(), b"content");
    assert_eq!(w.algorithm("two/file"), "aws:kms");
}

#[test]
fn names_have_up_to_255_bytes() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let odd: Vec<u8> = (0..255).map(|i| [0xff, b'\n', b'\\', 0xc3][i % 4]).collect();
    for name in [&[b'a'; 255][..], &odd] {
        let path = w.at("bucket").join(OsStr::from_bytes(name));
        fs::write(&path, name).unwrap();
        assert_eq!(fs::read(&path).unwrap(), name);
        let listed: Vec<_> = fs::read_dir(w.at("bucket")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(listed, [OsStr::from_bytes(name)]);
        fs::remove_file(&path).unwrap();
    }
    let too_long = w.at("bucket").join("a".repeat(256));
    assert_eq!(errno(fs::write(&too_long, "x")), Errno::NAMETOOLONG);
    assert_eq!(errno(fs::create_dir(&too_long)), Errno::NAMETOOLONG);
}

#[test]
fn paths_near_path_max_work() {
    const PATH_MAX: usize = 4096;
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let mut dir: PathBuf = w.at("bucket");
    while dir.as_os_str().len() + 201 < PATH_MAX - 100 {
        dir.push("d".repeat(200));
        fs::create_dir(&dir).unwrap();
    }
    // The NUL byte at its end counts.
    let file = dir.join("f".repeat(PATH_MAX - 1 - dir.as_os_str().len() - 1));
    fs::write(&file, "deep").unwrap();
    w.remount();
    assert_eq!(fs::read(&file).unwrap(), b"deep");
    fs::rename(&file, dir.join("f")).unwrap();
    fs::remove_dir_all(w.at("bucket")).unwrap();
}
