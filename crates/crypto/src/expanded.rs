use super::{SecretKey, wiped};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use std::ops::Deref;

/// ring's AES-256-GCM under one key. ring does not wipe the round keys and the hash key: here they are overwritten when
/// this is dropped, and boxed so that moving it leaves no copy.
pub(super) struct Expanded(Box<LessSafeKey>);

impl Expanded {
    pub(crate) fn new(key: &SecretKey) -> Self {
        wiped(|| Self(Box::new(expanded(key.expose()))))
    }
}

impl Deref for Expanded {
    type Target = LessSafeKey;

    fn deref(&self) -> &LessSafeKey {
        &self.0
    }
}

impl Drop for Expanded {
    /// By another key's, since ring has no other way in.
    fn drop(&mut self) {
        wiped(|| *self.0 = expanded(&[0; SecretKey::LEN]));
        std::hint::black_box(&self.0);
    }
}

fn expanded(key: &[u8; SecretKey::LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has AES-256's length"))
}
