//! Blobs: what a key in a token has wrapped, and which key that was.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | mechanism: 1 AES-GCM, 2 AES key wrap |
//! | 1 | length of the id |
//! | | `CKA_ID` of the key |
//! | 12 | with AES-GCM: the nonce |
//! | | with AES-GCM: ciphertext, tag of 16 bytes; with key wrap: plaintext and SHA-256 of the context, wrapped |

use super::Mechanism;
use super::token::{Session, failed};
use crate::context::canonical;
use crate::retry::Failed;
use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::mechanism::{Mechanism as Ckm, aead::GcmParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use kmsfs_crypto::random;
use kmsfs_kms::{Code, EncryptionContext, Error, Kind};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG_BITS: u64 = 128;

pub(super) struct Blob<'a> {
    mechanism: Mechanism,
    id: &'a [u8],
    /// Empty with key wrap.
    nonce: &'a [u8],
    wrapped: &'a [u8],
}

impl<'a> Blob<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let [VERSION, mechanism, length, rest @ ..] = bytes else { return None };
        let (id, rest) = rest.split_at_checked(usize::from(*length))?;
        let (mechanism, (nonce, wrapped)) = match mechanism {
            1 => (Mechanism::AesGcm, rest.split_at_checked(NONCE)?),
            2 => (Mechanism::AesKeyWrap, (&[][..], rest)),
            _ => return None,
        };
        (!wrapped.is_empty()).then_some(Self { mechanism, id, nonce, wrapped })
    }
}

pub(super) fn wrap(
    session: &Session,
    label: &str,
    key_id: &str,
    plaintext: &[u8],
    context: &EncryptionContext,
) -> Result<Vec<u8>, Failed> {
    let (key, id) = session.newest(label, key_id)?;
    session.must_stay_inside(key)?;
    let length = u8::try_from(id.len()).map_err(|_| Failed::lasting("the key's CKA_ID is longer than 255 bytes"))?;
    let mut blob = vec![VERSION, if session.mechanism == Mechanism::AesGcm { 1 } else { 2 }, length];
    blob.extend_from_slice(&id);
    match session.mechanism {
        Mechanism::AesGcm => {
            let (mut nonce, context) = (random::bytes::<NONCE>(), canonical(context));
            let parameters = GcmParams::new(&mut nonce, &context, TAG_BITS.into()).map_err(failed)?;
            // Some tokens make a nonce of their own, and put it in the place of this one.
            let sealed = session.open.encrypt(&Ckm::AesGcm(parameters), key, plaintext).map_err(failed)?;
            blob.extend_from_slice(&nonce);
            blob.extend_from_slice(&sealed);
        }
        Mechanism::AesKeyWrap => {
            let mut bytes = Zeroizing::new(plaintext.to_vec());
            bytes.extend_from_slice(&Sha256::digest(canonical(context)));
            if !bytes.len().is_multiple_of(8) {
                return Err(Error::new(Code::Validation, "AES key wrap takes multiples of 8 bytes").into());
            }
            let wrapped = Passing::new(session, &bytes)?.wrapped(key)?;
            blob.extend_from_slice(&wrapped);
        }
    }
    Ok(blob)
}

pub(super) fn unwrap(
    session: &Session,
    label: &str,
    key_id: &str,
    blob: &Blob<'_>,
    context: &EncryptionContext,
) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let keys = session.keys(label, key_id)?;
    let gone = format!("{key_id}: the version that it was wrapped by is not there");
    let mut opened = Err(Error::new(Code::KmsInvalidState, gone).into());
    // Nothing keeps a token from having several of one id: it is the one that opens it.
    for (key, _) in keys.iter().filter(|(_, id)| id == blob.id) {
        opened = unwrap_by(session, *key, blob, context);
        if !opened.as_ref().is_err_and(|failed| failed.error.kind() == Kind::Fault) {
            break;
        }
    }
    opened
}

