//! Stores with names: ~/.config/kmsfs/config.toml and /etc/kmsfs.toml say where they are and how they are mounted.

use super::exit::{Failure, describe};
use super::text::{escape, shown};
use super::unlock::UnlockArgs;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

const OF_THE_MACHINE: &str = "/etc/kmsfs.toml";
/// Bytes of such a file.
const LONGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    stores: BTreeMap<String, Named>,
}

/// A store that has a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Named {
    pub store: PathBuf,
    pub mountpoint: Option<PathBuf>,
    pub keyring: Option<PathBuf>,
    /// Words of `-o`, before those of the command line.
    pub options: Option<String>,
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    passphrase_command: Option<OsWord>,
    credential: Option<OsWord>,
    recovery_key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
struct OsWord(OsString);

impl From<String> for OsWord {
    fn from(word: String) -> Self {
        Self(word.into())
    }
}

impl Named {
    pub fn unlock(&self) -> UnlockArgs {
        let word = |word: &Option<OsWord>| word.as_ref().map(|word| word.0.clone());
        UnlockArgs {
            key_file: self.key_file.clone(),
            passphrase_file: self.passphrase_file.clone(),
            passphrase_command: word(&self.passphrase_command),
            credential: word(&self.credential),
            recovery_key_file: self.recovery_key_file.clone(),
            ..UnlockArgs::default()
        }
    }
}

/// The store of that name, if the word can be one and is: a path has a slash in it, as `./photos` has.
pub fn find(word: &Path) -> Result<Option<Named>, Failure> {
    let mut components = word.components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    let Some(name) = word.to_str().filter(|name| is_name && !name.contains('/')) else { return Ok(None) };
    let own = own_place();
    for place in own.iter().map(PathBuf::as_path).chain([Path::new(OF_THE_MACHINE)]) {
        let found = read(place).map_err(|why| Failure::new(format!("{}: {why}", shown(place))));
        match found {
            Ok(mut document) => {
                if let Some(named) = document.stores.remove(name) {
                    return Ok(Some(named));
                }
            }
            // What is there under this name is not asked about names.
            Err(_) if word.exists() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

fn own_place() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = directory("XDG_CONFIG_HOME").or_else(|| directory("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("kmsfs/config.toml"))
}

/// It may name commands that are run: only root and the user may have written it.
fn read(path: &Path) -> Result<Document, String> {
    let mut text = String::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Below a home that this user may not enter, as HOME is after setpriv(1) or su(1): nothing of this user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_out_of_reach(path) => {}
        Err(error) => return Err(describe(&error)),
        Ok(file) => {
            let metadata = file.metadata().map_err(|error| describe(&error))?;
            let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
            if owner != 0 && owner != me {
                return Err(format!("it belongs to uid {owner}, and it is read only if it is root's or uid {me}'s"));
            }
            if metadata.mode() & 0o022 != 0 {
                return Err(format!("others can write it (mode {:04o}): chmod go-w it", metadata.mode() & 0o7777));
            }
            let read = file.take(LONGEST).read_to_string(&mut text);
            read.map_err(|error| describe(&error))?;
        }
    }
    parse(&text)
}

fn is_out_of_reach(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn parse(text: &str) -> Result<Document, String> {
    let document: Document = toml::from_str(text).map_err(|error| escape(error.to_string().trim_end()))?;
    for (name, named) in &document.stores {
        let paths = [Some(&named.store), named.mountpoint.as_ref(), named.keyring.as_ref(), named.key_file.as_ref()];
        let more = [named.passphrase_file.as_ref(), named.recovery_key_file.as_ref()];
        for path in paths.into_iter().chain(more).flatten() {
            if !path.is_absolute() {
                return Err(format!("store {}: {} is not an absolute path", escape(name), shown(path)));
            }
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_store_has_what_mounting_it_takes() {
        let text =
            "[stores.photos]\nstore = '/srv/photos'\nmountpoint = '/mnt/photos'\nkey-file = '/root/k'\noptions = 'ro'";
        let document = parse(text).unwrap();
        let named = &document.stores["photos"];
        assert_eq!((named.store.as_path(), named.options.as_deref()), (Path::new("/srv/photos"), Some("ro")));
        assert_eq!(named.unlock().key_file, Some("/root/k".into()));
        assert!(parse("[stores.photos]\nstor = '/x'").err().unwrap().contains("unknown field"));
        assert!(parse("[stores.photos]").err().unwrap().contains("missing field"));
        let relative = parse("[stores.photos]\nstore = 'photos'").err().unwrap();
        assert_eq!(relative, "store photos: photos is not an absolute path");
    }

    #[test]
    fn what_others_can_write_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert!(read(&path).unwrap().stores.is_empty());
        fs::write(&path, "[stores.a]\nstore = '/a'").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(read(&path).err().unwrap(), "others can write it (mode 0664): chmod go-w it");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap().stores.len(), 1);
    }

    #[test]
    fn a_path_is_no_name() {
        for path in ["/srv/photos", "./photos", "photos/", "..", "."] {
            assert_eq!(find(Path::new(path)).unwrap(), None, "{path}");
        }
    }
}
