//! What the stores are used for while they crash: the workloads of the protocol's model, and random ones.
//!
//! `write NAME SECTOR COUNT`; a chunk is two sectors, and there are four chunks. `op { a / b }`: see
//! `CrashedStore::run`.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// `A || B`: B runs on disks that crashes of A left.
pub const SEQUENTIAL: &[&str] = &[
    "create a; write a 0 3; fsync a",
    "create a; write a 0 8; close a; write a 1 1; fsync a",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; write a 2 2; close a",
    "create a; write a 0 4; fsync a; write a 4 1; fsync a; write a 5 1; close a",
    "create a; write a 0 4; fsync a; write a 6 2; close a; create b; fsync b; write a 2 2; close a; fsync b",
    "create a; truncate a 6; fsync a; write a 4 2; close a; create b; fsync b",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; checkpoint; write a 2 2; close a; checkpoint; write a 0 1; \
     fsync a",
    "create a; write a 0 4; fsync a; truncate a 1; write a 4 1; fsync a; truncate a 3; close a; truncate a 8; fsync a",
    "create a; write a 0 1; fsync a; truncate a 7; close a; write a 7 1; fsync a",
    "create a; write a 0 4; fsync a; truncate a 0; write a 0 1",
    "create a; write a 0 4; fsync a; truncate a 0; fsync a; write a 0 4; fsync a",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; punch a 0; close a; write a 0 2; fsync a; punch a 0; \
     fsync a; write a 0 2",
    "create a; write a 0 4; fsync a; punch a 0; close a; write a 0 2; fsync a",
    "create a; write a 0 8; fsync a; punch a 3; fsync a; checkpoint; write a 6 1; fsync a",
    "create a; write a 0 8; fsync a; punch a 1; punch a 2; fsync a; checkpoint; write a 2 2; fsync a",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; punch a 0; fsync a; write a 0 2; fsync a; punch a 1; \
     fsync a; write a 2 2; close a",
    "create a; write a 0 8; fsync a; clear a 1 3; fsync a; checkpoint; write a 2 2; fsync a; write a 6 1; close a",
    "create a; write a 0 8; fsync a; clear a 1 3; close a; write a 2 2; close a; checkpoint; clear a 0 3; fsync a; \
     write a 2 6; close a; clear a 1 2; checkpoint; write a 4 2; fsync a",
    "create a; write a 0 8; fsync a; write a 2 2; fsync a; truncate a 3; truncate a 8; clear a 1 2; close a; checkpoint; \
     clear a 0 3; write a 3 3; fsync a",
    "create a; write a 0 4; fsync a; rewrap a; write a 0 1; fsync a; rewrap a; close a; checkpoint; rewrap a; fsync a",
    "create a; write a 0 4; fsync a; write a 0 1; rewrap a; fsync a",
    "create a; write a 0 2; close a; truncate a 0; rewrap a; write a 0 2; fsync a",
    "create a; write a 0 8; fsync a; rekey a; reencrypt a; reencrypt a; fsync a; reencrypt a; reencrypt a; reencrypt a; \
     fsync a",
    "create a; write a 0 8; fsync a; rekey a; reencrypt a; write a 4 1; checkpoint; reencrypt a; write a 0 1; reencrypt a; \
     close a; reencrypt a; reencrypt a; checkpoint; write a 2 2; fsync a",
    "create a; write a 0 8; close a; rekey a; rekey a; reencrypt a; truncate a 5; reencrypt a; punch a 0; rewrap a; \
     fsync a; checkpoint",
    "create t; write t 0 3; fsync t; write t 0 1; fsync t; rename t a; create t; fsync t; write a 0 1; fsync a",
    "create a; write a 0 4; fsync a; create t; write t 0 3; close t; rename t a; checkpoint; fsync a",
    "create a; write a 0 4; fsync a; create t; write t 0 3; fsync t; write a 0 2; fsync a; rename t a; checkpoint; \
     write a 0 1; fsync a",
    "create a; write a 0 4; fsync a; create b; write b 0 1; fsync b; write a 0 1; fsync a; unlink a; checkpoint; \
     create a; write a 0 2; fsync a",
    "create a; write a 0 4; fsync a; checkpoint; unlink a; checkpoint",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; unlink a; create b; fsync b",
    "create a; write a 0 4; fsync a; unlink_open a; write ~a 0 1; fsync ~a; checkpoint; write ~a 2 1; fsync ~a; \
     release ~a; checkpoint; create a; fsync a",
    "create a; write a 0 4; fsync a; write a 0 2; close a; write a 2 2; close a",
    "create a; write a 0 2; fsync a; create b; write b 0 3; fsync b; write a 0 1; write b 0 2; close b; fsync a; \
     checkpoint; write b 1 1; fsync b",
];

