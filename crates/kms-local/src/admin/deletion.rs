//! Deletion: scheduled, cancelled, and done when its time has come. What the key protected is gone for good then, so
//! that no wall clock alone decides when that is: see [`Watch`].

use super::{Administrator, DAY, HOUR, gone, not_pending_deletion};
use crate::keyring::{Contents, Key};
use crate::local::Moment;
use kmsfs_kms::api::Deletion;
use kmsfs_kms::api::KeyState;
use kmsfs_kms::api::validation;
use kmsfs_kms::{Code, Error};
use serde::{Deserialize, Serialize};

const ATTRIBUTE: &str = "deletion";
const WATCH: &str = "deletion-watch";
/// How long a wall clock has to say that a date has passed until it is believed, in nanoseconds. AWS allows itself 24
/// hours beyond the waiting period.
const BELIEVED: i64 = HOUR;
/// How far a wall clock may drift from the uptime until a date is put right, in nanoseconds.
const DRIFT: i64 = HOUR;
/// Days.
const WINDOW: std::ops::RangeInclusive<u64> = 7..=30;
const DEFAULT_WINDOW: u64 = 30;

impl Administrator<'_> {
    /// Has the key deleted in so many days, 7 to 30.
    pub fn schedule_key_deletion(&self, key_id: &str, window_in_days: Option<u64>) -> Result<Deletion, Error> {
        let window_in_days = window_in_days.unwrap_or(DEFAULT_WINDOW);
        validation::number(window_in_days, "pendingWindowInDays", WINDOW)?;
        let (moment, window) = (self.kms.moment(), window_in_days.cast_signed() * DAY);
        let date = moment.date.saturating_add(window);
        self.change(|contents, _| {
            let key = self.customer_key(contents, key_id, "ScheduleKeyDeletion")?;
            not_pending_deletion(contents, key)?;
            let id = key.id;
            contents.key_mut(&id).ok_or_else(gone)?.state = KeyState::PendingDeletion;
            set_date(contents, &id, date);
            let watch = Watch { boot: moment.boot, until: moment.uptime.saturating_add(window), of: Of::Waiting };
            contents.set_json(&id, WATCH, Some(&watch));
            Ok(Deletion { key_arn: contents.key_arn(&id), date, window_in_days })
        })
    }

    /// The key is disabled then. Answers its ARN.
    pub fn cancel_key_deletion(&self, key_id: &str) -> Result<String, Error> {
        self.change(|contents, _| {
            let key = self.customer_key(contents, key_id, "CancelKeyDeletion")?;
            let arn = contents.key_arn(&key.id);
            if key.state != KeyState::PendingDeletion {
                return Err(Error::new(Code::KmsInvalidState, format!("{arn} is not pending deletion.")));
            }
            let id = key.id;
            let key = contents.key_mut(&id).ok_or_else(gone)?;
            // What has no material cannot be enabled either.
            key.state = if key.materials.is_empty() { KeyState::PendingImport } else { KeyState::Disabled };
            contents.set_attribute(&id, ATTRIBUTE, Vec::new());
            contents.set_json::<Watch>(&id, WATCH, None);
            Ok(arn)
        })
    }
}

/// When a key that is pending deletion goes.
pub(super) fn date(contents: &Contents, key: &Key) -> Option<i64> {
    if key.state != KeyState::PendingDeletion {
        return None;
    }
    contents.attribute(&key.id, ATTRIBUTE)?.try_into().ok().map(i64::from_le_bytes)
}

fn set_date(contents: &mut Contents, id: &[u8; 16], date: i64) {
    contents.set_attribute(id, ATTRIBUTE, date.to_le_bytes().to_vec());
}

/// What a deletion waits for by the machine's uptime, which nobody sets. In the start of the machine in which it was
/// scheduled that alone decides, and the date follows it when the wall clock is set. In a later start the date decides,
/// once the wall clock has said for an hour that it has passed: a clock that was wrong is put right before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Watch {
    boot: [u8; 16],
    /// The machine's uptime, in nanoseconds.
    until: i64,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Of {
    /// The whole waiting period.
    Waiting,
    /// The hour for which a date has to have passed.
    Passed,
}

/// What is to be done about a deletion now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait,
    /// The wall clock was set: the date that is right by it.
    Date(i64),
    Watch(Option<Watch>),
    Delete,
}

