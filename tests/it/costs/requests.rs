use super::{compare, stated};
use crate::harness::Store;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How often each operation is done: what happens once beside them does not count.
pub const TIMES: usize = 50;
const MIB: usize = 1 << 20;
const CREATE: &str = "create, write 4 KiB, close";

#[test]
fn no_operation_takes_more_requests_than_the_document_says() {
    let store = Store::on_tmpfs();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let place = |n: usize| bucket.join(format!("file-{n}"));
    let each = |act: &dyn Fn(&Path)| (0..TIMES).for_each(|n| act(&place(n)));
    let mut measured = Vec::new();
    let mut measure = |operation, act: &dyn Fn()| {
        let before = requests(&store);
        act();
        let mut added = since(&requests(&store), &before);
        // A new file's time is flushed where a tick of the kernel's clock fell between its creation and its content.
        if operation == CREATE {
            added.remove("SetAttr");
        }
        measured.push((operation, added.values().sum::<u64>(), format!("{added:?}")));
    };

    measure(CREATE, &|| each(&|path| fs::write(path, [7; 4096]).unwrap()));
    measure("rename", &|| each(&|path| fs::rename(path, moved(path)).unwrap()));
    each(&|path| fs::rename(moved(path), path).unwrap());
    mount.remount();
    measure("stat, cold", &|| each(&|path| assert_eq!(fs::metadata(path).unwrap().size(), 4096)));
    measure("stat", &|| each(&|path| assert_eq!(fs::metadata(path).unwrap().size(), 4096)));
    mount.remount();
    measure("open, read 4 KiB, close, cold", &|| each(&|path| assert_eq!(fs::read(path).unwrap(), [7; 4096])));
    measure("open, read 4 KiB, close", &|| each(&|path| assert_eq!(fs::read(path).unwrap(), [7; 4096])));
    mount.remount();
    let listed = bucket.clone();
    let size = |entry: fs::DirEntry| entry.metadata().unwrap().size();
    measure("list and stat a directory's names, each", &|| {
        assert_eq!(fs::read_dir(&listed).unwrap().map(|entry| size(entry.unwrap())).sum::<u64>(), 4096 * TIMES as u64);
    });
    let file = OpenOptions::new().read(true).write(true).open(place(0)).unwrap();
    measure("overwrite 4 KiB of an open file, fsync", &|| {
        (0..TIMES).for_each(|_| file.write_all_at(&[8; 4096], 0).and_then(|()| file.sync_data()).unwrap());
    });
    drop(file);
    measure("unlink", &|| each(&|path| fs::remove_file(path).unwrap()));
    let large = bucket.join("large");
    measure("write 1 MiB of a large file", &|| {
        let file = File::create(&large).unwrap();
        (0..TIMES).for_each(|n| file.write_all_at(&vec![7; MIB], (n * MIB) as u64).unwrap());
    });
    mount.remount();
    measure("read 1 MiB of a large file, cold", &|| {
        let file = File::open(&large).unwrap();
        let mut bytes = vec![0; MIB];
        (0..TIMES).for_each(|n| file.read_exact_at(&mut bytes, (n * MIB) as u64).unwrap());
    });
    compare(&stated("What an operation costs", 1), &measured);
}

fn moved(path: &Path) -> PathBuf {
    path.with_extension("moved")
}

/// Requests of each kind that the mount has answered.
pub fn requests(store: &Store) -> BTreeMap<String, u64> {
    let status: Value = serde_json::from_str(&store.sh("kmsfs status $MNT --json")).unwrap();
    let operations = status["Operations"].as_object().expect("operations by kind");
    operations.iter().map(|(name, counts)| (name.clone(), counts["Calls"].as_u64().unwrap())).collect()
}

/// For each time that the operation was done.
pub fn since(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    // Half a time for what is done once or now and then: opening, a flush of times in the background.
    let per_time = |count: u64| (count + TIMES as u64 / 2) / TIMES as u64;
    let added = now.iter().map(|(name, count)| (name.clone(), per_time(count - before.get(name).unwrap_or(&0))));
    added.filter(|(_, count)| *count > 0).collect()
}
