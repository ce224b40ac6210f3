//! What is looked for in a process's memory: keys, and everything that libraries make of them on the way, each in the
//! forms that it has in memory. Derived from the data keys as docs/FORMAT.md says, with none of kmsfs's own
//! derivations.

use super::search::Needles;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use sha2::block_api::compress256;

/// Of SHA-256 before the first block (FIPS 180-4, 5.3.3).
const BEFORE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

pub type Key = [u8; 32];

/// A key as it is, padded for HMAC, and the two states that HMAC has of it.
pub fn key(needles: &mut Needles, name: &str, key: &Key) {
    for (pad, what) in [(0, ""), (0x36, ", padded"), (0x5c, ", padded outside")] {
        let block: [u8; 64] = std::array::from_fn(|at| key.get(at).unwrap_or(&0) ^ pad);
        needles.add(&format!("{name}{what}"), &block[..32]);
        needles.add(&format!("{name}{what}, in words"), &words(&block[..32]));
        if pad != 0 {
            let mut state = BEFORE;
            compress256(&mut state, &[block]);
            sha_state(needles, &format!("{name}{what}, hashed"), &state);
        }
    }
}

/// As eight words, and in the order in which the processor's instructions want them.
fn sha_state(needles: &mut Needles, name: &str, state: &[u32; 8]) {
    for order in [[0, 1, 2, 3, 4, 5, 6, 7], [5, 4, 1, 0, 7, 6, 3, 2]] {
        needles.add(name, &order.map(|at: usize| state[at].to_le_bytes()).concat());
    }
}

fn words(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(4).flat_map(|word| word.iter().rev().copied()).collect()
}

/// Beside what [`key`] has: HKDF's key between extracting and expanding.
pub fn derived(needles: &mut Needles, name: &str, salt: &[u8], from: &[u8], info: &[&[u8]]) -> Key {
    let (extracted, hkdf) = Hkdf::<Sha256>::extract(Some(salt), from);
    let extracted: Key = extracted.into();
    key(needles, &format!("{name}, extracted"), &extracted);
    let state = std::array::from_fn(|at| u32::from_be_bytes(*extracted[at * 4..].first_chunk().unwrap()));
    sha_state(needles, &format!("{name}, extracted"), &state);
    let mut expanded = Key::default();
    hkdf.expand_multi_info(info, &mut expanded).unwrap();
    key(needles, name, &expanded);
    expanded
}

/// The round keys of AES-256, those for decryption too, and the hash key of GCM.
pub fn aes(needles: &mut Needles, name: &str, key: &Key) {
    let schedule = expand(key);
    for (round, round_key) in schedule.iter().enumerate().skip(2) {
        needles.add(&format!("{name}, round key {round}"), round_key);
    }
    for (round, round_key) in schedule.iter().enumerate().take(14).skip(1) {
        needles.add(&format!("{name}, round key {round} inverted"), &inverted(*round_key));
    }
    let mut block = [0; 16].into();
    aes::Aes256Enc::new(key.into()).encrypt_block(&mut block);
    let h = u128::from_be_bytes(block.into());
    // As it is, and multiplied by x, as every fast implementation wants it.
    let doubled = (h << 1) ^ if h >> 127 == 1 { 0xc200_0000_0000_0000_0000_0000_0000_0001 } else { 0 };
    for h in [h, doubled] {
        for h in [h, h.rotate_left(64)] {
            needles.add(&format!("{name}, GCM's hash key"), &h.to_le_bytes());
            needles.add(&format!("{name}, GCM's hash key"), &h.to_be_bytes());
        }
    }
}

/// FIPS 197, 5.2.
pub fn expand(key: &Key) -> [[u8; 16]; 15] {
    let sbox = sbox();
    let mut words: Vec<[u8; 4]> = key.chunks(4).map(|word| word.try_into().unwrap()).collect();
    let mut constant = 1;
    for at in 8..60 {
        let mut word = words[at - 1];
        if at % 8 == 0 {
            word.rotate_left(1);
        }
        if at % 4 == 0 {
            word = word.map(|byte| sbox[usize::from(byte)]);
        }
        if at % 8 == 0 {
            word[0] ^= constant;
            constant = times(constant, 2);
        }
        words.push(std::array::from_fn(|byte| word[byte] ^ words[at - 8][byte]));
    }
    std::array::from_fn(|round| words[round * 4..][..4].concat().try_into().unwrap())
}

/// For the equivalent inverse cipher (FIPS 197, 5.3.5).
fn inverted(round_key: [u8; 16]) -> [u8; 16] {
    let column = |at: usize| &round_key[at / 4 * 4..][..4];
    std::array::from_fn(|at| {
        let factors = [14, 11, 13, 9].into_iter().enumerate();
        factors.map(|(n, factor)| times(column(at)[(at + n) % 4], factor)).fold(0, |sum, part| sum ^ part)
    })
}

/// In AES's field.
fn times(a: u8, b: u8) -> u8 {
    let double = |a: u8| (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1b };
    let doubled = std::iter::successors(Some(a), |a| Some(double(*a)));
    doubled.zip(0..8).filter(|(_, bit)| b >> bit & 1 == 1).fold(0, |sum, (part, _)| sum ^ part)
}

fn sbox() -> [u8; 256] {
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        let inverse = (1..=255).find(|other| times(byte, *other) == 1).unwrap_or(0);
        (0..5).fold(0x63, |sum, by| sum ^ inverse.rotate_left(by))
    })
}

#[test]
fn keys_are_expanded_as_in_the_standard() {
    let hex = |text: &str| hex::decode(text).unwrap();
    let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let schedule = expand(&key.try_into().unwrap());
    // FIPS 197, A.3.
    assert_eq!(schedule[2][..], hex("9ba354118e6925afa51a8b5f2067fcde"));
    assert_eq!(schedule[14][..], hex("fe4890d1e6188d0b046df344706c631e"));
    // 5.1.3's example of one column, the other way round.
    let column = hex("8e4da1bc8e4da1bc8e4da1bc8e4da1bc");
    assert_eq!(inverted(column.try_into().unwrap())[..4], hex("db135345"));
}
