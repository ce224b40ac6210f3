//! Key material: one generation of a key's secret.

use super::OpenError;
use super::shred::{Sector, Wrapping};
use kmsfs_crypto::{SecretKey, envelope, random};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One generation of a key's secret, wrapped under the root key and its own sector of `shred`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Material {
    pub id: [u8; 16],
    pub created: i64,
    /// Sector and envelope; an envelope under the root key alone in the first keyrings; nothing where it is destroyed.
    pub(super) wrapped: Vec<u8>,
}

const SECTOR: usize = size_of::<Sector>();

impl Material {
    pub fn random(wrapping: &Wrapping, now: i64) -> Result<Self, OpenError> {
        Self::of(&SecretKey::random(), wrapping, now)
    }

    /// One that was brought in.
    pub fn of(key: &SecretKey, wrapping: &Wrapping, now: i64) -> Result<Self, OpenError> {
        let mut material = Self { id: random::bytes(), created: now, wrapped: Vec::new() };
        material.put_back(key, wrapping)?;
        Ok(material)
    }

    /// False once imported material was deleted, or has expired.
    pub fn is_there(&self) -> bool {
        !self.wrapped.is_empty()
    }

    /// The sector that nothing names any more is overwritten once the keyring is written.
    pub fn destroy(&mut self) {
        self.wrapped.clear();
    }

    /// In a sector of its own, whatever it had before.
    pub fn put_back(&mut self, key: &SecretKey, wrapping: &Wrapping) -> Result<(), OpenError> {
        let (sector, wrapping_key) = wrapping.fill()?;
        let envelope = envelope::wrap(&wrapping_key, key, &bound_to(&self.id));
        self.wrapped = [&sector.to_le_bytes()[..], &envelope].concat();
        Ok(())
    }

    pub fn unwrap(&self, wrapping: &Wrapping) -> Option<SecretKey> {
        match self.sector() {
            Some(sector) => envelope::unwrap(&wrapping.key(sector)?, &self.wrapped[SECTOR..], &bound_to(&self.id)).ok(),
            None => envelope::unwrap(wrapping.root(), &self.wrapped, &bound_to(&self.id)).ok(),
        }
    }

    /// Where its secret is.
    pub fn sector(&self) -> Option<Sector> {
        let (sector, envelope) = self.wrapped.split_first_chunk::<SECTOR>()?;
        (envelope.len() == envelope::LEN).then(|| Sector::from_le_bytes(*sector))
    }

    /// Wraps it anew, in another sector, under another root key where `to` has one.
    pub fn rewrap(&mut self, from: &Wrapping, to: &Wrapping) -> Result<(), OpenError> {
        if !self.is_there() {
            return Ok(());
        }
        let damaged = || {
            let text = "does not open: its secret in the file shred is damaged; restore the keyring from a backup";
            OpenError::Other(format!("key material {} {text}", material_name(&self.id)))
        };
        let key = self.unwrap(from).ok_or_else(damaged)?;
        self.put_back(&key, to)
    }
}

/// What the KMS calls a material: 64 hexadecimal digits, as AWS's have, which the id of 16 bytes gives and nothing
/// else.
pub(crate) fn material_name(id: &[u8; 16]) -> String {
    let digest = Sha256::new().chain_update(b"kmsfs key material").chain_update(id).finalize();
    hex::encode(digest)
}

fn bound_to(id: &[u8; 16]) -> Vec<u8> {
    [&b"kmsfs material"[..], id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    /// As docs/FORMAT.md has it.
    #[test]
    fn a_material_has_a_name_of_64_digits_that_never_changes() {
        let name = "593d0cc494d8fb66ac2afab27de1dd32f8a96c6b034a9727758feb1a34261dca";
        assert_eq!((material_name(&[7; 16]).as_str(), name.len()), (name, 64));
        assert_ne!(material_name(&[8; 16]), name);
    }

    #[test]
    fn a_material_opens_under_its_own_root_key_sector_and_id_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let root = Arc::new(SecretKey::random());
        let wrapping = Wrapping::new(root.clone(), dir.path());
        let [material, other] = [(); 2].map(|()| Material::random(&wrapping, 0).unwrap());
        assert_eq!((material.sector(), other.sector()), (Some(0), Some(1)));
        assert!(material.unwrap(&wrapping).is_some(), "before its secret is written");
        wrapping.write().unwrap();
        let read = |root: &Arc<SecretKey>| Wrapping::new(root.clone(), dir.path());
        assert!(material.unwrap(&read(&root)).is_some());
        assert!(material.unwrap(&read(&Arc::new(SecretKey::random()))).is_none());
        assert!(Material { id: [0; 16], ..material.clone() }.unwrap(&read(&root)).is_none());
        let mut moved = material.clone();
        moved.wrapped[0] = 1;
        assert!(moved.unwrap(&read(&root)).is_none());
        super::super::shred::sweep(dir.path(), &[1].into()).unwrap();
        assert!(material.unwrap(&read(&root)).is_none(), "its sector is overwritten");
        assert!(other.unwrap(&read(&root)).is_some());
    }
}
