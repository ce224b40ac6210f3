//! A source tree of twenty thousand files: untarred, compared after a fresh mount, removed.

use crate::harness::{Store, files_below, names_in, noise};
use std::fs;

const DIRS: usize = 400;
const FILES_EACH: usize = 50;

#[test]
fn twenty_thousand_files_come_in_and_go_again() {
    let store = Store::on_tmpfs();
    for dir in 0..DIRS {
        let path = store.path(&format!("tree/module-{}/part-{}", dir % 20, dir / 20));
        fs::create_dir_all(&path).unwrap();
        for file in 0..FILES_EACH {
            // As in source trees: most of a few kilobytes, some empty, some larger.
            let number = dir * FILES_EACH + file;
            let len = match number % 40 {
                0 => 0,
                1 => 70_000,
                n => n * 257,
            };
            fs::write(path.join(format!("file-{file}.rs")), noise(number as u64, len)).unwrap();
        }
    }
    store.sh("tar -cf tree.tar tree");
    let mut mount = store.mount();
    mount.bucket("bucket");
    store.sh("tar -C $MNT/bucket -xf tree.tar");
    mount.remount();
    assert_eq!(store.sh("find $MNT/bucket -type f | wc -l").trim(), (DIRS * FILES_EACH).to_string());
    store.sh("diff -r tree $MNT/bucket/tree");
    store.sh("tar -C $MNT/bucket -df tree.tar");
    store.sh("rm -r $MNT/bucket/tree");
    assert!(names_in(&mount.path("bucket")).is_empty());
    mount.remount();
    assert!(names_in(&mount.path("bucket")).is_empty());
    mount.unmount();
    assert_eq!(files_below(&store.store().join("buckets")), Vec::<std::path::PathBuf>::new());
}
