//! `slots.json`: unlock slots, as LUKS has them. Each wraps the root key under a key of its own.

use super::OpenError;
use super::slot::{Slot, SlotInfo, Unlock};
use crate::crypto::SecretKey;
use crate::crypto::passphrase::Cost;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    version: u16,
    /// As they are in the file: one of a kind that only a later kmsfs knows is passed over, and kept.
    #[serde(rename = "slots")]
    list: Vec<Value>,
    /// CRC-32 of the list as `encode` writes it: tells damage from a wrong key. What a slot says is authenticated by its
    /// wrapped root key.
    crc32: u32,
}

/// A slot that is not in a list yet: making one takes a second, which nobody is to wait for.
pub struct NewSlot {
    slot: Value,
    name: Option<String>,
    created: i64,
}

const VERSION: u16 = 1;
/// A wrong passphrase is tried with each, a second apiece.
const MOST: usize = 32;
const LONGEST_NAME: usize = 64;

impl NewSlot {
    pub fn new(root: &SecretKey, unlock: &Unlock, cost: Cost, name: Option<&str>, now: i64) -> Result<Self, OpenError> {
        if name.is_some_and(|name| {
            name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control)
        }) {
            let text = format!("a slot's name has 1 to {LONGEST_NAME} characters, none of them a control character");
            return Err(OpenError::Other(text));
        }
        let slot = serde_json::to_value(Slot::new(root, unlock, cost)?).expect("numbers and strings can be serialized");
        Ok(Self { slot, name: name.map(str::to_owned), created: now })
    }

    fn numbered(mut self, number: u32) -> Value {
        self.slot["number"] = json!(number);
        if let Some(name) = self.name {
            self.slot["name"] = json!(name);
        }
        self.slot["created"] = json!(self.created);
        self.slot
    }
}

impl Slots {
    /// One slot, for a new root key.
    pub fn new(root: &SecretKey, unlock: &Unlock, cost: Cost, now: i64) -> Result<Self, OpenError> {
        let slots = vec![NewSlot::new(root, unlock, cost, None, now)?.numbered(0)];
        Ok(Self { version: VERSION, crc32: checksum(&slots), list: slots })
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and strings can be serialized")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
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
        let slots: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if version != VERSION || slots.crc32 != checksum(&slots.list) {
            return Err(damaged("its checksum is wrong".into()));
        }
        // JSON can be written in more than one way: a bit that only changes how is damage too.
        if slots.encode() != bytes {
            return Err(damaged("it is not written as kmsfs does".into()));
        }
        Ok(slots)
    }

