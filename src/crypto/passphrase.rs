//! Keys from passphrases: Argon2id.

use super::SecretKey;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

/// What stretching a passphrase costs; kept beside what it protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

/// More memory than any keyring asks for: a damaged number must not exhaust the machine.
const MOST_MEMORY_KIB: u32 = 4 << 20;

impl Cost {
    /// About a second and 256 MiB (RFC 9106's second recommendation has 64 MiB and 3 passes); less on a machine that
    /// has less than a GiB free.
    pub fn for_this_machine() -> Self {
        let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
            line.split_whitespace().nth(1)?.parse::<u32>().ok()
        });
        let memory_kib = available.map_or(64 << 10, |kib| (kib / 4).clamp(64 << 10, 256 << 10));
        Self { memory_kib, passes: 4, lanes: 1 }
    }
}

/// A cost that no keyring has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImpossibleCost;

pub fn stretch(passphrase: &[u8], salt: &[u8; 16], cost: Cost) -> Result<SecretKey, ImpossibleCost> {
    if cost.memory_kib > MOST_MEMORY_KIB || cost.passes > 1000 || cost.lanes > 64 {
        return Err(ImpossibleCost);
    }
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(SecretKey::LEN)).map_err(|_| ImpossibleCost)?;
    // The key follows from the last blocks of the memory: they are wiped.
    let mut memory = Zeroizing::new(Vec::new());
    memory.try_reserve_exact(params.block_count()).map_err(|_| ImpossibleCost)?;
    memory.resize(params.block_count(), Block::default());
    let mut key = Box::new([0; SecretKey::LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut key[..], &mut memory[..])
        .map_err(|_| ImpossibleCost)?;
    Ok(SecretKey::from_box(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_passphrase_salt_and_cost_give_the_same_key() {
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let key = |passphrase: &str, salt| stretch(passphrase.as_bytes(), &[salt; 16], cost).unwrap();
        assert_eq!(key("a", 1).expose(), key("a", 1).expose());
        assert_ne!(key("a", 1).expose(), key("b", 1).expose());
        assert_ne!(key("a", 1).expose(), key("a", 2).expose());
        assert_ne!(key("a", 1).expose(), stretch(b"a", &[1; 16], Cost { passes: 2, ..cost }).unwrap().expose());
        let greedy = Cost { memory_kib: u32::MAX, ..cost };
        assert_eq!(stretch(b"a", &[1; 16], greedy).err(), Some(ImpossibleCost));
    }
}
