//! A store compares itself with what was last seen of it, and tells how it goes on.
//!
//! The order of writing makes sure that a healthy store is never refused: the opening is listed, then the log's header
//! names it or raises the epoch, durably, and only then is it told outside. A crash in between leaves the store ahead
//! of what was seen.

use crate::backend::{Access, Backend};
use crate::local::log::{self, LogSeal};
use crate::local::sealed::openings::{Openings, Position, Relation};
use crate::local::sealed::parameters::{Json, LOG};
use crate::local::sealed::seal::StoreSeal;
use crate::{Error, Result, Store};
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_format::log_header::LogHeader;
use kmsfs_kms::ServiceKey;
use kmsfs_locks::{Mutex, ranks};
use kmsfs_witness::{ADVICE, Rollback, Sighting, Watch, Witness, record};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

const PURPOSE: &str = "kmsfs last seen";

/// What the witness has of a store.
#[derive(Serialize, Deserialize)]
struct Told {
    epoch: u64,
    /// Hexadecimal.
    opening: String,
}

/// What is known once a store was compared with what was seen of it, before anything in it is changed.
pub(crate) struct Compared {
    witness: Option<Arc<dyn Witness>>,
    /// Where the witness has it already.
    told: Option<Position>,
    /// Why it should not be used, where it is opened to be looked at.
    pub finding: Option<String>,
}

/// Tells the witness how the store goes on.
pub(crate) struct Seen {
    witness: Arc<dyn Witness>,
    key: MacKey,
    state: Mutex<ranks::Witness, State>,
}

struct State {
    told: Option<Position>,
    /// Whether what is there was written by this process.
    own: bool,
    /// Why nothing is kept, once it has been said.
    failed: Option<String>,
    /// Nothing more is told.
    over: bool,
}

/// Under the store's lock, under which store.json has been read too; changes nothing in the store.
pub(crate) fn compare(backend: &dyn Backend, json: &Json, service: &dyn ServiceKey, watch: &Watch) -> Result<Compared> {
    let witness = watch.witness.clone();
    let as_known = |told| Compared { witness: witness.clone(), told, finding: None };
    let Some(known) = &watch.witness else { return Ok(as_known(None)) };
    let read = known.read().map_err(|error| {
        Error::Unusable(format!(
            "what was last seen of the store cannot be read: {error}: --state none goes without it"
        ))
    })?;
    let Some(bytes) = read else { return Ok(as_known(None)) };
    match (judge(backend, json, service, &bytes)?, watch.rollback) {
        (Ok(told), _) => Ok(as_known(Some(told))),
        (Err(finding), Rollback::Refuse) => Err(Error::RolledBack(format!("{finding}; {ADVICE}"))),
        (Err(finding), Rollback::Report) => Ok(Compared { witness: None, told: None, finding: Some(finding) }),
        (Err(finding), Rollback::Accept) => {
            ::log::warn!("accepted as it is: {finding}");
            Ok(as_known(None))
        }
    }
}

/// What was seen, or what is wrong with the store if that was.
fn judge(
    backend: &dyn Backend,
    json: &Json,
    service: &dyn ServiceKey,
    record: &[u8],
) -> Result<std::result::Result<Position, String>> {
    let seal = StoreSeal::open(backend, json.clone(), service, Access::Read)?;
    let log = backend.root()?.open_dir(OsStr::new(LOG)).map_err(|error| Error::reaching_part(LOG, error))?;
    let (_, found) = log::read_header(log.as_ref(), Access::Read, &LogSeal::new(seal.key()), seal.takes_unsealed())?;
    let Some(key) = seal.key() else {
        let what = "the store was put back to an earlier state: it is of a format version that was left behind";
        return Ok(Err(what.into()));
    };
    let Some(sighting) = decode(&key.mac_key(PURPOSE), record) else {
        let what = "what was last seen of the store was changed since, or is of another store with the same id, so that it \
                    is not known whether this one was put back";
        return Ok(Err(what.into()));
    };
    let Sighting { of: seen, when } = sighting;
    let (then, now) = (seen.epoch, found.header.epoch);
    let openings = Openings::read(backend, key, &found.header);
    Ok(match openings.relate(seen, Position::of(&found.header)) {
        Relation::Reached => Ok(seen),
        Relation::Forgotten => {
            ::log::warn!(
                "the store was last seen on {when}, and has since been opened elsewhere more often than it lists"
            );
            Ok(seen)
        }
        Relation::Later => Err(format!(
            "the store was put back to an earlier state: on {when} it was seen at epoch {then}, and now it is at {now}"
        )),
        Relation::Apart => Err(format!(
            "another copy of the store has gone on by itself: on {when} one was seen at epoch {then}, and this one, at {now}, \
             does not come from it"
        )),
        Relation::Unlisted => Err(format!(
            "nothing shows that the store comes from the one that was seen on {when} at epoch {then}: its list of openings is \
             missing or is not what was written"
        )),
    })
}

fn decode(key: &MacKey, record: &[u8]) -> Option<Sighting<Position>> {
    let Sighting { of: Told { epoch, opening }, when } = Sighting::decode(key, record)?;
    let opening = hex::decode(opening).ok()?.try_into().ok()?;
    Some(Sighting { of: Position { epoch, opening }, when })
}

impl Compared {
    /// For what follows the store from now on, if there is a witness, and a key.
    pub(crate) fn follow(self, key: Option<&StoreKey>) -> Option<Seen> {
        let state = State { told: self.told, own: false, failed: None, over: false };
        let (witness, key) = self.witness.zip(key)?;
        Some(Seen { witness, key: key.mac_key(PURPOSE), state: Mutex::new(state) })
    }
}

impl Seen {
    /// Tells that the store is there, durably.
    pub(crate) fn tell(&self, now: Position) {
        let mut state = self.state.lock();
        if state.over || state.told == Some(now) {
            return;
        }
        let told = if state.own { self.check_alone(now, &mut state) } else { Ok(()) };
        let of = Told { epoch: now.epoch, opening: hex::encode(now.opening) };
        match told.and_then(|()| self.witness.write(&record(&self.key, &of))) {
            Ok(()) => *state = State { told: Some(now), own: true, failed: None, over: false },
            Err(error) => {
                let why = error.to_string();
                if state.failed.as_ref() != Some(&why) {
                    ::log::error!("what was last seen of the store is not kept, a rollback may go unnoticed: {why}");
                    state.failed = Some(why);
                }
            }
        }
    }

    /// Nobody else writes the record while this store is locked, unless there are two of it.
    fn check_alone(&self, now: Position, state: &mut State) -> io::Result<()> {
        let Some(found) = self.witness.read()? else { return Ok(()) };
        if decode(&self.key, &found).is_some_and(|sighting| sighting.of.opening == now.opening) {
            return Ok(());
        }
        state.over = true;
        Err(io::Error::other("another copy of the store is in use, or the record was changed"))
    }
}

impl Store {
    /// Has what was last seen of the store follow it.
    pub(crate) fn tell_witness(&self) {
        if let Some(seen) = &self.seen {
            seen.tell(self.log.position());
        }
    }

    /// Why the store should not be used, where it was opened to be looked at.
    pub fn rolled_back(&self) -> Option<&str> {
        self.rolled_back.as_deref()
    }
}

impl Position {
    pub(crate) fn of(header: &LogHeader) -> Self {
        Self { epoch: header.epoch, opening: header.opening }
    }
}
