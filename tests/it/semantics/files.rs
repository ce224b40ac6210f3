use super::mounted::{MountedStore, errno, run};
use crate::harness::KMSFS;
use rustix::fs::{FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::time::{Duration, SystemTime};

#[test]
fn metadata_survives_a_new_mount() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    fs::write(w.at("bucket/file"), "x").unwrap();
    fs::hard_link(w.at("bucket/file"), w.at("bucket/link")).unwrap();
    symlink("../bucket/file", w.at("bucket/symlink")).unwrap();
    w.make_fifo("bucket/fifo").unwrap();
    chown(w.at("bucket/file"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(w.at("bucket/file"), fs::Permissions::from_mode(0o6751)).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    OpenOptions::new().write(true).open(w.at("bucket/file")).unwrap().set_modified(long_ago).unwrap();
    w.set_xattr("bucket/file", "user.colour", "blue").unwrap();
    w.remount();
    let file = fs::metadata(w.at("bucket/link")).unwrap();
    assert_eq!((file.mode(), file.uid(), file.gid(), file.nlink()), (0o106_751, 1234, 4321, 2));
    assert_eq!(file.modified().unwrap(), long_ago);
    assert_eq!(file.ino(), fs::metadata(w.at("bucket/file")).unwrap().ino());
    assert_eq!(w.get_xattr("bucket/link", "user.colour").unwrap(), "blue");
    assert_eq!(w.list_xattrs("bucket/link"), ["user.colour"]);
    assert_eq!(fs::read_link(w.at("bucket/symlink")).unwrap().to_str(), Some("../bucket/file"));
    assert_eq!(fs::read(w.at("bucket/symlink")).unwrap(), b"x");
    assert_eq!(fs::metadata(w.at("bucket/fifo")).unwrap().mode() & 0o170_000, 0o010_000);
}

#[test]
fn bytes_are_where_they_were_written() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let path = w.at("bucket/file");
    let file = File::create_new(&path).unwrap();
    let mut expected = Vec::new();
    // Around chunks of 4 KiB, groups of 256 KiB and tag pages; the step keeps offsets unaligned.
    for (offset, len) in [(0, 10), (4090, 20), (100_000, 5000), (262_100, 100), (3, 4096), (1_000_003, 300_000), (7, 1)]
    {
        let data: Vec<u8> = (0..len).map(|i| (offset + i * 31) as u8).collect();
        file.write_all_at(&data, offset as u64).unwrap();
        expected.resize(expected.len().max(offset + len), 0);
        expected[offset..offset + len].copy_from_slice(&data);
        assert!(fs::read(&path).unwrap() == expected, "after writing {len} at {offset}");
    }
    for len in [1_000_000, 4097, 4096, 300_000] {
        file.set_len(len).unwrap();
        expected.resize(len as usize, 0);
        assert!(fs::read(&path).unwrap() == expected, "after truncating to {len}");
    }
    drop(file);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"appended").unwrap();
    expected.extend_from_slice(b"appended");
    w.remount();
    assert!(fs::read(&path).unwrap() == expected);
    let mut some = [0; 10];
    File::open(&path).unwrap().read_exact_at(&mut some, 4090).unwrap();
    assert_eq!(some, expected[4090..4100]);
}

#[test]
fn holes_stay_holes() {
    const MIB: u64 = 1 << 20;
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let file = File::create_new(w.at("bucket/sparse")).unwrap();
    file.write_all_at(&[7; 4096], 64 * MIB).unwrap();
    file.set_len(128 * MIB).unwrap();
    drop(file);
    w.remount();
    let metadata = fs::metadata(w.at("bucket/sparse")).unwrap();
    assert_eq!(metadata.len(), 128 * MIB);
    assert!(metadata.blocks() * 512 < 4 * MIB, "{} blocks", metadata.blocks());
    let file = File::open(w.at("bucket/sparse")).unwrap();
    let seek = |from| rustix::fs::seek(&file, from);
    assert_eq!(seek(SeekFrom::Data(0)), Ok(64 * MIB));
    assert_eq!(seek(SeekFrom::Hole(64 * MIB)), Ok(64 * MIB + 4096));
    assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
    assert_eq!(seek(SeekFrom::Data(65 * MIB)), Err(Errno::NXIO));
    let mut zeros = [1; 4096];
    file.read_exact_at(&mut zeros, 100 * MIB).unwrap();
    assert_eq!(zeros, [0; 4096]);
}

