//! `kmsfs reencrypt`: brings objects in a mount under another KMS key, encryption or data key.

use super::exit::{Exit, Failure, describe};
use super::interruption::interruption;
use super::mounted;
use super::text::{count, escape, pretty, shown};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kmsfs_client::attributes;
use kmsfs_crypto::random;
use kmsfs_fs::bulk::{How, Order, Outcome};
use kmsfs_sse::{Algorithm, Request};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bring objects under another KMS key, or encrypt them again, while they are used
///
/// Where the data key can stay, it is wrapped under the other key: content, ETag and modification time
/// stay too. A change to AES256, to or from aws:kms:dsse, and --new-data-key encrypt the content again.
/// Without --server-side-encryption and --ssekms-key-id each object keeps the algorithm and key it has,
/// and is wrapped under the key's present material. Objects that are under the target already are passed
/// over, so a command that was interrupted is simply given again.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
// Each is a switch of its own.
#[allow(clippy::struct_excessive_bools)]
pub struct ReencryptArgs {
    /// Everything below directories too
    #[arg(long, short)]
    recursive: bool,
    /// Refuse what would encrypt content again
    #[arg(long, conflicts_with = "new_data_key")]
    rewrap_only: bool,
    /// Encrypt content again under a new data key, also where wrapping would do
    #[arg(long)]
    new_data_key: bool,
    /// AES256, aws:kms or aws:kms:dsse
    #[arg(long, value_name = "ALG", value_parser = algorithm)]
    server_side_encryption: Option<Algorithm>,
    /// KMS key: id, ARN or alias; implies aws:kms
    #[arg(long, value_name = "ID")]
    ssekms_key_id: Option<String>,
    /// Through a bucket key
    #[arg(long)]
    bucket_key_enabled: bool,
    /// Only objects under this key: its ARN
    #[arg(long, value_name = "ARN")]
    from_key: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// When all is done, wait until the old wrapped keys have left the store's files
    #[arg(long)]
    wait: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Objects and directories in a mount
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs reencrypt --recursive --ssekms-key-id alias/invoices /mnt/my-bucket
  kmsfs reencrypt --recursive --dry-run --from-key ARN --ssekms-key-id alias/invoices /mnt
  kmsfs reencrypt --new-data-key /mnt/my-bucket/bond.json

Exit codes: 0 done, 1 some objects could not be changed, 130 interrupted.";

const INTERRUPTED: u8 = 130;
const ORDER: &str = "user.x-kmsfs-reencrypt";
/// Failures that the summary names; all are counted, and printed as they come.
const NAMED: usize = 1000;

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::parse(text).ok_or_else(|| "expected AES256, aws:kms or aws:kms:dsse".to_owned())
}

pub fn run(args: &ReencryptArgs) -> Result<ExitCode, Failure> {
    let mut roots = Vec::new();
    for path in &args.paths {
        let (real, mount) = mounted::holding(path)?;
        if real.is_dir() && !args.recursive {
            return Err(Failure::usage(format!("{} is a directory: say --recursive for what is in it", shown(path))));
        }
        roots.push((real, mount.target));
    }
    let mut work = Work {
        order: order(args)?,
        total: Outcome::default(),
        failures: 0,
        named: Vec::new(),
        interrupted: interruption(),
        bar: progress(),
        json: args.json,
    };
    let mut done = Ok(());
    for (root, _) in &roots {
        // Another mount may have another KMS, in which an alias is another key's.
        work.order.key_arn = None;
        done = if root.is_dir() { work.tree(root) } else { work.file(root) };
        if done.is_err() {
            break;
        }
    }
    if done.is_ok() && args.wait {
        for (_, mount) in &roots {
            attributes::sync(mount).map_err(|e| failed(mount, &e))?;
        }
    }
    work.bar.finish_and_clear();
    let interrupted = matches!(done, Err(Stop::Interrupted));
    work.print(args.dry_run, interrupted);
    match done {
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Interrupted) => Ok(ExitCode::from(INTERRUPTED)),
        Ok(()) if work.failures > 0 => Ok(Exit::Failure.into()),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn order(args: &ReencryptArgs) -> Result<Order, Failure> {
    let algorithm = args.server_side_encryption.or(args.ssekms_key_id.as_ref().map(|_| Algorithm::AwsKms));
    if algorithm == Some(Algorithm::Aes256) && (args.ssekms_key_id.is_some() || args.bucket_key_enabled) {
        return Err(Failure::usage("AES256 has no KMS key and no bucket key"));
    }
    if algorithm.is_none() && args.bucket_key_enabled {
        return Err(Failure::usage("--bucket-key-enabled wants --server-side-encryption aws:kms or --ssekms-key-id"));
    }
    let target = algorithm.map(|algorithm| Request {
        algorithm: Some(algorithm),
        key_id: args.ssekms_key_id.clone(),
        context: None,
        bucket_key: args.bucket_key_enabled.then_some(true),
    });
    let how = match (args.rewrap_only, args.new_data_key) {
        (true, _) => How::RewrapOnly,
        (_, true) => How::NewDataKey,
        _ => How::AsNeeded,
    };
    let (from_key, dry_run) = (args.from_key.clone(), args.dry_run);
    Ok(Order { token: u64::from_le_bytes(random::bytes()), how, target, key_arn: None, from_key, dry_run, from: 0 })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {}", shown(path), describe(error)))
}

/// Draws nothing unless standard error is a terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} objects, {per_sec}, {msg}") {
        bar.set_style(style);
    }
    bar
}