fn unwrap_by(
    session: &Session,
    key: ObjectHandle,
    blob: &Blob<'_>,
    context: &EncryptionContext,
) -> Result<Zeroizing<Vec<u8>>, Failed> {
    match blob.mechanism {
        Mechanism::AesGcm => {
            let (mut nonce, context) = (blob.nonce.to_vec(), canonical(context));
            let parameters = GcmParams::new(&mut nonce, &context, TAG_BITS.into()).map_err(failed)?;
            let opened = session.open.decrypt(&Ckm::AesGcm(parameters), key, blob.wrapped);
            opened.map(Zeroizing::new).map_err(|error| {
                refused_blob(error, [RvError::EncryptedDataInvalid, RvError::EncryptedDataLenRange], || {
                    works(session, key)
                })
            })
        }
        Mechanism::AesKeyWrap => {
            let mut bytes = Passing::unwrapped(session, key, blob.wrapped)?.value()?;
            let at = bytes.len().checked_sub(32).ok_or_else(Error::invalid_ciphertext)?;
            if bytes[at..] != Sha256::digest(canonical(context))[..] {
                return Err(Error::invalid_ciphertext().into());
            }
            bytes.truncate(at);
            Ok(bytes)
        }
    }
}

/// Whether the token opens what it has just wrapped: then it is well, and something else is not.
fn works(session: &Session, key: ObjectHandle) -> bool {
    const PROBE: &[u8] = b"kmsfs";
    let mut nonce = random::bytes::<NONCE>();
    let Ok(parameters) = GcmParams::new(&mut nonce, &[], TAG_BITS.into()) else { return false };
    let Ok(sealed) = session.open.encrypt(&Ckm::AesGcm(parameters), key, PROBE) else { return false };
    let Ok(parameters) = GcmParams::new(&mut nonce, &[], TAG_BITS.into()) else { return false };
    session.open.decrypt(&Ckm::AesGcm(parameters), key, &sealed).is_ok_and(|opened| opened == PROBE)
}

/// The same of key wrap.
fn wraps(session: &Session, key: ObjectHandle) -> bool {
    const PROBE: &[u8] = b"kmsfs: a probe of 24 byt";
    let again = || {
        let wrapped = Passing::new(session, PROBE)?.wrapped(key)?;
        let made = session.open.unwrap_key(&Ckm::AesKeyWrap, key, &wrapped, &Passing::template()).map_err(failed)?;
        Passing(session, made).value()
    };
    again().is_ok_and(|value| *value == PROBE)
}

/// A blob that was not wrapped so is the blob's fault; of some errors only the token's being well otherwise tells.
fn refused_blob(error: Cryptoki, of_blobs: [RvError; 2], is_well: impl FnOnce() -> bool) -> Failed {
    // SoftHSM2 says no more than that of a wrong tag.
    let says_little =
        |rv: &RvError| matches!(rv, RvError::GeneralError | RvError::FunctionFailed | RvError::DataInvalid);
    match &error {
        Cryptoki::Pkcs11(rv, _) if of_blobs.contains(rv) || says_little(rv) && is_well() => {
            Error::invalid_ciphertext().into()
        }
        _ => failed(error),
    }
}

/// A secret as an object of the session, which is not kept.
struct Passing<'a>(&'a Session, ObjectHandle);

impl<'a> Passing<'a> {
    fn template() -> Vec<Attribute> {
        vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ]
    }

    fn new(session: &'a Session, bytes: &[u8]) -> Result<Self, Failed> {
        let mut template = Self::template();
        template.push(Attribute::Value(bytes.to_vec()));
        let made = session.open.create_object(&template);
        if let Some(Attribute::Value(value)) = template.last_mut() {
            zeroize::Zeroize::zeroize(value);
        }
        made.map(|handle| Self(session, handle)).map_err(failed)
    }

    fn wrapped(&self, key: ObjectHandle) -> Result<Vec<u8>, Failed> {
        self.0.open.wrap_key(&Ckm::AesKeyWrap, key, self.1).map_err(failed)
    }

    fn unwrapped(session: &'a Session, key: ObjectHandle, wrapped: &[u8]) -> Result<Self, Failed> {
        let made = session.open.unwrap_key(&Ckm::AesKeyWrap, key, wrapped, &Self::template());
        made.map(|handle| Self(session, handle)).map_err(|error| {
            refused_blob(error, [RvError::WrappedKeyInvalid, RvError::WrappedKeyLenRange], || wraps(session, key))
        })
    }

    fn value(&self) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let attributes = self.0.open.get_attributes(self.1, &[AttributeType::Value]).map_err(failed)?;
        let value = attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Value(bytes) => Some(Zeroizing::new(bytes)),
            _ => None,
        });
        value.ok_or_else(|| Failed::lasting("the token does not show what it has unwrapped"))
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let _ = self.0.open.destroy_object(self.1);
    }
}
