//! `store.json`, and the making of an empty store.

use crate::backend::{Access, Backend, Dir, NewNode, Rename};
use crate::local::log;
use crate::local::sealed::seal::{self, PRESENT, SEALED, StoreSeal};
use crate::{Error, Result};
use kmsfs_format as format;
use kmsfs_kms::ServiceKey;
use kmsfs_locks::{Mutex, ranks};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "store.json";
/// `store.json` while it is replaced; left behind by a crash, it means nothing.
const NEW_FILE: &str = "store.json.new";
/// Version of a `store.json` that names features and has no store key.
const WITH_FEATURES: u16 = 2;
/// The feature of objects with two layers of encryption.
const DUAL_LAYERS: &str = "dual-layer-encryption";
pub(crate) const BUCKETS: &str = "buckets";
pub(crate) const META: &str = "meta";
pub(crate) const SIDECARS: &str = "sidecars";
pub(crate) const LOG: &str = "log";
pub(crate) const LOCK: &str = "lock";

/// What is fixed when a store is made. None of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Chosen at random when the store is made.
    pub store_id: [u8; 16],
    /// Twelve digits.
    pub account_id: String,
    /// An AWS region's name, as ARNs have it.
    pub region: String,
}

/// Bytes of the lock file.
pub(crate) const OWNER: usize = 16;

