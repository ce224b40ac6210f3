//! The audit trail of any KMS: who used which key for what, each use a line of JSON in CloudTrail's shape.
//! docs/FORMAT.md has the chain that ties the lines together.

mod chain;
mod decorator;
mod file;
mod record;
mod syslog;
mod verify;

pub use decorator::Audited;
use record::Event;
pub use syslog::{ConnectSyslog, connect_syslog};
pub use verify::{Finding, Verification, Writer};

use crate::elsewhere::Outage;
use crate::{Code, Error, Principal};
use chain::Loss;
use file::FileSink;
use kmsfs_crypto::ChainKey;
use kmsfs_locks::{Mutex, ranks};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use syslog::SyslogSink;

/// What records say beside a call and its result, and only the KMS knows that keeps the keys.
pub trait RecordSource: Send + Sync {
    /// Account and region.
    fn place(&self) -> (String, String);

    /// Who that is.
    fn identity(&self, who: &Principal) -> Identity;

    /// The ARN of the key that is named, if there is one.
    fn arn_of(&self, key_id: &str) -> Option<String>;

    /// The key material that a ciphertext blob of that key names, hexadecimal.
    fn material_of(&self, key_id: &str, ciphertext_blob: &[u8]) -> Option<String>;

    /// The name of the KMS that keeps the key, where that is another one. The default is for a KMS that is one.
    fn provider_of(&self, _key_id: &str) -> Option<String> {
        None
    }

    /// What the KMS did by itself since this was asked before.
    fn take_done(&self) -> Vec<Done>;

    /// Outages of KMSs that are elsewhere which have begun or ended since this was asked before.
    fn take_outages(&self) -> Vec<Outage> {
        Vec::new()
    }

    /// Grows whenever keys, or who may use them, have changed, as far as is known without looking.
    fn version_now(&self) -> u64;
}

/// Who asks, in CloudTrail's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the user, or the account's root.
    pub arn: String,
    /// As the user database has it, or `uid:` and the number.
    pub user_name: String,
}

/// AWS's name of something that KMS did by itself, and the ARN of the key.
pub type Done = (&'static str, String);

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Appended to, and made anew with mode 0600 when it has been moved away.
    File(PathBuf),
    /// /dev/log, as security messages.
    Syslog,
}

/// What happens to the use of a key that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on; the log says how many records are missing once it can be written again.
    Drop,
}

/// An audit trail that is being written.
pub struct AuditLog {
    key: ChainKey,
    when_full: WhenFull,
    state: Mutex<ranks::AuditTrail, State>,
    /// Known without `state`, which others have while they wait.
    may_wait: bool,
}

struct State {
    sink: Sink,
    /// Records that were dropped since the last one that was written.
    dropped: u64,
}

enum Sink {
    File(FileSink),
    Syslog(SyslogSink),
}

impl Sink {
    fn append(&mut self, key: &ChainKey, body: &str, loss: Loss) -> io::Result<()> {
        match self {
            Self::File(sink) => sink.append(key, body, loss),
            Self::Syslog(sink) => sink.append(key, body, loss),
        }
    }

    fn reserve(&mut self) -> io::Result<()> {
        match self {
            Self::File(sink) => sink.reserve(),
            Self::Syslog(sink) => sink.connect(),
        }
    }
}

impl AuditLog {
    /// Refuses a destination that cannot be written now, whatever `when_full` says: it is a mistake rather than a full
    /// disk.
    pub fn open(
        key: ChainKey,
        destination: &Destination,
        when_full: WhenFull,
        connect: &ConnectSyslog,
    ) -> io::Result<Self> {
        let mut sink = match destination {
            Destination::File(path) => Sink::File(FileSink::new(path.clone())),
            Destination::Syslog => Sink::Syslog(SyslogSink::new(Arc::clone(connect))),
        };
        match sink.reserve() {
            Err(error) if !is_full(&error) || when_full == WhenFull::Refuse => return Err(error),
            _ => {}
        }
        let may_wait = matches!(sink, Sink::Syslog(_));
        Ok(Self { key, when_full, state: Mutex::new(State { sink, dropped: 0 }), may_wait })
    }

    /// Refuses what could not be recorded afterwards: to be called before something is changed.
    pub fn reserve(&self) -> Result<(), Error> {
        if self.when_full == WhenFull::Drop {
            return Ok(());
        }
        self.state.lock().sink.reserve().map_err(|error| refusal(&error))
    }

    /// Records what happened. Refused if it cannot be recorded, unless records may be dropped.
    pub fn record(&self, event: &Event<'_>) -> Result<(), Error> {
        let body = event.to_json();
        let mut state = self.state.lock();
        let loss = Loss { dropped: state.dropped, ..Loss::default() };
        match (state.sink.append(&self.key, &body, loss), self.when_full) {
            (Ok(()), _) => {
                if state.dropped > 0 {
                    log::warn!("the audit log can be written again; {} records were dropped", state.dropped);
                    state.dropped = 0;
                }
                Ok(())
            }
            (Err(error), WhenFull::Refuse) => Err(refusal(&error)),
            (Err(error), WhenFull::Drop) => {
                if state.dropped == 0 {
                    log::error!("the audit log cannot be written, and records are dropped until it can: {error}");
                }
                state.dropped += 1;
                Ok(())
            }
        }
    }

    /// Whether recording waits for another process: the daemon behind /dev/log takes records at its own pace. A file is
    /// appended to, under a lock that others hold for as long as that takes.
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Makes durable what was recorded.
    pub fn sync(&self) {
        if let Sink::File(sink) = &mut self.state.lock().sink
            && let Err(error) = sink.sync()
        {
            log::error!("the audit log cannot be synced: {error}");
        }
    }
}

/// Checks the files of a log, the oldest first, that were written with this keyring.
pub fn verify_log(key: &ChainKey, files: &[PathBuf], writer: Writer) -> io::Result<Verification> {
    verify::verify(key, files, writer)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn refusal(error: &io::Error) -> Error {
    let text = format!("no key is used while the audit log cannot be written: {error}");
    Error::new(Code::KmsInternal, text)
}
