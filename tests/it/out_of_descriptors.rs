//! Programs that have as many files open as the daemon may have descriptors.

use crate::harness::Store;

const PROGRAM: &str = r#"
import errno, os, sys
bucket, round = sys.argv[1], sys.argv[2]
files = []
while len(files) < 1000:
    try: file = os.open(f"{bucket}/{round}-{len(files)}", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        assert error.errno == errno.ENFILE, error
        break
    os.write(file, b"%d" % len(files))
    files.append(file)
# The kernel tells of the files that the round before has closed when it likes.
assert len(files) < 256 and (round != "0" or len(files) > 60), len(files)
# What is there can be looked at, listed, renamed, and opened by whoever has it open.
assert sorted(name for name in os.listdir(bucket) if name.startswith(round)) == sorted(f"{round}-{n}" for n in range(len(files)))
os.mkdir(f"{bucket}/directory-{round}")
os.listdir(f"{bucket}/directory-{round}")
os.rename(f"{bucket}/{round}-0", f"{bucket}/directory-{round}/0")
os.rename(f"{bucket}/directory-{round}/0", f"{bucket}/{round}-0")
for n, file in enumerate(files):
    assert open(f"{bucket}/{round}-{n}", "rb").read() == b"%d" % n
    os.pwrite(file, b"%d" % n, 0)
    os.fsync(file)
for file in files: os.close(file)
for n in range(len(files)): assert open(f"{bucket}/{round}-{n}", "rb").read() == b"%d" % n
print(len(files))
"#;

#[test]
fn what_is_open_is_committed_and_directories_are_read_when_no_more_can_be_opened() {
    let store = Store::new();
    std::fs::write(store.path("program.py"), PROGRAM).unwrap();
    store.sh("ulimit -n 256; kmsfs mount --key-file $KEY -o log_file=$PWD/log $STORE $MNT");
    store.sh("mkdir $MNT/bucket");
    let counts: Vec<usize> = (0..3)
        .map(|round| {
            store.sh(&format!("ulimit -n 4096; python3 program.py $MNT/bucket {round}")).trim().parse().unwrap()
        })
        .collect();
    store.sh("umount $MNT");
    store.wait_until_closed();
    assert!(!store.log().contains("ERROR"), "{}", store.log());
    let mount = store.mount();
    for (round, count) in counts.into_iter().enumerate() {
        for n in 0..count {
            let content = std::fs::read(mount.path(&format!("bucket/{round}-{n}"))).unwrap();
            assert_eq!(content, n.to_string().as_bytes());
        }
    }
}
