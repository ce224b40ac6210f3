//! A keyring compares itself with what was last seen of it, here and outside, and tells how it goes on: its generation,
//! which every change of it raises.

use super::OpenError;
use super::contents::Contents;
use super::files::Keyring;
use super::lasting::Lasting;
use super::shred::Wrapping;
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_witness::{ADVICE, Rollback, Sighting, Watch, record};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

const PURPOSE: &str = "kmsfs keyring last seen";

/// What the witness has of a keyring.
#[derive(Serialize, Deserialize)]
struct Told {
    generation: u64,
}

/// What a process knows of the keyring that it has open.
#[derive(Default)]
pub(super) struct Seen {
    /// The newest generation that was read or written here.
    newest: AtomicU64,
    watch: Watch,
    finding: Option<String>,
}

impl Keyring {
    /// Before anything is changed; the keyring has to be this store's. What cannot be read is said to whoever reads it.
    pub(super) fn compare(&mut self, store_id: &[u8; 16], watch: &Watch) -> Result<(), OpenError> {
        let (Some(witness), Ok((contents, wrapping))) = (&watch.witness, self.load()) else { return Ok(()) };
        contents.check_store(store_id)?;
        self.seen.watch = watch.clone();
        let read = witness.read().map_err(|error| {
            OpenError::Other(format!("what was last seen of it cannot be read: {error}: --state none goes without it"))
        })?;
        let Some(finding) = read.map(|bytes| judge(&contents, &wrapping, &bytes)).transpose()?.flatten() else {
            self.seen.watch.rollback = Rollback::Refuse;
            return Ok(());
        };
        match watch.rollback {
            Rollback::Refuse => return Err(OpenError::RolledBack(format!("{finding}; {ADVICE}"))),
            Rollback::Accept => log::warn!("the keyring is accepted as it is: {finding}"),
            Rollback::Report => {
                self.seen.watch.witness = None;
                self.seen.finding = Some(finding);
            }
        }
        Ok(())
    }

    /// Why it should not be used, where it was opened to be looked at.
    pub fn rolled_back(&self) -> Option<&str> {
        self.seen.finding.as_deref()
    }

    /// To be asked before a file is read.
    pub(super) fn newest(&self) -> u64 {
        self.seen.newest.load(Ordering::SeqCst)
    }

    /// Refuses what was read if it is older than `newest` said before.
    pub(super) fn check_newest(&self, newest: u64, contents: &Contents) -> Result<(), OpenError> {
        if contents.generation >= newest {
            self.seen.newest.fetch_max(contents.generation, Ordering::SeqCst);
            return Ok(());
        }
        let is = contents.generation;
        Err(OpenError::RolledBack(format!(
            "it was put back to an earlier state: generation {is}, after {newest}; put the newer one back, or restore a backup \
             by kmsfs keyring restore; what is unlocked anew takes it with --accept-rollback"
        )))
    }

    /// What was opened: others may be about to make it durable.
    pub(super) fn tell_opened(&self) {
        let Some(witness) = &self.seen.watch.witness else { return };
        let Ok((contents, wrapping)) = self.load() else { return };
        let is_accepted = self.seen.watch.rollback == Rollback::Accept;
        let known = witness.read().ok().flatten().and_then(|bytes| decode(&contents, &wrapping, &bytes));
        if !is_accepted && known.is_some_and(|known| known.of.generation >= contents.generation) {
            return;
        }
        if File::open(&self.dir).and_then(|dir| dir.sync_all()).is_ok() {
            self.tell(&contents, &wrapping);
        }
    }

    /// What is durable; under the lock, or of what was opened.
    pub(super) fn tell(&self, contents: &Contents, wrapping: &Wrapping) {
        self.seen.newest.fetch_max(contents.generation, Ordering::SeqCst);
        tell(&self.seen.watch, contents, wrapping);
    }
}

