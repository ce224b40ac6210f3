//! Files of gigabytes: memory stays bounded, holes stay holes.

use crate::harness::Store;
use std::fs;
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

/// A gibibyte on both sides of 4 GiB, where lengths stop fitting into 32 bits.
#[test]
fn gigabytes_go_in_and_out_in_bounded_memory() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    store.sh("truncate -s 3584M source; head -c 1073741824 /dev/urandom >> source");
    let sum = store.sh("tail -c 1073741824 source | sha256sum");
    store.sh("cp --sparse=always source $MNT/bucket/big && rm source");
    let writing = mount.peak_rss();
    mount.remount();
    assert_eq!(store.sh("stat -c %s $MNT/bucket/big").trim(), (4608 * MIB).to_string());
    assert_eq!(store.sh("tail -c 1073741824 $MNT/bucket/big | sha256sum"), sum);
    assert_eq!(store.sh("cp $MNT/bucket/big out && tail -c 1073741824 out | sha256sum && rm out"), sum);
    let reading = mount.peak_rss();
    assert!(writing.max(reading) < 256 * MIB, "{} MiB writing, {} MiB reading", writing / MIB, reading / MIB);
    // 0.8 % for tables is what the format costs, and a block for the header.
    let stored = fs::metadata(store.store().join("buckets/bucket/big")).unwrap().blocks() * 512;
    assert!(stored < 1024 * MIB / 1000 * 1009, "{stored}");
    store.sh("rm $MNT/bucket/big");
}

#[test]
fn sparse_files_stay_sparse() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    // A terabyte with a little at three places, the last one at its very end.
    store.sh("truncate -s 1T sparse; printf first | dd of=sparse conv=notrunc status=none
              printf middle | dd of=sparse bs=1 seek=500G conv=notrunc status=none
              printf end | dd of=sparse bs=1 seek=$((1024*1024*1024*1024 - 3)) conv=notrunc status=none
              cp --sparse=always sparse $MNT/bucket/");
    let check = || {
        let inside = fs::metadata(bucket.join("sparse")).unwrap();
        assert_eq!(inside.len(), 1 << 40);
        assert!(inside.blocks() * 512 < MIB, "{} blocks", inside.blocks());
        let backing = fs::metadata(store.store().join("buckets/bucket/sparse")).unwrap();
        assert!(backing.blocks() * 512 < MIB, "{} blocks", backing.blocks());
        // cp finds the data by SEEK_DATA; reading a terabyte of zeros would not end.
        assert_eq!(
            store.sh("cp --sparse=always $MNT/bucket/sparse out; du -k out | cut -f1 | awk '{ print ($1 < 1024) }'
                      head -c 5 out; echo; dd if=out bs=1 skip=500G count=6 status=none; echo; tail -c 3 out; rm out"),
            "1\nfirst\nmiddle\nend"
        );
    };
    check();
    mount.remount();
    check();
}
