//! `kmsfs sync`: writes what programs have written to the store's files and the disk, and empties the redo log.

use super::exit::{Failure, describe};
use super::text::shown;
use clap::Args;
use kmsfs_client::{attributes, mounts};
use std::fs::{self, File};
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
    mountpoint: PathBuf,
}

pub fn run(args: &SyncArgs) -> Result<ExitCode, Failure> {
    sync(&args.mountpoint)?;
    Ok(ExitCode::SUCCESS)
}

pub fn sync(mountpoint: &Path) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::new(format!("{}: {}", shown(mountpoint), describe(error)));
    let target = fs::canonicalize(mountpoint).map_err(|error| failed(&error))?;
    if mounts::at(&target).map_err(|error| failed(&error))?.is_none() {
        return Err(Failure::new(format!("{} is not a mount of a kmsfs store", shown(mountpoint))));
    }
    // First what the kernel has not handed over yet.
    File::open(&target)
        .and_then(|root| Ok(rustix::fs::syncfs(root)?))
        .and_then(|()| attributes::sync(&target))
        .map_err(|error| failed(&error))
}