/// Tells a witness of a keyring that somebody has put there knowingly.
pub(super) fn tell(watch: &Watch, contents: &Contents, wrapping: &Wrapping) {
    let (Some(witness), Some(key)) = (&watch.witness, key(contents, wrapping)) else { return };
    if let Err(error) = witness.write(&record(&key, &Told { generation: contents.generation })) {
        log::error!("what was last seen of the keyring is not kept, a rollback may go unnoticed: {error}");
    }
}

/// The generation that was seen, if that is known.
pub(super) fn told(watch: &Watch, contents: &Contents, wrapping: &Wrapping) -> Option<u64> {
    let bytes = watch.witness.as_ref()?.read().ok()??;
    decode(contents, wrapping, &bytes).map(|sighting| sighting.of.generation)
}

/// What is wrong with the keyring, if that was seen.
fn judge(contents: &Contents, wrapping: &Wrapping, bytes: &[u8]) -> Result<Option<String>, OpenError> {
    let is = contents.generation;
    if contents.is_of_first_version() {
        let what = "it was put back to an earlier state: it is of a version that was left behind";
        return Ok(Some(what.into()));
    }
    // Says what is damaged.
    contents.lasting(Lasting::Slots, wrapping.root())?;
    Ok(match decode(contents, wrapping, bytes) {
        None => {
            Some("what was last seen of it was changed since, so that it is not known whether it was put back".into())
        }
        Some(Sighting { of: Told { generation }, when }) if generation > is => Some(format!(
            "it was put back to an earlier state: on {when} generation {generation} was seen, and now it is {is}"
        )),
        Some(_) => None,
    })
}

fn decode(contents: &Contents, wrapping: &Wrapping, bytes: &[u8]) -> Option<Sighting<Told>> {
    Sighting::decode(&key(contents, wrapping)?, bytes)
}

/// From a key that stays when the root key changes; the first keyrings have none.
fn key(contents: &Contents, wrapping: &Wrapping) -> Option<MacKey> {
    if contents.is_of_first_version() {
        return None;
    }
    Some(StoreKey::new(contents.lasting(Lasting::Slots, wrapping.root()).ok()?).mac_key(PURPOSE))
}

#[cfg(test)]
mod tests {
    use super::super::{Backup, Unlock};
    use super::*;
    use crate::KeyringParameters;
    use kmsfs_crypto::SecretKey;
    use kmsfs_crypto::passphrase::Cost;
    use kmsfs_locks::{Mutex, ranks};
    use kmsfs_witness::Witness;
    use std::fs;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    const STORE: [u8; 16] = [1; 16];

    #[derive(Debug, Default)]
    struct Memory(Mutex<ranks::InTests, Option<Vec<u8>>>);

