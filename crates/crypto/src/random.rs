//! The one door to randomness: the kernel's generator, asked anew each time.
//!
//! There is no generator in this process. A virtual machine that goes on twice from one snapshot of its memory has what
//! was in memory twice; the hypervisor tells the kernel (VMGENID), which seeds itself again. The call is getrandom(2)
//! itself and not the C library's function, which may use memory of the process (vDSO, Linux 6.11).
//!
//! Where even the kernel repeats itself, `hedged` and `nonces` see to it that what must not repeat does not.

use super::{SecretKey, wiped};
use hmac::{Hmac, KeyInit, Mac};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::Sha256;
use uuid::Uuid;

/// Fills all of `bytes`.
///
/// # Panics
/// Where there is no getrandom(2): nothing here can go on without it.
pub fn fill(bytes: &mut [u8]) {
    #[cfg(debug_assertions)]
    if let Some(byte) = ANSWER.get() {
        return bytes.fill(byte);
    }
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(error) => panic!("getrandom(2) fails ({error}): keys cannot be made without it"),
        }
    }
}

/// So many random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A random UUID (version 4).
pub fn uuid() -> Uuid {
    uuid::Builder::from_random_bytes(bytes()).into_uuid()
}

/// A number below `bound`, each as likely as the others.
pub fn below(bound: u64) -> u64 {
    assert!(bound > 0, "there is no number below 0");
    // The highest numbers are as many as do not fill another range.
    let fair = u64::MAX - (u64::MAX % bound + 1) % bound;
    loop {
        let number = u64::from_le_bytes(bytes());
        #[cfg(debug_assertions)]
        if ANSWER.get().is_some() {
            return number % bound;
        }
        if number <= fair {
            return number % bound;
        }
    }
}

/// A salt or nonce for one encryption of `parts` under `key`: random, and another one for other parts even where the
/// random bytes are the same. HMAC-SHA-256 over 16 random bytes and the parts, each with its length before it, under a
/// key derived for that alone.
pub(super) fn hedged<const N: usize>(key: &SecretKey, parts: &[&[u8]]) -> [u8; N] {
    wiped(|| {
        let derived = SecretKey::derived(None, key.expose(), &[b"kmsfs hedge"]);
        let mut hmac = Hmac::<Sha256>::new_from_slice(derived.expose()).expect("HMAC takes keys of any length");
        hmac.update(&bytes::<16>());
        for part in parts {
            hmac.update(&(part.len() as u64).to_le_bytes());
            hmac.update(part);
        }
        *hmac.finalize().into_bytes().first_chunk().expect("N is at most 32")
    })
}

#[cfg(debug_assertions)]
thread_local! {
    static ANSWER: std::cell::Cell<Option<u8>> = const { std::cell::Cell::new(None) };
}

/// For tests: from now on this thread gets nothing but this byte, as from a generator that repeats itself. Builds
/// without debug assertions, released ones among them, have no such switch.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn repeat(byte: Option<u8>) {
    ANSWER.set(byte);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_bytes_are_filled_and_differ_each_time() {
        // More than the kernel gives without being interrupted.
        let mut long = vec![0; 1000];
        fill(&mut long);
        assert!(long.chunks(50).all(|part| part.iter().any(|byte| *byte != 0)));
        let ids: BTreeSet<Uuid> = (0..100).map(|_| uuid()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.get_version_num() == 4));
    }

    #[test]
    fn every_number_below_a_bound_comes_and_no_other() {
        for bound in [1, 2, 31, 256] {
            let seen: BTreeSet<u64> = (0..bound * 40).map(|_| below(bound)).collect();
            assert_eq!(seen, (0..bound).collect(), "{bound}");
        }
        assert!((0..100).all(|_| below(u64::MAX) < u64::MAX));
    }

    #[test]
    fn hedged_bytes_repeat_for_the_same_parts_under_the_same_key_only() {
        let (key, other) = (SecretKey::random(), SecretKey::random());
        let fresh: [u8; 16] = hedged(&key, &[b"a"]);
        assert_ne!(fresh, hedged(&key, &[b"a"]));
        repeat(Some(3));
        let same: [u8; 16] = hedged(&key, &[b"ab", b"c"]);
        assert_eq!(same, hedged(&key, &[b"ab", b"c"]));
        assert_ne!(same, hedged(&key, &[b"a", b"bc"]));
        assert_ne!(same, hedged(&key, &[b"ab", b"d"]));
        assert_ne!(same, hedged(&other, &[b"ab", b"c"]));
        repeat(None);
    }

    /// What a hypervisor does with a snapshot, fork(2) does with a process.
    #[test]
    fn two_clones_of_a_process_draw_different_keys() {
        let _ = SecretKey::random();
        let theirs = kmsfs_sys::in_a_clone(|| SecretKey::random().expose().to_vec()).unwrap();
        assert_eq!(theirs.len(), SecretKey::LEN);
        assert_ne!(SecretKey::random().expose()[..], theirs[..]);
    }
}
