//! What an operation with keys leaves on the stack is overwritten when it is done.
//!
//! Libraries expand keys, pad them and hash them in local variables; the compiler keeps copies where it likes. Nobody
//! finds those again, and a thread that waits for its next request may not use that part of its stack for hours. So
//! whatever takes a key's bytes runs below a frame from which the stack is overwritten afterwards, however it ends.

use std::cell::Cell;
use std::hint::black_box;

/// Bytes of stack that an operation takes at most; a test looks. A build without optimization moves everything by the
/// stack: the making of an RSA key takes 24 KiB there, all else less than 22. With all that is below, wiping takes 0.3
/// us of an optimized build, where the shortest read from a mount takes tens.
const OPERATION: usize = if cfg!(debug_assertions) { 32 << 10 } else { 16 << 10 };
/// How far below the frame of [`wiped`] an operation may begin that it wipes for, in bytes.
const REACH: usize = 8 << 10;
/// Between that frame and whatever runs in it, in bytes: more than the wiping itself has above its zeros.
const MARGIN: usize = 512;

thread_local! {
    /// Where the frame is that will be wiped from; 0 where there is none.
    static FRAME: Cell<usize> = const { Cell::new(0) };
}

/// Runs `act`, which handles keys, and overwrites the stack that it used, also if it panics. Within another call of
/// `wiped` the outer one overwrites, unless it is too far above: many operations in a row cost as much as one if all
/// run in one call.
pub fn wiped<T>(act: impl FnOnce() -> T) -> T {
    let mark = 0_u8;
    let here = std::ptr::from_ref(black_box(&mark)).addr();
    let outer = FRAME.get();
    if outer.wrapping_sub(here) <= REACH {
        return act();
    }
    FRAME.set(here);
    let _wipe = Wipe { outer };
    at_a_distance(act)
}

/// As [`wiped`], and on a stack that has been overwritten before as well. It is for what is moved from the stack to
/// where it stays: a move takes along bytes that are not part of the value, as those of a union that its smaller member
/// leaves unused, and what another operation with keys had left there would stay for as long as the value. (Half of
/// what an operation may take: the other half is for the call of this.)
pub(crate) fn wiped_before<T>(act: impl FnOnce() -> T) -> T {
    wiped(|| {
        overwrite::<{ OPERATION / 2 }>(0);
        in_a_frame(act)
    })
}

/// Also when what was done panics.
struct Wipe {
    outer: usize,
}

impl Drop for Wipe {
    fn drop(&mut self) {
        overwrite::<{ MARGIN + REACH + OPERATION }>(0);
        FRAME.set(self.outer);
    }
}

#[inline(never)]
fn at_a_distance<T>(act: impl FnOnce() -> T) -> T {
    black_box(&mut [0_u8; MARGIN]);
    in_a_frame(act)
}

#[inline(never)]
fn in_a_frame<T>(act: impl FnOnce() -> T) -> T {
    black_box(act())
}

/// So many bytes below the caller's frame.
#[inline(never)]
fn overwrite<const N: usize>(byte: u8) {
    black_box(&mut [byte; N]);
}

