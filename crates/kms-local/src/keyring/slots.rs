//! `slots.json`: unlock slots, as LUKS has them. Each wraps the root key under a key of its own.

use super::OpenError;
use super::slot::{OpenedSlot, Slot, SlotInfo, SlotKeys, Unlock, forged};
use super::unhex;
use kmsfs_crypto::passphrase::Cost;
use kmsfs_crypto::{ChainKey, SecretKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slots {
    version: u16,
    /// As they are in the file: one of a kind that only a later kmsfs knows is passed over, and kept.
    #[serde(rename = "slots")]
    list: Vec<Value>,
    /// HMAC-SHA-256 over version and list, by which only somebody who had the keyring open can have written them; the
    /// first keyrings have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    /// CRC-32 of the list as `encode` writes it: tells damage from a wrong key.
    crc32: u32,
}

/// A slot that is not in a list yet: making one takes a second, which nobody is to wait for.
pub(crate) struct NewSlot {
    slot: Slot,
    keys: SlotKeys,
    name: Option<String>,
    created: i64,
}

const VERSION: u16 = 2;
const FIRST: u16 = 1;
/// A wrong passphrase is tried with each, a second apiece.
const MOST: usize = 32;
const LONGEST_NAME: usize = 64;

impl NewSlot {
    pub(crate) fn new(
        slots: &SecretKey,
        unlock: &Unlock,
        cost: Cost,
        name: Option<&str>,
        now: i64,
    ) -> Result<Self, OpenError> {
        if name.is_some_and(|name| {
            name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control)
        }) {
            let text = format!("a slot's name has 1 to {LONGEST_NAME} characters, none of them a control character");
            return Err(OpenError::Other(text));
        }
        let (slot, keys) = Slot::new(unlock, cost, slots)?;
        Ok(Self { slot, keys, name: name.map(str::to_owned), created: now })
    }

    pub(crate) fn into_keys(self) -> SlotKeys {
        self.keys
    }

    fn numbered(&mut self, number: u32, root: &SecretKey) -> Value {
        self.slot.seal_root(root);
        let mut slot = value(&self.slot);
        slot["number"] = json!(number);
        if let Some(name) = &self.name {
            slot["name"] = json!(name);
        }
        slot["created"] = json!(self.created);
        slot
    }
}

impl Slots {
    /// One slot, for a new root key.
    pub(crate) fn new(root: &SecretKey, mut slot: NewSlot) -> (Self, SlotKeys) {
        let list = vec![slot.numbered(0, root)];
        let mut slots = Self { version: VERSION, crc32: 0, mac: None, list };
        let keys = slot.into_keys();
        slots.authenticate(root, &keys.slots);
        (slots, keys)
    }

    /// To be done after each change: nobody can without the root key and the slots' own.
    pub(crate) fn authenticate(&mut self, root: &SecretKey, slots: &SecretKey) {
        self.version = VERSION;
        self.mac = Some(hex::encode(mac_key(root, slots).hash(&self.authenticated())));
        self.crc32 = checksum(&self.list);
    }

    pub(crate) fn verify(&self, root: &SecretKey, slots: &SecretKey) -> Result<(), OpenError> {
        let mac = self.mac.as_ref().and_then(|mac| unhex(mac)?.try_into().ok());
        let is_authentic = mac.is_some_and(|mac| mac_key(root, slots).verify(&self.authenticated(), &mac));
        if is_authentic { Ok(()) } else { Err(forged()) }
    }

    fn authenticated(&self) -> Vec<u8> {
        [&self.version.to_le_bytes()[..], &bytes_of(&self.list)].concat()
    }

    pub(crate) fn is_of_first_version(&self) -> bool {
        self.version == FIRST
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and strings can be serialized")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        let damaged = |why: String| OpenError::Other(format!("slots.json is damaged: {why}; restore it from a backup"));
        let Version { version } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if version > VERSION {
            return Err(OpenError::Other(format!(
                "slots.json has version {version} and this kmsfs reads version {VERSION}: use a newer kmsfs"
            )));
        }
        let mut slots: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if version < FIRST || (version == FIRST) != slots.mac.is_none() || slots.crc32 != checksum(&slots.list) {
            return Err(damaged("its checksum is wrong".into()));
        }
        // JSON can be written in more than one way: a bit that only changes how is damage too.
        if slots.encode() != bytes {
            return Err(damaged("it is not written as kmsfs does".into()));
        }
        if version == FIRST {
            slots.drop_keys();
        }
        Ok(slots)
    }

