//! Where messages go: standard error in the foreground; in the background syslog, a log file, or what is left of the
//! two, never nowhere. Every message is one line, whatever names it contains.

use super::text::escape;
use kmsfs_kms::audit::ConnectSyslog;
use kmsfs_sys::private::{self, Access, Kind, Refusal};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::macros::format_description;

/// RFC 3164 facility "system daemons".
const FACILITY_DAEMON: u8 = 3;

/// Whoever opens a log file, the process itself or another one.
pub type OpenLog = Arc<dyn Fn(&Path) -> io::Result<File> + Send + Sync>;

/// Where a mount's messages go.
pub enum Sink {
    Stderr,
    File {
        path: PathBuf,
        file: File,
        open: OpenLog,
    },
    /// Syslog, and where to write what it does not take.
    Syslog {
        connection: Option<UnixDatagram>,
        connect: ConnectSyslog,
        otherwise: Otherwise,
    },
}

pub enum Otherwise {
    Stderr,
    /// Opened when first needed.
    File(PathBuf, OpenLog),
}

impl Sink {
    pub fn file(path: &Path, open: OpenLog) -> io::Result<Self> {
        Ok(Sink::File { path: path.to_owned(), file: open(path)?, open })
    }

    /// For a mount in the background that was given no log file: syslog; without it standard error, if that is a
    /// terminal or a file; else a log file of its own, since a pipe kept open would leave whoever reads it waiting.
    pub fn background(connect: ConnectSyslog, open: OpenLog) -> Self {
        let connection = connect().ok();
        let mut files = default_log_files().into_iter();
        let file = match connection {
            // Not opened before syslog fails.
            Some(_) => files.next(),
            None if stderr_can_be_kept() => None,
            None => files.find(|path| open(path).is_ok()),
        };
        let otherwise = file.map_or(Otherwise::Stderr, |path| Otherwise::File(path, open));
        Sink::Syslog { connection, connect, otherwise }
    }

    /// Whether standard error has to stay open in the background.
    pub fn keeps_stderr(&self) -> bool {
        matches!(self, Sink::Stderr | Sink::Syslog { otherwise: Otherwise::Stderr, .. })
    }

    /// For standard error: where messages go, if not where one looks first.
    pub fn notice(&self) -> Option<String> {
        match self {
            Sink::Syslog { connection: None, otherwise: Otherwise::File(path, _), .. } => {
                Some(format!("there is no syslog here: messages go to {}", path.display()))
            }
            Sink::Syslog { connection: Some(_), .. } => {
                Some("messages go to syslog: journalctl -t kmsfs, or /var/log/syslog".into())
            }
            _ => None,
        }
    }

    fn write(&mut self, level: Level, target: &str, message: &str) {
        match self {
            Sink::Stderr => to_stderr(level, target, message),
            Sink::File { path, file, open } => {
                // Where it cannot be opened anew, the one that was moved away goes on.
                if REOPEN.swap(false, Ordering::AcqRel)
                    && let Ok(named_so) = open(path)
                {
                    *file = named_so;
                }
                if file.write_all(line(SystemTime::now(), level, target, message).as_bytes()).is_err() {
                    to_stderr(level, target, message);
                }
            }
            Sink::Syslog { connection, connect, otherwise } => {
                if send(connection, connect, &datagram(level, message)).is_err() {
                    otherwise.write(level, target, message);
                }
            }
        }
    }
}

impl Otherwise {
    fn write(&self, level: Level, target: &str, message: &str) {
        if let Otherwise::File(path, open) = self {
            let text = line(SystemTime::now(), level, target, message);
            if open(path).and_then(|mut file| file.write_all(text.as_bytes())).is_ok() {
                return;
            }
        }
        to_stderr(level, target, message);
    }
}

static REOPEN: AtomicBool = AtomicBool::new(false);

/// The next message goes to the log file of that name, in case it was moved away.
pub fn reopen() {
    REOPEN.store(true, Ordering::Release);
}

static BY_RINGS: AtomicBool = AtomicBool::new(false);

/// Requests come by io_uring from now on.
pub fn carried_by_rings() {
    BY_RINGS.store(true, Ordering::Relaxed);
}

