//! Programs on a disk that is full: each is told, by the first call that can, and reads what is there.

use crate::harness::{Disk, Store, wait_until};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// How many bytes a program can write at most before it is told, on a disk of 32 MiB: what the kernel keeps of all
/// files of a mount before it writes back, a hundredth of what it keeps at all, is on top of that.
const MOST: u64 = 1 << 30;

/// Writes blocks of 4 KiB until write(2) takes none of a thousand: some space may come back, as other writes fail. It
/// prints how many bytes were taken, with what error, and how many after attributes were asked for.
const WRITER: &str = r#"
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
def write():
    try: return os.write(fd, b"r" * 4096) and None
    except OSError as error: return error
def until_refused():
    taken = refused = 0
    while refused < 1000 and taken * 4096 < int(sys.argv[2]):
        error = write()
        taken, refused = (taken + 1, 0) if error is None else (taken, refused + 1)
    return taken * 4096, error and error.strerror
print(*until_refused(), sep=";", end=";", flush=True)
os.stat(sys.argv[1]), os.fstat(fd), os.listdir(os.path.dirname(sys.argv[1]))
print(*until_refused(), sep=";", end=";", flush=True)
print(os.pread(fd, 4096, 0) == b"r" * 4096, end=";", flush=True)
sys.stdin.readline()
print(write() is None and write() is None, flush=True)
"#;

fn on_a_small_disk(test: impl Fn(&Store)) {
    let disk = Disk::new(32);
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    mount.bucket("bucket");
    test(&store);
    drop(mount);
    drop(store);
    drop(disk);
}

#[test]
fn a_program_that_never_syncs_is_told_by_write_until_there_is_space_again() {
    on_a_small_disk(|store| {
        store.sh("head -c 4M /dev/urandom > $MNT/bucket/other; sync -f $MNT/bucket");
        let mut writer = Command::new("python3");
        writer.args(["-c", WRITER]).arg(store.mountpoint().join("bucket/file")).arg(MOST.to_string());
        let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (go, mut said) = (writer.stdin.take().unwrap(), BufReader::new(writer.stdout.take().unwrap()));
        let words: Vec<_> = (0..5)
            .map(|_| {
                let mut word = Vec::new();
                said.read_until(b';', &mut word).unwrap();
                String::from_utf8(word).unwrap().trim_end_matches(';').to_owned()
            })
            .collect();
        for taken in [&words[0], &words[2]] {
            assert!(taken.parse::<u64>().unwrap() < MOST, "{taken} bytes were taken on a disk of 32 MiB");
        }
        assert_eq!([&words[1], &words[3], &words[4]], ["No space left on device", "No space left on device", "True"]);
        // What the kernel still has of it would take the space that comes back.
        store.try_sh("sync -f $MNT");
        let free = || rustix::fs::statvfs(store.mountpoint()).unwrap().f_bfree;
        let before = free();
        fs::remove_file(store.mountpoint().join("bucket/other")).unwrap();
        let mut synced = 1;
        let has_come = || {
            synced = store.try_sh("kmsfs sync $MNT").code;
            synced == 0 && free() > before
        };
        assert!(wait_until(has_come), "kmsfs sync ends with {synced}, {} blocks are free after {before}", free());
        drop(go);
        let mut last = String::new();
        said.read_line(&mut last).unwrap();
        assert_eq!(last, "True\n", "there is space again");
        writer.wait().unwrap();
    });
}

#[test]
fn dd_cp_and_a_shell_that_appends_are_told() {
    for command in [
        "dd if=/dev/zero of=$MNT/bucket/file bs=64k count=16384 status=none",
        "truncate -s 1G sparse; cp --sparse=never --reflink=never sparse $MNT/bucket/file",
        "head -c 1G /dev/zero > $MNT/bucket/file",
        "for i in $(seq 1 100000); do head -c 100000 /dev/zero | tr '\\0' x >> $MNT/bucket/file; done",
    ] {
        on_a_small_disk(|store| {
            store.try_sh(command).expect_failure(1, "No space left on device");
            let length = fs::metadata(store.mountpoint().join("bucket/file")).unwrap().len();
            assert!(length < MOST, "{command}: {length} bytes");
        });
    }
}

/// Rescuing data from it would fail.
#[test]
fn whoever_only_read_a_file_closes_it_without_an_error() {
    for options in ["", "nowriteback"] {
        let disk = Disk::new(32);
        let store = Store::at(&disk.path().join("store"));
        let mount = store.mount_with(options);
        mount.bucket("bucket");
        store
            .try_sh("head -c 1G /dev/zero | tr '\\0' x > $MNT/bucket/file")
            .expect_failure(1, "No space left on device");
        store.sh("python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
assert os.read(fd, 1 << 20) == b\"x\" * (1 << 20)
os.close(fd)
' $MNT/bucket/file");
        drop(mount);
    }
}
