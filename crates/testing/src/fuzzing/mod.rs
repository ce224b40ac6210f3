//! Entry points for fuzzing: each takes any bytes, and must neither panic nor take anything for what was not written.
//!
//! `fuzz/` runs them under cargo-fuzz, and the tests run them over the corpus that is kept there.

mod frames;
mod kms_calls;
mod operations;
mod oracle;
mod parsers;
mod s3;
mod signatures;
mod victim;

/// Takes any bytes, and panics where something is wrong.
type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("object_header", parsers::object_header),
    ("sidecar_record", parsers::sidecar_record),
    ("tag_entries", parsers::tag_entries),
    ("log_record", parsers::log_record),
    ("keyring_contents", parsers::keyring_contents),
    ("keyring_slots", parsers::keyring_slots),
    ("keyring_backup", parsers::keyring_backup),
    ("ciphertext_blob", parsers::ciphertext_blob),
    ("encryption_configuration", parsers::encryption_configuration),
    ("request_header", parsers::request_header),
    ("bucket_name", parsers::bucket_name),
    ("mount_options", parsers::mount_options),
    ("store_json", |bytes| victim::open_with("store.json", bytes)),
    ("bucket_record", |bytes| victim::open_with("meta/bucket", bytes)),
    ("free_list", |bytes| victim::open_with("sidecars/free", bytes)),
    ("segment", |bytes| victim::open_with("sidecars/00000000", bytes)),
    ("object_file", |bytes| victim::open_with("buckets/bucket/object", bytes)),
    ("openings", |bytes| victim::open_with("openings", bytes)),
    ("redo_log", victim::open_with_log),
    ("symlink_text", victim::open_with_symlink),
    ("store_operations", operations::run),
    ("kms_request", kms_calls::kms_request),
    ("sts_request", kms_calls::sts_request),
    ("sigv4_request", signatures::sigv4_request),
    ("aws_chunked", signatures::aws_chunked),
    ("s3_request", s3::s3_request),
    ("s3_document", s3::s3_document),
    ("sigv4_oracle", oracle::sigv4_oracle),
    ("gateway_frame", frames::gateway_frame),
    ("authority_frame", frames::authority_frame),
];

/// Runs one target.
///
/// # Panics
/// If there is none of that name, or if it finds something.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(bytes);
}
