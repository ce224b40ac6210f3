use super::SecretKey;
use super::stack::wiped_before;
use kmsfs_sys::WipedBox;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use std::ops::Deref;

/// A library's cipher under one key: its round keys and its hash key, in memory of their own. Moving this leaves no
/// copy of them, and dropping it overwrites all of that memory: ring wipes nothing, and aes-gcm wipes what it uses of a
/// union that has room for another implementation's round keys.
pub(super) struct Expanded<C>(WipedBox<C>);

impl<C> Expanded<C> {
    /// `expand` makes the cipher of the key.
    pub(crate) fn new(key: &SecretKey, expand: impl FnOnce(&[u8; SecretKey::LEN]) -> C) -> Self {
        wiped_before(|| Self(WipedBox::new(expand(key.expose()))))
    }
}

impl Expanded<LessSafeKey> {
    /// ring's AES-256-GCM.
    pub(crate) fn of_ring(key: &SecretKey) -> Self {
        let unbound = |key: &[u8; SecretKey::LEN]| UnboundKey::new(&AES_256_GCM, key);
        Self::new(key, |key| LessSafeKey::new(unbound(key).expect("the key has AES-256's length")))
    }
}

impl<C> Deref for Expanded<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::painted;
    use aes::Aes256Enc;
    use aes::cipher::KeyInit;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// The memory that the cipher is in, as it is now.
    fn memory_of<C>(address: usize) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<C>()];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, address as u64).unwrap();
        bytes
    }

    fn has_nothing_of_the_stack_and_leaves_nothing<C>(expand: fn(&[u8; 32]) -> C) {
        const PAINT: u8 = 0xa5;
        let cipher = painted(PAINT, || Expanded::new(&SecretKey::random(), expand));
        let address = std::ptr::from_ref(&*cipher).addr();
        let kept = memory_of::<C>(address);
        assert!(kept.iter().any(|byte| *byte != 0));
        assert!(!kept.windows(8).any(|bytes| bytes == [PAINT; 8]), "{kept:x?}");
        let halves: Vec<_> = kept.chunks_exact(16).filter(|half| **half != [0; 16]).collect();
        drop(cipher);
        let left = memory_of::<C>(address);
        assert!(!halves.iter().any(|half| left.chunks_exact(16).any(|bytes| bytes == *half)), "{left:x?}");
    }

    #[test]
    fn a_cipher_has_nothing_of_what_was_on_the_stack_and_leaves_nothing() {
        has_nothing_of_the_stack_and_leaves_nothing(|key| Aes256Enc::new(key.into()));
        has_nothing_of_the_stack_and_leaves_nothing(|key| aes_gcm::Aes256Gcm::new(key.into()));
        has_nothing_of_the_stack_and_leaves_nothing(|key| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
        });
    }
}