    /// The root key, from the first slot that opens, and that slot.
    pub fn open(&self, unlock: &Unlock) -> Result<(SecretKey, Value), OpenError> {
        let mut refused = OpenError::WrongKey;
        for value in &self.list {
            let Ok(slot) = Slot::deserialize(value) else { continue };
            match slot.open(unlock) {
                Ok(Some(root)) => return Ok((root, value.clone())),
                Ok(None) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The one that was added last.
    pub fn newest(&self) -> &Value {
        self.list.last().unwrap_or(&Value::Null)
    }

    /// In order of their numbers, those of later versions too.
    pub fn infos(&self) -> Vec<SlotInfo> {
        let numbers = self.numbers().into_iter();
        let mut infos: Vec<_> = numbers.zip(&self.list).map(|(number, slot)| SlotInfo::of(number, slot)).collect();
        infos.sort_by_key(|info| info.number);
        infos
    }

    /// The number of a slot that [`Slots::open`] answered, if it is still as it was then.
    pub fn number_of(&self, slot: &Value) -> Option<u32> {
        let same = |other: &&Value| other["kind"] == slot["kind"] && other["root_key"] == slot["root_key"];
        let at = self.list.iter().position(|other| same(&other))?;
        Some(self.numbers()[at])
    }

    /// The number that the new slot has. One above the others: a number that somebody still has in mind is not given
    /// to another slot while a later one is there.
    pub fn add(&mut self, slot: NewSlot) -> Result<u32, OpenError> {
        if self.list.len() >= MOST {
            return Err(OpenError::Other(format!("it has {MOST} slots, which is the most: remove one first")));
        }
        let number = self.numbers().into_iter().max().map_or(0, |most| most.saturating_add(1));
        self.change(|list| list.push(slot.numbered(number)));
        Ok(number)
    }

    pub fn remove(&mut self, number: u32) -> Result<(), OpenError> {
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
    pub fn replace(&mut self, number: u32, mut new: NewSlot) -> Result<(), OpenError> {
        let at = self.find(number)?;
        if new.name.is_none() {
            new.name = self.list[at]["name"].as_str().map(str::to_owned);
        }
        self.change(|list| list[at] = new.numbered(number));
        Ok(())
    }

    fn find(&self, number: u32) -> Result<usize, OpenError> {
        self.numbers().iter().position(|other| *other == number).ok_or_else(|| {
            let there: Vec<_> = self.infos().iter().map(|info| info.number.to_string()).collect();
            OpenError::Other(format!("there is no slot {number}: there are {}", there.join(", ")))
        })
    }

    /// Slots of the first keyrings do not say their numbers: they have the smallest that are free, in their order.
    fn numbers(&self) -> Vec<u32> {
        let mut said: Vec<Option<u32>> = Vec::new();
        for slot in &self.list {
            let number = slot["number"].as_u64().and_then(|number| u32::try_from(number).ok());
            said.push(number.filter(|_| !said.contains(&number)));
        }
        let mut free = (0..).filter(|number| !said.contains(&Some(*number)));
        said.iter().map(|number| number.or_else(|| free.next()).expect("there are more numbers than slots")).collect()
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

fn checksum(slots: &[Value]) -> u32 {
    crc32fast::hash(&serde_json::to_vec(slots).expect("numbers and strings can be serialized"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase() -> Unlock {
        Unlock::Passphrase(Zeroizing::new(b"word".to_vec()))
    }

    /// The file with its slots changed, and a checksum that is right again.
    fn changed(slots: &Slots, change: impl FnOnce(&mut Vec<Value>)) -> Vec<u8> {
        let mut list = slots.list.clone();
        change(&mut list);
        Slots { version: VERSION, crc32: checksum(&list), list }.encode()
    }

    #[test]
    fn slots_and_members_of_a_later_version_are_passed_over_and_kept() {
        let slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP, 5).unwrap();
        let bytes = changed(&slots, |list| {
            list[0]["name"] = json!("mine");
            list.insert(0, json!({"kind": "tpm2", "root_key": "00"}));
        });
        let later = Slots::decode(&bytes).unwrap();
        assert!(later.open(&passphrase()).is_ok());
        assert_eq!(later.encode(), bytes);
        let none = Slots::decode(&changed(&slots, |list| list[0]["kind"] = json!("tpm2"))).unwrap();
        assert_eq!(none.open(&passphrase()).err(), Some(OpenError::WrongKey));
    }

    #[test]
    fn a_passphrase_that_cannot_be_checked_is_not_called_wrong() {
        let slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP, 5).unwrap();
        let greedy = Slots::decode(&changed(&slots, |list| list[0]["memory_kib"] = json!(u32::MAX))).unwrap();
        let text = "to check a passphrase takes 4294967295 KiB of memory and 1 passes, which cannot be had here";
        assert_eq!(greedy.open(&passphrase()).err(), Some(OpenError::Other(text.into())));
        let cheaper = Slots::decode(&changed(&slots, |list| list[0]["memory_kib"] = json!(32))).unwrap();
        assert_eq!(cheaper.open(&passphrase()).err(), Some(OpenError::WrongKey), "the cost is authenticated");
    }

    #[test]
    fn the_same_json_written_otherwise_is_damage() {
        let slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP, 5).unwrap();
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
        let root = SecretKey::random();
        let mut slots = Slots::new(&root, &passphrase(), CHEAP, 5).unwrap();
        let key = Unlock::KeyFile(SecretKey::random());
        let recovery = Unlock::RecoveryKey(SecretKey::random());
        let new = |unlock, name| NewSlot::new(&root, unlock, CHEAP, name, 6).unwrap();
        assert_eq!(slots.add(new(&key, Some("unit"))), Ok(1));
        assert_eq!(slots.add(new(&recovery, None)), Ok(2));
        slots.remove(0).unwrap();
        let none = OpenError::Other("there is no slot 0: there are 1, 2".into());
        assert_eq!(slots.remove(0), Err(none));
        slots.replace(1, new(&passphrase(), None)).unwrap();
        let expected = [(1, "passphrase".to_owned(), Some("unit".to_owned())), (2, "recovery-key".to_owned(), None)];
        assert_eq!(info(&slots), expected);
        let read = Slots::decode(&slots.encode()).unwrap();
        assert_eq!(info(&read), expected);
        let number = |unlock: &Unlock| read.open(unlock).ok().map(|(_, slot)| read.number_of(&slot).unwrap());
        assert_eq!((number(&passphrase()), number(&recovery), number(&key)), (Some(1), Some(2), None));
        assert_eq!((read.infos()[0].created, read.infos()[0].cost), (Some(6), Some(CHEAP)));
    }

    #[test]
    fn the_last_slot_that_can_be_used_stays() {
        let mut slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP, 5).unwrap();
        slots.change(|list| list.push(json!({"kind": "tpm2", "root_key": "00"})));
        let text = slots.remove(0).unwrap_err().to_string();
        assert!(text.starts_with("slot 0 is the last one: "), "{text}");
        slots.remove(1).unwrap();
        assert!(slots.open(&passphrase()).is_ok());
    }

    #[test]
    fn slots_of_the_first_keyrings_have_the_numbers_of_their_order_and_keep_them() {
        let root = SecretKey::random();
        let slots = Slots::new(&root, &passphrase(), CHEAP, 5).unwrap();
        let bytes = changed(&slots, |list| {
            list[0].as_object_mut().unwrap().retain(|name, _| !["number", "created"].contains(&name.as_str()));
            list.push(list[0].clone());
            list[1]["root_key"] = json!("00");
        });
        let mut first = Slots::decode(&bytes).unwrap();
        let numbers = |slots: &Slots| slots.infos().iter().map(|info| info.number).collect::<Vec<_>>();
        assert_eq!((numbers(&first), first.infos()[0].created), (vec![0, 1], None));
        first.remove(0).unwrap();
        assert_eq!(numbers(&Slots::decode(&first.encode()).unwrap()), [1]);
    }

    #[test]
    fn names_and_numbers_of_slots_are_bounded() {
        let root = SecretKey::random();
        let key = Unlock::KeyFile(SecretKey::random());
        for name in ["", "a\nb", &"x".repeat(65)] {
            assert!(NewSlot::new(&root, &key, CHEAP, Some(name), 0).is_err(), "{name:?}");
        }
        let mut slots = Slots::new(&root, &key, CHEAP, 0).unwrap();
        let add = |slots: &mut Slots| slots.add(NewSlot::new(&root, &key, CHEAP, None, 0).unwrap());
        assert!((1..32).all(|number| add(&mut slots) == Ok(number)));
        let text = "it has 32 slots, which is the most: remove one first";
        assert_eq!(add(&mut slots), Err(OpenError::Other(text.into())));
    }
}
