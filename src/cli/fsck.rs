//! `kmsfs fsck`: checks a store that is not mounted, and mends it. Exit codes are e2fsck's.

use super::audit::AuditArgs;
use super::exit::{Exit, Failure};
use super::interruption::interruption;
use super::options::Options;
use super::state::StateArgs;
use super::store_args::{self, StoreArgs};
use super::text::{count, escape, pretty};
use super::{assembly, harden, inherited};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kmsfs_kms::Caller;
use kmsfs_store::check::{self, CheckOptions, Finding, Progress, Report, Severity};
use kmsfs_store::{self as store, Store, StoreOptions, Volume};
use kmsfs_witness::{ADVICE, Rollback, Watch};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Check a store, and mend it
///
/// The store must not be mounted, or only read-only. Checked are the redo log, every name, object and
/// sidecar, lengths and seals; with --scrub every chunk is read and authenticated. Nothing is changed
/// unless --repair is given, which writes the redo log home, collects the space of sidecars without an
/// object, writes a damaged object anew with all of it that can be read, and moves what it cannot
/// explain, or cannot read at all, to lost+found/ in the store. It deletes nothing.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}", store_args::HELP))]
pub struct FsckArgs {
    #[command(flatten)]
    chosen: StoreArgs,
    #[command(flatten)]
    state: StateArgs,
    /// Read and authenticate every chunk
    #[arg(long)]
    scrub: bool,
    /// Mend what can be mended
    #[arg(long)]
    repair: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    /// The store, a directory that `kmsfs init` made; KMSFS_STORE names it too
    #[arg(value_name = "STORE")]
    place: Option<PathBuf>,
}

impl FsckArgs {
    /// As a line of /etc/fstab describes the store.
    pub fn of_fstab(store: PathBuf, options: Options, repair: bool) -> Self {
        let Options { unlock, keyring, state, .. } = options;
        let chosen = StoreArgs::default().or(keyring, unlock);
        Self { chosen, state, scrub: false, repair, json: false, place: Some(store) }
    }
}

const EXAMPLES: &str = "\
Examples:
  kmsfs fsck --key-file /root/kmsfs.key /srv/store
  kmsfs fsck --key-file /root/kmsfs.key --scrub --json /srv/store
  kmsfs fsck --key-file /root/kmsfs.key --scrub --repair /srv/store

Exit codes, as e2fsck's:
  0   no errors
  1   errors were mended
  4   errors are left
  8   it failed; standard error says why
  16  wrong usage
  32  interrupted";

const MENDED: u8 = 1;
const ERRORS_LEFT: u8 = 4;
const FAILED: u8 = 8;
pub const USAGE: u8 = 16;
const INTERRUPTED: u8 = 32;

pub fn run(args: &FsckArgs) -> ExitCode {
    harden::forbid_dumps();
    inherited::put_right();
    match fsck(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("kmsfs: {failure}");
            ExitCode::from(if failure.exit == Exit::Usage { USAGE } else { FAILED })
        }
    }
}

fn fsck(args: &FsckArgs) -> Result<u8, Failure> {
    let chosen = args.chosen.clone().choose(args.place.clone())?;
    let path = chosen.find_store()?;
    let keyring = chosen.keyring_of(&path);
    let secret = chosen.unlock.read(&keyring)?;
    let audit = AuditArgs::default().or_environment();
    let open = |options: &StoreOptions| {
        let backend = assembly::open_backend(&path)?;
        let outside = assembly::Outside::default();
        assembly::open_with((&path, backend), &keyring, &secret, options, &args.state, &audit, &outside)
    };
    let watch = Watch { rollback: Rollback::Report, ..Watch::default() };
    let looking = StoreOptions { read_only: true, watch, ..StoreOptions::default() };
    let mut store = open(&if args.repair { StoreOptions::default() } else { looking })?;
    let damage = log_finding(&store);
    let mut kept = None;
    if let (Some(_), true) = (&damage, args.repair) {
        // Read-only as it is, closing it writes nothing.
        let _ = store.close();
        let backend = assembly::open_backend(&path)?;
        kept = Some(check::keep_log(backend.as_ref()).map_err(|error| assembly::explain(&path, &error))?);
        store = open(&StoreOptions { cut_damaged_log: true, ..StoreOptions::default() })?;
    }
    let options = CheckOptions { scrub: args.scrub, repair: args.repair };
    let checked = check_with_progress(&store, options);
    let closed = store.close();
    let mut report = match checked {
        Err(store::Error::Errno(libc::EINTR)) => {
            eprintln!("kmsfs: interrupted");
            return Ok(INTERRUPTED);
        }
        report => report.map_err(|error| assembly::explain(&path, &error))?,
    };
    closed.map_err(|error| assembly::explain(&path, &error))?;
    if let Some(mut finding) = damage {
        finding.repaired = kept.map(|kept| format!("what comes before is written home; all of it is {kept}"));
        report.findings.insert(0, finding);
    }
    report.findings.splice(0..0, rollback_findings(&store));
    print(&report, args);
    Ok(match (report.errors_left(), report.repaired()) {
        (0, 0) => 0,
        (0, _) => MENDED,
        _ => ERRORS_LEFT,
    })
}