/// What the lock file says: the pid in decimal, filled up with line feeds.
pub(crate) fn owner(pid: u32) -> [u8; OWNER] {
    let mut text = [b'\n'; OWNER];
    let digits = pid.to_string();
    text[..digits.len()].copy_from_slice(digits.as_bytes());
    text
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Json {
    pub format_version: u16,
    /// Of version 2, which has one at least, and of later ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    pub store_id: String,
    pub account_id: String,
    pub region: String,
    /// Of version 3: the store key, wrapped by the service's own key; hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store_key: String,
    /// Of version 3: HMAC-SHA-256 of the rest under the store key; hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
}

pub(crate) const PRIVATE_DIR: NewNode = NewNode { mode: 0o700, umask: 0, owner: None };
pub(crate) const PRIVATE_FILE: NewNode = NewNode { mode: 0o600, umask: 0, owner: None };

/// Makes an empty store in an empty directory and makes it durable. `service` wraps the store's key.
pub fn create(backend: &dyn Backend, parameters: &Parameters, service: &dyn ServiceKey) -> Result<()> {
    let root = backend.root()?;
    for name in [META, SIDECARS, LOG] {
        root.make_dir(OsStr::new(name), &PRIVATE_DIR)?;
    }
    // The mount's root shows this mode; who may come as far as here is the store directory's matter.
    root.make_dir(OsStr::new(BUCKETS), &NewNode { mode: 0o755, ..PRIVATE_DIR })?;
    root.create_file(OsStr::new(LOCK), &PRIVATE_FILE)?.write_at(&owner(std::process::id()), 0)?;
    let json = Json {
        format_version: PRESENT,
        features: Vec::new(),
        store_id: uuid::Uuid::from_bytes(parameters.store_id).to_string(),
        account_id: parameters.account_id.clone(),
        region: parameters.region.clone(),
        store_key: String::new(),
        mac: String::new(),
    };
    let (json, key) = seal::with_new_key(json, service)?;
    crate::local::sealed::configured::create(backend, &key)?;
    log::create(root.open_dir(OsStr::new(LOG))?.as_ref(), &log::LogSeal::new(Some(&key)))?;
    // Last of all: a directory with this file is a store.
    let file = root.create_file(OsStr::new(FILE), &PRIVATE_FILE)?;
    file.write_at(&json.text(), 0)?;
    file.sync()?;
    backend.sync_all()?;
    seal::remember(service)
}

/// Reads the parameters of the store in a directory, or says what is wrong with it ([`Error::Unusable`]).
pub fn read_parameters(backend: &dyn Backend) -> Result<Parameters> {
    let json = read_json(backend)?;
    let store_id = json.store_id()?;
    Ok(Parameters { store_id, account_id: json.account_id, region: json.region })
}

fn damaged(why: &dyn std::fmt::Display) -> Error {
    Error::Unusable(format!("store.json is damaged: {why}"))
}

pub(crate) fn read_json(backend: &dyn Backend) -> Result<Json> {
    let text = read_file(backend.root()?.as_ref(), OsStr::new(FILE)).map_err(|error| match error {
        error if error.is_errno(rustix::io::Errno::NOENT) => {
            Error::Unusable("not a kmsfs store: there is no store.json (make one with `kmsfs init`)".into())
        }
        error if error.is_errno(rustix::io::Errno::XDEV) => Error::reaching_part(FILE, rustix::io::Errno::XDEV.into()),
        error => Error::Unusable(format!("store.json cannot be read: {error}")),
    })?;
    let version: Version = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
    if ![format::VERSION, WITH_FEATURES, SEALED, PRESENT].contains(&version.format_version) {
        let (theirs, ours) = (version.format_version, PRESENT);
        return Err(Error::Unusable(format!(
            "the store has format version {theirs} and this kmsfs reads versions up to {ours}: use a newer kmsfs"
        )));
    }
    let json: Json = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
    let fits = match json.format_version {
        WITH_FEATURES => !json.features.is_empty(),
        SEALED.. => true,
        _ => json.features.is_empty(),
    };
    if !fits {
        return Err(damaged(&"its features are not its version's"));
    }
    if (json.format_version >= SEALED) == json.store_key.is_empty() {
        return Err(damaged(&"its version says whether it has a store key"));
    }
    match json.features.iter().find(|name| *name != DUAL_LAYERS) {
        None => Ok(json),
        Some(unknown) => Err(Error::Unusable(format!(
            "the store uses a feature that this kmsfs does not know, {unknown:?}: use a newer kmsfs"
        ))),
    }
}

/// As a whole, durably: a crash leaves the one or the other.
pub(crate) fn replace_json(backend: &dyn Backend, json: &Json) -> Result<()> {
    let root = backend.root()?;
    let (new, name) = (OsStr::new(NEW_FILE), OsStr::new(FILE));
    match root.unlink(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = root.create_file(new, &PRIVATE_FILE)?;
    file.write_at(&json.text(), 0)?;
    file.sync()?;
    root.rename(new, root.as_ref(), name, Rename::Replace)?;
    Ok(root.sync()?)
}

impl Json {
    /// The store's id, or what is wrong with it.
    pub(crate) fn store_id(&self) -> Result<[u8; 16]> {
        Ok(uuid::Uuid::parse_str(&self.store_id).map_err(|error| damaged(&error))?.into_bytes())
    }

    /// What its MAC is of.
    pub(crate) fn signed(&self) -> Vec<u8> {
        let Self { format_version, features, store_id, account_id, region, store_key, mac: _ } = self;
        serde_json::to_vec(&(format_version, features, store_id, account_id, region, store_key))
            .expect("strings and a number can be serialized")
    }

    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("strings and a number can be serialized");
        text.push(b'\n');
        text
    }
}

/// What is in a store that not every kmsfs can read. A store is made without any, and gets one before it is used.
pub(crate) struct Features {
    dual_layers: AtomicBool,
    changing: Mutex<ranks::Features, ()>,
}

impl Features {
    pub(crate) fn of(json: &Json) -> Self {
        Self { dual_layers: AtomicBool::new(!json.features.is_empty()), changing: Mutex::new(()) }
    }

    pub(crate) fn dual_layers(&self) -> bool {
        self.dual_layers.load(Ordering::SeqCst)
    }

    /// Durably, at the first call.
    pub(crate) fn add_dual_layers(&self, backend: &dyn Backend, seal: &StoreSeal) -> Result<()> {
        if self.dual_layers() {
            return Ok(());
        }
        let _changing = self.changing.lock();
        if self.dual_layers() {
            return Ok(());
        }
        let json = read_json(backend)?;
        replace_json(backend, &seal.sign(Json { features: vec![DUAL_LAYERS.into()], ..json })?)?;
        self.dual_layers.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Deserialize)]
struct Version {
    format_version: u16,
}

pub(crate) fn read_file(dir: &dyn Dir, name: &OsStr) -> Result<Vec<u8>> {
    let file = dir.open_file(name, Access::Read)?;
    // The store's own small files; a huge one is not ours.
    let len = file.metadata()?.len.min(1 << 20) as usize;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
