//! Another root key, for all slots that remain: it is sealed to their public keys, so nobody's secret is needed. And
//! how those follow who have the keyring open: with the private key of the slot that they opened it by.
//!
//! Two files are replaced, one after the other: the keyring under its new root key is there as `keyring.next` before
//! `slots.json` gives that key, and takes its place afterwards.

use super::backup::drop_replaced;
use super::contents::Contents;
use super::files::{DAMAGED, KEYRING, PREVIOUS, SLOTS, lock, read_slots, replace, seal, unseal};
use super::lasting::Lasting;
use super::private::read_private;
use super::shred::{self, Wrapping};
use super::slot::SlotKeys;
use super::slots::Slots;
use super::{Keyring, OpenError, SlotInfo};
use kmsfs_crypto::SecretKey;
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) const NEXT: &str = "keyring.next";

/// What a process has of a keyring that it opened.
pub(crate) struct Session {
    pub root: Arc<SecretKey>,
    /// What opened it.
    pub slot: Value,
    /// That slot's; `None` in a keyring of the first version that cannot be written.
    pub keys: Option<SlotKeys>,
}

impl Keyring {
    pub(super) fn root(&self) -> Arc<SecretKey> {
        self.session.read().root.clone()
    }

    /// The contents and what unwraps them, from whichever file is of the root key that is known or can be had.
    pub fn load(&self) -> Result<(Contents, Wrapping), OpenError> {
        match self.load_under(self.root()) {
            Err(OpenError::Other(text)) if text == DAMAGED => {}
            loaded => return loaded,
        }
        // Once more for each file that may be replaced between two looks.
        for _ in 0..3 {
            if !self.follow()? {
                break;
            }
            match self.load_under(self.root()) {
                Err(OpenError::Other(text)) if text == DAMAGED => {}
                loaded => return loaded,
            }
        }
        Err(OpenError::Other(DAMAGED.into()))
    }

    fn load_under(&self, root: Arc<SecretKey>) -> Result<(Contents, Wrapping), OpenError> {
        let newest = self.newest();
        let read = |name| unseal(&root, &read_private(&self.dir, name)?);
        let contents = match read(KEYRING) {
            Err(error) => read(NEXT).map_err(|_| error)?,
            Ok(contents) => contents,
        };
        self.check_newest(newest, &contents)?;
        if !contents.sectors().is_empty() {
            shred::check(&self.dir)?;
        }
        Ok((contents, Wrapping::new(root, &self.dir)))
    }

    /// Takes up the root key of now, which the slot gives that opened the keyring. False if it is the one that is
    /// known.
    fn follow(&self) -> Result<bool, OpenError> {
        let slots = read_slots(&self.dir)?;
        let gone = || {
            let text = "the slot that unlocked it was removed or changed, and the root key since: unlock it again; a \
                        mount is to be mounted anew";
            OpenError::Other(text.into())
        };
        let mut session = self.session.write();
        let slot = slots.same_as(&session.slot).ok_or_else(gone)?.clone();
        let keys = session.keys.as_ref().filter(|_| slot["root_key"] != session.slot["root_key"]);
        let Some(keys) = keys else { return Ok(false) };
        let root = slots.root_for(keys)?.ok_or_else(gone)?;
        (session.root, session.slot) = (Arc::new(root), slot);
        Ok(true)
    }

    /// Ends what a process left that was killed between two files. Under the lock.
    pub(super) fn settle(&self) -> Result<(), OpenError> {
        if !is_there(&self.dir) {
            return Ok(());
        }
        self.follow()?;
        let root = self.root();
        let opens = |bytes: &[u8]| unseal(&root, bytes).is_ok();
        let next = read_private(&self.dir, NEXT)?;
        let present = read_private(&self.dir, KEYRING).is_ok_and(|bytes| opens(&bytes));
        let done = match (present, opens(&next)) {
            (true, _) => fs::remove_file(self.dir.join(NEXT)),
            (false, true) => take_place(&self.dir, &next),
            (false, false) => return Err(OpenError::Other(DAMAGED.into())),
        };
        done.map_err(|error| OpenError::io(NEXT, &error))
    }

    /// A new root key, sealed to the public key of each slot, and everything wrapped anew. Slots that have no public
    /// key yet are a refusal, or go with `force`. Answers the slots that remain.
    pub fn rotate_root_key(&self, force: bool) -> Result<Vec<SlotInfo>, OpenError> {
        let _lock = lock(&self.dir)?;
        let slots = self.authentic_slots()?;
        self.rotate(slots, force).map(|slots| slots.infos())
    }