/// What mounting would refuse.
fn rollback_findings(store: &Store) -> impl Iterator<Item = Finding> {
    let of_keyring = store.keys().service().rolled_back().map(|what| ("keyring", what));
    let of_store = store.rolled_back().map(|what| ("store", what.to_owned()));
    of_keyring.into_iter().chain(of_store).map(|(place, what)| Finding {
        severity: Severity::Error,
        place: place.into(),
        what: format!("{what}; {ADVICE}"),
        repaired: None,
    })
}

fn log_finding(store: &Store) -> Option<Finding> {
    let what = store.damage()?.to_string();
    Some(Finding { severity: Severity::Error, place: "log/redo".into(), what, repaired: None })
}

fn check_with_progress(store: &Arc<Store>, options: CheckOptions) -> Result<Report, store::Error> {
    let interrupted = interruption();
    // Draws nothing unless standard error is a terminal.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} objects {msg} {eta}") {
        bar.set_style(style);
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let caller = Caller { uid, gid, pid: std::process::id() };
    let report = check::check(store, options, &caller, &mut |Progress { seen, expected, scrubbed }| {
        bar.set_length(expected.max(seen));
        bar.set_position(seen);
        if options.scrub {
            bar.set_message(format!("{} MiB read", scrubbed >> 20));
        }
        !interrupted.load(Ordering::Acquire)
    });
    bar.finish_and_clear();
    report
}

fn print(report: &Report, args: &FsckArgs) {
    if args.json {
        print!("{}", pretty(&as_json(report)));
        return;
    }
    for finding in &report.findings {
        let kind = match finding.severity {
            Severity::Note => "note",
            Severity::Error => "ERROR",
        };
        println!("{kind}: {}: {}", escape(&finding.place), escape(&finding.what));
        if let Some(repaired) = &finding.repaired {
            println!("  mended: {}", escape(repaired));
        }
    }
    let Report { buckets, directories, objects, symlinks, special, records, scrubbed, .. } = report;
    let counts = [
        count(*buckets, "bucket", "buckets"),
        count(*directories, "directory", "directories"),
        count(*objects, "object", "objects"),
        count(*symlinks, "symlink", "symlinks"),
        count(*special, "special file", "special files"),
        count(*records, "sidecar record", "sidecar records"),
    ];
    println!("{}", counts.join(", "));
    if args.scrub {
        println!("{} read and authenticated", count(*scrubbed, "byte", "bytes"));
    }
    let errors = count(report.errors_left() as u64, "error", "errors");
    println!("{errors} left, {} mended", count(report.repaired() as u64, "finding", "findings"));
}

fn as_json(report: &Report) -> serde_json::Value {
    let finding = |finding: &Finding| {
        json!({
            "Severity": match finding.severity { Severity::Note => "note", Severity::Error => "error" },
            "Place": finding.place,
            "Finding": finding.what,
            "Mended": finding.repaired,
        })
    };
    json!({
        "Buckets": report.buckets,
        "Directories": report.directories,
        "Objects": report.objects,
        "Symlinks": report.symlinks,
        "SpecialFiles": report.special,
        "SidecarRecords": report.records,
        "BytesScrubbed": report.scrubbed,
        "ErrorsLeft": report.errors_left(),
        "FindingsMended": report.repaired(),
        "Findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
