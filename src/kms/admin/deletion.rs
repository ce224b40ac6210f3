//! Deletion: scheduled, cancelled, and done when its time has come. What the key protected is gone for good then.

use super::{Administrator, DAY, gone, not_pending_deletion, validation};
use crate::kms::keyring::{Contents, Key, KeyState};
use crate::kms::{Code, Error};

const ATTRIBUTE: &str = "deletion";
/// Days.
const WINDOW: std::ops::RangeInclusive<u64> = 7..=30;
const DEFAULT_WINDOW: u64 = 30;

/// What ScheduleKeyDeletion answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub key_arn: String,
    /// Nanoseconds since 1970.
    pub date: i64,
    pub window_in_days: u64,
}

impl Administrator<'_> {
    pub fn schedule_key_deletion(&self, key_id: &str, window_in_days: Option<u64>) -> Result<Deletion, Error> {
        let window_in_days = window_in_days.unwrap_or(DEFAULT_WINDOW);
        validation::number(window_in_days, "pendingWindowInDays", WINDOW)?;
        let date = self.kms.now() + window_in_days.cast_signed() * DAY;
        self.kms.change(|contents, _| {
            let key = self.customer_key(contents, key_id, "ScheduleKeyDeletion")?;
            not_pending_deletion(contents, key)?;
            let id = key.id;
            contents.key_mut(&id).ok_or_else(gone)?.state = KeyState::PendingDeletion;
            contents.set_attribute(&id, ATTRIBUTE, date.to_le_bytes().to_vec());
            Ok(Deletion { key_arn: contents.key_arn(&id), date, window_in_days })
        })
    }

    /// The key is disabled then. Answers its ARN.
    pub fn cancel_key_deletion(&self, key_id: &str) -> Result<String, Error> {
        self.kms.change(|contents, _| {
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

/// Keys whose time has come.
pub(super) fn overdue(contents: &Contents, now: i64) -> Vec<[u8; 16]> {
    let due = |key: &&Key| date(contents, key).is_some_and(|date| date <= now);
    contents.keys.iter().filter(due).map(|key| key.id).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALLER, code, kms_with_clock, open};
    use super::*;
    use crate::kms::{EncryptionContext, Kms};
    use std::fs;
    use std::path::Path;

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
}