    /// The slots as they are, if they are what somebody wrote who had the keyring open, and ours is among them. Under
    /// the lock.
    pub(super) fn authentic_slots(&self) -> Result<Slots, OpenError> {
        self.settle()?;
        // The slots must go on to open what is there now, which somebody may have exchanged.
        self.load()?;
        let slots = read_slots(&self.dir)?;
        // Whoever lost his slot meanwhile may not make another.
        self.own_slot(&slots)?;
        let session = self.session.read();
        let keys = session.keys.as_ref().ok_or_else(without_keys)?;
        slots.verify(&session.root, &keys.slots)?;
        Ok(slots)
    }

    /// Under the lock, for slots that are authentic but for what is taken out of them.
    pub(super) fn rotate(&self, mut slots: Slots, force: bool) -> Result<Slots, OpenError> {
        let root = Arc::new(SecretKey::random());
        let left_out = slots.seal_root(&root);
        if !left_out.is_empty() && !force {
            return Err(without_public_key(&left_out));
        }
        left_out.into_iter().try_for_each(|number| slots.remove(number))?;
        let (mut contents, old) = self.load()?;
        let new = Wrapping::new(root.clone(), &self.dir);
        contents.rewrap(&old, &new)?;
        contents.generation += 1;
        slots.authenticate(&root, &contents.lasting(Lasting::Slots, &root)?);
        let sealed = seal(&root, &contents)?;
        new.write()?;
        // They give the old root key, and what it wraps.
        drop_replaced(&self.dir).map_err(|error| OpenError::io("what a restore replaced", &error))?;
        put(&self.dir, &slots, &sealed)?;
        self.tell(&contents, &new);
        let mut session = self.session.write();
        if let Some(slot) = slots.same_as(&session.slot).cloned() {
            (session.root, session.slot) = (root, slot);
        }
        drop(session);
        shred::sweep(&self.dir, &contents.sectors())?;
        Ok(slots)
    }

    /// Ends what a killed process left, and gives a keyring of the first version what it lacks: secrets of their own
    /// for materials, and a key pair for the slot that this secret opened.
    pub(super) fn tidy(&self, secret: &SecretKey) -> Result<(), OpenError> {
        // What cannot be read is said to whoever reads it.
        let Ok((contents, _)) = self.load() else { return Ok(()) };
        let has_keys = self.session.read().keys.is_some();
        let is_whole = has_keys && !contents.is_of_first_version() && !is_there(&self.dir);
        if is_whole && shred::strays(&self.dir, &contents.sectors())?.is_empty() {
            return Ok(());
        }
        if contents.is_of_first_version() {
            self.change(|_, _| Ok::<_, OpenError>(()))?;
        }
        let _lock = lock(&self.dir)?;
        self.settle()?;
        let (contents, wrapping) = self.load()?;
        if !has_keys {
            self.give_keys(&contents, wrapping.root(), secret)?;
        }
        shred::sweep(&self.dir, &contents.sectors())
    }

    fn give_keys(&self, contents: &Contents, root: &SecretKey, secret: &SecretKey) -> Result<(), OpenError> {
        let mut slots = read_slots(&self.dir)?;
        let slots_key = contents.lasting(Lasting::Slots, root)?;
        if !slots.is_of_first_version() {
            slots.verify(root, &slots_key)?;
        }
        // Another process may have been here before.
        let (opened, mut slot) = slots.open_again(secret)?;
        let keys = if let Some(keys) = opened.keys {
            keys
        } else {
            let (keys, with_keys) = slots.give_keys(&slot, secret, root, &slots_key)?;
            slot = with_keys;
            slots.authenticate(root, &slots_key);
            let written = replace(&self.dir, SLOTS, &slots.encode());
            written.map_err(|error| OpenError::io("it cannot be written", &error))?;
            keys
        };
        let mut session = self.session.write();
        (session.slot, session.keys) = (slot, Some(keys));
        Ok(())
    }
}

/// Slots and keyring of another root key, or of another time, in the place of what is there.
pub(super) fn put(dir: &Path, slots: &Slots, sealed: &[u8]) -> Result<(), OpenError> {
    let put = replace(dir, NEXT, sealed)
        .and_then(|()| replace(dir, SLOTS, &slots.encode()))
        .and_then(|()| take_place(dir, sealed));
    put.map_err(|error| OpenError::io("it cannot be written", &error))
}

/// The generation before it, under another root key or of another time, would help nobody.
fn take_place(dir: &Path, next: &[u8]) -> io::Result<()> {
    replace(dir, PREVIOUS, next)?;
    fs::rename(dir.join(NEXT), dir.join(KEYRING))?;
    File::open(dir)?.sync_all()
}

