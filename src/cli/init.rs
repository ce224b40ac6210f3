//! `kmsfs init`: makes a store and its keyring.

use super::assembly;
use super::exit::{Failure, describe};
use super::harden;
use super::store_args::{self, StoreArgs};
use super::terminal::confirm;
use super::text::{escape, shell_word, shown};
use super::unlock::UnlockArgs;
use clap::Args;
use kmsfs_crypto::key_file;
use kmsfs_crypto::recovery_key::RecoveryKey;
use kmsfs_kms_local::{Keyring, Unlock};
use kmsfs_sys::private;
use rustix::fs::Mode;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Make a store
///
/// A key file that does not exist is made, with 32 random bytes. Without key file or passphrase file you
/// are asked for a passphrase, and whether to make a recovery key beside it. Nothing in the store can be
/// read without one of them, by anybody: keep a copy elsewhere.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}", store_args::HELP))]
pub struct InitArgs {
    #[command(flatten)]
    chosen: StoreArgs,
    /// Make a recovery key too, and print it, once
    #[arg(long)]
    new_recovery_key: bool,
    /// The AWS region that key ARNs show
    #[arg(long, default_value = "us-east-1", value_parser = region)]
    region: String,
    /// The AWS account that key ARNs show, 12 digits
    #[arg(long, value_name = "N", default_value = "000000000000", value_parser = account_id)]
    account_id: String,
    /// The store: a directory that is empty or does not exist yet
    #[arg(value_name = "STORE")]
    place: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs init --key-file /root/kmsfs.key /srv/store
  kmsfs init --passphrase-file pass --region us-west-2 --account-id 123456789123 /srv/store
  kmsfs init --passphrase-file pass --new-recovery-key /srv/store
  kmsfs init --keyring /media/usb/keyring /srv/store";

/// What the store is made with.
pub struct Account {
    pub id: String,
    pub region: String,
}

/// Makes the store, or nothing at all.
pub fn run(args: InitArgs) -> Result<ExitCode, Failure> {
    harden::forbid_dumps();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let mut made = Made::default();
    let chosen = args.chosen.choose(args.place)?;
    let store = made.empty_directory(chosen.store()?, "store")?;
    let keyring = match &chosen.keyring {
        None => made.empty_directory(&assembly::default_keyring(&store), "keyring")?,
        Some(path) => made.empty_directory(path, "keyring")?,
    };
    let mut unlock = chosen.unlock;
    unlock.make_absolute()?;
    let new_key_file = unlock.key_file.as_deref().map_or(Ok(false), |path| made.key_file(path))?;
    let account = Account { id: args.account_id, region: args.region };
    let secret = unlock.read_new()?;
    assembly::create(&store, &keyring, &secret, &account)?;
    let is_passphrase = matches!(secret, Unlock::Passphrase(_));
    let wanted = args.new_recovery_key || (is_passphrase && unlock.is_empty() && offer_recovery_key());
    let recovery_key = wanted.then(|| add_recovery_key(&keyring, &secret)).transpose()?;
    let changed = made.keep();
    if let Some(key) = &recovery_key {
        println!("The recovery key, which is shown this once: write it down, and keep it elsewhere.\n\n  {}\n", **key);
    } else if is_passphrase {
        let store = shell_word(&store);
        println!(
            "Without the passphrase nothing in the store can be read, by anybody. A recovery key, to be kept on paper, \
             opens it too:\n  kmsfs keyring --store {store} add-slot --new-recovery-key"
        );
    }
    let keyring = chosen.keyring.is_some().then_some(keyring);
    print!("{}", report(&store, keyring.as_deref(), &unlock, new_key_file, &account));
    for (path, mode) in changed {
        println!("{} had mode {mode:04o} and has 0700 now: it is its owner's alone", shown(&path));
    }
    Ok(ExitCode::SUCCESS)
}

/// On the terminal that the passphrase was typed on.
fn offer_recovery_key() -> bool {
    let text = "Without the passphrase nothing in the store can be read, by anybody. A recovery key, to be kept on \
                paper, opens it too. Make one? [Y/n] ";
    confirm(text).unwrap_or(false)
}

fn add_recovery_key(keyring: &Path, secret: &Unlock) -> Result<Zeroizing<String>, Failure> {
    let key = RecoveryKey::random();
    let explain = |error| assembly::explain_keyring(keyring, &error);
    let opened = Keyring::open(keyring, secret).map_err(explain)?;
    opened.add_slot(&Unlock::RecoveryKey(key.key()), None).map_err(explain)?;
    Ok(key.text())
}

fn report(store: &Path, keyring: Option<&Path>, unlock: &UnlockArgs, new_key_file: bool, account: &Account) -> String {
    let default = assembly::default_keyring(store);
    let mut lines = vec![
        format!("Made the store {}", shown(store)),
        format!("  account   {}", account.id),
        format!("  region    {}", account.region),
        format!("  keyring   {}", shown(keyring.unwrap_or(&default))),
    ];
    let mut command = vec!["  kmsfs mount".to_string()];
    if let Some(path) = keyring {
        command.push(format!("--keyring {}", shell_word(path)));
    }
    if let Some(path) = &unlock.key_file {
        let new = if new_key_file { ", new: keep a copy elsewhere, nothing can be read without it" } else { "" };
        lines.push(format!("  key file  {}{new}", shown(path)));
        command.push(format!("--key-file {}", shell_word(path)));
    }
    if let Some(path) = &unlock.passphrase_file {
        lines.push(format!("  unlocked by the passphrase in {}", shown(path)));
        command.push(format!("--passphrase-file {}", shell_word(path)));
    }
    if let Some(line) = &unlock.passphrase_command {
        command.push(format!("--passphrase-command {}", shell_word(Path::new(line))));
    }
    if let Some(name) = &unlock.credential {
        command.push(format!("--credential {}", shell_word(Path::new(name))));
    }
    command.push(format!("{} MOUNTPOINT", shell_word(store)));
    format!("{}\nMount it with:\n{}\n", lines.join("\n"), command.join(" "))
}

/// What this command has made so far; removed again unless it is kept.
#[derive(Default)]
struct Made {
    /// Directories that did not exist, and those that were empty.
    directories: Vec<(PathBuf, bool)>,
    key_file: Option<PathBuf>,
    /// Directories that others could get at, and the modes that they had.
    modes: Vec<(PathBuf, u32)>,
}

impl Made {
    /// The directory's absolute path; made with mode 0700 if it was not there, refused if it is not empty.
    fn empty_directory(&mut self, path: &Path, what: &str) -> Result<PathBuf, Failure> {
        let failed = |e: &io::Error| Failure::new(format!("{what} {}: {}", shown(path), describe(e)));
        let new = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(failed(&e)),
        };
        if new {
            // Noted before anything else can fail.
            self.directories.push((path.to_owned(), true));
        } else {
            check_empty(path, what)?;
            self.make_private(path, what)?;
        }
        let absolute = fs::canonicalize(path).map_err(|e| failed(&e))?;
        if new {
            self.directories.pop();
        }
        self.directories.push((absolute.clone(), new));
        Ok(absolute)
    }

