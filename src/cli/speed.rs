//! `kmsfs speed`: how fast this machine encrypts, stretches a passphrase, and reads and writes files here and there.

use super::exit::{Failure, describe};
use super::text::{pretty, shown};
use clap::Args;
use kmsfs_client::mounts;
use kmsfs_crypto::passphrase::{Cost, stretch};
use kmsfs_crypto::{DataKey, ObjectKeys, ObjectParameters, SecretKey, random};
use rustix::fs::{Advice, fadvise};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measure ciphers, the cost of a passphrase, and files in directories
///
/// Each DIR is tried with one large file, written to the disk and read back past the cache, and with many small
/// ones. One in a mount and one beside the store show what encryption costs here. A directory of its own is made in
/// each, and removed.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct SpeedArgs {
    /// MiB of the large file
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    size: u64,
    /// Small files, of 4 KiB
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    files: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Directories to try: in a mount, beside the store
    dirs: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs speed
  kmsfs speed /mnt/my-bucket /srv";

const CHUNK: usize = 4096;
/// Chunks of a request of 256 KiB.
const BATCH: u64 = 64;
/// How long a cipher is tried.
const TRIED: Duration = Duration::from_millis(300);

pub fn run(args: &SpeedArgs) -> Result<ExitCode, Failure> {
    super::harden::forbid_dumps();
    let mut all = Map::new();
    let ciphers = json!({
        "AES256, aws:kms": cipher(DataKey::Single(SecretKey::random())),
        "aws:kms:dsse": cipher(DataKey::Dual { outer: SecretKey::random(), inner: SecretKey::random() }),
    });
    all.insert("CiphersMiBPerSecond".into(), ciphers);
    all.insert("Passphrase".into(), passphrase()?);
    let mut dirs = Map::new();
    for dir in &args.dirs {
        let failed = |e: io::Error| Failure::new(format!("{}: {}", shown(dir), describe(&e)));
        let measured = Trial::of(dir).and_then(|trial| trial.measure(args)).map_err(failed)?;
        dirs.insert(dir.to_string_lossy().into_owned(), measured);
    }
    all.insert("Directories".into(), Value::Object(dirs));
    let all = Value::Object(all);
    if args.json {
        print!("{}", pretty(&all));
    } else {
        print!("{}", text(&all));
    }
    Ok(ExitCode::SUCCESS)
}

/// MiB a second, sealed and opened, by one thread.
fn cipher(key: DataKey) -> Value {
    let parameters = ObjectParameters { object_id: random::bytes(), chunk_size: CHUNK as u32 };
    let cipher = ObjectKeys::new(key, parameters, 0).chunk_cipher(0);
    let mut chunk = vec![0; CHUNK];
    let sealed = rate(|batch| {
        let sealing = cipher.sealing();
        for index in batch {
            sealing.seal(index, &mut chunk);
        }
    });
    chunk.fill(0);
    let tag = cipher.sealing().seal(0, &mut chunk);
    let ciphertext = chunk.clone();
    let opened = rate(|batch| {
        for _ in batch {
            chunk.copy_from_slice(&ciphertext);
            // It was sealed just now.
            let _ = cipher.open(0, &tag, &mut chunk);
        }
    });
    json!({"Seal": sealed, "Open": opened})
}

/// MiB a second of what is done chunk by chunk, as many in a batch as a request has.
fn rate(mut act: impl FnMut(Range<u64>)) -> u64 {
    let (start, mut chunks) = (Instant::now(), 0);
    while start.elapsed() < TRIED {
        act(chunks..chunks + BATCH);
        chunks += BATCH;
    }
    per_second(chunks * CHUNK as u64, start.elapsed()) >> 20
}

