//! Which store a command is about, where its keyring is and what opens it: the same options for every command, before
//! or after its operation, and the same variables of the environment.

use super::assembly;
use super::audit::AuditArgs;
use super::config;
use super::exit::Failure;
use super::state::StateArgs;
use super::unlock::UnlockArgs;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const STORE_VARIABLE: &str = "KMSFS_STORE";
const KEYRING_VARIABLE: &str = "KMSFS_KEYRING";

/// What `--help` of commands with these options ends with.
pub const HELP: &str = "\
KMSFS_STORE, KMSFS_KEYRING, KMSFS_STATE and KMSFS_AUDIT_LOG stand for the options of these names where those are not
given; so does one of KMSFS_KEY_FILE, KMSFS_PASSPHRASE_FILE, KMSFS_PASSPHRASE_COMMAND, KMSFS_CREDENTIAL and
KMSFS_RECOVERY_KEY_FILE for what opens the keyring.";

#[derive(Args, Default, Clone)]
pub struct StoreArgs {
    /// The store, a directory that `kmsfs init` made, or where it is mounted, or its name in the configuration
    #[arg(long, value_name = "DIR", global = true)]
    store: Option<PathBuf>,
    /// Where the keyring is, if it is not in the store
    #[arg(long, value_name = "DIR", global = true)]
    keyring: Option<PathBuf>,
    #[command(flatten)]
    unlock: UnlockArgs,
}

/// The same with what the environment says.
#[derive(Clone)]
pub struct Chosen {
    /// As it was named.
    store: Option<PathBuf>,
    /// Where it is not in the store.
    pub keyring: Option<PathBuf>,
    pub unlock: UnlockArgs,
    /// Of a store that has a name.
    pub mountpoint: Option<PathBuf>,
}

impl StoreArgs {
    /// `positional`: the store where a command names it without an option.
    pub fn choose(self, positional: Option<PathBuf>) -> Result<Chosen, Failure> {
        if let (Some(one), Some(_)) = (&positional, &self.store) {
            let text = format!("the store is named twice, by {} and by --store: say it once", super::text::shown(one));
            return Err(Failure::usage(text));
        }
        let store = positional.or(self.store).or_else(|| variable(STORE_VARIABLE));
        let named = store.as_deref().map(config::find).transpose()?.flatten();
        let Some(named) = named else {
            let keyring = self.keyring.or_else(|| variable(KEYRING_VARIABLE));
            return Ok(Chosen { store, keyring, unlock: self.unlock.or_environment()?, mountpoint: None });
        };
        // What a name stands for comes after the command line, and before the environment, which is of no store.
        let chosen = Self { store: None, ..self }.or(named.keyring.clone(), named.unlock());
        Ok(Chosen {
            store: Some(named.store),
            keyring: chosen.keyring,
            unlock: chosen.unlock.or_environment()?,
            mountpoint: named.mountpoint,
        })
    }

    /// Words of `-o` of the store that is named, by an option, the environment or `positional`.
    pub fn configured_options(&self, positional: Option<&Path>) -> Result<Option<String>, Failure> {
        let of_environment = variable(STORE_VARIABLE);
        let store = positional.or(self.store.as_deref()).or(of_environment.as_deref());
        Ok(store.map(config::find).transpose()?.flatten().and_then(|named| named.options))
    }

    /// With what another place says of the keyring, where no option does.
    pub fn or(self, keyring: Option<PathBuf>, unlock: UnlockArgs) -> Self {
        let tries = self.unlock.tries;
        let unlock = if self.unlock.is_empty() { UnlockArgs { tries, ..unlock } } else { self.unlock };
        Self { store: self.store, keyring: self.keyring.or(keyring), unlock }
    }

    /// Whether the store was named, by the option or the environment.
    pub fn names_store(&self) -> bool {
        self.store.is_some() || variable(STORE_VARIABLE).is_some()
    }
}

impl Chosen {
    /// The store as it was named.
    pub fn store(&self) -> Result<&Path, Failure> {
        self.store.as_deref().ok_or_else(|| {
            Failure::usage(format!(
                "no store was named: say --store DIR, or set {STORE_VARIABLE}; a mount point will do"
            ))
        })
    }

    /// The store's absolute path, without symlinks.
    pub fn find_store(&self) -> Result<PathBuf, Failure> {
        assembly::find_store(self.store()?)
    }

    pub fn keyring_of(&self, store: &Path) -> PathBuf {
        self.keyring.clone().unwrap_or_else(|| assembly::default_keyring(store))
    }
}

/// A variable that is set to nothing is not set.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The words of a command line with such options moved behind the command's name, if they stand before it: there they
/// are an error if the command has none of them.
pub fn behind_the_command(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    #[derive(Args)]
    struct All {
        #[command(flatten)]
        _store: StoreArgs,
        #[command(flatten)]
        _state: StateArgs,
        #[command(flatten)]
        _audit: AuditArgs,
    }
    let known = All::augment_args(clap::Command::new("kmsfs"));
    let takes_value = |word: &OsString| {
        let word = word.to_str()?.strip_prefix("--")?;
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let option = known.get_arguments().find(|option| option.get_long() == Some(name))?;
        Some(option.get_action().takes_values() && name == word)
    };
    let mut words = words.into_iter();
    let mut moved = Vec::new();
    let mut sorted: Vec<OsString> = words.next().into_iter().collect();
    while let Some(word) = words.next() {
        let Some(takes_value) = takes_value(&word) else {
            sorted.push(word);
            break;
        };
        moved.push(word);
        if takes_value {
            moved.extend(words.next());
        }
    }
    sorted.append(&mut moved);
    sorted.extend(words);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_before_the_command_are_its_own() {
        let sorted = |line: &str| {
            let words = behind_the_command(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            sorted("kmsfs --store /s --key-file=/k --accept-rollback kms list-keys --limit 3"),
            "kmsfs kms --store /s --key-file=/k --accept-rollback list-keys --limit 3"
        );
        for line in ["kmsfs", "kmsfs --help", "kmsfs --nonsense /s kms", "kmsfs put --store /s", "kmsfs -f mount"] {
            assert_eq!(sorted(line), line);
        }
        // Nothing is lost of what is wrong.
        assert_eq!(sorted("kmsfs --store"), "kmsfs --store");
        assert_eq!(sorted("kmsfs --store kms"), "kmsfs --store kms");
    }

    #[test]
    fn a_store_is_named_once() {
        let args = || StoreArgs { store: Some("/a".into()), ..StoreArgs::default() };
        assert_eq!(args().choose(None).unwrap().store().unwrap(), Path::new("/a"));
        let failure = args().choose(Some("/b".into())).err().unwrap();
        assert_eq!(failure.message, "the store is named twice, by /b and by --store: say it once");
    }
}