pub const SECOND_LIVES: &[&str] = &[
    "create a; write a 0 3; close a || write a 4 2; fsync a; write a 0 1; fsync a",
    "create a; write a 0 1; close a || create b; write b 0 1; fsync b; unlink a; checkpoint; write b 0 1; fsync b",
    "create a; write a 0 2; fsync a || create b; write b 0 1; close b; fsync b",
    "create a; write a 0 8; fsync a; rekey a; reencrypt a; reencrypt a || reencrypt a; write a 2 1; reencrypt a; \
     reencrypt a; reencrypt a; fsync a",
    "create a; write a 0 2; close a || write a 0 1; fsync a; write a 2 2; close a",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; unlink a; checkpoint || create b; write b 0 4; fsync b; \
     overwrite a; write a 0 3; fsync a; checkpoint",
    "create a; write a 0 8; close a || overwrite a; write a 2 4; close a; checkpoint; fsync a",
    "create a; write a 0 8; fsync a; write a 0 8; close a || punch a 1; write a 2 2; fsync a; checkpoint; truncate a 3; \
     fsync a",
];

/// Something happens while a sync is under way.
pub const INTERLEAVED: &[&str] = &[
    "create a; write a 0 4; fsync a; create t; write t 0 3; fsync t; write a 0 1; checkpoint { / rename t a }; \
     write a 1 1; fsync a",
    "create b; write b 0 1; fsync b; unlink b; checkpoint { / create a; write a 0 1; close a }; write a 1 1; fsync a",
    "create a; write a 0 4; fsync a; write a 4 1; fsync a { write a 0 1; fsync a }",
    "create a; write a 0 4; fsync a; write a 4 2; fsync a { write a 4 2 }; fsync a",
    "create a; write a 0 4; fsync a; create b; write b 0 1; fsync b; write a 0 1; fsync a { write b 0 1; fsync b }",
    "create a; write a 0 4; fsync a; write a 4 2; fsync a { / punch a 2; close a; write a 4 2 }; fsync a",
    "create a; write a 0 4; fsync a; write a 0 1; fsync a { write a 4 2; checkpoint }; punch a 2; close a; write a 4 2",
    "create a; fsync a { write a 0 2; close a }; write a 0 1; fsync a",
    "create a; write a 0 4; fsync a; checkpoint { write a 4 2 }; fsync a; write a 0 1; close a",
    "create a; write a 0 4; fsync a; write a 0 1; checkpoint { write a 4 2 }; fsync a",
    "create a; write a 0 4; fsync a; write a 0 2; fsync a; checkpoint { punch a 0 }; write a 2 1; fsync a",
    "create a; write a 0 8; fsync a; write a 2 4; fsync a; checkpoint { clear a 1 3 }; write a 2 1; close a; checkpoint",
    "create a; write a 0 4; fsync a; write a 0 1; checkpoint { / write a 1 1; fsync a; create b; write b 0 1; fsync b }",
    "create a; write a 0 4; fsync a; rewrap a; checkpoint { create b; write b 0 1; fsync b / rewrap a / unlink_open a }",
    "create a; write a 0 8; fsync a; rekey a; reencrypt a; checkpoint { reencrypt a; write a 0 1 / reencrypt a }; \
     reencrypt a; reencrypt a; fsync a { reencrypt a; reencrypt a }; write a 6 1; fsync a",
    "create a; write a 0 2; close a; checkpoint { fsync a / write a 4 1; close a }; fsync a",
    "create a; write a 0 2; fsyncdir { create b; write b 0 1; close b }; fsync a",
];

