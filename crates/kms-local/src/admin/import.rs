//! Imported key material: brought in wrapped for this KMS, expiring if so wanted, deleted and brought in again.

use super::{Administrator, DAY, gone, not_pending_deletion, pending};
use crate::keyring::{Contents, Key, Lasting, Material, PENDING_MATERIAL, Pending, Wrapping, material_name};
use kmsfs_crypto::import_key::{ImportKey, Modulus, fingerprint};
use kmsfs_crypto::{SecretKey, sealed};
use kmsfs_kms::api::{Expiration, ImportParameters, Imported, RotationKind, WrappingKeySpec};
use kmsfs_kms::api::{KeyOrigin, KeyState};
use kmsfs_kms::{Code, Error};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Of a material.
const IMPORTED: &str = "imported";
const TOKEN: &[u8] = b"kmsfs import token";
/// A token and its public key are good for so long.
const VALID: i64 = DAY;
const MOST_VALID: i64 = 365 * DAY;

/// What ImportKeyMaterial is asked for.
pub struct ImportRequest<'a> {
    /// What came with the public key.
    pub import_token: &'a [u8],
    /// Under the public key, by RSAES_OAEP_SHA_256.
    pub encrypted_material: &'a [u8],
    /// When it expires, nanoseconds since 1970; `None`: KEY_MATERIAL_DOES_NOT_EXPIRE.
    pub valid_to: Option<i64>,
    /// NEW_KEY_MATERIAL or EXISTING_KEY_MATERIAL, where it was said.
    pub new_material: Option<bool>,
    /// The material that it has to be, hexadecimal.
    pub material_id: Option<&'a str>,
}

/// Kept with a material.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    /// Tells whether the same material is brought in again.
    fingerprint: String,
    expires: Option<i64>,
}

/// What a token holds, sealed.
struct Token {
    key: [u8; 16],
    /// Nanoseconds since 1970.
    valid_to: i64,
    private_key: Zeroizing<Vec<u8>>,
}

impl Token {
    /// Key id, time, private key.
    fn seal(&self, key: &SecretKey) -> Vec<u8> {
        let mut text = Zeroizing::new(Vec::with_capacity(24 + self.private_key.len()));
        text.extend_from_slice(&self.key);
        text.extend_from_slice(&self.valid_to.to_le_bytes());
        text.extend_from_slice(&self.private_key);
        sealed::seal(key, &text, TOKEN)
    }

    fn open(key: &SecretKey, bytes: &[u8]) -> Option<Self> {
        let text = sealed::open(key, bytes, TOKEN).ok()?;
        let (key, rest) = text.split_first_chunk::<16>()?;
        let (valid_to, private_key) = rest.split_first_chunk::<8>()?;
        let private_key = Zeroizing::new(private_key.to_vec());
        Some(Self { key: *key, valid_to: i64::from_le_bytes(*valid_to), private_key })
    }
}

