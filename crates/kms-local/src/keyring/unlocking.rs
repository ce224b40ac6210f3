//! Changes of a keyring's slots: under the lock of all who change it, in one replacement of `slots.json`, of which no
//! earlier version is kept. A process that has the keyring open does not need the file again.

use super::files::{SLOTS, lock, now, read_slots, replace};
use super::rotating::without_keys;
use super::slots::{NewSlot, Slots};
use super::{Keyring, OpenError, SlotInfo, Unlock};
use kmsfs_crypto::SecretKey;
use kmsfs_witness::Watch;
use std::path::Path;

/// Whether a slot that goes takes the root key with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKey {
    /// Everything is wrapped anew.
    Changes,
    /// Only the slot is another one.
    Stays,
}

impl Keyring {
    /// The slots as they are; needs nothing that opens them.
    pub fn slots(dir: &Path) -> Result<Vec<SlotInfo>, OpenError> {
        Ok(read_slots(dir)?.infos())
    }

    /// Opens the keyring of this store, and reads it.
    pub fn open_for(dir: &Path, unlock: &Unlock, store_id: &[u8; 16], watch: &Watch) -> Result<Self, OpenError> {
        let keyring = Self::open_seen(dir, unlock, store_id, watch)?;
        keyring.read()?.check_store(store_id)?;
        Ok(keyring)
    }

    /// The slot that opened it, as it is now.
    pub fn opened_by(&self) -> Result<SlotInfo, OpenError> {
        let slots = read_slots(&self.dir)?;
        find(&slots, self.own_slot(&slots)?)
    }

    /// Another way to unlock it.
    pub fn add_slot(&self, unlock: &Unlock, name: Option<&str>) -> Result<SlotInfo, OpenError> {
        let new = self.new_slot(unlock, name)?;
        self.change_slots(|slots, root| {
            let number = slots.add(new, root)?;
            find(slots, number)
        })
    }

    /// Answers the slots that remain. The root key changes, unless it is to stay: whoever has that slot's secret and an
    /// older copy of the keyring has it. `force`: as in [`Keyring::rotate_root_key`].
    pub fn remove_slot(&self, number: u32, root_key: RootKey, force: bool) -> Result<Vec<SlotInfo>, OpenError> {
        if root_key == RootKey::Stays {
            return self.change_slots(|slots, _| slots.remove(number).map(|()| slots.infos()));
        }
        let _lock = lock(&self.dir)?;
        let mut slots = self.authentic_slots()?;
        slots.remove(number)?;
        self.rotate(slots, force).map(|slots| slots.infos())
    }

    /// Gives a slot, the one that opened the keyring if none is named, another secret, and answers it.
    pub fn change_slot(&self, number: Option<u32>, unlock: &Unlock, name: Option<&str>) -> Result<SlotInfo, OpenError> {
        let new = self.new_slot(unlock, name)?;
        self.change_slots(|slots, root| {
            let number = number.map_or_else(|| self.own_slot(slots), Ok)?;
            slots.replace(number, new, root)?;
            find(slots, number)
        })
    }

    /// Takes a second for a passphrase, in which nobody waits.
    fn new_slot(&self, unlock: &Unlock, name: Option<&str>) -> Result<NewSlot, OpenError> {
        let slots = self.session.read().keys.as_ref().ok_or_else(without_keys)?.slots.duplicate();
        NewSlot::new(&slots, unlock, unlock.cost(), name, now())
    }

    fn change_slots<T>(
        &self,
        change: impl FnOnce(&mut Slots, &SecretKey) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let _lock = lock(&self.dir)?;
        let mut slots = self.authentic_slots()?;
        let root = self.root();
        let answer = change(&mut slots, &root)?;
        let keys = self.session.read();
        slots.authenticate(&root, &keys.keys.as_ref().ok_or_else(without_keys)?.slots);
        replace(&self.dir, SLOTS, &slots.encode()).map_err(|error| OpenError::io("it cannot be written", &error))?;
        Ok(answer)
    }

    pub(super) fn own_slot(&self, slots: &Slots) -> Result<u32, OpenError> {
        let gone = "the slot that unlocked it was removed or changed meanwhile: start again";
        slots.number_of(&self.session.read().slot).ok_or_else(|| OpenError::Other(gone.into()))
    }
}

fn find(slots: &Slots, number: u32) -> Result<SlotInfo, OpenError> {
    let found = slots.infos().into_iter().find(|info| info.number == number);
    found.ok_or_else(|| OpenError::Other(format!("there is no slot {number}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyringParameters;
    use kmsfs_crypto::SecretKey;
    use kmsfs_crypto::passphrase::Cost;

    const ANY: Cost = Cost { memory_kib: 0, passes: 0, lanes: 0 };

    fn keyring(dir: &Path, unlock: &Unlock) -> Keyring {
        let parameters =
            KeyringParameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        Keyring::create(dir, &parameters, unlock, ANY).unwrap();
        Keyring::open_for(dir, unlock, &[1; 16], &Watch::default()).unwrap()
    }

    #[test]
    fn each_slot_opens_until_it_is_removed_or_changed() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, third] = [(); 3].map(|()| Unlock::KeyFile(SecretKey::random()));
        let keyring = keyring(dir.path(), &first);
        assert_eq!(keyring.add_slot(&second, Some("two")).map(|info| info.number), Ok(1));
        let other = Keyring::open(dir.path(), &second).unwrap();
        assert_eq!(other.opened_by().map(|info| info.number), Ok(1));
        assert_eq!(
            other.change_slot(None, &third, None).map(|info| (info.number, info.name)),
            Ok((1, Some("two".into())))
        );
        assert_eq!(Keyring::open(dir.path(), &second).err(), Some(OpenError::WrongKey));
        let third_keyring = Keyring::open(dir.path(), &third).unwrap();
        assert_eq!(third_keyring.remove_slot(0, RootKey::Stays, false).map(|left| left.len()), Ok(1));
        assert_eq!(Keyring::open(dir.path(), &first).err(), Some(OpenError::WrongKey));
        assert!(third_keyring.remove_slot(1, RootKey::Changes, true).is_err(), "the last one");
        assert_eq!(third_keyring.read().unwrap().generation, 1, "the keys are not touched");
    }

    #[test]
    fn whoever_lost_the_slot_makes_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| Unlock::KeyFile(SecretKey::random()));
        let keyring = keyring(dir.path(), &first);
        keyring.add_slot(&second, None).unwrap();
        let other = Keyring::open(dir.path(), &second).unwrap();
        keyring.remove_slot(1, RootKey::Stays, false).unwrap();
        let text = "the slot that unlocked it was removed or changed meanwhile: start again";
        assert_eq!(other.add_slot(&second, None).err(), Some(OpenError::Other(text.into())));
        assert!(other.read().is_ok(), "what has it open goes on");
    }
}
