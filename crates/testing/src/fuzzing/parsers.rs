//! What reads bytes alone. Where something is read, writing it again gives the same bytes: nothing is passed over.

use kmsfs::mount_options as parse_mount_options;
use kmsfs_crypto::SecretKey;
use kmsfs_format::entry::Entry;
use kmsfs_format::header::{ENTRIES_AT, Header};
use kmsfs_format::layout::{BLOCK, Geometry};
use kmsfs_format::log_header::LogHeader;
use kmsfs_format::log_record::{self, Marks};
use kmsfs_format::sidecar::{Kind, Record, Sidecar};
use kmsfs_kms::EncryptionContext;
use kmsfs_kms_local::fuzzing as kms;
use kmsfs_sse::{BucketName, Configuration, Request};
use std::cell::Cell;

pub(crate) fn object_header(bytes: &[u8]) {
    if let Ok(header) = Header::read(bytes) {
        let written = Header::write(header.object_id, header.suite, &header.seal, header.sidecar, |_| header.mac);
        assert_eq!(&bytes[..ENTRIES_AT], &written[..]);
    }
}

pub(crate) fn sidecar_record(bytes: &[u8]) {
    // A checksum that is right is a matter of luck: the body is tried without one too.
    if let Ok(sidecar) = Sidecar::decode(bytes) {
        assert_eq!(sidecar.encode(), bytes);
    }
    if let Ok(record) = Record::read(bytes) {
        assert_eq!(record.write((bytes.len() / 512) as u16), bytes);
        if record.kind == Kind::Sidecar {
            let _ = Sidecar::decode(&record.body);
        }
    }
}

pub(crate) fn tag_entries(bytes: &[u8]) {
    let mut table = bytes.to_vec();
    table.resize(BLOCK as usize, 0);
    for geometry in [Geometry::Single, Geometry::Dual] {
        let size = geometry.entry();
        for n in 0..BLOCK as usize / size {
            if let Ok(entry) = Entry::read(&table, n, geometry) {
                let mut written = [0; BLOCK as usize];
                Entry::write(entry.as_ref(), &mut written, n, geometry);
                assert_eq!(written[n * size..(n + 1) * size], table[n * size..(n + 1) * size]);
            }
        }
    }
}

pub(crate) fn log_record(bytes: &[u8]) {
    if let Ok(found) = LogHeader::read(bytes, |_, _| true) {
        let again = LogHeader::read(&found.header.write(|_| [0; 32]), |_, _| true);
        assert_eq!(again.map(|again| again.header), Ok(found.header));
    }
    for epoch in 0..2 {
        // Any MAC will do, and is written again as it was.
        let mac = Cell::new([0; 32]);
        let verify = |_: &[&[u8]], tag: &[u8]| {
            mac.set(tag.try_into().expect("a MAC has 32 bytes"));
            true
        };
        if let Some((record, len, durable)) = log_record::Record::read(bytes, epoch, 4096, Marks::Sealed(&verify)) {
            let mut written = Vec::new();
            record.write(epoch, 4096, durable, &|_| mac.get(), &mut written);
            assert_eq!(written, bytes[..len]);
        }
    }
}

pub(crate) fn keyring_contents(bytes: &[u8]) {
    kms::decode_keyring(bytes);
}

pub(crate) fn keyring_slots(bytes: &[u8]) {
    kms::decode_slots(bytes);
}

pub(crate) fn keyring_backup(bytes: &[u8]) {
    kms::decode_backup(bytes);
}

pub(crate) fn ciphertext_blob(bytes: &[u8]) {
    assert!(!kms::open_blob(bytes, &SecretKey::random(), &EncryptionContext::new()), "a key of chance opens it");
}

pub(crate) fn encryption_configuration(bytes: &[u8]) {
    if let Ok(configuration) = Configuration::parse(bytes) {
        let written = configuration.to_json().to_string();
        let again = Configuration::parse(written.as_bytes()).expect("what was read can be read again");
        assert_eq!(again.encryption(), configuration.encryption());
    }
}

pub(crate) fn request_header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let mut request = Request::default();
    if request.set_header(&format!("x-amz-server-side-encryption{name}"), value).is_ok() {
        let json = serde_json::to_vec(&request).expect("a request is JSON");
        assert_eq!(serde_json::from_slice::<Request>(&json).expect("what was written can be read"), request);
    }
}

pub(crate) fn bucket_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = BucketName::parse(text) {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        assert!((3..=63).contains(&name.as_str().len()) && name.as_str().bytes().all(legal));
    }
}

pub(crate) fn mount_options(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse_mount_options(text);
    }
}