impl Administrator<'_> {
    /// A public key to wrap material with, and a token.
    pub fn get_parameters_for_import(&self, key_id: &str, spec: WrappingKeySpec) -> Result<ImportParameters, Error> {
        let (id, key_arn) = self.ask(|contents| {
            let key = self.external(contents, key_id, "GetParametersForImport")?;
            Ok((key.id, contents.key_arn(&key.id)))
        })?;
        let modulus = match spec {
            WrappingKeySpec::Rsa2048 => Modulus::Bits2048,
            WrappingKeySpec::Rsa3072 => Modulus::Bits3072,
            WrappingKeySpec::Rsa4096 => Modulus::Bits4096,
        };
        let internal = |error: kmsfs_crypto::Tampered| Error::new(Code::KmsInternal, error.to_string());
        let key = ImportKey::generate(modulus).map_err(internal)?;
        let valid_to = self.kms.now() + VALID;
        let private_key = key.to_bytes().map_err(internal)?;
        let import_token = Token { key: id, valid_to, private_key }.seal(&self.kms.lasting(Lasting::ImportToken)?);
        Ok(ImportParameters { key_arn, import_token, public_key: key.public().map_err(internal)?, valid_to })
    }

    /// Takes material for a key whose origin is `EXTERNAL`.
    pub fn import_key_material(&self, key_id: &str, request: &ImportRequest<'_>) -> Result<Imported, Error> {
        let now = self.kms.now();
        if let Some(valid_to) = request.valid_to
            && !(now..=now + MOST_VALID).contains(&valid_to)
        {
            return Err(Error::new(Code::Validation, "ValidTo must be in the future, and within 365 days"));
        }
        let token =
            Token::open(&self.kms.lasting(Lasting::ImportToken)?, request.import_token).ok_or_else(invalid_token)?;
        if token.valid_to < now {
            return Err(Error::new(Code::ExpiredImportToken, "The import token has expired: get new parameters"));
        }
        let unwrapped =
            ImportKey::from_bytes(&token.private_key).and_then(|key| key.unwrap(request.encrypted_material));
        self.change(|contents, wrapping| {
            let key = self.external(contents, key_id, "ImportKeyMaterial")?;
            if key.id != token.key {
                return Err(invalid_token());
            }
            let material = unwrapped.as_ref().map_err(|_| Error::invalid_ciphertext())?;
            let of_fingerprints = contents.lasting(Lasting::Fingerprint, wrapping.root())?;
            let fingerprint = hex::encode(fingerprint(&of_fingerprints, material));
            let known = Known { fingerprint, expires: request.valid_to };
            let id = key.id;
            let there = key.materials.iter().find(|there| is(contents, there, &known)).map(|there| there.id);
            let wants_new = request.new_material.unwrap_or(key.materials.is_empty());
            let material_id = match there {
                Some(_) if request.new_material == Some(true) => return Err(incorrect()),
                Some(there) => import_again(contents, &id, &there, &known, material, wrapping)?,
                None if key.materials.is_empty() => import_first(contents, &id, known, material, wrapping, now)?,
                None if wants_new => {
                    let new = Material::of(material, wrapping, now)?;
                    let text = material_name(&new.id);
                    let known = serde_json::to_value(known).expect("text and a number can be serialized");
                    contents.set_json(&id, PENDING_MATERIAL, Some(&Pending { material: new, known }));
                    text
                }
                None => return Err(incorrect()),
            };
            if request.material_id.is_some_and(|wanted| wanted != material_id) {
                return Err(incorrect());
            }
            settle_state(contents, &id)?;
            Ok(Imported { key_arn: contents.key_arn(&id), material_id })
        })
    }

    /// The material goes, its id stays: it can be imported again. Answers which one went.
    pub fn delete_imported_key_material(&self, key_id: &str, material_id: Option<&str>) -> Result<Imported, Error> {
        self.change(|contents, _| {
            let key = self.external(contents, key_id, "DeleteImportedKeyMaterial")?;
            let id = key.id;
            let material = match material_id {
                None => key.newest().map(|material| material.id),
                Some(wanted) => key.materials.iter().map(|there| there.id).find(|there| material_name(there) == wanted),
            };
            let Some(material) = material else {
                return match material_id {
                    None => Err(pending(contents, key, "import")),
                    Some(wanted) => Err(Error::new(Code::NotFound, format!("Key material {wanted} is not found."))),
                };
            };
            destroy(contents, &id, &material)?;
            Ok(Imported { key_arn: contents.key_arn(&id), material_id: material_name(&material) })
        })
    }

    fn external<'c>(&self, contents: &'c Contents, key_id: &str, action: &str) -> Result<&'c Key, Error> {
        let key = self.customer_key(contents, key_id, action)?;
        not_pending_deletion(contents, key)?;
        if key.origin != KeyOrigin::External {
            let text =
                format!("{} origin is AWS_KMS which is not valid for this operation.", contents.key_arn(&key.id));
            return Err(Error::new(Code::UnsupportedOperation, text));
        }
        Ok(key)
    }
}

fn import_again(
    contents: &mut Contents,
    id: &[u8; 16],
    there: &[u8; 16],
    known: &Known,
    material: &SecretKey,
    wrapping: &Wrapping,
) -> Result<String, Error> {
    let key = contents.key_mut(id).ok_or_else(gone)?;
    for old in key.materials.iter_mut().filter(|old| old.id == *there) {
        old.put_back(material, wrapping)?;
    }
    contents.set_json(there, IMPORTED, Some(known));
    Ok(material_name(there))
}