/// What programs do: logs, files saved by renaming, databases. (`a` is the database, `t` its journal.)
pub const EVERYDAY: &[&str] = &[
    // Appends to a log.
    "create a; write a 0 1; fsync a; write a 1 1; fsync a; write a 2 1; fsync a; write a 3 1; fsync a; write a 4 1; \
     fsync a; write a 5 1; fsync a; checkpoint; write a 6 1; fsync a; write a 7 1; fsync a",
    // A log that is moved away and begun anew.
    "create a; write a 0 5; fsync a; rename a b; create a; write a 0 1; fsync a; fsyncdir; write a 1 2; fsync a; unlink b; \
     checkpoint; write a 3 1; fsync a",
    // Saved by renaming, with fsync and without.
    "create a; write a 0 5; fsync a; create t; write t 0 6; fsync t; rename t a; fsyncdir; create t; write t 0 3; close t; \
     rename t a; create t; write t 0 8; close t; rename t a; fsync a",
    // Written in the middle, cut and grown.
    "create a; write a 0 8; close a; write a 3 2; fsync a; truncate a 5; write a 4 1; fsync a; truncate a 8; write a 6 1; \
     close a; truncate a 0; write a 0 2; fsync a",
    // sqlite, journal_mode=DELETE.
    "create a; write a 0 8; fsync a; fsyncdir; create t; write t 0 3; fsync t; fsyncdir; write t 0 1; fsync t; \
     write a 0 2; write a 4 2; fsync a; unlink t; fsyncdir; create t; write t 0 5; fsync t; fsyncdir; write t 0 1; fsync t; \
     write a 2 4; truncate a 6; fsync a; unlink t; fsyncdir",
    // The same with journal_mode=TRUNCATE, then PERSIST, and a transaction that is taken back.
    "create a; write a 0 6; fsync a; create t; write t 0 3; fsync t; write t 0 1; fsync t; write a 2 2; fsync a; truncate t 0; \
     fsync t; write t 0 4; fsync t; write t 0 1; fsync t; write a 0 4; fsync a; write t 0 1; fsync t; write t 1 3; fsync t; \
     write a 4 2; close a; write a 4 2; fsync a; write t 0 1; fsync t",
    // journal_mode=WAL: frames are appended and synced, go home at a checkpoint, and the log is begun anew.
    "create a; write a 0 6; fsync a; create t; write t 0 1; fsync t; fsyncdir; write t 1 2; fsync t; write t 3 2; fsync t; \
     write t 5 2; fsync t; write a 0 2; write a 4 4; fsync a; write t 0 1; write t 1 2; fsync t; write t 3 1; fsync t; \
     fsync t; write a 2 2; fsync a; truncate t 0; close t; unlink t; fsyncdir",
];

/// Directories, hard links, symlinks.
pub const NAMES: &[&str] = &[
    "create a; write a 0 4; close a; checkpoint; fsync a",
    "create a; write a 0 4; close a; tick; checkpoint; write a 0 1; fsync a; checkpoint",
    "mkdir d; create d/a; write d/a 0 3; fsync d/a",
    "mkdir d; mkdir d/e; create d/e/a; write d/e/a 0 2; close d/e/a; fsync d/e/a; create d/b; write d/b 0 1; fsync d/b",
    "mkdir d; create d/a; write d/a 0 3; close d/a; create d/b; write d/b 0 1; fsyncdir d; write d/a 0 1; close d/a",
    "create a; write a 0 2; close a; create b; write b 0 8; fsyncdir; write b 2 2; fsync b",
    "mkdir d; create d/a; write d/a 0 3; fsync d/a; write d/a 0 2; close d/a; move d e; write e/a 2 2; fsync e/a; \
     write e/a 0 1; close e/a",
    "mkdir d; mkdir e; create d/a; write d/a 0 4; fsync d/a; write d/a 0 1; fsync d/a; rename d/a e/a; write e/a 2 1; \
     fsync e/a; checkpoint; unlink e/a; checkpoint",
    "mkdir d; create a; write a 0 4; link a d/b; fsync d/b; write a 0 2; close a; unlink a; checkpoint; write d/b 0 1; \
     fsync d/b",
    "mkdir d; create d/a; write d/a 0 4; link d/a b; fsync b; fsyncdir; fsyncdir d; unlink d/a; unlink b; checkpoint; \
     create b; write b 0 2; fsync b",
    "create a; write a 0 4; fsync a; link a b; unlink a; fsync b; unlink b; checkpoint; checkpoint",
    "symlink s; symlink t; create a; write a 0 2; fsync a; fsyncdir; unlink s; unlink t; checkpoint; symlink s; \
     symlink t; symlink u; fsyncdir",
    "create a; write a 0 2; fsync a; create b; write b 0 3; close b; exchange a b; write a 0 1; fsync a; exchange a b; \
     close a; checkpoint",
    "mkdir d; create a; write a 0 2; fsync a; create d/t; write d/t 0 3; rename d/t a; fsyncdir; fsyncdir d",
];