/// Makes `sink` the destination of the `log` macros. The level is `-o log_level=`, else `RUST_LOG`, else `info`.
pub fn start(sink: Sink, level: Option<LevelFilter>) {
    let mut builder = env_logger::Builder::new();
    match (level, std::env::var("RUST_LOG")) {
        (Some(level), _) => builder.filter_level(level),
        (None, Ok(filters)) => builder.parse_filters(&filters),
        (None, Err(_)) => builder.filter_level(LevelFilter::Info),
    };
    let filter = builder.build();
    let max_level = filter.filter();
    if log::set_boxed_logger(Box::new(Logger { filter, sink: Mutex::new(sink) })).is_ok() {
        log::set_max_level(max_level);
    }
}

/// Only the filter is env_logger's: what it would print could contain line breaks.
struct Logger {
    filter: env_logger::Logger,
    sink: Mutex<Sink>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        may_be_shown(metadata, BY_RINGS.load(Ordering::Relaxed)) && self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if may_be_shown(record.metadata(), BY_RINGS.load(Ordering::Relaxed)) && self.filter.matches(record) {
            let message = escape(&record.args().to_string());
            self.sink.lock().write(record.level(), record.target(), &message);
        }
    }

    fn flush(&self) {}
}

/// Whoever asks for more messages, `RUST_LOG` too, gets kmsfs's own, which never hold content, targets, attribute
/// values or what a request holds of a secret. Of other crates it is errors alone: fuser's messages show requests
/// whole, and it warns of every mount that somebody else has ended, which is how mounts end.
///
/// `by_rings`: requests come by io_uring. What fuser answers to over /dev/fuse is then interrupts alone, at each signal
/// that a waiting program gets, and the kernel does not know there which request that is about: nothing is wrong.
fn may_be_shown(metadata: &Metadata<'_>, by_rings: bool) -> bool {
    if by_rings && metadata.target() == "fuser::reply" {
        return false;
    }
    let root = metadata.target().split("::").next();
    root.is_some_and(|root| root == "kmsfs" || root.starts_with("kmsfs_")) || metadata.level() == Level::Error
}

/// env_logger's form.
fn line(when: SystemTime, level: Level, target: &str, message: &str) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let when = OffsetDateTime::from(when).format(format).unwrap_or_default();
    format!("[{when} {level:<5} {target}] {message}\n")
}

/// RFC 3164 as it is spoken on /dev/log: without host name, and without a time, which the daemon takes itself.
fn datagram(level: Level, message: &str) -> String {
    let severity: u8 = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{}>kmsfs[{}]: {message}", FACILITY_DAEMON * 8 + severity, std::process::id())
}

/// Reconnects once: a syslog daemon that was restarted has a new socket.
fn send(connection: &mut Option<UnixDatagram>, connect: &ConnectSyslog, text: &str) -> io::Result<()> {
    if connection.as_ref().is_some_and(|socket| socket.send(text.as_bytes()).is_ok()) {
        return Ok(());
    }
    *connection = None;
    let socket = connect()?;
    socket.send(text.as_bytes())?;
    *connection = Some(socket);
    Ok(())
}

pub fn open_log_file(path: &Path) -> io::Result<File> {
    private::open(path, Kind::Log, Access::Append).map_err(|refusal| match refusal {
        Refusal::Io(error) => error,
        Refusal::Rule(_) => io::Error::new(io::ErrorKind::PermissionDenied, refusal.to_string()),
    })
}

/// Nothing more can be done where standard error fails too.
fn to_stderr(level: Level, target: &str, message: &str) {
    let _ = io::stderr().write_all(line(SystemTime::now(), level, target, message).as_bytes());
}

fn stderr_can_be_kept() -> bool {
    let stderr = io::stderr();
    let is_file = || {
        let kind = rustix::fs::fstat(&stderr).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        kind == Ok(rustix::fs::FileType::RegularFile)
    };
    stderr.is_terminal() || is_file()
}