fn per_second(amount: u64, time: Duration) -> u64 {
    let nanoseconds = time.as_nanos().max(1);
    u64::try_from(u128::from(amount) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

/// What a new slot would cost here, and how long it takes.
fn passphrase() -> Result<Value, Failure> {
    let cost = Cost::for_this_machine();
    let start = Instant::now();
    stretch(b"", &[0; 16], cost).map_err(|_| Failure::new("there is not enough memory to stretch a passphrase"))?;
    let Cost { memory_kib, passes, .. } = cost;
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(json!({"Milliseconds": milliseconds, "MemoryKiB": memory_kib, "Passes": passes}))
}

/// A directory of its own, which is removed with all that is in it.
struct Trial {
    dir: PathBuf,
    in_mount: bool,
}

impl Trial {
    fn of(parent: &Path) -> io::Result<Self> {
        let in_mount = fs::canonicalize(parent).and_then(|real| mounts::of(&real))?.is_some();
        let dir = parent.join(format!("kmsfs-speed.{}", random::uuid()));
        fs::create_dir(&dir)?;
        Ok(Self { dir, in_mount })
    }

    fn measure(&self, args: &SpeedArgs) -> io::Result<Value> {
        let (write, read) = self.large(args.size)?;
        let (create, open, unlink) = self.small(args.files)?;
        Ok(json!({
            "IsKmsfs": self.in_mount,
            "WriteMiBPerSecond": write,
            "ReadMiBPerSecond": read,
            "CreatePerSecond": create,
            "ReadFilesPerSecond": open,
            "UnlinkPerSecond": unlink,
        }))
    }

    fn large(&self, mebibytes: u64) -> io::Result<(u64, u64)> {
        let path = self.dir.join("large");
        // Not zeros, which some file systems do not write.
        let mut piece = vec![0; 1 << 20];
        random::fill(&mut piece);
        let start = Instant::now();
        let mut file = File::create(&path)?;
        for _ in 0..mebibytes {
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        let written = per_second(mebibytes, start.elapsed());
        fadvise(&file, 0, None, Advice::DontNeed)?;
        drop(file);
        let mut file = File::open(&path)?;
        let start = Instant::now();
        while file.read(&mut piece)? > 0 {}
        let read = per_second(mebibytes, start.elapsed());
        fs::remove_file(&path)?;
        Ok((written, read))
    }

    fn small(&self, files: u64) -> io::Result<(u64, u64, u64)> {
        let content = [7; CHUNK];
        let path = |n: u64| self.dir.join(n.to_string());
        let each = |act: &mut dyn FnMut(u64) -> io::Result<()>| {
            let start = Instant::now();
            (0..files).try_for_each(act).map(|()| per_second(files, start.elapsed()))
        };
        let created = each(&mut |n| fs::write(path(n), content))?;
        let read = each(&mut |n| fs::read(path(n)).map(drop))?;
        let unlinked = each(&mut |n| fs::remove_file(path(n)))?;
        Ok((created, read, unlinked))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn text(all: &Value) -> String {
    let mut lines = vec![format!("{:<28} {:>12} {:>12}", "cipher, one thread", "seal MiB/s", "open MiB/s")];
    for (name, of) in all["CiphersMiBPerSecond"].as_object().into_iter().flatten() {
        lines.push(format!("{name:<28} {:>12} {:>12}", of["Seal"].to_string(), of["Open"].to_string()));
    }
    let Value::Object(cost) = &all["Passphrase"] else { return String::new() };
    let (time, memory, passes) = (&cost["Milliseconds"], &cost["MemoryKiB"], &cost["Passes"]);
    lines.push(format!("\na passphrase takes {time} ms: Argon2id, {memory} KiB, {passes} passes"));
    let dirs = all["Directories"].as_object().into_iter().flatten();
    for (number, (dir, of)) in dirs.enumerate() {
        if number == 0 {
            let heads = ["write MiB/s", "read MiB/s", "creates/s", "reads/s", "unlinks/s"];
            lines.push(format!("\n{:<28} {}", "directory", heads.map(|head| format!("{head:>12}")).join(" ")));
        }
        let members =
            ["WriteMiBPerSecond", "ReadMiBPerSecond", "CreatePerSecond", "ReadFilesPerSecond", "UnlinkPerSecond"];
        let numbers = members.map(|member| format!("{:>12}", of[member].to_string())).join(" ");
        let kind = if of["IsKmsfs"] == true { " (kmsfs)" } else { "" };
        lines.push(format!("{:<28} {numbers}", format!("{}{kind}", super::text::escape(dir))));
    }
    lines.join("\n") + "\n"
}