enum Stop {
    Interrupted,
    Failed(Failure),
}

struct Work {
    order: Order,
    total: Outcome,
    failures: u64,
    named: Vec<(String, String)>,
    interrupted: Arc<AtomicBool>,
    bar: ProgressBar,
    json: bool,
}

impl Work {
    fn tree(&mut self, dir: &Path) -> Result<(), Stop> {
        match self.give(dir, None) {
            // Who may not write the directory may still write objects in it.
            Err(Given::Os(error)) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
                self.one_by_one(dir)?;
            }
            given => self.unless(dir, given)?,
        }
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.failure(dir, &describe(&error));
                return Ok(());
            }
        };
        let mut below: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        below.sort_unstable();
        below.iter().try_for_each(|dir| self.tree(dir))
    }

    fn one_by_one(&mut self, dir: &Path) -> Result<(), Stop> {
        // `tree` says so, if it cannot be read.
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                self.file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Stop> {
        let given = self.give(path, Some(path));
        self.unless(path, given)
    }

    fn unless(&mut self, path: &Path, given: Result<(), Given>) -> Result<(), Stop> {
        match given {
            Ok(()) => Ok(()),
            Err(Given::Stop(stop)) => Err(stop),
            Err(Given::Os(error)) => {
                self.failure(path, &describe(&error));
                Ok(())
            }
        }
    }

    /// Gives the order to an inode until it is done. `itself` is its path, if it is an object.
    fn give(&mut self, path: &Path, itself: Option<&Path>) -> Result<(), Given> {
        let mut next = Some(0);
        while let Some(from) = next {
            if self.interrupted.load(Ordering::Acquire) {
                return Err(Given::Stop(Stop::Interrupted));
            }
            let order = Order { from, ..self.order.clone() };
            let text = serde_json::to_vec(&order).expect("numbers and strings can be serialized");
            attributes::set(path, ORDER, &text).map_err(Given::Os)?;
            let outcome = attributes::get(path, &format!("{ORDER}.{:016x}", order.token)).map_err(Given::Os)?;
            let outcome = outcome.and_then(|text| serde_json::from_str::<Outcome>(&text).ok());
            let outcome = outcome.ok_or_else(|| Given::Os(io::Error::other("the mount did not say what it did")))?;
            if let Some(why) = outcome.refused {
                return Err(Given::Stop(Stop::Failed(Failure::new(escape(&why)))));
            }
            next = outcome.next;
            self.order.key_arn = self.order.key_arn.take().or(outcome.key_arn);
            self.total.seen += outcome.seen;
            self.total.rewrapped += outcome.rewrapped;
            self.total.reencrypted += outcome.reencrypted;
            self.total.skipped += outcome.skipped;
            let below = |name: &str| match itself {
                Some(path) => path.to_owned(),
                None => path.join(OsString::from_vec(hex::decode(name).unwrap_or_default())),
            };
            self.total.seen -= outcome.failed.len() as u64;
            for (name, why) in &outcome.failed {
                self.failure(&below(name), why);
            }
            for name in &outcome.by_itself {
                self.file(&below(name)).map_err(Given::Stop)?;
            }
            self.bar.set_position(self.total.seen);
            self.bar.set_message(shown(path));
        }
        Ok(())
    }

    fn failure(&mut self, path: &Path, why: &str) {
        self.total.seen += 1;
        self.failures += 1;
        let (path, why) = (shown(path), escape(why));
        self.bar.suspend(|| eprintln!("kmsfs: {path}: {why}"));
        if self.named.len() < NAMED {
            self.named.push((path, why));
        }
    }

    fn print(&self, dry_run: bool, interrupted: bool) {
        let Outcome { seen, rewrapped, reencrypted, skipped, .. } = self.total;
        if self.json {
            let failures: Vec<Value> =
                self.named.iter().map(|(path, why)| json!({"Path": path, "Reason": why})).collect();
            let summary = json!({"ObjectsSeen": seen, "Rewrapped": rewrapped, "Reencrypted": reencrypted,
                "Skipped": skipped, "Failed": self.failures, "DryRun": dry_run, "Interrupted": interrupted,
                "Failures": failures});
            print!("{}", pretty(&summary));
            return;
        }
        let would = if dry_run { "would be " } else { "" };
        let end = if interrupted { "; interrupted: the same command goes on" } else { "" };
        println!(
            "{}: {rewrapped} {would}re-wrapped, {reencrypted} {would}re-encrypted, {skipped} skipped, {} failed{end}",
            count(seen, "object", "objects"),
            self.failures
        );
    }
}

enum Given {
    Stop(Stop),
    Os(io::Error),
}
