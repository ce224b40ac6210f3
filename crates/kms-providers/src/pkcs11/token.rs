//! Sessions with a token: opened when they are needed, kept, and all given up when one of them is lost.

use super::Mechanism;
use super::tried::Tried;
use crate::configuration::Invalid;
use crate::names::not_found;
use crate::retry::{Failed, TRY};
use crate::secret::Secret;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session as Open, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use kmsfs_kms::{Code, Error};
use parking_lot::Mutex;
use std::path::Path;

pub(super) struct Token {
    library: Pkcs11,
    label: String,
    pin: Secret,
    mechanism: Option<Mechanism>,
    tried: Tried,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    /// Of sessions that were opened before others were lost, none is kept.
    generation: u64,
}

/// A session of a user who is logged in.
pub(super) struct Session {
    pub(super) open: Open,
    pub(super) mechanism: Mechanism,
    generation: u64,
}

impl Token {
    pub(super) fn new(
        library: &Path,
        label: String,
        pin: Secret,
        mechanism: Option<Mechanism>,
        configuration: Option<&Path>,
    ) -> Result<Self, Invalid> {
        let wrong = |error: Cryptoki| Invalid(format!("{}: {error}", library.display()));
        let loaded = Pkcs11::new(library).map_err(wrong)?;
        match loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Cryptoki::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(wrong(error)),
        }
        let tried = Tried::new(configuration, &pin);
        Ok(Self { library: loaded, label, pin, mechanism, tried, state: Mutex::default() })
    }

    /// Runs it in a session. Whatever is wrong with the session or the token is an outage, after which all begin anew.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Session) -> Result<T, Failed>) -> Result<T, Failed> {
        let idle = self.state.lock().idle.pop();
        let session = idle.map_or_else(|| self.open(), Ok)?;
        let done = work(&session);
        let mut state = self.state.lock();
        if done.as_ref().is_err_and(|failed| failed.error.is_outage()) {
            state.generation += 1;
            let lost = std::mem::take(&mut state.idle);
            drop(state);
            // Closing the last one ends the login.
            drop((lost, session));
        } else if session.generation == state.generation {
            state.idle.push(session);
        }
        done
    }

    fn open(&self) -> Result<Session, Failed> {
        let generation = self.state.lock().generation;
        let slots = self.library.get_slots_with_initialized_token().map_err(failed)?;
        let is_it =
            |slot: &Slot| self.library.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == self.label);
        let slot = slots.into_iter().find(is_it);
        let slot = slot.ok_or_else(|| Failed::passing(format!("there is no token {}", self.label)))?;
        let has = self.library.get_mechanism_list(slot).map_err(failed)?;
        let mechanism = self.mechanism.unwrap_or(if has.contains(&MechanismType::AES_GCM) {
            Mechanism::AesGcm
        } else {
            Mechanism::AesKeyWrap
        });
        let open = self.library.open_rw_session(slot).map_err(failed)?;
        self.log_in(slot, &open)?;
        Ok(Session { open, mechanism, generation })
    }

    fn log_in(&self, slot: Slot, session: &Open) -> Result<(), Failed> {
        if is_user(session)? {
            return Ok(());
        }
        // One at a time, of all processes too: a wrong PIN is tried once.
        let _others = self.state.lock();
        let busy = |error| Failed::passing(format!("another process is logging in to the token: {error}"));
        let _turn = self.tried.turn(TRY).map_err(busy)?;
        // Looked at before the PIN is read: one that comes meanwhile is not taken for the one that was wrong.
        let files = self.tried.files();
        if self.tried.was_wrong(&files) {
            let change = self.tried.what_to_change();
            let text = format!("the PIN was wrong, and is not tried again until {change} is changed");
            return Err(Failed::lasting(text));
        }
        let pin = self.pin.line(TRY).map_err(Failed::lasting)?;
        let token = self.library.get_token_info(slot).map_err(failed)?;
        if token.user_pin_final_try() || token.user_pin_locked() {
            let text = "one more wrong PIN would lock the token, or it is locked: log in to it by hand once, or have \
                        its security officer unlock it";
            return Err(Failed::lasting(text));
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.as_str()))) {
            Ok(()) | Err(Cryptoki::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.tried.is_right();
                Ok(())
            }
            Err(error @ Cryptoki::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                let noted = self.tried.is_wrong(files).err();
                let noted = noted.map_or(String::new(), |why| format!(" (that cannot be noted for others: {why})"));
                Err(Failed::lasting(format!("the PIN is wrong: {error}{noted}")))
            }
            Err(error @ Cryptoki::Pkcs11(RvError::PinLocked | RvError::PinExpired, _)) => {
                Err(Failed::lasting(format!("the token does not let its user in: {error}")))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl Session {
    /// The keys of that label, and their ids, the highest first.
    pub(super) fn keys(&self, label: &str, key_id: &str) -> Result<Vec<(ObjectHandle, Vec<u8>)>, Failed> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(label.as_bytes().to_vec()),
        ];
        let mut keys = Vec::new();
        for handle in self.open.find_objects(&template).map_err(failed)? {
            let attributes = self.open.get_attributes(handle, &[AttributeType::Id]).map_err(failed)?;
            let id = attributes.into_iter().find_map(|attribute| match attribute {
                Attribute::Id(id) => Some(id),
                _ => None,
            });
            keys.push((handle, id.unwrap_or_default()));
        }
        keys.sort_by(|a, b| b.1.cmp(&a.1));
        // Who is not logged in sees none.
        if keys.is_empty() {
            let found =
                if is_user(&self.open)? { not_found(key_id).into() } else { Failed::passing("the session was lost") };
            return Err(found);
        }
        Ok(keys)
    }

    /// The key of that label that wraps, and its id: the one with the highest.
    pub(super) fn newest(&self, label: &str, key_id: &str) -> Result<(ObjectHandle, Vec<u8>), Failed> {
        let keys = self.keys(label, key_id)?;
        if keys.get(1).is_some_and(|(_, id)| *id == keys[0].1) {
            let text = format!("several keys are called {label} and have the same CKA_ID, so that none is the newest");
            return Err(Failed::lasting(format!("{text}: give each an id of its own")));
        }
        Ok(keys.into_iter().next().expect("there is one"))
    }

    /// A key is used that cannot be taken out of the token, and no other.
    pub(super) fn must_stay_inside(&self, key: ObjectHandle) -> Result<(), Failed> {
        let wanted = [AttributeType::Sensitive, AttributeType::NeverExtractable, AttributeType::ValueLen];
        let attributes = self.open.get_attributes(key, &wanted).map_err(failed)?;
        let is = |wanted: &Attribute| attributes.contains(wanted);
        if !is(&Attribute::Sensitive(true)) || !is(&Attribute::NeverExtractable(true)) {
            return Err(Failed::lasting(
                "the key can be taken out of the token, or once could: make one with CKA_SENSITIVE and without CKA_EXTRACTABLE",
            ));
        }
        if !is(&Attribute::ValueLen(32.into())) {
            return Err(Failed::lasting("the key is not of AES-256"));
        }
        Ok(())
    }

    /// Whether it may be used, as its attributes say.
    pub(super) fn is_enabled(&self, label: &str, key_id: &str) -> Result<bool, Failed> {
        let keys = self.keys(label, key_id)?;
        let wanted = match self.mechanism {
            Mechanism::AesGcm => AttributeType::Decrypt,
            Mechanism::AesKeyWrap => AttributeType::Unwrap,
        };
        let attributes = self.open.get_attributes(keys[0].0, &[wanted]).map_err(failed)?;
        Ok(attributes.iter().any(|is| matches!(is, Attribute::Decrypt(true) | Attribute::Unwrap(true))))
    }
}

fn is_user(session: &Open) -> Result<bool, Failed> {
    let state = session.get_session_info().map_err(failed)?.session_state();
    Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
}

/// What is wrong with the session, the token or the library is an outage, and passes by itself if a session of its own
/// can be had; what is wrong with a key or a blob is said by whoever uses it.
pub(super) fn failed(error: Cryptoki) -> Failed {
    match error {
        Cryptoki::Pkcs11(RvError::KeyFunctionNotPermitted, _) => {
            Error::new(Code::Disabled, "the token does not permit that use of the key").into()
        }
        Cryptoki::Pkcs11(
            RvError::MechanismInvalid | RvError::MechanismParamInvalid | RvError::FunctionNotSupported,
            _,
        ) => Failed::lasting(format!("the token has no such mechanism: {error}")),
        error => Failed::passing(error.to_string()),
    }
}
