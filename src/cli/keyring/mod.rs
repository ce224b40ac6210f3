//! `kmsfs keyring`: what opens the keyring, and its backups.

mod backup;
mod report;
mod secret;

use super::assembly;
use super::exit::{Exit, Failure};
use super::harden;
use super::state::StateArgs;
use super::store_args::{self, StoreArgs};
use super::text::{escape, pretty, shown};
use super::unlock::{UnlockArgs, recovery_key};
use clap::{Args, Subcommand};
use kmsfs_kms_local::{Keyring, OpenError, RootKey, SlotInfo, Unlock};
use kmsfs_store as store;
use kmsfs_witness::{Rollback, Watch};
use rustix::fs::Mode;
use secret::NewSecretArgs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Manage what opens a store's keyring, and back it up
///
/// The keyring has slots, as LUKS has: a key file, a passphrase or a recovery key each, and each opens all of it. A
/// change does not disturb a mount. list-slots and backup need nothing to unlock it with.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}", store_args::HELP))]
pub struct KeyringArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(subcommand)]
    operation: Operation,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs keyring --store /srv/store list-slots
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key add-slot --new-recovery-key
  kmsfs keyring --store /srv/store --recovery-key-file - add-slot --name laptop
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key remove-slot 0
  kmsfs keyring --store /srv/store backup /media/usb/keyring-backup";