/// Objects that get another number of layers.
pub const LAYERS: &[&str] = &[
    "create a; relayer a; write a 0 2; fsync a",
    "create a; close a; relayer a; write a 0 8; fsync a; write a 2 2; close a",
    "create a; write a 0 8; fsync a; relayer a; fsync a; write a 2 2; fsync a; checkpoint; write a 4 4; fsync a",
    "create a; write a 0 8; close a; relayer a; write a 1 3; close a; relayer a; write a 6 2; fsync a; checkpoint",
    "create a; write a 0 8; fsync a; write a 0 4; fsync a; relayer a; punch a 1; fsync a; write a 2 2; fsync a; \
     checkpoint; truncate a 3; write a 6 2; fsync a",
    "create a; write a 0 8; fsync a; write a 2 4; close a; truncate a 1; relayer a; fsync a; write a 4 4; fsync a; \
     checkpoint; write a 0 8; fsync a",
    "create a; write a 0 8; fsync a; write a 0 8; fsync a; truncate a 0; relayer a; write a 0 6; fsync a; write a 0 2; \
     checkpoint; write a 2 2; close a",
    "create a; write a 0 3; fsync a; relayer a; rename a b; write b 3 5; fsync b; link b c; relayer c; checkpoint; \
     write b 0 1; fsync b",
    "create a; write a 0 8; fsync a; checkpoint { relayer a; write a 0 1 }; write a 2 2; fsync a",
    "create a; write a 0 8; fsync a { relayer a; write a 3 2 }; write a 0 1; fsync a",
    "create a; write a 0 6; fsync a; rekey a; reencrypt a; relayer a; fsync a; rekey a; reencrypt a; reencrypt a; fsync a",
    "create a; write a 0 8; fsync a; relayer a; unlink a; create a; write a 0 2; fsync a; checkpoint; relayer a; close a",
];

/// Shorter mixes of everything, as the model makes them.
pub fn random_workload(rng: &mut StdRng, length: usize) -> String {
    mixed(rng, length, false)
}

/// With objects that get another number of layers.
pub fn random_layers(rng: &mut StdRng, length: usize) -> String {
    mixed(rng, length, true)
}

fn mixed(rng: &mut StdRng, length: usize, layers: bool) -> String {
    let count = rng.random_range(length / 2..=length);
    let mut ops = vec!["create a".to_string()];
    ops.extend((0..count).map(|_| random_op(rng, layers)));
    ops.join("; ")
}

const PATHS: &[&str] = &["a", "a", "a", "b", "t", "~a", "d/a", "d/b"];
const PLACES: &[&str] = &["a", "a", "b", "t", "d/a", "d/b"];

fn random_op(rng: &mut StdRng, layers: bool) -> String {
    let name = *PATHS.choose(rng).unwrap();
    let place = *PLACES.choose(rng).unwrap();
    if layers && rng.random_ratio(1, 12) {
        return format!("relayer {name}");
    }
    match rng.random_range(0..130) {
        0..34 => {
            let count = *[1, 2, 2, 4].choose(rng).unwrap();
            format!("write {name} {} {count}", rng.random_range(0..8_usize).min(8 - count))
        }
        34..48 => format!("fsync {name}"),
        48..58 => format!("close {name}"),
        58..61 => format!("rewrap {name}"),
        61 => format!("rekey {name}"),
        62..64 => format!("reencrypt {name}"),
        64..69 => format!("truncate {name} {}", rng.random_range(0..9)),
        69..73 => format!("punch {name} {}", rng.random_range(0..4)),
        73..76 => format!("clear {name} {} {}", rng.random_range(0..2), rng.random_range(2..4)),
        76..88 => format!("create {place}"),
        88..95 => format!("rename {place} {}", PLACES.choose(rng).unwrap()),
        95..98 => format!("unlink {place}"),
        98..101 => format!("unlink_open {place}"),
        101..103 => "release ~a".into(),
        103..110 => "checkpoint".into(),
        110..112 => "tick".into(),
        112..115 => format!("link {place} {}", PLACES.choose(rng).unwrap()),
        115..117 => format!("symlink {place}"),
        117..121 => "mkdir d".into(),
        121..123 => ["fsyncdir", "fsyncdir d"].choose(rng).unwrap().to_string(),
        123..125 => format!("exchange {place} {}", PLACES.choose(rng).unwrap()),
        125..127 => ["move d e", "move e d"].choose(rng).unwrap().to_string(),
        _ => format!("overwrite {place}"),
    }
}