fn step(contents: &Contents, key: &Key, moment: &Moment) -> Step {
    let Some(date) = date(contents, key) else { return Step::Wait };
    let kept = contents.json::<Watch>(&key.id, WATCH);
    match kept.filter(|watch| watch.boot == moment.boot) {
        Some(Watch { of: Of::Waiting, until, .. }) => {
            let right = moment.date.saturating_add(until.saturating_sub(moment.uptime));
            match until <= moment.uptime {
                true => Step::Delete,
                false if right.abs_diff(date) > DRIFT.unsigned_abs() => Step::Date(right),
                false => Step::Wait,
            }
        }
        Some(Watch { of: Of::Passed, .. }) if moment.date < date => Step::Watch(None),
        Some(Watch { of: Of::Passed, until, .. }) if until <= moment.uptime => Step::Delete,
        None if date <= moment.date => {
            let until = moment.uptime.saturating_add(BELIEVED);
            Step::Watch(Some(Watch { boot: moment.boot, until, of: Of::Passed }))
        }
        Some(Watch { of: Of::Passed, .. }) | None => Step::Wait,
    }
}

/// Whether `pass` would change anything.
pub(super) fn is_due(contents: &Contents, moment: &Moment) -> bool {
    contents.keys.iter().any(|key| step(contents, key, moment) != Step::Wait)
}

