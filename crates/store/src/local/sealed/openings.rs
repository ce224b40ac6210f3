//! Which openings for writing led to the store as it is, so that a copy which went another way is told from one that
//! went on.
//!
//! `openings` in the store lists the newest of them under the store key: a random id each, and the redo log's epoch
//! that it went on from. The log's header names the last. An opening is listed, durably, before the log names it; one
//! behind that never came to be.

use crate::backend::{Backend, Rename};
use crate::local::reserve::Reserve;
use crate::local::sealed::parameters::{PRIVATE_FILE, read_file};
use crate::mistakes::{Mistake, Seeded};
use kmsfs_crypto::{MacKey, StoreKey, random};
use kmsfs_format::log_header::LogHeader;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;

const FILE: &str = "openings";
const NEW_FILE: &str = "openings.new";
const PURPOSE: &str = "kmsfs openings";
/// How many are listed.
const MOST: usize = 256;

/// Names an opening for writing.
pub(crate) type OpeningId = [u8; 16];

/// Where none is known.
const UNKNOWN: OpeningId = [0; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    id: OpeningId,
    /// The redo log's epoch that it went on from: the last one of the opening before.
    after: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Openings {
    /// In order. Empty in a store that was not opened for writing since they are listed.
    list: Vec<Opening>,
    /// Whether the list that there should be is there.
    is_whole: bool,
}

/// Where the store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The redo log's epoch, which every checkpoint and every opening for writing raises.
    pub epoch: u64,
    pub opening: OpeningId,
}

/// How a position that was seen is related to where the store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It is there, or on the way that led there.
    Reached,
    /// It is so long ago that the openings since are not all listed.
    Forgotten,
    /// It is later.
    Later,
    /// It is on another way.
    Apart,
    /// It is not on the way as far as that is known, and the list is missing or not what was written.
    Unlisted,
}

#[derive(Serialize, Deserialize)]
struct Json {
    openings: Vec<(String, u64)>,
    mac: String,
}

impl Openings {
    /// Those that led to where the log stands. One that the log does not name did not come to be; where it names none,
    /// as one has it that an earlier kmsfs has written since, its epoch decides.
    pub(crate) fn read(backend: &dyn Backend, key: &StoreKey, header: &LogHeader) -> Self {
        let mut list = read(backend, &key.mac_key(PURPOSE)).unwrap_or_default();
        if header.opening == UNKNOWN {
            list.retain(|opening| opening.after < header.epoch);
            return Self { is_whole: !list.is_empty(), list };
        }
        match list.iter().position(|opening| opening.id == header.opening) {
            Some(last) => {
                list.truncate(last + 1);
                Self { list, is_whole: true }
            }
            None => Self { list: vec![Opening { id: header.opening, after: header.epoch }], is_whole: false },
        }
    }

    /// Lists one more, durably, that goes on from the log's header, and answers what the next one is to name. Where it
    /// cannot be listed, as on a full disk, this opening counts as part of the one before.
    pub(crate) fn begin(
        mut self,
        backend: &dyn Backend,
        key: &StoreKey,
        reserve: &Reserve,
        header: &LogHeader,
        seeded: Seeded,
    ) -> OpeningId {
        let opening = Opening { id: random::bytes(), after: header.epoch };
        self.list.push(opening);
        self.list.drain(..self.list.len().saturating_sub(MOST));
        let text = encode(&self.list, &key.mac_key(PURPOSE));
        match reserve.with_room(|| replace(backend, &text, seeded)) {
            Ok(()) => opening.id,
            Err(error) => {
                let what = "so a copy of the store that goes on by itself from here may not be noticed";
                ::log::warn!("{FILE} cannot be written, {what}: {error}");
                header.opening
            }
        }
    }

    /// How a position that was seen is related to where the store stands, with these openings behind it.
    pub(crate) fn relate(&self, seen: Position, now: Position) -> Relation {
        let passed = self.list.iter().position(|opening| opening.id == seen.opening);
        let left = passed.and_then(|n| self.list.get(n + 1)).is_some_and(|next| seen.epoch > next.after);
        match self.list.first() {
            _ if left => Relation::Apart,
            _ if seen.epoch > now.epoch => Relation::Later,
            _ if passed.is_some() || seen.opening == UNKNOWN => Relation::Reached,
            Some(oldest) if self.list.len() == MOST && seen.epoch <= oldest.after => Relation::Forgotten,
            _ if !self.is_whole => Relation::Unlisted,
            _ => Relation::Apart,
        }
    }
}

fn read(backend: &dyn Backend, key: &MacKey) -> Option<Vec<Opening>> {
    let text = read_file(backend.root().ok()?.as_ref(), OsStr::new(FILE)).ok()?;
    let json: Json = serde_json::from_slice(&text).ok()?;
    let mac = hex::decode(&json.mac).ok()?;
    if mac.len() != MacKey::LEN || !key.verify(&[&signed(&json.openings)], &mac) {
        return None;
    }
    let opening =
        |(id, after): &(String, u64)| Some(Opening { id: hex::decode(id).ok()?.try_into().ok()?, after: *after });
    json.openings.iter().map(opening).collect()
}

