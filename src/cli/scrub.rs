//! `kmsfs scrub`: reads a mounted store through, past the kernel's cache, at a bounded speed.

use super::exit::{Exit, Failure, describe};
use super::interruption::interruption;
use super::mounted;
use super::text::{count, escape, pretty, shown};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Read and authenticate everything in a mount, while it is used
///
/// Reads every object below PATH (the mount point, or a directory in the mount) from the store's files,
/// past the kernel's cache, so that damage is found while there still is a backup. Objects that cannot be
/// read with the key's present state, or by whoever runs this, are counted and not called damaged.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct ScrubArgs {
    /// MiB a second at most; 0 is no bound
    #[arg(long, value_name = "MIB", default_value_t = 50)]
    rate: u64,
    /// Remember in this file how far it is, and go on from there; removed at the end
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// A mount point, or a directory in a mount
    path: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs scrub /mnt
  kmsfs scrub --rate 20 --state /var/lib/kmsfs-scrub.json /mnt
  kmsfs scrub --json /mnt/my-bucket

Exit codes: 0 nothing is damaged, 1 something is, or it failed, 130 interrupted.";

const INTERRUPTED: u8 = 130;
const PIECE: usize = 1 << 20;
const CHUNK: usize = 4096;
/// How often the state is written.
const REMEMBER: Duration = Duration::from_secs(5);

/// How far it is, and what was found. Paths are bytes in hexadecimal: they may be any.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    root: String,
    /// The last path that is done, in the order of the walk.
    done: Option<String>,
    objects: u64,
    bytes: u64,
    unreadable: u64,
    damaged: Vec<Damage>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Damage {
    path: String,
    finding: String,
}

pub fn run(args: &ScrubArgs) -> Result<ExitCode, Failure> {
    let (root, _) = mounted::holding(&args.path)?;
    let state = match &args.state {
        Some(file) => State::load(file, &root)?,
        None => State { root: in_hex(&root), ..State::default() },
    };
    let mut scrub = Scrub {
        args,
        skip_to: state.done.as_deref().and_then(|text| hex::decode(text).ok()),
        state,
        seen: HashSet::new(),
        interrupted: interruption(),
        began: Instant::now(),
        read: 0,
        remembered: Instant::now(),
        bar: progress(),
    };
    let walked = scrub.directory(&root);
    scrub.bar.finish_and_clear();
    match walked {
        Ok(()) => scrub.forget()?,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            scrub.remember()?;
            eprintln!("kmsfs: interrupted");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Err(error) => return Err(failed(&args.path, &error)),
    }
    scrub.print();
    Ok(if scrub.state.damaged.is_empty() { ExitCode::SUCCESS } else { Exit::Failure.into() })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {}", shown(path), describe(error)))
}

fn in_hex(path: &Path) -> String {
    hex::encode(path.as_os_str().as_bytes())
}

/// Draws nothing unless standard error is a terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} objects, {msg}") {
        bar.set_style(style);
    }
    bar
}

impl State {
    fn load(file: &Path, root: &Path) -> Result<Self, Failure> {
        let fresh = Self { root: in_hex(root), ..Self::default() };
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(failed(file, &error)),
        };
        let state: Self = serde_json::from_slice(&text)
            .map_err(|why| Failure::new(format!("{} is not a scrub's state ({why}): remove it", shown(file))))?;
        if state.root != fresh.root {
            return Err(Failure::new(format!("{} is the state of a scrub of another path: remove it", shown(file))));
        }
        Ok(state)
    }
}

struct Scrub<'a> {
    args: &'a ScrubArgs,
    state: State,
    /// What comes before it was done by an earlier run.
    skip_to: Option<Vec<u8>>,
    /// Inodes of objects with several names.
    seen: HashSet<u64>,
    interrupted: Arc<AtomicBool>,
    began: Instant,
    /// By this run, for its speed.
    read: u64,
    remembered: Instant,
    bar: ProgressBar,
}