#[derive(Subcommand)]
enum Operation {
    /// Add a slot: a passphrase (asked for), key file, recovery key, credential, or a command's passphrase
    #[command(after_help = "\
Examples:
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key add-slot --name me
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key add-slot --new-key-file /media/usb/kmsfs.key
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key add-slot --new-recovery-key > on-paper
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key add-slot --new-passphrase-command 'pass show kmsfs'")]
    AddSlot {
        #[command(flatten)]
        new: NewSecretArgs,
        /// What list-slots shows beside it
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove a slot, but never the last, and change the root key, which its secret and an older copy of the keyring
    /// give
    ///
    /// A mount that was unlocked through this slot has to be mounted anew.
    #[command(after_help = "Examples:\n  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key remove-slot 2")]
    RemoveSlot {
        /// As list-slots shows it
        number: u32,
        /// Remove the slot alone
        #[arg(long, conflicts_with = "force")]
        keep_root_key: bool,
        /// Drop slots too that an older kmsfs made and that were not used since: they cannot be given another root key
        #[arg(long)]
        force: bool,
    },
    /// Change the root key, for all slots, and wrap everything in the keyring anew
    ///
    /// Older copies of the keyring open nothing of today's any more, and nothing at all without their file shred. A
    /// mount that was unlocked through a slot that was removed or changed since has to be mounted anew; others follow.
    #[command(after_help = "Examples:\n  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key change-root-key")]
    ChangeRootKey {
        /// Drop slots that an older kmsfs made and that were not used since: they cannot be given another root key
        #[arg(long)]
        force: bool,
    },
    /// Give a slot another secret, in one step; the old one opens nothing from then on
    #[command(after_help = "\
Examples:
  kmsfs keyring --store /srv/store change
  kmsfs keyring --store /srv/store --key-file old.key change --new-key-file new.key
  kmsfs keyring --store /srv/store --recovery-key-file - change --slot 0")]
    Change {
        /// Which one; without it the one that unlocks the keyring
        #[arg(long, value_name = "NUMBER")]
        slot: Option<u32>,
        #[command(flatten)]
        new: NewSecretArgs,
        /// What list-slots shows beside it; without it the name stays
        #[arg(long)]
        name: Option<String>,
    },
    /// Show the slots, and nothing that is secret
    #[command(after_help = "Examples:\n  kmsfs keyring --store /srv/store list-slots --json")]
    ListSlots {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a recovery key: whether it is typed well, and whether it opens the keyring
    #[command(after_help = "\
Examples:
  kmsfs keyring --store /srv/store check-recovery-key
  kmsfs keyring --store /srv/store check-recovery-key < on-paper")]
    CheckRecoveryKey {
        /// Its file; - for standard input or the terminal
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Write slots and keys, still sealed, to one new file
    #[command(after_help = "Examples:\n  kmsfs keyring --store /srv/store backup /media/usb/keyring-backup")]
    Backup {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Put a backup in the keyring's place, and keep what is there beside it
    #[command(after_help = "\
Examples:
  kmsfs keyring --store /srv/store --key-file /root/kmsfs.key restore /media/usb/keyring-backup")]
    Restore {
        /// The backup
        file: PathBuf,
        /// Even in the place of a newer keyring or of other slots; a removed slot opens it again then
        #[arg(long)]
        force: bool,
    },
}

/// Where the keyring is, whose it has to be, and what opens it.
struct Place {
    dir: PathBuf,
    store_id: [u8; 16],
    unlock: UnlockArgs,
    state: StateArgs,
}

impl Place {
    fn open(&self) -> Result<Keyring, Failure> {
        self.open_with(&self.unlock.read(&self.dir)?)
    }

    fn open_with(&self, secret: &Unlock) -> Result<Keyring, Failure> {
        let opened = Keyring::open_for(&self.dir, secret, &self.store_id, &self.watch()?);
        opened.map_err(|error| assembly::explain_unlocking(&self.dir, secret, &error))
    }

    fn watch(&self) -> Result<Watch, Failure> {
        Ok(self.state.open(self.store_id, Rollback::Refuse)?.watch("keyring"))
    }

    fn explain(&self, error: &OpenError) -> Failure {
        assembly::explain_keyring(&self.dir, error)
    }
}

pub fn run(args: KeyringArgs) -> Result<ExitCode, Failure> {
    harden::forbid_dumps();
    // Where it is not permitted the mount says so, which has the keys for longer.
    let _ = harden::lock_memory();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let chosen = args.store.choose(None)?;
    let store = chosen.find_store()?;
    let parameters = store::read_parameters(&*assembly::open_backend(&store)?);
    let place = Place {
        dir: chosen.keyring_of(&store),
        store_id: parameters.map_err(|error| assembly::explain(&store, &error))?.store_id,
        unlock: chosen.unlock,
        state: args.state,
    };
    match args.operation {
        Operation::AddSlot { new, name } => add(&place, &new, name.as_deref()),
        Operation::RemoveSlot { number, keep_root_key, force } => {
            remove(&place, number, if keep_root_key { RootKey::Stays } else { RootKey::Changes }, force)
        }
        Operation::ChangeRootKey { force } => change_root_key(&place, force),
        Operation::Change { slot, new, name } => change(&place, slot, &new, name.as_deref()),
        Operation::ListSlots { json } => list(&place, json),
        Operation::CheckRecoveryKey { file } => check(&place, &file),
        Operation::Backup { file } => backup::write(&place, &file),
        Operation::Restore { file, force } => backup::restore(&place, &file, force),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(place: &Place, new: &NewSecretArgs, name: Option<&str>) -> Result<(), Failure> {
    let keyring = place.open()?;
    let secret = new.read()?;
    let slot = keyring.add_slot(secret.unlock(), name).map_err(|error| place.explain(&error))?;
    tell(secret, "Added", &slot)
}

fn change(place: &Place, number: Option<u32>, new: &NewSecretArgs, name: Option<&str>) -> Result<(), Failure> {
    let keyring = place.open()?;
    let secret = new.read()?;
    let slot = keyring.change_slot(number, secret.unlock(), name).map_err(|error| place.explain(&error))?;
    tell(secret, "Changed", &slot)
}

/// The recovery key alone is on standard output, so that it can be piped to a printer.
fn tell(secret: secret::NewSecret, what: &str, slot: &SlotInfo) -> Result<(), Failure> {
    let text = format!("{what} slot {}: {}\n", slot.number, report::describe(slot));
    let Some(key) = secret.keep() else { return print(&text) };
    eprintln!("{text}It is shown this once: write it down, and check what you wrote with check-recovery-key.");
    print(&Zeroizing::new(format!("{}\n", *key))).map_err(|failure| {
        let text = format!("slot {} is there, but its recovery key cannot be written: remove it", slot.number);
        Failure::new(format!("{text} ({failure})"))
    })
}

fn remove(place: &Place, number: u32, root_key: RootKey, force: bool) -> Result<(), Failure> {
    let left = place.open()?.remove_slot(number, root_key, force).map_err(|error| place.explain(&error))?;
    print(&format!("Removed slot {number}. These remain:\n{}", report::table(&left)))
}

fn change_root_key(place: &Place, force: bool) -> Result<(), Failure> {
    let left = place.open()?.rotate_root_key(force).map_err(|error| place.explain(&error))?;
    print(&format!("Changed the root key. These slots give the new one:\n{}", report::table(&left)))
}

fn list(place: &Place, json: bool) -> Result<(), Failure> {
    let slots = Keyring::slots(&place.dir).map_err(|error| place.explain(&error))?;
    print(&if json { pretty(&report::json(&slots)) } else { report::table(&slots) })
}

fn check(place: &Place, file: &Path) -> Result<(), Failure> {
    let keyring = place.open_with(&recovery_key(file)?)?;
    let slot = keyring.opened_by().map_err(|error| place.explain(&error))?;
    print(&format!("The recovery key is right: it opens slot {}, {}\n", slot.number, report::describe(&slot)))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::new(format!("standard output: {}", super::exit::describe(&error))))
}

/// An error about a file that the command line names.
fn about_file(what: &str, path: &Path, why: &str) -> Failure {
    Failure::with(Exit::Failure, format!("{what} {}: {}", shown(path), escape(why)))
}
