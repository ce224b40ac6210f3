//! Where the use of keys is recorded, as the command line, `-o` and the environment say it.

use super::assembly::Keys;
use super::exit::{Failure, describe};
use super::text::shown;
use clap::{Args, ValueEnum};
use kmsfs_kms::Router;
use kmsfs_kms::audit::{AuditLog, Audited, ConnectSyslog, Destination, RecordSource, WhenFull};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Names the audit log where nothing else does, so that no command is forgotten.
const VARIABLE: &str = "KMSFS_AUDIT_LOG";

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct AuditArgs {
    /// Record each call in this file, or in syslog (the word `syslog`); KMSFS_AUDIT_LOG names it too
    #[arg(long = "audit-log", value_name = "FILE", global = true)]
    log: Option<PathBuf>,
    /// When the audit log cannot be written: refuse the call, or drop its record
    #[arg(long = "audit-full", value_name = "WHAT", value_enum, global = true)]
    full: Option<Full>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Full {
    Refuse,
    Drop,
}

impl AuditArgs {
    /// The value of `-o audit_log=`.
    pub fn set_log(&mut self, path: PathBuf) {
        self.log = Some(path);
    }

    /// The value of `-o audit_full=`.
    pub fn set_full(&mut self, word: &str) -> Result<(), String> {
        self.full = Some(Full::from_str(word, false).map_err(|_| "must be refuse or drop".to_owned())?);
        Ok(())
    }

    /// As words of `-o`.
    pub fn options(&self) -> Vec<OsString> {
        let option = |name: &str, value: &OsStr| {
            let mut word = OsString::from(name);
            for c in value.to_string_lossy().chars() {
                // Each of them means something there.
                word.push(if matches!(c, ',' | '\\' | '"') { format!("\\{c}") } else { c.to_string() });
            }
            word
        };
        let log = self.log.as_ref().map(|log| option("audit_log=", log.as_os_str()));
        let full =
            self.full.map(|full| option("audit_full=", if full == Full::Refuse { "refuse" } else { "drop" }.as_ref()));
        log.into_iter().chain(full).flat_map(|word| ["-o".into(), word]).collect()
    }

    pub fn or_environment(mut self) -> Self {
        if self.log.is_none() {
            self.log = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        }
        self
    }

    /// For a process that changes its directory.
    pub fn make_absolute(&mut self) -> Result<(), Failure> {
        if let Some(Destination::File(path)) = self.destination() {
            self.log = Some(std::path::absolute(path).map_err(|e| Failure::new(describe(&e)))?);
        }
        Ok(())
    }

    /// The file that is written.
    pub fn file(&self) -> Option<PathBuf> {
        match self.destination()? {
            Destination::File(path) => Some(path),
            Destination::Syslog => None,
        }
    }

    /// Begins recording, if there is anything to record to.
    pub fn start(&self, keys: &Keys, connect: &ConnectSyslog) -> Result<Option<Audited<Router>>, Failure> {
        let Some(destination) = self.destination() else { return Ok(None) };
        let when_full = match self.full {
            None | Some(Full::Refuse) => WhenFull::Refuse,
            Some(Full::Drop) => WhenFull::Drop,
        };
        let opened = keys.local.audit_key().map_err(|error| io::Error::other(error.message));
        let opened = opened.and_then(|key| AuditLog::open(key, &destination, when_full, connect));
        let log = opened.map_err(|error| match &destination {
            Destination::File(path) => Failure::new(format!("audit log {}: {}", shown(path), describe(&error))),
            Destination::Syslog => Failure::new(format!("audit log: {}", describe(&error))),
        })?;
        let source = Arc::clone(&keys.kms) as Arc<dyn RecordSource>;
        Ok(Some(Audited::new(Arc::clone(&keys.kms), source, log)))
    }

    fn destination(&self) -> Option<Destination> {
        let path = self.log.clone()?;
        Some(if path.as_os_str() == "syslog" { Destination::Syslog } else { Destination::File(path) })
    }
}