fn import_first(
    contents: &mut Contents,
    id: &[u8; 16],
    known: Known,
    material: &SecretKey,
    wrapping: &Wrapping,
    now: i64,
) -> Result<String, Error> {
    let new = Material::of(material, wrapping, now)?;
    let material_id = new.id;
    contents.key_mut(id).ok_or_else(gone)?.materials.push(new);
    contents.set_json(&material_id, IMPORTED, Some(&known));
    Ok(material_name(&material_id))
}

fn is(contents: &Contents, material: &Material, known: &Known) -> bool {
    contents.json::<Known>(&material.id, IMPORTED).is_some_and(|there| there.fingerprint == known.fingerprint)
}

/// A key with imported material is usable while all of it is there.
fn settle_state(contents: &mut Contents, id: &[u8; 16]) -> Result<(), Error> {
    let key = contents.key_mut(id).ok_or_else(gone)?;
    let complete = !key.materials.is_empty() && key.materials.iter().all(Material::is_there);
    match key.state {
        KeyState::PendingImport if complete => key.state = KeyState::Enabled,
        KeyState::Enabled | KeyState::Disabled if !complete => key.state = KeyState::PendingImport,
        _ => {}
    }
    Ok(())
}

fn destroy(contents: &mut Contents, id: &[u8; 16], material: &[u8; 16]) -> Result<(), Error> {
    let key = contents.key_mut(id).ok_or_else(gone)?;
    key.materials.iter_mut().filter(|there| there.id == *material).for_each(Material::destroy);
    settle_state(contents, id)
}

/// What was imported as new material becomes the newest one.
pub(super) fn rotate(contents: &mut Contents, id: &[u8; 16], now: i64) -> Result<(), Error> {
    let Some(Pending { mut material, known }) = contents.json::<Pending>(id, PENDING_MATERIAL) else {
        let text = format!("{} has no imported key material that is pending rotation.", contents.key_arn(id));
        return Err(Error::new(Code::KmsInvalidState, text));
    };
    material.created = now;
    let material_id = material.id;
    contents.key_mut(id).ok_or_else(gone)?.materials.push(material);
    contents.set_json::<Pending>(id, PENDING_MATERIAL, None);
    contents.set_json(&material_id, IMPORTED, Some(&known));
    super::rotation::set_kind(contents, &material_id, RotationKind::OnDemand);
    Ok(())
}

/// Of the newest imported material that is there.
pub(super) fn expiration(contents: &Contents, key: &Key) -> Option<Expiration> {
    let newest = key.newest().filter(|newest| key.origin == KeyOrigin::External && newest.is_there())?;
    Some(expiry_of(contents, &newest.id).map_or(Expiration::Never, Expiration::At))
}

pub(super) fn expiry_of(contents: &Contents, material: &[u8; 16]) -> Option<i64> {
    contents.json::<Known>(material, IMPORTED)?.expires
}

/// Keys with material that is past its time.
pub(super) fn expired(contents: &Contents, now: i64) -> Vec<[u8; 16]> {
    let external = contents.keys.iter().filter(|key| key.origin == KeyOrigin::External);
    external
        .filter(|key| key.materials.iter().any(|there| is_expired(contents, there, now)))
        .map(|key| key.id)
        .collect()
}

fn is_expired(contents: &Contents, material: &Material, now: i64) -> bool {
    material.is_there() && expiry_of(contents, &material.id).is_some_and(|expires| expires <= now)
}

/// Destroys what has expired of a key's material.
pub(super) fn forget(contents: &mut Contents, id: &[u8; 16], now: i64) {
    let Some(key) = contents.key(id) else { return };
    let expired: Vec<_> =
        key.materials.iter().filter(|there| is_expired(contents, there, now)).map(|there| there.id).collect();
    log::info!("imported material of the key {} has expired", contents.key_arn(id));
    for material in expired {
        let _ = destroy(contents, id, &material);
    }
}

fn invalid_token() -> Error {
    Error::new(Code::InvalidImportToken, "The import token is not one that this key was given")
}