fn encode(openings: &[Opening], key: &MacKey) -> Vec<u8> {
    let openings: Vec<_> = openings.iter().map(|opening| (hex::encode(opening.id), opening.after)).collect();
    let mac = hex::encode(key.tag(&[&signed(&openings)]));
    serde_json::to_vec(&Json { openings, mac }).expect("strings and numbers can be serialized")
}

fn signed(openings: &[(String, u64)]) -> Vec<u8> {
    serde_json::to_vec(openings).expect("strings and numbers can be serialized")
}

/// As a whole, durably.
fn replace(backend: &dyn Backend, text: &[u8], seeded: Seeded) -> std::io::Result<()> {
    let root = backend.root()?;
    let (new, name) = (OsStr::new(NEW_FILE), OsStr::new(FILE));
    match root.unlink(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = root.create_file(new, &PRIVATE_FILE)?;
    file.write_at(text, 0)?;
    file.sync()?;
    root.rename(new, root.as_ref(), name, Rename::Replace)?;
    if seeded.is(Mistake::OpeningNotListed) { Ok(()) } else { root.sync() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::RealBackend;
    use kmsfs_crypto::SecretKey;
    use std::sync::Arc;

    fn id(n: u64) -> OpeningId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        id
    }

    fn openings(of: &[(u64, u64)]) -> Openings {
        let list = of.iter().map(|(n, after)| Opening { id: id(*n), after: *after }).collect();
        Openings { list, is_whole: true }
    }

    fn at(n: u64, epoch: u64) -> Position {
        Position { epoch, opening: id(n) }
    }

    #[test]
    fn what_was_seen_is_behind_ahead_or_on_another_way() {
        let (store, now) = (openings(&[(1, 1), (2, 8), (3, 18)]), at(3, 25));
        for passed in [at(1, 2), at(1, 8), at(2, 10), at(2, 18), at(3, 20), at(3, 25), at(0, 25)] {
            assert_eq!(store.relate(passed, now), Relation::Reached, "{passed:?}");
        }
        for later in [at(3, 26), at(4, 30), at(0, 26)] {
            assert_eq!(store.relate(later, now), Relation::Later, "{later:?}");
        }
        // An opening went on, if by one epoch, where this store began another, or is none of its own.
        for apart in [at(1, 9), at(1, 10), at(2, 19), at(2, 30), at(4, 22), at(4, 25)] {
            assert_eq!(store.relate(apart, now), Relation::Apart, "{apart:?}");
        }
    }

    #[test]
    fn without_the_list_the_last_opening_is_known_and_no_other() {
        let (store, now) = (Openings { is_whole: false, ..openings(&[(3, 25)]) }, at(3, 25));
        assert_eq!(store.relate(at(3, 21), now), Relation::Reached);
        assert_eq!(store.relate(at(3, 26), now), Relation::Later);
        assert_eq!(store.relate(at(2, 12), now), Relation::Unlisted);
        let store = Openings { list: Vec::new(), is_whole: false };
        assert_eq!(store.relate(at(1, 2), at(0, 25)), Relation::Unlisted);
        assert_eq!(store.relate(at(1, 26), at(0, 25)), Relation::Later);
    }

    #[test]
    fn what_the_list_does_not_reach_back_to_is_forgotten() {
        let all: Vec<_> = (0..MOST as u64).map(|n| (n + 1000, n + 1000)).collect();
        let (store, now) = (openings(&all), at(999 + MOST as u64, 5000));
        assert_eq!(store.relate(at(1, 1000), now), Relation::Forgotten);
        assert_eq!(store.relate(at(1, 1001), now), Relation::Apart);
        assert_eq!(openings(&all[1..]).relate(at(1, 999), now), Relation::Apart, "all that there ever were");
    }

    #[test]
    fn what_an_earlier_kmsfs_went_on_with_was_led_to_by_what_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let backend: Arc<dyn Backend> = RealBackend::open(dir.path()).unwrap();
        let disk = &*backend;
        let (key, reserve) = (StoreKey::new(SecretKey::random()), Reserve::of(&backend, 0).unwrap());
        let mut header = LogHeader { epoch: 1, ..LogHeader::default() };
        for epoch in [3, 6, 9] {
            header.opening =
                Openings::read(disk, &key, &header).begin(disk, &key, &reserve, &header, Seeded::default());
            header.epoch = epoch;
        }
        let seen = Position { epoch: 9, opening: header.opening };
        let relate = |header: &LogHeader| {
            let now = Position { epoch: header.epoch, opening: header.opening };
            Openings::read(disk, &key, header).relate(seen, now)
        };
        assert_eq!(relate(&header), Relation::Reached);
        let by_an_earlier = |epoch| LogHeader { epoch, opening: UNKNOWN, ..header };
        assert_eq!(relate(&by_an_earlier(12)), Relation::Reached);
        assert_eq!(relate(&by_an_earlier(6)), Relation::Later, "the last opening was not yet");
        // Listed, and then the log never came to name it.
        Openings::read(disk, &key, &header).begin(disk, &key, &reserve, &header, Seeded::default());
        assert_eq!(Openings::read(disk, &key, &header).list.len(), 3);
        assert_eq!(Openings::read(disk, &key, &by_an_earlier(9)).list.len(), 3);
        assert_eq!(relate(&by_an_earlier(21)), Relation::Reached);
    }
}
