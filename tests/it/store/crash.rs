//! The store's commit protocol under crashes: after each call to the disk that a workload makes, the process is killed
//! or the power fails; then recovery, itself crashed now and then, must bring back what users were promised.
//!
//! The workloads and the judge are those of the protocol's model, with a sector of 2 KiB and chunks that lie in the
//! object's header, in its first table page and behind its first node. What is promised: (a) what fsync acknowledged is
//! read back, or something newer that was written; (b) nothing durable becomes unreadable, and after a kill nothing
//! committed; (c) an object never synced shows a beginning of a state it had, or is empty or absent, and nothing
//! answers EIO; (d) once a rename over a name has returned, that name shows the old object or the new; (e) no living
//! object loses its sidecar.
//!
//! `KMSFS_CRASH_SEEDS=20` goes through twenty more seeds; `--nocapture` shows how many states were looked at.

mod births;
mod campaign;
mod content;
mod crashed;
mod faults;
mod kms;
mod looking;
mod names;
mod read_only;
mod regressions;
mod seeded;
mod told;
mod workloads;

use crashed::DUAL_SPREAD;
pub use crashed::{CrashedStore, SPREAD};
/// For the attacker of tamper.rs.
pub use looking::look;
pub use told::{Reading, Told};

use super::{aes256, dsse};
use campaign::{Campaign, Effort, seeds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use workloads::{EVERYDAY, INTERLEAVED, LAYERS, NAMES, SECOND_LIVES, SEQUENTIAL, random_layers, random_workload};

fn check_all(workloads: &[&str], first_seed: u64, effort: Effort) {
    for seed in seeds(first_seed) {
        let mut campaign = Campaign::new(seed);
        for workload in workloads {
            campaign.check(workload, effort);
        }
        campaign.finish();
    }
}

#[test]
fn the_models_workloads_survive_crashes_everywhere() {
    check_all(SEQUENTIAL, 1, Effort { one_in: 1, cuts: 4, lives: 1 });
}

#[test]
fn stores_that_crashed_live_on() {
    check_all(SECOND_LIVES, 2, Effort { one_in: 2, cuts: 4, lives: 4 });
}

#[test]
fn changes_while_a_sync_is_under_way_survive_crashes() {
    check_all(INTERLEAVED, 3, Effort { one_in: 2, cuts: 4, lives: 1 });
}

#[test]
fn what_programs_do_every_day_survives_crashes() {
    check_all(EVERYDAY, 13, Effort { one_in: 2, cuts: 4, lives: 1 });
}

#[test]
fn names_survive_crashes() {
    check_all(NAMES, 4, Effort { one_in: 1, cuts: 4, lives: 1 });
}

#[test]
fn random_workloads_survive_crashes() {
    for seed in seeds(5) {
        let mut campaign = Campaign::new(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..20 {
            campaign.chunks = [[0, 64, 65, 192], [0, 1, 2, 3], [62, 63, 64, 191]][rng.random_range(0..3)];
            campaign.check(&random_workload(&mut rng, 16), Effort { one_in: 4, cuts: 3, lives: 1 });
        }
        campaign.finish();
    }
}

fn check_dual(workloads: &[&str], first_seed: u64, effort: Effort) {
    for seed in seeds(first_seed) {
        let mut campaign = Campaign::new(seed);
        (campaign.encryption, campaign.chunks) = (dsse("0"), DUAL_SPREAD);
        for workload in workloads {
            campaign.check(workload, effort);
        }
        campaign.finish();
    }
}

#[test]
fn objects_with_two_layers_survive_crashes_everywhere() {
    check_dual(SEQUENTIAL, 6, Effort { one_in: 3, cuts: 3, lives: 1 });
}

#[test]
fn objects_with_two_layers_survive_crashes_while_a_sync_is_under_way() {
    check_dual(INTERLEAVED, 7, Effort { one_in: 3, cuts: 3, lives: 1 });
}

#[test]
fn objects_that_get_another_number_of_layers_survive_crashes_everywhere() {
    check_all(LAYERS, 8, Effort { one_in: 1, cuts: 4, lives: 1 });
    check_dual(LAYERS, 9, Effort { one_in: 1, cuts: 4, lives: 1 });
}

#[test]
fn random_workloads_with_layers_survive_crashes() {
    for seed in seeds(10) {
        let mut campaign = Campaign::new(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        for n in 0..20 {
            campaign.encryption = if n % 2 == 0 { dsse("0") } else { aes256() };
            campaign.chunks = [DUAL_SPREAD, SPREAD, [0, 1, 2, 3], [30, 31, 32, 95]][rng.random_range(0..4)];
            campaign.check(&random_layers(&mut rng, 16), Effort { one_in: 4, cuts: 3, lives: 1 });
        }
        campaign.finish();
    }
}