fn incorrect() -> Error {
    let text = "The key material in the request is not identical to the key material that was previously imported into this KMS key.";
    Error::new(Code::IncorrectKeyMaterial, text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALLER, SetClock, code, kms_with_clock};
    use super::*;
    use crate::LocalKms;
    use kmsfs_kms::api::{NewKey, PageRequest};
    use kmsfs_kms::{EncryptionContext, Kms};
    use std::fs;
    use std::process::Command;

    fn external(kms: &LocalKms) -> String {
        let new = NewKey { origin: KeyOrigin::External, ..NewKey::default() };
        kms.administer(CALLER).create_key(&new).unwrap().arn
    }

    /// Wraps with openssl(1), as users do.
    fn wrapped(parameters: &ImportParameters, material: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("public"), &parameters.public_key).unwrap();
        fs::write(path("material"), material).unwrap();
        let done = Command::new("openssl")
            .args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep"])
            .args(["-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256", "-inkey"])
            .args([path("public").as_os_str(), "-in".as_ref(), path("material").as_os_str()])
            .args(["-out".as_ref(), path("wrapped").as_os_str()])
            .status()
            .unwrap();
        assert!(done.success());
        fs::read(path("wrapped")).unwrap()
    }

    fn parameters(kms: &LocalKms, key: &str) -> ImportParameters {
        kms.administer(CALLER).get_parameters_for_import(key, WrappingKeySpec::Rsa2048).unwrap()
    }

    fn import(
        kms: &LocalKms,
        key: &str,
        material: &[u8],
        change: impl Fn(&mut ImportRequest),
    ) -> Result<Imported, Error> {
        let parameters = parameters(kms, key);
        let encrypted = wrapped(&parameters, material);
        let mut request = ImportRequest {
            import_token: &parameters.import_token,
            encrypted_material: &encrypted,
            valid_to: None,
            new_material: None,
            material_id: None,
        };
        change(&mut request);
        kms.administer(CALLER).import_key_material(key, &request)
    }

    fn state(kms: &LocalKms, key: &str) -> KeyState {
        kms.describe_key(key).unwrap().state
    }

    fn use_it(kms: &LocalKms, key: &str) -> Result<Vec<u8>, Error> {
        Ok(Kms::generate_data_key(kms, key, &EncryptionContext::new(), &CALLER)?.ciphertext_blob)
    }

    fn opens(kms: &LocalKms, key: &str, blob: &[u8]) -> bool {
        Kms::decrypt(kms, key, blob, &EncryptionContext::new(), &CALLER).is_ok()
    }

    #[test]
    fn a_key_without_material_waits_for_it_works_with_it_and_without_it_no_more() {
        let (_dir, kms, _) = kms_with_clock();
        let key = external(&kms);
        let waiting = Error::new(Code::KmsInvalidState, format!("{key} is pending import."));
        assert_eq!(state(&kms, &key), KeyState::PendingImport);
        assert_eq!(use_it(&kms, &key), Err(waiting.clone()));
        assert_eq!(kms.describe_key(&key).unwrap().material_id, None);
        let imported = import(&kms, &key, &[7; 32], |_| ()).unwrap();
        assert_eq!(state(&kms, &key), KeyState::Enabled);
        assert_eq!(kms.describe_key(&key).unwrap().material_id, Some(imported.material_id.clone()));
        let blob = use_it(&kms, &key).unwrap();
        let admin = kms.administer(CALLER);
        assert_eq!(admin.delete_imported_key_material(&key, None).unwrap(), imported);
        assert_eq!((state(&kms, &key), use_it(&kms, &key)), (KeyState::PendingImport, Err(waiting)));
        assert!(!opens(&kms, &key, &blob));
        let other = "not identical to the key material that was previously imported";
        let refused = import(&kms, &key, &[8; 32], |_| ()).unwrap_err();
        assert_eq!(refused.code, Code::IncorrectKeyMaterial);
        assert!(refused.message.contains(other), "{refused:?}");
        assert_eq!(import(&kms, &key, &[7; 32], |_| ()).unwrap(), imported);
        assert!(opens(&kms, &key, &blob));
    }

    #[test]
    fn material_expires_when_it_was_told_to() {
        let (_dir, kms, clock) = kms_with_clock();
        let key = external(&kms);
        for bad in [clock.now() - 1, clock.now() + 366 * DAY] {
            assert_eq!(code(import(&kms, &key, &[7; 32], |request| request.valid_to = Some(bad))), Code::Validation);
        }
        let expires = clock.now() + 2 * DAY;
        import(&kms, &key, &[7; 32], |request| request.valid_to = Some(expires)).unwrap();
        assert_eq!(kms.describe_key(&key).unwrap().expiration, Some(Expiration::At(expires)));
        let blob = use_it(&kms, &key).unwrap();
        clock.pass(1);
        kms.tick();
        assert!(opens(&kms, &key, &blob));
        clock.pass(1);
        kms.tick();
        assert_eq!(state(&kms, &key), KeyState::PendingImport);
        assert!(!opens(&kms, &key, &blob));
        import(&kms, &key, &[7; 32], |_| ()).unwrap();
        assert!(opens(&kms, &key, &blob));
        assert_eq!(kms.describe_key(&key).unwrap().expiration, Some(Expiration::Never));
    }

    #[test]
    fn new_material_waits_for_a_rotation_on_demand() {
        let (_dir, kms, _) = kms_with_clock();
        let key = external(&kms);
        let admin = kms.administer(CALLER);
        let first = import(&kms, &key, &[1; 32], |_| ()).unwrap();
        assert_eq!(code(admin.rotate_key_on_demand(&key)), Code::KmsInvalidState);
        assert_eq!(code(admin.enable_key_rotation(&key, None)), Code::UnsupportedOperation);
        let old = use_it(&kms, &key).unwrap();
        let second = import(&kms, &key, &[2; 32], |request| request.new_material = Some(true)).unwrap();
        assert_eq!(kms.describe_key(&key).unwrap().material_id, Some(first.material_id.clone()));
        admin.rotate_key_on_demand(&key).unwrap();
        assert_eq!(kms.describe_key(&key).unwrap().material_id, Some(second.material_id.clone()));
        let new = use_it(&kms, &key).unwrap();
        assert!(opens(&kms, &key, &old) && opens(&kms, &key, &new));
        let rotations = admin.list_key_rotations(&key, true, &PageRequest::default()).unwrap().entries;
        assert_eq!(rotations.iter().map(|one| one.imported).collect::<Vec<_>>(), [Some(true), Some(true)]);
        // Any material that is missing makes the key unusable.
        admin.delete_imported_key_material(&key, Some(&first.material_id)).unwrap();
        assert_eq!(state(&kms, &key), KeyState::PendingImport);
        import(&kms, &key, &[1; 32], |_| ()).unwrap();
        assert_eq!(state(&kms, &key), KeyState::Enabled);
    }

    #[test]
    fn tokens_are_for_one_key_and_one_day_and_material_has_32_bytes() {
        let (_dir, kms, clock): (_, _, SetClock) = kms_with_clock();
        let (key, other) = (external(&kms), external(&kms));
        let theirs = parameters(&kms, &other);
        let encrypted = wrapped(&theirs, &[7; 32]);
        let admin = kms.administer(CALLER);
        let refused = |key: &str, import_token: &[u8], encrypted_material: &[u8]| {
            let (valid_to, new_material, material_id) = (None, None, None);
            let request = ImportRequest { import_token, encrypted_material, valid_to, new_material, material_id };
            code(admin.import_key_material(key, &request))
        };
        assert_eq!(refused(&key, &theirs.import_token, &encrypted), Code::InvalidImportToken);
        assert_eq!(refused(&other, b"no token", &encrypted), Code::InvalidImportToken);
        assert_eq!(refused(&other, &theirs.import_token, &encrypted[1..]), Code::InvalidCiphertext);
        assert_eq!(refused(&other, &theirs.import_token, &wrapped(&theirs, &[7; 16])), Code::InvalidCiphertext);
        clock.pass(2);
        assert_eq!(refused(&other, &theirs.import_token, &encrypted), Code::ExpiredImportToken);
        let own = kms.create_key("").unwrap().arn;
        let text = format!("{own} origin is AWS_KMS which is not valid for this operation.");
        let error = admin.get_parameters_for_import(&own, WrappingKeySpec::Rsa2048).err();
        assert_eq!(error, Some(Error::new(Code::UnsupportedOperation, text)));
    }
}
