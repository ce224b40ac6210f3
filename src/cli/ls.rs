//! `kmsfs ls`: names in a mount with their encryption and key.

use super::exit::{Exit, Failure, describe};
use super::mounted;
use super::stat::{encryption_members, last_modified};
use super::text::{escape, shown};
use clap::Args;
use kmsfs_client::Stored;
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List names in a mount with their encryption and key
///
/// A line for each object: its size, when it was modified, its encryption, its KMS key (the end of its ARN) and its
/// name. Directories end in a slash. The lines are sorted by name in each directory.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct LsArgs {
    /// Everything below directories too
    #[arg(long, short)]
    recursive: bool,
    /// A line of JSON for each object, as `kmsfs stat` prints it, with its Path
    #[arg(long)]
    json: bool,
    /// Objects and directories in a mount
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs ls /mnt/my-bucket
  kmsfs ls --recursive --json /mnt | jq -r 'select(.ServerSideEncryption == \"AES256\").Path'";

/// A failure is reported on standard error, and the other names follow.
pub fn run(args: &LsArgs) -> Result<ExitCode, Failure> {
    let mut list = List { args, out: io::BufWriter::new(io::stdout().lock()), failed: false };
    for path in &args.paths {
        list.named(path)?;
    }
    list.out.flush().map_err(|e| unwritable(&e))?;
    Ok(if list.failed { Exit::Failure.into() } else { ExitCode::SUCCESS })
}

struct List<'a> {
    args: &'a LsArgs,
    out: io::BufWriter<io::StdoutLock<'a>>,
    failed: bool,
}

impl List<'_> {
    fn named(&mut self, path: &Path) -> Result<(), Failure> {
        mounted::holding(path)?;
        let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(path), describe(e)));
        let metadata = fs::metadata(path).map_err(|e| failed(&e))?;
        if metadata.is_dir() { self.directory(path) } else { self.entry(path, &metadata, path.as_os_str()) }
    }

    fn directory(&mut self, path: &Path) -> Result<(), Failure> {
        let names = fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) => {
                self.fail(path, &error);
                return Ok(());
            }
        };
        names.sort_unstable();
        for name in names {
            let path = path.join(&name);
            match fs::symlink_metadata(&path) {
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fail(&path, &error),
                Ok(metadata) => {
                    let shown_as = if self.args.recursive { path.as_os_str() } else { &name };
                    self.entry(&path, &metadata, shown_as)?;
                    if metadata.is_dir() && self.args.recursive {
                        self.directory(&path)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, metadata: &Metadata, name: &OsStr) -> Result<(), Failure> {
        let stored = match metadata.is_file().then(|| Stored::of(path)) {
            Some(Ok(stored)) => Some(stored),
            Some(Err(error)) => {
                self.fail(path, &error);
                return Ok(());
            }
            None => None,
        };
        let line = if self.args.json {
            let Some(stored) = stored else { return Ok(()) };
            as_json(path, metadata, &stored).to_string()
        } else {
            as_text(metadata, stored.as_ref(), name)
        };
        writeln!(self.out, "{line}").map_err(|e| unwritable(&e))
    }

    fn fail(&mut self, path: &Path, error: &io::Error) {
        self.failed = true;
        // In their order on a terminal.
        let _ = self.out.flush();
        eprintln!("kmsfs: {}: {}", shown(path), describe(error));
    }
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::new(format!("standard output: {}", describe(error)))
}

fn as_json(path: &Path, metadata: &Metadata, stored: &Stored) -> Value {
    let mut line = Map::new();
    line.insert("Path".into(), path.to_string_lossy().into());
    line.insert("LastModified".into(), last_modified(metadata.mtime()).into());
    line.insert("ContentLength".into(), metadata.len().into());
    line.insert("ETag".into(), stored.quoted_etag().into());
    line.extend(encryption_members(stored));
    Value::Object(line)
}

fn as_text(metadata: &Metadata, stored: Option<&Stored>, name: &OsStr) -> String {
    let name = escape(&name.to_string_lossy());
    let kind = metadata.file_type();
    let (encryption, key, end) = match stored {
        Some(stored) => {
            let key = stored.key_arn.as_deref().map_or("-", |arn| arn.rsplit('/').next().unwrap_or(arn));
            (stored.algorithm.as_str(), key.to_owned(), "")
        }
        None if kind.is_dir() => ("-", "-".to_owned(), "/"),
        None if kind.is_symlink() => ("-", "-".to_owned(), "@"),
        None => ("-", "-".to_owned(), ""),
    };
    let (size, modified) = (metadata.len(), last_modified(metadata.mtime()));
    format!("{size:>12}  {}  {encryption:<12}  {:<36}  {name}{end}", &modified[..19], escape(&key))
}
