//! `kmsfs kms list-objects`, which AWS has no counterpart of: what a key protects.

use super::super::assembly;
use super::super::exit::Failure;
use super::super::text::escape;
use clap::Args;
use kmsfs_client::{attributes, mounts};
use kmsfs_kms::api::Request;
use kmsfs_store as store;
use serde_json::json;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// List the objects that a key protects, a line of JSON each
///
/// Key is null where the object's name is not known: it is unlinked and not collected yet, or the store
/// was restored and kmsfs fsck --repair has not been run.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct ListObjects {
    /// Key id, key ARN, alias or alias ARN
    #[arg(long)]
    key_id: String,
    /// Only how many there are
    #[arg(long)]
    count: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs kms --store /srv/store list-objects --key-id alias/invoices
  kmsfs kms --store /srv/store list-objects --key-id alias/invoices --count";

impl ListObjects {
    /// Finds the key, and asks whether it may be.
    pub fn request(&self) -> Request {
        Request::ListObjects { key_id: self.key_id.clone(), count: self.count }
    }

    pub fn print(&self, store: &Path, key_arn: &str) -> Result<(), Failure> {
        if self.count {
            println!("{}", count(store, key_arn)?);
            return Ok(());
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let mut written = Ok(());
        each(store, key_arn, &mut |object| {
            let line = json!({
                "Bucket": object.bucket,
                "Key": object.key.map(|key| String::from_utf8_lossy(&key).into_owned()),
                "ServerSideEncryption": object.algorithm.as_str(),
                "BucketKeyEnabled": object.bucket_key,
            });
            if written.is_ok() {
                written = writeln!(out, "{line}");
            }
        })?;
        written.and_then(|()| out.flush()).map_err(|error| Failure::new(format!("standard output: {error}")))
    }
}

/// How many objects need the key.
pub fn count(store: &Path, key_arn: &str) -> Result<u64, Failure> {
    let mut count = 0;
    each(store, key_arn, &mut |_| count += 1)?;
    Ok(count)
}

/// Reads the store's files beside whoever has it mounted: a record is one whole, with a checksum, and what is only in
/// the log is asked to be written home first.
fn each(store: &Path, key_arn: &str, visit: &mut dyn FnMut(store::Protected)) -> Result<(), Failure> {
    for mount in mounts::of_store(store).unwrap_or_default() {
        if let Err(error) = attributes::sync(&mount) {
            let what =
                "objects of the last half minute may be missing, since the mount was not asked to write them home";
            eprintln!("kmsfs: {what}: {}", escape(&error.to_string()));
        }
    }
    let backend = assembly::open_backend(store)?;
    store::protected_by(&*backend, key_arn, visit).map_err(|error| assembly::explain(store, &error))
}
