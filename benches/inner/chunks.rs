//! Sealing and opening chunks: each implementation of AES-256-GCM at each size that a chunk could have, and what
//! `ChunkCipher` makes of it, with its nonce and its additional data.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use criterion::{BenchmarkId, Criterion, Throughput};
use kmsfs_crypto::{ObjectKeys, ObjectParameters, SecretKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

const SIZES: [usize; 4] = [1 << 10, 4 << 10, 16 << 10, 64 << 10];
const AAD: [u8; 30] = [7; 30];
const NONCE: [u8; 12] = [1; 12];

pub fn all(criterion: &mut Criterion) {
    let ring = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[3; 32]).unwrap());
    let aes_gcm = Aes256Gcm::new_from_slice(&[3; 32]).unwrap();
    let mut group = criterion.benchmark_group("implementation");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let plain = vec![0x5a; size];
        group.bench_function(BenchmarkId::new("ring seals", size), |bench| {
            let mut chunk = plain.clone();
            let nonce = || Nonce::assume_unique_for_key(NONCE);
            bench.iter(|| ring.seal_in_place_separate_tag(nonce(), Aad::from(AAD), &mut chunk).unwrap());
        });
        group.bench_function(BenchmarkId::new("aes-gcm seals", size), |bench| {
            let mut chunk = plain.clone();
            bench.iter(|| aes_gcm.encrypt_inout_detached(&NONCE.into(), &AAD, chunk.as_mut_slice().into()).unwrap());
        });
        let nonce = || Nonce::assume_unique_for_key(NONCE);
        // Opening needs the ciphertext each time, so each copies it first. The copy is 64 bytes from a multiple of
        // 4,096 away: there are processors on which one of 1 to 31 bytes takes twenty times as long.
        let mut both = vec![0x5a; 2 * size + 64];
        let (sealed, chunk) = both.split_at_mut(size);
        let chunk = &mut chunk[64..];
        let tag = ring.seal_in_place_separate_tag(nonce(), Aad::from(AAD), sealed).unwrap();
        let tag: [u8; 16] = tag.as_ref().try_into().unwrap();
        group.bench_function(BenchmarkId::new("ring opens a copy", size), |bench| {
            bench.iter(|| {
                chunk.copy_from_slice(sealed);
                ring.open_in_place_separate_tag(nonce(), Aad::from(AAD), Tag::from(tag), chunk, 0..).map(drop)
            });
        });
        group.bench_function(BenchmarkId::new("aes-gcm opens a copy", size), |bench| {
            bench.iter(|| {
                chunk.copy_from_slice(sealed);
                aes_gcm.decrypt_inout_detached(&NONCE.into(), &AAD, (&mut *chunk).into(), &tag.into()).unwrap();
            });
        });
    }
    group.finish();

    let parameters = ObjectParameters { object_id: [7; 16], chunk_size: 4096 };
    let cipher = ObjectKeys::new(SecretKey::random(), parameters, 1).chunk_cipher(1);
    let mut group = criterion.benchmark_group("chunk cipher");
    group.throughput(Throughput::Bytes(4096));
    let mut chunk = vec![0x5a; 4096];
    let sealing = cipher.sealing();
    group.bench_function("seals 4 KiB", |bench| bench.iter(|| sealing.seal(9, &mut chunk)));
    group.bench_function("seals 4 KiB, a request of its own", |bench| {
        bench.iter(|| cipher.sealing().seal(9, &mut chunk));
    });
    let mut sealed = chunk.clone();
    let tag = sealing.seal(9, &mut sealed);
    group.bench_function("opens a copy of 4 KiB", |bench| {
        bench.iter(|| {
            chunk.copy_from_slice(&sealed);
            cipher.open(9, &tag, &mut chunk).unwrap();
        });
    });
    group.finish();
}