/// Of root /var/log/kmsfs.log; of anybody else a file in XDG's state directory or the home directory, whichever works.
pub fn default_log_files() -> Vec<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return vec![PathBuf::from("/var/log/kmsfs.log")];
    }
    let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME").map(|state| state.join("kmsfs.log"));
    let home = directory("HOME");
    let default_state = home.as_ref().map(|home| home.join(".local/state/kmsfs.log"));
    state.or(default_state).into_iter().chain(home.map(|home| home.join(".kmsfs.log"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_hostile_name_stays_on_one_line_of_the_log_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let logger = Logger {
            filter: env_logger::Builder::new().filter_level(LevelFilter::Info).build(),
            sink: Mutex::new(Sink::file(&path, Arc::new(open_log_file)).unwrap()),
        };
        let record = |level, text: &str| {
            logger.log(&Record::builder().level(level).target("kmsfs::fs").args(format_args!("{text}")).build());
        };
        record(Level::Warn, "bucket/a\n[2026-01-01T00:00:00.000Z ERROR kmsfs] forged\x1b[2J: refused");
        record(Level::Debug, "below the level");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.contains(r"WARN  kmsfs::fs] bucket/a\n[2026-01-01T00:00:00.000Z ERROR kmsfs] forged\x1b[2J: "));
    }

    #[test]
    fn that_fuser_cannot_answer_an_interrupt_is_not_shown_where_requests_come_by_io_uring() {
        let metadata = |target| Metadata::builder().level(Level::Error).target(target).build();
        assert!(may_be_shown(&metadata("fuser::reply"), false) && !may_be_shown(&metadata("fuser::reply"), true));
        assert!(may_be_shown(&metadata("fuser::session"), true) && may_be_shown(&metadata("kmsfs_fuse"), true));
    }

    #[test]
    fn of_other_crates_nothing_but_errors_is_shown_whatever_is_asked_for() {
        let filters = ["trace", "fuser=trace", "fuser::request=debug,kmsfs=trace,ring=trace"];
        for filter in filters {
            let filter = env_logger::Builder::new().parse_filters(filter).build();
            let logger = Logger { filter, sink: Mutex::new(Sink::Stderr) };
            let shown = |target: &str, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
            for target in ["fuser", "fuser::request", "kmsfsx", "ring", "", "landlock::kmsfs"] {
                for level in [Level::Trace, Level::Debug, Level::Info, Level::Warn] {
                    assert!(!shown(target, level), "{target} {level}");
                }
            }
        }
        let filter = env_logger::Builder::new().parse_filters("trace").build();
        let logger = Logger { filter, sink: Mutex::new(Sink::Stderr) };
        let shown = |target: &str, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(
            shown("fuser::request", Level::Error)
                && shown("kmsfs::store", Level::Trace)
                && shown("kmsfs", Level::Trace)
        );
    }

    #[test]
    fn log_files_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Sink::file(&path, Arc::new(open_log_file)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn lines_have_the_form_of_env_logger_and_datagrams_that_of_rfc_3164() {
        let when = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        assert_eq!(line(when, Level::Info, "kmsfs", "up"), "[2023-11-14T22:13:20.250Z INFO  kmsfs] up\n");
        let pid = std::process::id();
        assert_eq!(datagram(Level::Error, "x"), format!("<27>kmsfs[{pid}]: x"));
        assert_eq!(datagram(Level::Debug, "x"), format!("<31>kmsfs[{pid}]: x"));
    }

    #[test]
    fn it_is_said_where_messages_go_unless_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open: OpenLog = Arc::new(open_log_file);
        let connect: ConnectSyslog = Arc::new(UnixDatagram::unbound);
        let otherwise = |path: &Path| Otherwise::File(path.to_owned(), Arc::clone(&open));
        let of = |connection| Sink::Syslog { connection, connect: Arc::clone(&connect), otherwise: otherwise(&path) };
        let expected = Some("messages go to syslog: journalctl -t kmsfs, or /var/log/syslog".to_owned());
        assert_eq!(of(Some(UnixDatagram::unbound().unwrap())).notice(), expected);
        let expected = Some(format!("there is no syslog here: messages go to {}", path.display()));
        assert_eq!(of(None).notice(), expected);
        assert_eq!(Sink::file(&path, open).unwrap().notice(), None);
    }

    #[test]
    fn what_syslog_does_not_take_goes_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Otherwise::File(path.clone(), Arc::new(open_log_file)).write(Level::Error, "kmsfs", "kept");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("ERROR kmsfs] kept\n"));
    }
}
