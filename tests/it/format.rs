//! What docs/FORMAT.md says of lengths and places, against the code and the bytes it writes.

use super::store::{bucket, create, new_disk, open};
use kmsfs_format::layout::{CipherLen, Geometry, PlainLen};
use kmsfs_store::backend::{Access, Backend};
use kmsfs_store::prelude::*;
use std::ffi::OsStr;

const DOCUMENT: &str = include_str!("../../docs/FORMAT.md");

#[test]
fn the_worked_example_has_the_lengths_that_it_shows() {
    let number = |text: &str| text.trim().replace(',', "").parse::<u64>().ok();
    let rows = |heading: &str| -> Vec<(u64, u64)> {
        DOCUMENT
            .lines()
            .skip_while(|line| !line.starts_with(heading))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<_> = line.split('|').collect();
                (number(cells[1]).unwrap(), number(cells[2]).unwrap())
            })
            .collect()
    };
    for (heading, geometry, least) in
        [("| length | object file |", Geometry::Single, 7), ("| length | object file of suite 2 |", Geometry::Dual, 4)]
    {
        let rows = rows(heading);
        assert!(rows.len() >= least, "{rows:?}");
        for (plain, cipher) in rows {
            assert_eq!(PlainLen(plain).cipher(geometry), CipherLen(cipher));
            assert_eq!(CipherLen(cipher).plain(geometry), Ok(PlainLen(plain)));
        }
    }
}

#[test]
fn an_object_of_300_000_bytes_is_laid_out_as_the_example_says() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "example");
    object.write(0, &vec![7; 300_000]).unwrap();
    object.commit().unwrap();
    store.release(&object);
    store.close().unwrap();
    let root = disk.root().unwrap();
    let open_dir = |dir: &dyn kmsfs_store::backend::Dir, name: &str| dir.open_dir(OsStr::new(name)).unwrap();
    let objects = open_dir(open_dir(root.as_ref(), "buckets").as_ref(), "bucket");
    let file = objects.open_file(OsStr::new("example"), Access::Read).unwrap();
    let mut bytes = vec![0; 400_000];
    let read = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(read, 308_192);
    assert_eq!(&bytes[..8], b"KMSFSOBJ");
    assert_eq!(bytes[8..16], [1, 0, 1, 0, 0, 16, 0, 0]);
    assert_eq!(bytes[40..48], 300_000u64.to_le_bytes());
    assert_eq!(bytes[112..120], 74u64.to_le_bytes(), "74 chunks were encrypted");
    assert_eq!(bytes[120..122], [1, 0], "in the first epoch");
    assert!(bytes[192..2048].iter().all(|byte| *byte == 0));
    // Page 0 is block 65: ten entries, the rest are holes.
    let page = &bytes[65 * 4096..66 * 4096];
    for entry in page.chunks(32).take(10) {
        assert_eq!(entry[28..], [1, 0, 0, 0]);
    }
    assert!(page[10 * 32..].iter().all(|byte| *byte == 0));

    let segment = open_dir(root.as_ref(), "sidecars").open_file(OsStr::new("00000000"), Access::Read).unwrap();
    let mut record = vec![0; 512];
    segment.read_at(&mut record, 0).unwrap();
    assert_eq!(&record[..4], b"KMSR");
    assert_eq!(record[16..32], bytes[16..32], "it names the object");
    assert_eq!(bytes[176..188], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], "unit 0 of segment 0, one unit");

    let log = open_dir(root.as_ref(), "log").open_file(OsStr::new("redo"), Access::Read).unwrap();
    let mut header = vec![0; 12];
    log.read_at(&mut header, 0).unwrap();
    assert_eq!((&header[..8], header[10]), (&b"KMSFSLOG"[..], 1), "closed cleanly");
}
