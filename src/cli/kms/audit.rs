//! Checking an audit log.

use super::super::exit::Failure;
use super::super::text::escape;
use clap::Args;
use kmsfs_kms::audit::{Writer, verify_log};
use kmsfs_kms_local::LocalKms;
use std::path::PathBuf;

/// Findings that are printed; a log that was rewritten has one for every line.
const MOST: usize = 100;

/// Check that the records of an audit log are what was written, all of it, in that order
///
/// The files of a log that was rotated are given together, the oldest first.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct VerifyAuditLog {
    /// The log's files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// They are files of the system's log: lines of other programs are passed over, and counted
    #[arg(long)]
    syslog: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs kms --store /srv/store verify-audit-log /var/log/kmsfs/audit.log
  kmsfs kms --store /srv/store verify-audit-log audit.log.2 audit.log.1 audit.log
  kmsfs kms --store /srv/store verify-audit-log --syslog /var/log/auth.log

Exit codes: 0 if nothing was changed or added, 1 if something was: standard error says which line of which file.
The last line of standard output has the number and the hash of the last record. Who notes it elsewhere can tell
later whether it is still there.";

impl VerifyAuditLog {
    pub fn run(&self, kms: &LocalKms) -> Result<(), Failure> {
        let writer = if self.syslog { Writer::Syslog } else { Writer::Kmsfs };
        let key = kms.audit_key().map_err(|error| Failure::new(escape(&error.message)))?;
        let found = verify_log(&key, &self.files, writer).map_err(|error| Failure::new(escape(&error.to_string())))?;
        for notice in &found.notices {
            eprintln!("kmsfs: {}", escape(notice));
        }
        for finding in found.findings.iter().take(MOST) {
            let place = format!("{}:{}", finding.file.display(), finding.line);
            eprintln!("kmsfs: {}: {}", escape(&place), finding.what);
        }
        match found.records {
            1 => println!("1 record is authentic"),
            count => println!("{count} records are authentic"),
        }
        match found.others {
            0 => {}
            1 => println!("1 line of other programs was passed over"),
            count => println!("{count} lines of other programs were passed over"),
        }
        if let Some((number, hash)) = &found.last {
            println!("the last is number {number} with the hash {hash}");
        }
        match found.findings.len() {
            0 if found.records == 0 => Err(Failure::new("there is no record of this store in it")),
            0 => Ok(()),
            1 => Err(Failure::new("the audit log was changed in 1 place")),
            count => Err(Failure::new(format!("the audit log was changed in {count} places"))),
        }
    }
}
