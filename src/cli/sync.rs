//! `kmsfs sync`: writes what programs have written to the store's files and the disk, and empties the redo log.

use super::exit::{Failure, describe};
use super::mounted;
use super::text::shown;
use clap::Args;
use kmsfs_client::attributes;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write everything home now, as before a snapshot or a backup of the store
///
/// Writes back what programs have written, commits it, writes the redo log home and makes all of it
/// durable. When it has ended, a copy of the store's directory holds everything that was written before
/// it began. Root or whoever mounted may do it.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = "Examples:\n  kmsfs sync /mnt")]
pub struct SyncArgs {
    /// A mount point, or a store that is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mount: PathBuf,
}

pub fn run(args: &SyncArgs) -> Result<ExitCode, Failure> {
    sync(&args.mount)?;
    Ok(ExitCode::SUCCESS)
}

pub fn sync(mount: &Path) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::new(format!("{}: {}", shown(mount), describe(error)));
    let target = mounted::find_alive(mount)?;
    // First what the kernel has not handed over yet.
    File::open(&target)
        .and_then(|root| Ok(rustix::fs::syncfs(root)?))
        .and_then(|()| attributes::sync(&target))
        .map_err(|error| failed(&error))
}
