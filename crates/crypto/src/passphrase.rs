//! Keys from passphrases: Argon2id.

use super::free_memory::free_memory_kib;
use super::{SecretKey, wiped};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::time::Instant;
use zeroize::Zeroizing;

/// What stretching a passphrase costs; kept beside what it protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; one thread fills them all.
    pub lanes: u32,
}

const SECONDS: f64 = 1.0;
/// A new slot's memory and passes are between these.
const LEAST_KIB: u32 = 32 << 10;
/// A busy moment does not make a passphrase easier to guess than RFC 9106 has it.
const LEAST_FOR_TIME_KIB: u32 = 64 << 10;
const MOST_KIB: u32 = 256 << 10;
const LEAST_PASSES: u32 = 4;
const MOST_PASSES: u32 = 100;

/// More memory than any keyring asks for: a damaged number must not exhaust the machine.
const MOST_MEMORY_KIB: u32 = 4 << 20;

impl Cost {
    /// About a second of this machine and at most 256 MiB, a quarter of what is free here: in the machine and in the
    /// control groups that limit this process. (RFC 9106's second recommendation has 64 MiB and 3 passes.)
    pub fn for_this_machine() -> Self {
        let free = free_memory_kib().unwrap_or(0);
        // Between the bounds, which are far below u32::MAX.
        let memory_kib = (free / 4).clamp(LEAST_KIB.into(), MOST_KIB.into()) as u32 & !1023;
        let least = Self { memory_kib: LEAST_KIB, passes: LEAST_PASSES, lanes: 1 };
        let measured = |passes| {
            let (cost, start) = (Self { memory_kib, passes, lanes: 1 }, Instant::now());
            stretch(b"", &[0; 16], cost).ok().map(|_| start.elapsed().as_secs_f64())
        };
        // Getting the memory takes its time once, each pass takes its own.
        let (Some(one), Some(three)) = (measured(1), measured(3)) else { return least };
        let each = ((three - one) / 2.0).max(one / 10.0);
        Self { memory_kib, passes: 1, lanes: 1 }.lasting(SECONDS, (one - each).max(0.0), each)
    }

    /// Passes enough for that time, given what the memory and each pass take; where they are too few, less memory. In
    /// seconds.
    fn lasting(self, time: f64, memory: f64, pass: f64) -> Self {
        let passes = (time - memory) / pass.max(1e-6);
        if passes >= f64::from(LEAST_PASSES) {
            return Self { passes: whole(passes).min(MOST_PASSES), ..self };
        }
        let share = time / (memory + pass * f64::from(LEAST_PASSES));
        let memory_kib = whole(f64::from(self.memory_kib) * share.min(1.0)) & !1023;
        let least = LEAST_FOR_TIME_KIB.min(self.memory_kib);
        Self { memory_kib: memory_kib.max(least), passes: LEAST_PASSES, ..self }
    }
}

/// Of what is not negative.
#[allow(clippy::cast_sign_loss)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// The cost is beyond every bound, or the memory cannot be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImpossibleCost;

/// A key from a passphrase (Argon2id, version 0x13) with a random salt.
///
/// # Errors
///
/// [`ImpossibleCost`]: a damaged cost, or more memory than there is.
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
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    wiped(|| argon2.hash_password_into_with_memory(passphrase, salt, &mut key[..], &mut memory[..]))
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

    #[test]
    fn a_new_cost_takes_a_second_and_a_slow_machine_takes_less_memory() {
        let once = Cost { memory_kib: 256 << 10, passes: 1, lanes: 1 };
        assert_eq!(once.lasting(1.0, 0.2, 0.08), Cost { passes: 10, ..once });
        assert_eq!(once.lasting(1.0, 0.0, 0.0), Cost { passes: 100, ..once });
        assert_eq!(once.lasting(1.0, 0.4, 0.4), Cost { memory_kib: 128 << 10, passes: 4, lanes: 1 });
        assert_eq!(once.lasting(1.0, 60.0, 60.0), Cost { memory_kib: 64 << 10, passes: 4, lanes: 1 });
        let little = Cost { memory_kib: 32 << 10, ..once };
        assert_eq!(little.lasting(1.0, 60.0, 60.0), Cost { passes: 4, ..little });
        let here = Cost::for_this_machine();
        assert!((LEAST_KIB..=MOST_KIB).contains(&here.memory_kib) && (4..=100).contains(&here.passes), "{here:?}");
    }
}