/// Runs `act` on a stack that another operation has left full of these bytes.
#[cfg(test)]
pub(crate) fn painted<T>(byte: u8, act: impl FnOnce() -> T) -> T {
    overwrite::<{ 64 << 10 }>(byte);
    in_a_frame(act)
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// Bytes below the frame from which something is done that are looked at.
    const LOOKED_AT: usize = 160 << 10;
    const PAINT: u8 = 0xa5;

    /// The stack below this frame after `act`, from the lowest address up. It was painted before.
    fn left_by(act: impl FnOnce() + Send) -> Vec<u8> {
        let look = || {
            let memory = File::open("/proc/self/mem").unwrap();
            let mut bytes = vec![0; LOOKED_AT];
            let mark = 0_u8;
            let here = std::ptr::from_ref(black_box(&mark)).addr();
            overwrite::<{ LOOKED_AT + 4096 }>(PAINT);
            further_down(act);
            memory.read_exact_at(&mut bytes, (here - LOOKED_AT) as u64).unwrap();
            bytes
        };
        std::thread::scope(|scope| std::thread::Builder::new().spawn_scoped(scope, look).unwrap().join().unwrap())
    }

    /// So that reading the memory overwrites nothing of it.
    #[inline(never)]
    fn further_down(act: impl FnOnce()) {
        black_box(&mut [PAINT; 8 << 10]);
        in_a_frame(act);
    }

    /// How deep something went below the frame that it was done in, in bytes.
    fn depth(left: &[u8]) -> usize {
        left.iter().position(|byte| *byte != PAINT).map_or(0, |untouched| left.len() - untouched)
    }

    type Secret = [u8; 16];

    fn holds(left: &[u8], secrets: &BTreeSet<Secret>) -> bool {
        let used = &left[left.len() - depth(left)..];
        used.windows(16).any(|bytes| bytes[0] != 0 && secrets.contains(bytes))
    }

    /// Below a frame that is said to be wiped from, and is not.
    fn unwiped(act: impl FnOnce()) {
        let mark = 0_u8;
        FRAME.set(std::ptr::from_ref(black_box(&mark)).addr());
        act();
        FRAME.set(0);
    }

    struct Operation {
        name: &'static str,
        act: Box<dyn Fn() + Send + Sync>,
    }

    /// Everything that takes keys, and what must not be found afterwards: halves of keys, which expanded keys begin
    /// with, also padded as for HMAC, and of HKDF's between extracting and expanding.
    fn operations() -> (Vec<Operation>, BTreeSet<Secret>) {
        let key = |byte: u8| SecretKey::derived(None, &[byte], &[b"test"]);
        let object =
            |data_key: DataKey| ObjectKeys::new(data_key, ObjectParameters { object_id: [7; 16], chunk_size: 4096 }, 1);
        let dual = move || DataKey::Dual { outer: key(1), inner: key(2) };
        let mut operations = Vec::new();
        let mut add = |name, act: Box<dyn Fn() + Send + Sync>| operations.push(Operation { name, act });

        add("derive", Box::new(move || drop(key(1).with(&key(2), b"purpose"))));
        add("hash", Box::new(move || assert!(!ChainKey::new(key(1)).verify(b"record", &[0; 32]))));
        add("audit key", Box::new(move || drop(ChainKey::of_root(&key(1)))));
        add("tag", Box::new(move || assert!(!StoreKey::new(key(1)).mac_key("purpose").verify(&[b"text"], &[0; 32]))));
        add("a chain of tags", Box::new(move || drop(MacKey::chained(b"a passphrase of some length", &[b"1", b"2"]))));
        let wrapped = envelope::wrap(&key(1), &key(2), b"to");
        add("wrap", Box::new(move || drop(envelope::wrap(&key(1), &key(2), b"to"))));
        add("unwrap", Box::new(move || drop(envelope::unwrap(&key(1), &wrapped, b"to").unwrap())));
        let text = vec![1; 5000];
        let sealed = sealed::seal(&key(1), &text, b"to");
        add("seal", Box::new(move || drop(sealed::seal(&key(1), &text, b"to"))));
        add("open", Box::new(move || drop(sealed::open(&key(1), &sealed, b"to").unwrap())));
        let sealed = seal_to(KeyPair::of(key(1)).public(), &key(2), b"to").unwrap();
        add("seal to", Box::new(move || drop(seal_to(KeyPair::of(key(1)).public(), &key(2), b"to").unwrap())));
        add("open sealed to", Box::new(move || drop(KeyPair::of(key(1)).open(&sealed, b"to").unwrap())));
        let value = MetadataCipher::new(key(1)).seal(b"to", b"value");
        add("seal a value", Box::new(move || drop(MetadataCipher::new(key(1)).seal(b"to", b"value"))));
        add("open a value", Box::new(move || drop(MetadataCipher::new(key(1)).open(b"to", &value).unwrap())));
        add("keys of an object", Box::new(move || drop(object(key(1).into()))));
        add("keys of an object with two", Box::new(move || drop(object(dual()))));
        add("macs of an object", {
            let keys = object(key(1).into());
            Box::new(move || {
                assert!(keys.verify_seal(b"x", &keys.mac_seal(b"x")).is_ok());
                assert!(keys.verify_sidecar(b"x", &keys.mac_sidecar(b"x")).is_ok());
            })
        });
        add("a cipher", {
            let keys = object(key(1).into());
            Box::new(move || drop(keys.chunk_cipher(1)))
        });
        add("a cipher of two layers", {
            let keys = object(dual());
            Box::new(move || drop(keys.chunk_cipher(1)))
        });
        for (name, keys) in [("a chunk", object(key(1).into())), ("a chunk in two layers", object(dual()))] {
            let cipher = keys.chunk_cipher(1);
            let act = move || {
                let mut chunk = vec![1; 4096];
                let tag = cipher.sealing().seal(3, &mut chunk);
                cipher.open(3, &tag, &mut chunk).unwrap();
            };
            add(name, Box::new(act));
        }
        let cost = passphrase::Cost { memory_kib: 64, passes: 1, lanes: 1 };
        add("stretch", Box::new(move || drop(passphrase::stretch(b"a passphrase of some length", &[1; 16], cost))));
        let text = recovery_key::RecoveryKey::random().text();
        let parse = move || recovery_key::RecoveryKey::parse(text.as_bytes()).unwrap();
        add("a recovery key", Box::new(move || drop((parse().text(), parse().key()))));
        add("fingerprint", Box::new(move || assert_ne!(import_key::fingerprint(&key(1), &key(2)), [0; 32])));
        let import_key = import_key::ImportKey::generate(import_key::Modulus::Bits2048).unwrap();
        let bytes = import_key.to_bytes().unwrap();
        let read = move || import_key::ImportKey::from_bytes(&bytes).unwrap();
        add("an import", Box::new(move || drop(read().unwrap(&[0; 256]))));
        add("a key for an import", {
            Box::new(|| drop(import_key::ImportKey::generate(import_key::Modulus::Bits2048).unwrap()))
        });

        let between = |salt: &[u8], key: &[u8]| {
            Hmac::<sha2::Sha256>::new_from_slice(salt).unwrap().chain_update(key).finalize().into_bytes().to_vec()
        };
        let one = key(1).expose().to_vec();
        let info: [&[u8]; 4] = [b"kmsfs chunk", &1_u16.to_le_bytes(), &4096_u32.to_le_bytes(), &1_u16.to_le_bytes()];
        let chunk = SecretKey::derived(Some(&[7; 16]), &one, &info).expose().to_vec();
        let keys = [one.clone(), key(2).expose().to_vec(), between(&[7; 16], &one), between(&[0; 32], &one), chunk];
        let mut secrets = BTreeSet::from([*b"a passphrase of "]);
        for pad in [0, 0x36, 0x5c] {
            for half in keys.iter().flat_map(|key| key.chunks(16)) {
                let padded: Secret = std::array::from_fn(|at| half[at] ^ pad);
                // As SHA-256 takes it, too: words with their bytes the other way round.
                secrets.extend([padded, std::array::from_fn(|at| padded[at ^ 3])]);
            }
        }
        (operations, secrets)
    }

    /// How deep each goes is written to the test's output.
    #[test]
    fn nothing_that_takes_keys_goes_deeper_than_is_wiped() {
        let nothing = depth(&left_by(|| unwiped(|| ())));
        for Operation { name, act } in operations().0 {
            let depth = depth(&left_by(|| unwiped(&act))) - nothing;
            println!("{name}: {depth}");
            assert!(depth < OPERATION, "{name}: {depth} bytes");
        }
    }

    #[test]
    fn nothing_of_a_key_is_left_on_the_stack() {
        let (operations, secrets) = operations();
        let mut found = Vec::new();
        for Operation { name, act } in &operations {
            if holds(&left_by(|| unwiped(act)), &secrets) {
                found.push(*name);
            }
            assert!(!holds(&left_by(act), &secrets), "{name}");
        }
        println!("without wiping: {found:?}");
        assert!(!found.is_empty(), "what is looked for would not be found");
    }

    #[test]
    fn it_is_wiped_when_what_was_done_panics_too() {
        let secret = SecretKey::derived(None, &[1], &[b"test"]);
        let panics = |secret: &SecretKey| {
            black_box(&mut [*secret.expose(); 256]);
            std::panic::resume_unwind(Box::new(()));
        };
        for wipes in [false, true] {
            let left = left_by(|| {
                let act =
                    || std::panic::catch_unwind(|| if wipes { wiped(|| panics(&secret)) } else { panics(&secret) });
                assert!(act().is_err());
            });
            assert_eq!(holds(&left, &[*secret.expose().first_chunk().unwrap()].into()), !wipes);
        }
    }

    #[test]
    fn many_in_one_call_are_wiped_once_unless_they_are_too_far_down() {
        #[inline(never)]
        fn far_down<T>(act: impl FnOnce() -> T) -> T {
            black_box(&mut [0_u8; REACH]);
            act()
        }
        assert_eq!(FRAME.get(), 0);
        wiped(|| {
            let outer = FRAME.get();
            assert_ne!(outer, 0);
            wiped(|| assert_eq!(FRAME.get(), outer));
            far_down(|| wiped(|| assert_ne!(FRAME.get(), outer)));
            assert_eq!(FRAME.get(), outer);
        });
        assert_eq!(FRAME.get(), 0);
    }
}