/// Whether two files may be of different moments.
pub(super) fn is_there(dir: &Path) -> bool {
    dir.join(NEXT).symlink_metadata().is_ok()
}

pub(super) fn without_keys() -> OpenError {
    let text = "the slot that unlocked it has no key pair, which it gets when it is unlocked and the keyring can be written: \
                unlock it again";
    OpenError::Other(text.into())
}

fn without_public_key(slots: &[u32]) -> OpenError {
    let numbers = slots.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let (which, they) = if slots.len() == 1 { ("slot", "it") } else { ("slots", "each") };
    OpenError::Other(format!(
        "the root key cannot change for {which} {numbers}, which an older kmsfs made: unlock with {they} once, or drop \
         what is left out with --force"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::files::now;
    use super::super::shred::SHRED;
    use super::super::{Key, KeyringParameters, Material, RootKey, Unlock};
    use super::*;
    use kmsfs_crypto::passphrase::Cost;
    use kmsfs_kms::api::KeyManager;
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const ANY: Cost = Cost { memory_kib: 0, passes: 0, lanes: 0 };

    fn key() -> Unlock {
        Unlock::KeyFile(SecretKey::random())
    }

    /// With a key of two materials.
    fn keyring(dir: &Path, unlock: &Unlock) -> Keyring {
        let parameters =
            KeyringParameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        let keyring = Keyring::create(dir, &parameters, unlock, ANY).unwrap();
        let make = |contents: &mut Contents, wrapping: &Wrapping| {
            let mut key = Key::new("", KeyManager::Customer, 0);
            key.materials = vec![Material::random(wrapping, now())?, Material::random(wrapping, now())?];
            contents.keys.push(key);
            Ok::<_, OpenError>(())
        };
        keyring.change(make).unwrap();
        keyring
    }

    /// How many of its materials open.
    fn usable(keyring: &Keyring) -> usize {
        let (contents, wrapping) = keyring.load().unwrap();
        let materials = contents.keys.iter().flat_map(|key| &key.materials).chain(&contents.service);
        materials.filter(|material| material.unwrap(&wrapping).is_some()).count()
    }

    fn change(keyring: &Keyring) -> Result<(), OpenError> {
        keyring.change(|_, _| Ok(()))
    }

    type Files = BTreeMap<OsString, Vec<u8>>;

    fn files(dir: &Path) -> Files {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    }

    fn put_files(dir: &Path, files: &Files) {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).unwrap();
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o600)).unwrap();
        }
    }

    fn copy(dir: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        put_files(to.path(), &files(dir));
        to
    }

    #[test]
    fn a_slot_that_goes_takes_the_root_key_with_it_and_the_others_follow() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, third] = [(); 3].map(|()| key());
        let keyring = keyring(dir.path(), &first);
        keyring.add_slot(&second, None).unwrap();
        keyring.add_slot(&third, None).unwrap();
        let [by_second, by_third] = [&second, &third].map(|unlock| Keyring::open(dir.path(), unlock).unwrap());
        let old = copy(dir.path());
        assert_eq!(keyring.remove_slot(1, RootKey::Changes, false).map(|left| left.len()), Ok(2));
        for open in [&keyring, &by_third] {
            assert_eq!((usable(open), change(open)), (3, Ok(())), "what had it open goes on");
        }
        let gone = by_second.read().unwrap_err().to_string();
        assert!(
            gone.starts_with("the slot that unlocked it was removed or changed, and the root key since: "),
            "{gone}"
        );
        assert_eq!(change(&by_second).unwrap_err().to_string(), gone);
        assert_eq!(Keyring::open(dir.path(), &second).err(), Some(OpenError::WrongKey));
        for unlock in [&first, &third] {
            assert_eq!(usable(&Keyring::open(dir.path(), unlock).unwrap()), 3);
        }
        // The removed slot in an old copy gives the old root key, which opens nothing that is there now.
        let new = files(dir.path());
        fs::write(old.path().join(KEYRING), &new[&OsString::from(KEYRING)]).unwrap();
        assert_eq!(Keyring::open(old.path(), &second).unwrap().read().err(), Some(OpenError::Other(DAMAGED.into())));
    }

    fn keyring_of(files: &Files) -> Vec<u8> {
        files[&OsString::from(KEYRING)].clone()
    }

    /// Each file is durable before the next is touched, so a power cut leaves one of these states.
    #[test]
    fn wherever_a_change_of_the_root_key_is_cut_off_every_slot_opens_everything() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| key());
        let keyring = keyring(dir.path(), &first);
        keyring.add_slot(&second, None).unwrap();
        let before = files(dir.path());
        keyring.rotate_root_key(false).unwrap();
        let after = files(dir.path());
        let name = |name: &str| OsString::from(name);
        // Before what nothing names is overwritten, the secrets of both are there.
        let both = before[&name(SHRED)].iter().zip(&after[&name(SHRED)]).map(|(one, other)| one | other);
        let mut state = before.clone();
        let mut states = vec![state.clone()];
        let steps = [
            (SHRED, both.collect()),
            (NEXT, keyring_of(&after)),
            (SLOTS, after[&name(SLOTS)].clone()),
            (PREVIOUS, after[&name(PREVIOUS)].clone()),
            (KEYRING, keyring_of(&after)),
        ];
        for (file, bytes) in steps {
            state.insert(name(file), bytes);
            if file == KEYRING {
                state.remove(&name(NEXT));
            }
            states.push(state.clone());
        }
        for (number, state) in states.iter().enumerate() {
            for unlock in [&first, &second] {
                let cut = tempfile::tempdir().unwrap();
                // What had it open before the change goes on too.
                put_files(cut.path(), &before);
                let open = Keyring::open(cut.path(), unlock).unwrap();
                put_files(cut.path(), state);
                assert_eq!(usable(&open), 3, "state {number}");
                assert_eq!(change(&open), Ok(()), "state {number}");
                assert!(!cut.path().join(NEXT).exists());
                put_files(cut.path(), state);
                let opened = Keyring::open(cut.path(), unlock).unwrap();
                assert_eq!(usable(&opened), 3, "state {number}");
                assert_eq!((change(&opened), usable(&opened)), (Ok(()), 3), "state {number}");
                let named = opened.read().unwrap().sectors();
                assert_eq!(shred::strays(cut.path(), &named), Ok(Vec::new()), "state {number}");
                assert_eq!(opened.rotate_root_key(false).map(|slots| slots.len()), Ok(2), "state {number}");
                assert_eq!(usable(&opened), 3);
            }
        }
    }

    #[test]
    fn what_is_destroyed_opens_from_no_older_copy_of_the_keyring() {
        let dir = tempfile::tempdir().unwrap();
        let unlock = key();
        let keyring = keyring(dir.path(), &unlock);
        let old = files(dir.path());
        let destroy = |contents: &mut Contents, _: &Wrapping| {
            contents.keys[0].materials[0].destroy();
            Ok::<_, OpenError>(())
        };
        keyring.change(destroy).unwrap();
        let secrets = files(dir.path())[&OsString::from(SHRED)].clone();
        // Slots and keyring as they are found in free blocks, beside the secrets of today.
        for name in [KEYRING, PREVIOUS] {
            let copy = tempfile::tempdir().unwrap();
            put_files(copy.path(), &old);
            let keyring = old[&OsString::from(name)].clone();
            put_files(copy.path(), &[(KEYRING, keyring), (SHRED, secrets.clone())].map(|(a, b)| (a.into(), b)).into());
            let opened = Keyring::open(copy.path(), &unlock).unwrap();
            let (contents, _) = opened.load().unwrap();
            let there = contents.keys.iter().flat_map(|key| &key.materials).chain(&contents.service).count();
            assert_eq!(usable(&opened), if name == KEYRING { there - 1 } else { there }, "{name}");
        }
        // And a killed process that had not come to the secret: whoever opens it next overwrites it.
        put_files(dir.path(), &[(SHRED.into(), old[&OsString::from(SHRED)].clone())].into());
        Keyring::open(dir.path(), &unlock).unwrap();
        assert_eq!(files(dir.path())[&OsString::from(SHRED)], secrets);
    }

    #[test]
    fn without_its_secrets_a_keyring_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let unlock = key();
        let keyring = keyring(dir.path(), &unlock);
        fs::rename(dir.path().join(SHRED), dir.path().join("away")).unwrap();
        let text = "its file shred is not there, and no key opens without it: restore it from a backup";
        assert_eq!(keyring.read().err(), Some(OpenError::Other(text.into())));
        let mut damaged = fs::read(dir.path().join("away")).unwrap();
        damaged[20] ^= 1;
        put_files(dir.path(), &[(SHRED.into(), damaged)].into());
        assert_eq!(usable(&keyring), 2, "the others go on");
        let text = keyring.rotate_root_key(false).unwrap_err().to_string();
        assert!(text.ends_with("its secret in the file shred is damaged; restore the keyring from a backup"), "{text}");
        assert_eq!(usable(&keyring), 2, "and nothing is changed");
    }
}