/// Writes down what the time says of each deletion, and answers the keys whose time has come.
pub(super) fn pass(contents: &mut Contents, moment: &Moment) -> Vec<[u8; 16]> {
    let steps: Vec<_> = contents.keys.iter().map(|key| (key.id, step(contents, key, moment))).collect();
    let mut due = Vec::new();
    for (id, step) in steps {
        match step {
            Step::Wait => {}
            Step::Date(date) => {
                log::warn!(
                    "the clock was set: the deletion of the key {} keeps its waiting period",
                    contents.key_arn(&id)
                );
                set_date(contents, &id, date);
            }
            Step::Watch(watch) => contents.set_json(&id, WATCH, watch.as_ref()),
            Step::Delete => due.push(id),
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALLER, SetClock, code, kms_with_clock, open};
    use super::*;
    use crate::LocalKms;
    use kmsfs_kms::{EncryptionContext, Kms};
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    /// Every file of the keyring's directory, and of what lies beside it.
    fn files(dir: &Path) -> Vec<Vec<u8>> {
        fs::read_dir(dir.join("keyring")).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn a_key_waits_for_its_deletion_and_can_be_saved_until_then() {
        let (_dir, kms, clock) = kms_with_clock();
        let admin = kms.administer(CALLER);
        let key = kms.create_key("").unwrap();
        for bad in [6, 31] {
            assert_eq!(code(admin.schedule_key_deletion(&key.arn, Some(bad))), Code::Validation);
        }
        let deletion = admin.schedule_key_deletion(&key.arn, Some(7)).unwrap();
        assert_eq!((deletion.date, deletion.window_in_days), (clock.now() + 7 * DAY, 7));
        let described = kms.describe_key(&key.arn).unwrap();
        assert_eq!((described.state, described.deletion), (KeyState::PendingDeletion, Some(deletion.date)));
        let pending = || Error::new(Code::KmsInvalidState, format!("{} is pending deletion.", key.arn));
        let context = EncryptionContext::new();
        let used = Kms::generate_data_key(&*kms, &key.arn, &context, &CALLER).map(|generated| generated.key_arn);
        assert_eq!(used, Err(pending()));
        assert_eq!(kms.set_enabled(&key.arn, true), Err(pending()));
        assert_eq!(kms.create_alias("alias/x", &key.arn), Err(pending()));
        assert_eq!(admin.schedule_key_deletion(&key.arn, None), Err(pending()));
        assert_eq!(admin.update_key_description(&key.arn, ""), Err(pending()));
        assert_eq!(admin.tag_resource(&key.arn, &[]), Err(pending()));
        assert_eq!(admin.cancel_key_deletion(&key.arn).unwrap(), key.arn);
        assert_eq!(kms.describe_key(&key.arn).unwrap().state, KeyState::Disabled);
        let text = format!("{} is not pending deletion.", key.arn);
        assert_eq!(admin.cancel_key_deletion(&key.arn), Err(Error::new(Code::KmsInvalidState, text)));
        clock.pass(40);
        kms.tick();
        assert!(kms.describe_key(&key.arn).is_ok());
    }

    #[test]
    fn when_its_time_has_come_a_key_is_nowhere_any_more() {
        let (dir, kms, clock) = kms_with_clock();
        let key = kms.create_key("to go").unwrap();
        kms.create_alias("alias/gone", &key.arn).unwrap();
        let context = EncryptionContext::new();
        let generated = Kms::generate_data_key(&*kms, &key.arn, &context, &CALLER).unwrap();
        kms.administer(CALLER).schedule_key_deletion(&key.arn, Some(7)).unwrap();
        clock.pass(6);
        kms.tick();
        assert!(kms.describe_key(&key.arn).is_ok());
        let before = files(dir.path());
        let replaced = dir.path().join("keyring/replaced.0");
        fs::create_dir(&replaced).unwrap();
        fs::write(replaced.join("keyring"), &before[0]).unwrap();
        clock.pass(1);
        kms.tick();
        let missing = Error::new(Code::NotFound, format!("Key '{}' does not exist", key.arn));
        assert_eq!(kms.describe_key(&key.arn), Err(missing.clone()));
        assert_eq!(code(kms.describe_key("alias/gone")), Code::NotFound);
        let decrypted = Kms::decrypt(&*kms, &key.arn, &generated.ciphertext_blob, &context, &CALLER).map(|_| ());
        assert_eq!(decrypted, Err(missing));
        assert!(!replaced.exists());
        // Both generations are new, and the kept one holds no more than the other.
        let after = files(dir.path());
        let keyrings: Vec<_> = after.iter().filter(|bytes| bytes.starts_with(b"KMSFSKEY")).collect();
        assert_eq!(keyrings.len(), 2);
        assert!(keyrings.iter().all(|bytes| !before.contains(bytes)), "a file of before is still there");
        assert_eq!(keyrings[0].len(), keyrings[1].len());
        for name in ["keyring", "keyring.previous"] {
            fs::copy(dir.path().join("keyring").join(name), dir.path().join("keyring/keyring.new")).unwrap();
            fs::rename(dir.path().join("keyring/keyring.new"), dir.path().join("keyring/keyring")).unwrap();
            assert!(open(dir.path(), &clock).list_keys().unwrap().is_empty(), "{name}");
        }
    }

    #[test]
    fn whoever_opens_the_keyring_next_deletes_what_is_due() {
        let (dir, kms, clock) = kms_with_clock();
        let key = kms.create_key("").unwrap();
        kms.administer(CALLER).schedule_key_deletion(&key.arn, None).unwrap();
        drop(kms);
        clock.pass(31);
        assert!(open(dir.path(), &clock).list_keys().unwrap().is_empty());
    }

    /// A key whose deletion is scheduled for seven days from now.
    fn scheduled() -> (tempfile::TempDir, Arc<LocalKms>, SetClock, String) {
        let (dir, kms, clock) = kms_with_clock();
        let key = kms.create_key("").unwrap().arn;
        kms.administer(CALLER).schedule_key_deletion(&key, Some(7)).unwrap();
        (dir, kms, clock, key)
    }

    fn date_of(kms: &LocalKms, key: &str) -> Option<i64> {
        kms.tick();
        kms.describe_key(key).ok().map(|key| key.deletion.expect("it is pending deletion"))
    }

    #[test]
    fn a_clock_that_jumps_deletes_nothing_before_its_time() {
        for days in [1, 3650, -1, -3650] {
            let (_dir, kms, clock, key) = scheduled();
            let (start, date) = (clock.now(), |at: i64| Some(at + 7 * DAY));
            clock.jump(days);
            assert_eq!(date_of(&kms, &key), date(start + days * DAY), "the waiting period is what it was");
            clock.jump(-days);
            assert_eq!(date_of(&kms, &key), date(start), "and after the clock was put right");
            clock.pass_hours(7 * 24 - 1);
            clock.jump(days);
            assert!(date_of(&kms, &key).is_some());
            clock.pass_hours(1);
            assert_eq!(date_of(&kms, &key), None);
        }
    }

    #[test]
    fn after_a_restart_a_date_has_to_have_passed_for_an_hour() {
        let (dir, kms, clock, key) = scheduled();
        let date = date_of(&kms, &key);
        drop(kms);
        for days in [8, 3650] {
            // A clock that is ahead until the machine finds out what time it is.
            clock.restart();
            clock.jump(days);
            let kms = open(dir.path(), &clock);
            assert_eq!(date_of(&kms, &key), date);
            clock.jump(-days);
            assert_eq!(date_of(&kms, &key), date);
            clock.pass_hours(2);
            clock.jump(days);
            assert_eq!(date_of(&kms, &key), date, "what was seen before the clock was put right does not count");
            clock.jump(-days);
            assert_eq!(date_of(&kms, &key), date);
        }
        clock.restart();
        clock.pass(7);
        let kms = open(dir.path(), &clock);
        assert_eq!(date_of(&kms, &key), date);
        clock.restart();
        assert_eq!(date_of(&kms, &key), date, "an hour of which start of the machine cannot be told");
        clock.pass_hours(1);
        assert_eq!(date_of(&kms, &key), None);
    }

    #[test]
    fn a_key_that_was_scheduled_by_a_clock_that_was_behind_waits_as_long_as_was_said() {
        let (dir, kms, clock) = kms_with_clock();
        clock.jump(-20_000);
        let key = kms.create_key("").unwrap().arn;
        kms.administer(CALLER).schedule_key_deletion(&key, Some(7)).unwrap();
        clock.jump(20_000);
        let date = date_of(&kms, &key);
        assert_eq!(date, Some(clock.now() + 7 * DAY));
        clock.restart();
        clock.pass_hours(2);
        assert_eq!(date_of(&open(dir.path(), &clock), &key), date);
    }
}