    /// Nobody wrote any then, and nothing authenticates them: a public key would be somebody's who is to get no root
    /// key.
    fn drop_keys(&mut self) {
        for slot in self.list.iter_mut().filter_map(Value::as_object_mut) {
            slot.retain(|name, _| !["public_key", "private_key", "slots_key"].contains(&name.as_str()));
        }
        self.crc32 = checksum(&self.list);
    }

    /// The first slot that opens, and what that gives. All of them are authenticated by that, but in the first
    /// keyrings.
    pub(crate) fn open(&self, unlock: &Unlock) -> Result<(OpenedSlot, Value), OpenError> {
        self.open_by(|slot| slot.open(unlock))
    }

    /// As `open`, with the secret that [`Slots::open`] answered.
    pub(crate) fn open_again(&self, secret: &SecretKey) -> Result<(OpenedSlot, Value), OpenError> {
        self.open_by(|slot| slot.open_with(secret.duplicate()))
    }

    fn open_by(
        &self,
        open: impl Fn(&Slot) -> Result<Option<OpenedSlot>, OpenError>,
    ) -> Result<(OpenedSlot, Value), OpenError> {
        let mut refused = OpenError::WrongKey;
        for value in &self.list {
            let Ok(slot) = Slot::deserialize(value) else { continue };
            match open(&slot) {
                Ok(Some(opened)) => {
                    if let Some(keys) = &opened.keys {
                        self.verify(&opened.root, &keys.slots)?;
                    }
                    return Ok((opened, value.clone()));
                }
                Ok(None) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The root key of now for the slot with these keys; `None` if it is not there any more.
    pub(crate) fn root_for(&self, keys: &SlotKeys) -> Result<Option<SecretKey>, OpenError> {
        let root = self.list.iter().find_map(|slot| Slot::deserialize(slot).ok()?.root_for(keys));
        root.map(|root| self.verify(&root, &keys.slots).map(|()| root)).transpose()
    }

    /// A key pair for a slot of the first keyrings. Answers the slot.
    pub(crate) fn give_keys(
        &mut self,
        slot: &Value,
        secret: &SecretKey,
        root: &SecretKey,
        slots: &SecretKey,
    ) -> Result<(SlotKeys, Value), OpenError> {
        let at = self.list.iter().position(|other| other == slot).ok_or(OpenError::WrongKey)?;
        let mut typed = Slot::deserialize(slot).map_err(|_| OpenError::WrongKey)?;
        let keys = typed.give_keys(secret, slots);
        typed.seal_root(root);
        self.change(|list| {
            let members = value(&typed);
            for (name, member) in members.as_object().expect("a slot is an object") {
                list[at][name] = member.clone();
            }
        });
        Ok((keys, self.list[at].clone()))
    }

    /// Seals a new root key to every slot. Those that cannot have it, since they have no public key, are answered.
    pub(crate) fn seal_root(&mut self, root: &SecretKey) -> Vec<u32> {
        let mut left_out = Vec::new();
        let numbers = self.numbers();
        for (slot, number) in self.list.iter_mut().zip(numbers) {
            let sealed = Slot::deserialize(&*slot).ok().and_then(|mut slot| slot.seal_root(root).then_some(slot));
            match sealed {
                Some(sealed) => slot["root_key"] = json!(sealed.root_key()),
                None => left_out.push(number),
            }
        }
        left_out
    }

    /// The one that was added last.
    pub(crate) fn newest(&self) -> &Value {
        self.list.last().unwrap_or(&Value::Null)
    }

    /// In order of their numbers, those of later versions too.
    pub(crate) fn infos(&self) -> Vec<SlotInfo> {
        let numbers = self.numbers().into_iter();
        let mut infos: Vec<_> = numbers.zip(&self.list).map(|(number, slot)| SlotInfo::of(number, slot)).collect();
        infos.sort_by_key(|info| info.number);
        infos
    }

    /// The number of a slot that [`Slots::open`] answered, if it is still as it was then.
    pub(crate) fn number_of(&self, slot: &Value) -> Option<u32> {
        let same = |other: &&Value| match &slot["public_key"] {
            Value::Null => other["kind"] == slot["kind"] && other["root_key"] == slot["root_key"],
            public_key => other["public_key"] == *public_key,
        };
        let at = self.list.iter().position(|other| same(&other))?;
        Some(self.numbers()[at])
    }

    /// As it is now.
    pub(crate) fn same_as(&self, slot: &Value) -> Option<&Value> {
        let number = self.number_of(slot)?;
        self.list.iter().zip(self.numbers()).find_map(|(other, its)| (its == number).then_some(other))
    }

    /// The number that the new slot has. One above the others: a number that somebody still has in mind is not given
    /// to another slot while a later one is there.
    pub(crate) fn add(&mut self, mut slot: NewSlot, root: &SecretKey) -> Result<u32, OpenError> {
        if self.list.len() >= MOST {
            return Err(OpenError::Other(format!("it has {MOST} slots, which is the most: remove one first")));
        }
        let number = self.numbers().into_iter().max().map_or(0, |most| most.saturating_add(1));
        self.change(|list| list.push(slot.numbered(number, root)));
        Ok(number)
    }

    pub(crate) fn remove(&mut self, number: u32) -> Result<(), OpenError> {
        let at = self.find(number)?;
        let usable = |slot: &Value| Slot::deserialize(slot).is_ok();
        let others = self.list.iter().enumerate().filter(|(other, slot)| *other != at && usable(slot));
        if others.count() == 0 {
            let text = "is the last one: without it nothing can be read again; add another first, or change it";
            return Err(OpenError::Other(format!("slot {number} {text}")));
        }
        self.change(|list| drop(list.remove(at)));
        Ok(())
    }

    /// The slot keeps its number, and its name where the new one has none.
    pub(crate) fn replace(&mut self, number: u32, mut new: NewSlot, root: &SecretKey) -> Result<(), OpenError> {
        let at = self.find(number)?;
        if new.name.is_none() {
            new.name = self.list[at]["name"].as_str().map(str::to_owned);
        }
        self.change(|list| list[at] = new.numbered(number, root));
        Ok(())
    }

    fn find(&self, number: u32) -> Result<usize, OpenError> {
        self.numbers().iter().position(|other| *other == number).ok_or_else(|| {
            let there: Vec<_> = self.infos().iter().map(|info| info.number.to_string()).collect();
            OpenError::Other(format!("there is no slot {number}: there are {}", there.join(", ")))
        })
    }

    fn numbers(&self) -> Vec<u32> {
        numbers(&self.list)
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Value>)) {
        let numbers = self.numbers();
        for (slot, number) in self.list.iter_mut().zip(numbers) {
            // What is no object is nothing that kmsfs wrote, and is left as it is.
            if let Some(slot) = slot.as_object_mut() {
                slot.entry("number").or_insert(json!(number));
            }
        }
        change(&mut self.list);
        self.crc32 = checksum(&self.list);
    }
}

/// Slots of the first keyrings do not say their numbers: they have the smallest that are free, in their order.
fn numbers(list: &[Value]) -> Vec<u32> {
    let mut said: Vec<Option<u32>> = Vec::new();
    for slot in list {
        let number = slot["number"].as_u64().and_then(|number| u32::try_from(number).ok());
        said.push(number.filter(|_| !said.contains(&number)));
    }
    let mut free = (0..).filter(|number| !said.contains(&Some(*number)));
    said.iter().map(|number| number.or_else(|| free.next()).expect("there are more numbers than slots")).collect()
}

fn value(slot: &Slot) -> Value {
    serde_json::to_value(slot).expect("numbers and strings can be serialized")
}

fn bytes_of(slots: &[Value]) -> Vec<u8> {
    serde_json::to_vec(slots).expect("numbers and strings can be serialized")
}

fn checksum(slots: &[Value]) -> u32 {
    crc32fast::hash(&bytes_of(slots))
}

fn mac_key(root: &SecretKey, slots: &SecretKey) -> ChainKey {
    ChainKey::new(root.with(slots, b"kmsfs slots"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase() -> Unlock {
        Unlock::Passphrase(Zeroizing::new(b"word".to_vec()))
    }

    /// What makes and authenticates slots.
    struct Keys {
        root: SecretKey,
        slots: SecretKey,
    }

    fn keys() -> Keys {
        Keys { root: SecretKey::random(), slots: SecretKey::random() }
    }

    impl Keys {
        fn slot(&self, unlock: &Unlock, name: Option<&str>) -> NewSlot {
            NewSlot::new(&self.slots, unlock, CHEAP, name, 6).unwrap()
        }

        fn one(&self) -> Slots {
            Slots::new(&self.root, self.slot(&passphrase(), None)).0
        }

        /// The file with its slots changed by somebody who may.
        fn changed(&self, slots: &Slots, change: impl FnOnce(&mut Vec<Value>)) -> Vec<u8> {
            let mut slots = Slots { list: slots.list.clone(), mac: None, ..*slots };
            change(&mut slots.list);
            slots.authenticate(&self.root, &self.slots);
            slots.encode()
        }
    }

    /// As an older kmsfs wrote them, each slot's root key under its secret alone.
    fn of_first_version(list: Vec<Value>) -> Vec<u8> {
        Slots { version: FIRST, crc32: checksum(&list), mac: None, list }.encode()
    }

    #[test]
    fn slots_and_members_of_a_later_version_are_passed_over_and_kept() {
        let keys = keys();
        let slots = keys.one();
        let bytes = keys.changed(&slots, |list| {
            list[0]["name"] = json!("mine");
            list.insert(0, json!({"kind": "tpm2", "root_key": "00"}));
        });
        let later = Slots::decode(&bytes).unwrap();
        assert!(later.open(&passphrase()).is_ok());
        assert_eq!(later.encode(), bytes);
        let none = Slots::decode(&keys.changed(&slots, |list| list[0]["kind"] = json!("tpm2"))).unwrap();
        assert_eq!(none.open(&passphrase()).err(), Some(OpenError::WrongKey));
    }

    #[test]
    fn a_passphrase_that_cannot_be_checked_is_not_called_wrong() {
        let keys = keys();
        let slots = keys.one();
        let greedy = Slots::decode(&keys.changed(&slots, |list| list[0]["memory_kib"] = json!(u32::MAX))).unwrap();
        let text = "to check a passphrase takes 4294967295 KiB of memory and 1 passes, which cannot be had here";
        assert_eq!(greedy.open(&passphrase()).err(), Some(OpenError::Other(text.into())));
        let cheaper = Slots::decode(&keys.changed(&slots, |list| list[0]["memory_kib"] = json!(32))).unwrap();
        assert_eq!(cheaper.open(&passphrase()).err(), Some(OpenError::WrongKey), "the cost is authenticated");
    }

    #[test]
    fn the_same_json_written_otherwise_is_damage() {
        let keys = keys();
        let slots = keys.one();
        let text = String::from_utf8(slots.encode()).unwrap();
        for otherwise in [format!("{text}\n"), text.replacen(':', ": ", 1), text.replacen("kind", "\\u006bind", 1)] {
            let error = Slots::decode(otherwise.as_bytes()).err();
            let why = "slots.json is damaged: it is not written as kmsfs does; restore it from a backup";
            assert_eq!(error, Some(OpenError::Other(why.into())), "{otherwise}");
        }
    }

    fn info(slots: &Slots) -> Vec<(u32, String, Option<String>)> {
        slots.infos().into_iter().map(|info| (info.number, info.kind, info.name)).collect()
    }

    #[test]
    fn a_slot_keeps_its_number_whatever_goes_and_comes() {
        let keys = keys();
        let mut slots = keys.one();
        let key = Unlock::KeyFile(SecretKey::random());
        let recovery = Unlock::RecoveryKey(SecretKey::random());
        assert_eq!(slots.add(keys.slot(&key, Some("unit")), &keys.root), Ok(1));
        assert_eq!(slots.add(keys.slot(&recovery, None), &keys.root), Ok(2));
        slots.remove(0).unwrap();
        let none = OpenError::Other("there is no slot 0: there are 1, 2".into());
        assert_eq!(slots.remove(0), Err(none));
        slots.replace(1, keys.slot(&passphrase(), None), &keys.root).unwrap();
        slots.authenticate(&keys.root, &keys.slots);
        let expected = [(1, "passphrase".to_owned(), Some("unit".to_owned())), (2, "recovery-key".to_owned(), None)];
        assert_eq!(info(&slots), expected);
        let read = Slots::decode(&slots.encode()).unwrap();
        assert_eq!(info(&read), expected);
        let number = |unlock: &Unlock| read.open(unlock).ok().map(|(_, slot)| read.number_of(&slot).unwrap());
        assert_eq!((number(&passphrase()), number(&recovery), number(&key)), (Some(1), Some(2), None));
        assert_eq!((read.infos()[0].created, read.infos()[0].cost), (Some(6), Some(CHEAP)));
    }

    type Attempt<'a> = &'a dyn Fn(&mut Vec<Value>);

    #[test]
    fn whoever_had_not_unlocked_it_adds_changes_and_exchanges_nothing() {
        let (keys, stranger) = (keys(), keys());
        let (own, theirs) = (Unlock::KeyFile(SecretKey::random()), Unlock::KeyFile(SecretKey::random()));
        let mut slots = keys.one();
        slots.add(keys.slot(&own, Some("mine")), &keys.root).unwrap();
        slots.authenticate(&keys.root, &keys.slots);
        assert!(slots.open(&own).is_ok());
        let planted = value(&stranger.slot(&theirs, None).slot);

        let attempts: [Attempt<'_>; 5] = [
            &|list| list.push(planted.clone()),
            &|list| list[0]["public_key"] = planted["public_key"].clone(),
            // A root key of the attacker's, sealed to the victim's public key.
            &|list| {
                let mut own = Slot::deserialize(&list[1]).unwrap();
                assert!(own.seal_root(&stranger.root));
                list[1]["root_key"] = json!(own.root_key());
            },
            &|list| drop(list.remove(0)),
            &|list| list[1]["name"] = json!("yours"),
        ];
        for (number, attempt) in attempts.into_iter().enumerate() {
            let mut list = slots.list.clone();
            attempt(&mut list);
            let mut changed = Slots { version: VERSION, crc32: checksum(&list), mac: slots.mac.clone(), list };
            assert_eq!(changed.open(&own).err(), Some(forged()), "{number}");
            // Authenticated under keys of his own.
            changed.authenticate(&stranger.root, &stranger.slots);
            assert_eq!(Slots::decode(&changed.encode()).unwrap().open(&own).err(), Some(forged()), "{number}");
        }
    }

    #[test]
    fn public_keys_in_a_file_of_the_first_version_are_nobodys() {
        let (keys, theirs) = (keys(), Unlock::KeyFile(SecretKey::random()));
        let mut list = keys.one().list;
        list.push(value(&keys.slot(&theirs, None).slot));
        let mut slots = Slots::decode(&of_first_version(list)).unwrap();
        assert_eq!(slots.seal_root(&keys.root), [0, 1], "none can be given a root key");
        assert_eq!(slots.open(&theirs).err(), Some(OpenError::WrongKey));
    }

    #[test]
    fn the_last_slot_that_can_be_used_stays() {
        let keys = keys();
        let mut slots = keys.one();
        slots.change(|list| list.push(json!({"kind": "tpm2", "root_key": "00"})));
        let text = slots.remove(0).unwrap_err().to_string();
        assert!(text.starts_with("slot 0 is the last one: "), "{text}");
        slots.remove(1).unwrap();
        slots.authenticate(&keys.root, &keys.slots);
        assert!(slots.open(&passphrase()).is_ok());
    }

    #[test]
    fn slots_of_the_first_keyrings_have_the_numbers_of_their_order_and_keep_them() {
        let mut list = keys().one().list;
        list[0].as_object_mut().unwrap().retain(|name, _| !["number", "created"].contains(&name.as_str()));
        list.push(list[0].clone());
        list[1]["root_key"] = json!("00");
        let mut first = Slots::decode(&of_first_version(list)).unwrap();
        let numbers = |slots: &Slots| slots.infos().iter().map(|info| info.number).collect::<Vec<_>>();
        assert_eq!((numbers(&first), first.infos()[0].created), (vec![0, 1], None));
        first.remove(0).unwrap();
        assert_eq!(numbers(&Slots::decode(&first.encode()).unwrap()), [1]);
    }

    #[test]
    fn names_and_numbers_of_slots_are_bounded() {
        let keys = keys();
        let key = Unlock::KeyFile(SecretKey::random());
        for name in ["", "a\nb", &"x".repeat(65)] {
            assert!(NewSlot::new(&keys.slots, &key, CHEAP, Some(name), 0).is_err(), "{name:?}");
        }
        let mut slots = keys.one();
        let add = |slots: &mut Slots| slots.add(keys.slot(&key, None), &keys.root);
        assert!((1..32).all(|number| add(&mut slots) == Ok(number)));
        let text = "it has 32 slots, which is the most: remove one first";
        assert_eq!(add(&mut slots), Err(OpenError::Other(text.into())));
    }
}
