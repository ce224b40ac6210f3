//! Bytes: verifying a tag page, and sidecar records.

use criterion::{Criterion, Throughput};
use kmsfs_format::ObjectId;
use kmsfs_format::data_key::{Algorithm, WrappedDataKey};
use kmsfs_format::sidecar::{EpochKey, Kind, Record, Sidecar, units_for};
use kmsfs_format::tree::table_hash;
use std::hint::black_box;

pub fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format");
    let page: Vec<u8> = (0..=255).cycle().take(4096).collect();
    group.throughput(Throughput::Bytes(4096));
    group.bench_function("hash of a tag page", |bench| bench.iter(|| table_hash(0, black_box(&page))));
    group.finish();

    let mut group = criterion.benchmark_group("format");
    let sidecar = sidecar();
    let id = ObjectId([7; 16]);
    let body = sidecar.encode();
    let units = units_for(body.len()).unwrap();
    let record = Record { kind: Kind::Sidecar, object_id: id, inode: 1, body, mac: [9; 32] };
    let bytes = record.write(units);
    group.bench_function("encode a sidecar", |bench| {
        bench.iter(|| Record { body: sidecar.encode(), ..record.clone() }.write(units));
    });
    group.bench_function("decode a sidecar", |bench| {
        bench.iter(|| Sidecar::decode(&Record::read(black_box(&bytes)).unwrap().body).unwrap());
    });
    group.finish();
}

fn sidecar() -> Sidecar {
    let wrapped = WrappedDataKey {
        algorithm: Algorithm::AwsKms,
        key_arn: "arn:aws:kms:us-east-1:000000000000:key/1f19c1a2-0000-4000-8000-000000000000".into(),
        context: [("aws:s3:arn".to_owned(), "arn:aws:s3:::bucket/some/path/below/it.json".to_owned())].into(),
        ciphertext_blob: vec![5; 148],
        under_bucket_key: None,
        inner_blob: None,
    };
    let key = EpochKey { first_epoch: 1, wrapped, commitment: [3; 32] };
    Sidecar { bucket: "bucket".into(), created: 1, keys: vec![key] }
}