    impl Witness for Memory {
        fn read(&self) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.lock().clone())
        }

        fn write(&self, record: &[u8]) -> io::Result<()> {
            *self.0.lock() = Some(record.to_vec());
            Ok(())
        }
    }

    struct Place {
        dir: tempfile::TempDir,
        key: Unlock,
        memory: Arc<Memory>,
    }

    impl Place {
        fn new() -> Self {
            let (dir, key) = (tempfile::tempdir().unwrap(), Unlock::KeyFile(SecretKey::random()));
            let parameters =
                KeyringParameters { store_id: STORE, account_id: "000000000000".into(), region: "us-east-1".into() };
            let cost = Cost { memory_kib: 0, passes: 0, lanes: 0 };
            drop(Keyring::create(&dir.path().join("ring"), &parameters, &key, cost).unwrap());
            Self { dir, key, memory: Arc::default() }
        }

        fn ring(&self) -> std::path::PathBuf {
            self.dir.path().join("ring")
        }

        fn watch(&self, rollback: Rollback) -> Watch {
            let witness: Arc<dyn Witness> = self.memory.clone();
            Watch { witness: Some(witness), rollback }
        }

        fn open(&self, rollback: Rollback) -> Result<Keyring, OpenError> {
            Keyring::open_seen(&self.ring(), &self.key, &STORE, &self.watch(rollback))
        }

        /// A copy of what is there.
        fn keep(&self, name: &str) -> std::path::PathBuf {
            let kept = self.dir.path().join(name);
            copy(&self.ring(), &kept);
            kept
        }

        fn put_back(&self, kept: &Path) {
            fs::remove_dir_all(self.ring()).unwrap();
            copy(kept, &self.ring());
        }
    }

    fn copy(from: &Path, to: &Path) {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().mode(0o700).create(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    fn change(keyring: &Keyring) -> Result<(), OpenError> {
        keyring.change(|_, _| Ok(()))
    }

    #[test]
    fn a_keyring_that_was_put_back_is_refused_until_that_is_accepted() {
        let place = Place::new();
        let open = place.open(Rollback::Refuse).unwrap();
        let earlier = place.keep("earlier");
        change(&open).unwrap();
        place.put_back(&earlier);
        let Err(OpenError::RolledBack(text)) = place.open(Rollback::Refuse) else { panic!("it opens") };
        assert!(
            text.contains("generation 2 was seen, and now it is 1") && text.contains("--accept-rollback"),
            "{text}"
        );
        assert!(matches!(change(&open), Err(OpenError::RolledBack(_))), "nor is it changed by who has it open");
        assert!(place.open(Rollback::Report).unwrap().rolled_back().is_some());
        assert!(place.open(Rollback::Refuse).is_err(), "looking at it accepts nothing");
        assert!(place.open(Rollback::Accept).unwrap().rolled_back().is_none());
        change(&place.open(Rollback::Refuse).unwrap()).unwrap();
        // Another root key is a generation too, and the record outlives it.
        place.open(Rollback::Refuse).unwrap().rotate_root_key(false).unwrap();
        place.put_back(&earlier);
        assert!(matches!(place.open(Rollback::Refuse), Err(OpenError::RolledBack(_))));
    }

    #[test]
    fn no_changed_byte_of_the_record_makes_a_rollback_pass() {
        let place = Place::new();
        let earlier = place.keep("earlier");
        change(&place.open(Rollback::Refuse).unwrap()).unwrap();
        place.put_back(&earlier);
        let record = place.memory.read().unwrap().unwrap();
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            place.memory.write(&changed).unwrap();
            assert!(matches!(place.open(Rollback::Refuse), Err(OpenError::RolledBack(_))), "byte {at}");
        }
    }

    #[test]
    fn a_backup_is_restored_on_purpose_and_everybody_takes_it() {
        let place = Place::new();
        let open = place.open(Rollback::Refuse).unwrap();
        let backup = Backup::of(&place.ring(), &STORE).unwrap();
        change(&open).unwrap();
        let restore = |force| backup.restore(&place.ring(), &STORE, &place.key, force, &place.watch(Rollback::Refuse));
        assert!(restore(false).is_err());
        assert_eq!(restore(true).map(|restored| restored.generation), Ok(1));
        assert_eq!(open.read().unwrap().generation, 3);
        change(&open).unwrap();
        // Of what was lost the record alone knows.
        fs::remove_dir_all(place.ring()).unwrap();
        assert_eq!(restore(false).map(|restored| restored.generation), Ok(1));
        assert_eq!(open.read().unwrap().generation, 5);
        assert_eq!(place.open(Rollback::Refuse).unwrap().read().unwrap().generation, 5);
    }

    #[test]
    fn another_stores_keyring_says_nothing_about_this_ones() {
        let place = Place::new();
        let foreign = Keyring::open_seen(&place.ring(), &place.key, &[2; 16], &place.watch(Rollback::Accept));
        assert!(
            matches!(foreign.err(), Some(OpenError::Other(text)) if text.starts_with("it belongs to another store"))
        );
        assert_eq!(place.memory.read().unwrap(), None);
    }
}