impl Scrub<'_> {
    fn directory(&mut self, dir: &Path) -> io::Result<()> {
        let mut entries: Vec<(OsString, fs::FileType)> = match fs::read_dir(dir) {
            Ok(entries) => entries
                .filter_map(Result::ok)
                .filter_map(|entry| Some((entry.file_name(), entry.file_type().ok()?)))
                .collect(),
            Err(error) => return self.passed_over(&error),
        };
        entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        for (name, kind) in entries {
            let path = dir.join(name);
            if self.was_done(&path, kind.is_dir()) {
                continue;
            }
            if kind.is_dir() {
                self.directory(&path)?;
            } else if kind.is_file() {
                self.object(&path)?;
                self.state.done = Some(in_hex(&path));
            }
            if self.remembered.elapsed() > REMEMBER {
                self.remember().map_err(|failure| io::Error::other(failure.message))?;
            }
        }
        Ok(())
    }

    /// Whether an earlier run is past it: names are taken in the order of their bytes, directory by directory.
    fn was_done(&mut self, path: &Path, is_dir: bool) -> bool {
        let Some(last) = &self.skip_to else { return false };
        let last = PathBuf::from(OsString::from_vec(last.clone()));
        if is_dir && last.starts_with(path) {
            return false;
        }
        if path.components().le(last.components()) {
            return true;
        }
        self.skip_to = None;
        false
    }

    /// Something that whoever runs this may not look at, or that is gone since.
    fn passed_over(&mut self, error: &io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESTALE) => Ok(()),
            Some(libc::EACCES | libc::EPERM | libc::ENOKEY) => {
                self.state.unreadable += 1;
                Ok(())
            }
            _ => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    fn object(&mut self, path: &Path) -> io::Result<()> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.passed_over(&error),
        };
        if metadata.nlink() > 1 && !self.seen.insert(metadata.ino()) {
            return Ok(());
        }
        self.state.objects += 1;
        self.bar.set_position(self.state.objects);
        self.bar.set_message(format!("{} MiB read", self.state.bytes >> 20));
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // O_NOATIME is the owner's and root's only.
        let opened = open(path, flags | OFlags::NOATIME, Mode::empty()).or_else(|_| open(path, flags, Mode::empty()));
        let file = match opened {
            Ok(file) => file,
            Err(Errno::IO) => {
                self.damage(path, "cannot be opened");
                return Ok(());
            }
            Err(errno) => return self.passed_over(&errno.into()),
        };
        let mut lost = Vec::new();
        match self.content(&file, &mut lost) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => self.damage(path, &describe(&error)),
            Err(error) => self.passed_over(&error)?,
            Ok(()) => {}
        }
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            let text = format!("{} of its chunks cannot be read, from byte {first} to {last}", lost.len());
            self.damage(path, &text);
        }
        Ok(())
    }

    fn damage(&mut self, path: &Path, finding: &str) {
        self.state.damaged.push(Damage { path: in_hex(path), finding: finding.to_owned() });
        self.bar.suspend(|| eprintln!("kmsfs: {}: {finding}", shown(path)));
    }

    /// All that is not a hole; `lost` gets the offsets of chunks that cannot be read.
    fn content(&mut self, file: impl AsFd, lost: &mut Vec<u64>) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            at = match seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            match pread(&file, &mut piece, at) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    self.count(read as u64)?;
                    at += read as u64;
                }
                Err(Errno::IO) => {
                    for n in 0..PIECE / CHUNK {
                        let offset = at + (n * CHUNK) as u64;
                        match pread(&file, &mut piece[..CHUNK], offset) {
                            Ok(read) => self.count(read as u64)?,
                            Err(Errno::IO) => lost.push(offset),
                            Err(errno) => return Err(errno.into()),
                        }
                    }
                    at += PIECE as u64;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits as long as the speed wants it.
    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.state.bytes += bytes;
        self.read += bytes;
        if self.interrupted.load(Ordering::Acquire) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.args.rate > 0 {
            let due = Duration::from_micros(self.read.saturating_mul(1_000_000) / (self.args.rate << 20));
            thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
        Ok(())
    }

    /// Replaced as a whole.
    fn remember(&mut self) -> Result<(), Failure> {
        self.remembered = Instant::now();
        let Some(file) = &self.args.state else { return Ok(()) };
        let new = file.with_extension("new");
        // Strings, numbers and lists can be serialized.
        let text = serde_json::to_vec(&self.state).unwrap_or_default();
        fs::write(&new, text).and_then(|()| fs::rename(&new, file)).map_err(|error| failed(file, &error))
    }

    fn forget(&self) -> Result<(), Failure> {
        match self.args.state.as_ref().map(|file| (file, fs::remove_file(file))) {
            Some((file, Err(error))) if error.kind() != io::ErrorKind::NotFound => Err(failed(file, &error)),
            _ => Ok(()),
        }
    }

    fn print(&self) {
        let State { objects, bytes, unreadable, damaged, .. } = &self.state;
        if self.args.json {
            let damage = |damage: &Damage| {
                let path = hex::decode(&damage.path).unwrap_or_default();
                json!({"Path": String::from_utf8_lossy(&path), "Finding": damage.finding})
            };
            let damaged: Vec<_> = damaged.iter().map(damage).collect();
            let answer = json!({"Objects": objects, "Bytes": bytes, "Unreadable": unreadable, "Damaged": damaged});
            print!("{}", pretty(&answer));
            return;
        }
        println!("{}, {} read and authenticated", count(*objects, "object", "objects"), count(*bytes, "byte", "bytes"));
        if *unreadable > 0 {
            println!("{unreadable} could not be read with the present keys and permissions");
        }
        for Damage { path, finding } in damaged {
            let path = hex::decode(path).unwrap_or_default();
            println!("DAMAGED: {}: {finding}", escape(&String::from_utf8_lossy(&path)));
        }
        println!("{} damaged", damaged.len());
    }
}