#[test]
fn space_comes_back_with_the_next_checkpoint() {
    const MIB: u64 = 1 << 20;
    let w = MountedStore::with_buckets(&["bucket"]);
    let path = w.at("bucket/file");
    let synced = |used: std::ops::Range<u64>| {
        run(KMSFS, &["sync".as_ref(), &w.at("")]).unwrap();
        w.eventually(|| used.contains(&(fs::metadata(&path).unwrap().blocks() * 512)));
    };
    let file = File::create_new(&path).unwrap();
    file.write_all_at(&vec![7; 4 << 20], 0).unwrap();
    synced(4 * MIB..5 * MIB);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, hole, MIB, 2 * MIB).unwrap();
    synced(2 * MIB..3 * MIB);
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 8 * MIB).unwrap();
    synced(8 * MIB..9 * MIB);
    file.set_len(MIB).unwrap();
    synced(MIB..2 * MIB);
    file.set_len(4 * MIB).unwrap();
    synced(MIB..2 * MIB);
    assert_eq!(fs::read(&path).unwrap(), [vec![7; 1 << 20], vec![0; 3 << 20]].concat());
}

#[test]
fn rename_replaces_keeps_or_exchanges() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let rename =
        |from, to, flags| rustix::fs::renameat_with(rustix::fs::CWD, w.at(from), rustix::fs::CWD, w.at(to), flags);
    let read = |path| fs::read_to_string(w.at(path)).unwrap();
    fs::write(w.at("bucket/a"), "a").unwrap();
    fs::write(w.at("bucket/b"), "b").unwrap();
    assert_eq!(rename("bucket/a", "bucket/b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!((read("bucket/a"), read("bucket/b")), ("a".into(), "b".into()));
    rename("bucket/a", "bucket/b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((read("bucket/a"), read("bucket/b")), ("b".into(), "a".into()));
    fs::rename(w.at("bucket/a"), w.at("bucket/b")).unwrap();
    assert_eq!(read("bucket/b"), "b");
    assert!(!w.at("bucket/a").exists());
}

#[test]
fn a_rename_leaves_a_whiteout_where_it_is_asked_to() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let (from, to) = (w.at("bucket/a"), w.at("bucket/b"));
    fs::write(&from, "a").unwrap();
    fs::write(&to, "b").unwrap();
    let rename = |flags| rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags);
    rename(RenameFlags::WHITEOUT).unwrap();
    let left = fs::symlink_metadata(&from).unwrap();
    assert_eq!((left.mode(), left.rdev(), left.nlink()), (libc::S_IFCHR, 0, 1));
    assert_eq!(fs::read_to_string(&to).unwrap(), "a");
    fs::remove_file(&from).unwrap();
    assert_eq!(fs::read_dir(w.at("bucket")).unwrap().count(), 1);
}

#[test]
fn a_rename_keeps_the_encryption() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    w.set_default("bucket", r#"{"SSEAlgorithm":"aws:kms"}"#, None);
    fs::create_dir(w.at("bucket/dir")).unwrap();
    fs::write(w.at("bucket/dir/file"), "content").unwrap();
    let (arn, etag) = (w.key_arn("bucket/dir/file").unwrap(), w.etag("bucket/dir/file"));
    fs::rename(w.at("bucket/dir"), w.at("bucket/moved")).unwrap();
    fs::rename(w.at("bucket/moved/file"), w.at("bucket/file")).unwrap();
    w.remount();
    assert_eq!(fs::read(w.at("bucket/file")).unwrap(), b"content");
    assert_eq!((w.key_arn("bucket/file").unwrap(), w.etag("bucket/file")), (arn, etag));
}

#[test]
fn an_unlinked_file_lives_on() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let path = w.at("bucket/file");
    let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all(b" and after").unwrap();
    file.sync_all().unwrap();
    file.rewind().unwrap();
    let mut read = String::new();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, "before and after");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    fs::write(&path, "another").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 16);
}