    /// One that was there may have been open to others: it becomes as a new one is.
    fn make_private(&mut self, path: &Path, what: &str) -> Result<(), Failure> {
        let fail = |why: String| Failure::new(format!("{what} {}: {why}", shown(path)));
        let failed = |e: &io::Error| fail(describe(e));
        let metadata = fs::metadata(path).map_err(|e| failed(&e))?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|e| failed(&e))?;
            self.modes.push((path.to_owned(), mode));
        }
        private::check_directory(path).map_err(|refusal| fail(escape(&refusal.to_string())))
    }

    /// Whether it had to be made.
    fn key_file(&mut self, path: &Path) -> Result<bool, Failure> {
        let failed = |e: io::Error| Failure::new(format!("key file {}: {}", shown(path), describe(&e)));
        match key_file::create(path) {
            Ok(()) => self.key_file = Some(path.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(failed(e)),
        }
        // Without its name a durable key file is lost.
        let directory = path.parent().unwrap_or(Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(true)
    }

    /// Returns the directories whose mode was changed, each with the mode that it had.
    fn keep(mut self) -> Vec<(PathBuf, u32)> {
        self.directories.clear();
        self.key_file = None;
        std::mem::take(&mut self.modes)
    }
}

impl Drop for Made {
    /// Removal is best effort: the failure that led here is what the user has to know.
    fn drop(&mut self) {
        for (path, new) in self.directories.iter().rev() {
            let _ = if *new { fs::remove_dir_all(path) } else { remove_content(path) };
        }
        for (path, mode) in &self.modes {
            let _ = fs::set_permissions(path, Permissions::from_mode(*mode));
        }
        if let Some(path) = &self.key_file {
            let _ = fs::remove_file(path);
        }
    }
}

/// A file system's own directory of what fsck found is not removed, and would be in the store.
fn check_empty(path: &Path, what: &str) -> Result<(), Failure> {
    let failed = |e: &io::Error| Failure::new(format!("{what} {}: {}", shown(path), describe(e)));
    let entries =
        fs::read_dir(path).map_err(|e| failed(&e))?.collect::<io::Result<Vec<_>>>().map_err(|e| failed(&e))?;
    let text = match &entries[..] {
        _ if entries.iter().any(|entry| entry.file_name() == "store.json") => {
            format!("there is a store already: kmsfs mount {} MOUNTPOINT mounts it", shell_word(path))
        }
        [] => return Ok(()),
        [one] if one.file_name() == "lost+found" => {
            let inside = shell_word(&path.join("store"));
            format!(
                "it is the root of a file system, which keeps lost+found there: name a directory in it, such as {inside}"
            )
        }
        _ => "the directory is not empty".into(),
    };
    Err(Failure::new(format!("{what} {}: {text}", shown(path))))
}

fn remove_content(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn account_id(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        Ok(text.to_string())
    } else {
        Err("an account id is 12 digits".into())
    }
}

/// Not only those that AWS has today: it becomes part of ARNs and of principals' names.
fn region(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=32).contains(&text.len()) && text.bytes().all(good) && text.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(text.to_string())
    } else {
        Err("a region is a name such as us-east-1".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn accounts_are_twelve_digits_and_regions_are_names() {
        assert!(account_id("000000000000").is_ok() && region("us-gov-west-1").is_ok());
        for bad in ["", "12345678901", "1234567890123", "12345678901a", "١٢٣٤٥٦"] {
            assert!(account_id(bad).is_err(), "{bad}");
        }
        for bad in ["", "US-EAST-1", "us east", "us:east", "1-us"] {
            assert!(region(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_made_is_removed_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::create_dir(&old).unwrap();
        let mut made = Made::default();
        made.empty_directory(&new, "store").unwrap();
        made.empty_directory(&old, "keyring").unwrap();
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(new.join("meta")).unwrap();
        fs::write(old.join("half"), b"x").unwrap();
        drop(made);
        assert!(!new.exists() && old.exists());
        assert_eq!(fs::read_dir(&old).unwrap().count(), 0);
    }

    #[test]
    fn a_key_file_is_made_for_its_owner_alone_and_an_old_one_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("key"), dir.path().join("other"));
        let mut made = Made::default();
        assert!(made.key_file(&path).unwrap() && made.key_file(&other).unwrap());
        let key = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(key.len(), 32);
        assert_ne!(key, fs::read(&other).unwrap());
        made.keep();
        let mut made = Made::default();
        assert!(!made.key_file(&path).unwrap());
        drop(made);
        assert_eq!(fs::read(&path).unwrap(), key);
    }

    #[test]
    fn a_directory_that_is_not_empty_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine"), b"x").unwrap();
        let mut made = Made::default();
        let message = made.empty_directory(dir.path(), "store").unwrap_err().message;
        assert_eq!(message, format!("store {}: the directory is not empty", dir.path().display()));
        drop(made);
        assert!(dir.path().join("mine").exists());
    }

    #[test]
    fn the_report_ends_in_the_command_that_mounts() {
        let account = Account { id: "000000000000".into(), region: "us-east-1".into() };
        let unlock = UnlockArgs { key_file: Some("/root/my key".into()), ..UnlockArgs::default() };
        let text = report(Path::new("/srv/s"), Some(Path::new("/ring")), &unlock, true, &account);
        let command = "  kmsfs mount --keyring /ring --key-file '/root/my key' /srv/s MOUNTPOINT\n";
        assert!(text.ends_with(command), "{text}");
        assert!(text.starts_with("Made the store /srv/s\n  account   000000000000\n  region    us-east-1\n"));
    }
}