#[test]
fn a_mapping_is_the_file() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let path = w.at("bucket/file");
    fs::write(&path, vec![b'-'; 10_000]).unwrap();
    // Rust has no safe way to map a file that others can write.
    let script = "import mmap,sys\n\
                  f = open(sys.argv[1], 'r+b')\n\
                  m = mmap.mmap(f.fileno(), 0)\n\
                  m[5000:5006] = b'mapped'\n\
                  f.seek(5000)\n\
                  assert f.read(6) == b'mapped', 'read(2) sees the mapping'\n\
                  f.seek(100); f.write(b'written'); f.flush()\n\
                  assert m[100:107] == b'written', 'the mapping sees write(2)'\n\
                  m.flush(); m.close(); f.close()\n";
    run("python3", &["-c".as_ref(), script.as_ref(), path.as_path()]).unwrap();
    w.remount();
    let content = fs::read(&path).unwrap();
    assert_eq!((content.len(), &content[5000..5006], &content[100..107]), (10_000, &b"mapped"[..], &b"written"[..]));
}

#[test]
fn size_is_the_plaintexts() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let lengths = [0, 1, 4095, 4096, 4097, 262_144, 262_145, 1_000_000];
    for len in lengths {
        fs::write(w.at("bucket").join(len.to_string()), vec![1; len]).unwrap();
    }
    w.remount();
    for len in lengths {
        let metadata = fs::metadata(w.at("bucket").join(len.to_string())).unwrap();
        assert_eq!(metadata.len(), len as u64);
        assert!(metadata.blocks() * 512 >= 4096 + len as u64, "{len}: {} blocks", metadata.blocks());
    }
}

#[test]
fn long_symlinks_work() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    for len in [1, 100, 3000, 4095] {
        symlink("t".repeat(len), w.at("bucket").join(len.to_string())).unwrap();
    }
    w.remount();
    for len in [1, 100, 3000, 4095] {
        let path = w.at("bucket").join(len.to_string());
        assert_eq!(fs::read_link(&path).unwrap().as_os_str().len(), len);
        assert_eq!(fs::symlink_metadata(&path).unwrap().len(), len as u64);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_was_closed_survives_a_kill() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    fs::write(w.at("bucket/closed"), vec![1; 100_000]).unwrap();
    let synced = File::create(w.at("bucket/synced")).unwrap();
    synced.write_all_at(&vec![2; 100_000], 0).unwrap();
    synced.sync_all().unwrap();
    synced.write_all_at(&vec![3; 50_000], 0).unwrap();
    w.kill_daemon();
    drop(synced);
    w.mount_again();
    assert!(fs::read(w.at("bucket/closed")).unwrap() == vec![1; 100_000]);
    let content = fs::read(w.at("bucket/synced")).unwrap();
    assert_eq!(content.len(), 100_000);
    assert!(content[50_000..].iter().all(|&b| b == 2));
    assert!(content[..50_000].chunks(4096).all(|c| c.iter().all(|&b| b == 2) || c.iter().all(|&b| b == 3)));
}

#[test]
fn mtime_is_the_programs() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let path = w.at("bucket/file");
    fs::write(&path, vec![1; 100_000]).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"overwritten", 5000).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    w.remount();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
    fs::read(&path).unwrap();
    w.remount();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
}

#[test]
fn a_store_is_mounted_once() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let said = w.mount_elsewhere().unwrap_err();
    assert!(said.contains(&w.daemon_pid().to_string()), "{said}");
    fs::write(w.at("bucket/file"), "the first mount goes on").unwrap();
}

#[test]
fn what_is_not_provided_says_so() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let unnamed = rustix::fs::open(w.at("bucket"), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR);
    assert_eq!(unnamed.err(), Some(Errno::OPNOTSUPP));
    fs::write(w.at("bucket/file"), vec![1; 100_000]).unwrap();
    let file = OpenOptions::new().write(true).open(w.at("bucket/file")).unwrap();
    for flags in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(errno(rustix::fs::fallocate(&file, flags, 4096, 4096)), Errno::OPNOTSUPP, "{flags:?}");
    }
    assert!(fs::read(w.at("bucket/file")).unwrap() == vec![1; 100_000]);
}
