//! Rotation: a new material for what is encrypted from now on. Old ones stay, for decryption.

use super::{Administrator, DAY, disabled, gone, import, pending};
use crate::keyring::{Contents, Key, Material, Wrapping, material_name};
use kmsfs_kms::api::{KeyManager, KeyOrigin, KeyState};
use kmsfs_kms::api::{Page, PageRequest, validation};
use kmsfs_kms::api::{Rotation, RotationKind, RotationStatus};
use kmsfs_kms::{Code, Error};
use serde::{Deserialize, Serialize};

/// Of a key: the automatic rotation.
const AUTOMATIC: &str = "rotation";
/// Of a material: how it came.
const KIND: &str = "rotation-type";
const PERIOD: std::ops::RangeInclusive<u64> = 90..=2560;
const YEAR: u64 = 365;
const MOST_ON_DEMAND: usize = 25;

/// Kept with a key.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Automatic {
    period_in_days: u64,
    /// The last automatic rotation, or when it was enabled; nanoseconds since 1970.
    since: i64,
}

impl Automatic {
    fn next(self) -> i64 {
        self.since.saturating_add(self.period_in_days.cast_signed().saturating_mul(DAY))
    }
}

impl Administrator<'_> {
    /// Has the key get new material every so many days, 90 to 2560.
    pub fn enable_key_rotation(&self, key_id: &str, period_in_days: Option<u64>) -> Result<(), Error> {
        let period_in_days = period_in_days.unwrap_or(YEAR);
        validation::number(period_in_days, "rotationPeriodInDays", PERIOD)?;
        let now = self.kms.now();
        self.change(|contents, _| {
            let id = self.rotatable(contents, key_id, "EnableKeyRotation")?;
            let since = automatic(contents, contents.key(&id).ok_or_else(gone)?).map_or(now, |before| before.since);
            contents.set_json(&id, AUTOMATIC, Some(&Automatic { period_in_days, since }));
            Ok(())
        })
    }

    /// Ends that.
    pub fn disable_key_rotation(&self, key_id: &str) -> Result<(), Error> {
        self.change(|contents, _| {
            let id = self.rotatable(contents, key_id, "DisableKeyRotation")?;
            contents.set_json::<Automatic>(&id, AUTOMATIC, None);
            Ok(())
        })
    }

    /// Whether it does, and when.
    pub fn get_key_rotation_status(&self, key_id: &str) -> Result<RotationStatus, Error> {
        self.ask(|contents| {
            let key = self.key_not_alias(contents, key_id, "GetKeyRotationStatus")?;
            let automatic = automatic(contents, key).map(|automatic| (automatic.period_in_days, automatic.next()));
            Ok(RotationStatus { key_arn: contents.key_arn(&key.id), automatic })
        })
    }

    /// Answers the key's ARN.
    pub fn rotate_key_on_demand(&self, key_id: &str) -> Result<String, Error> {
        let now = self.kms.now();
        self.change(|contents, wrapping| {
            let key = self.customer_key(contents, key_id, "RotateKeyOnDemand")?;
            check_state(contents, key)?;
            let on_demand = |material: &&Material| kind(contents, &material.id) == Some(RotationKind::OnDemand);
            if key.materials.iter().filter(on_demand).count() >= MOST_ON_DEMAND {
                let text = format!(
                    "The on-demand rotations limit has been reached for the given keyId: {}",
                    contents.key_arn(&key.id)
                );
                return Err(Error::new(Code::LimitExceeded, text));
            }
            let id = key.id;
            if key.origin == KeyOrigin::External {
                import::rotate(contents, &id, now)?;
                return Ok(contents.key_arn(&id));
            }
            rotate(contents, &id, RotationKind::OnDemand, wrapping, now)?;
            Ok(contents.key_arn(&id))
        })
    }

    /// Rotations, the newest first; with `all` the first material too.
    pub fn list_key_rotations(&self, key_id: &str, all: bool, page: &PageRequest) -> Result<Page<Rotation>, Error> {
        let rotations = self.ask(|contents| {
            let key = self.key_not_alias(contents, key_id, "ListKeyRotations")?;
            let newest = key.newest().map(|material| material.id);
            let rotation = |material: &Material| Rotation {
                key_arn: contents.key_arn(&key.id),
                material_id: material_name(&material.id),
                date: material.created,
                kind: kind(contents, &material.id),
                current: Some(material.id) == newest,
                imported: (key.origin == KeyOrigin::External).then(|| material.is_there()),
                expires: import::expiry_of(contents, &material.id),
            };
            let rotations = key.materials.iter().rev().map(rotation);
            Ok(rotations.filter(|rotation| all || rotation.kind.is_some()).collect())
        })?;
        page.of(rotations)
    }

    /// A customer's key with material of this KMS, in a state to change its rotation.
    fn rotatable(&self, contents: &Contents, key_id: &str, action: &str) -> Result<[u8; 16], Error> {
        let key = self.customer_key(contents, key_id, action)?;
        check_state(contents, key)?;
        if key.origin == KeyOrigin::External {
            let text =
                format!("{} origin is EXTERNAL which is not valid for this operation.", contents.key_arn(&key.id));
            return Err(Error::new(Code::UnsupportedOperation, text));
        }
        Ok(key.id)
    }
}

fn check_state(contents: &Contents, key: &Key) -> Result<(), Error> {
    match key.state {
        KeyState::Enabled => Ok(()),
        KeyState::Disabled => Err(disabled(contents, key)),
        KeyState::PendingDeletion => Err(pending(contents, key, "deletion")),
        KeyState::PendingImport => Err(pending(contents, key, "import")),
    }
}

/// AWS managed keys rotate yearly by themselves.
fn automatic(contents: &Contents, key: &Key) -> Option<Automatic> {
    let kept = contents.json(&key.id, AUTOMATIC);
    let yearly = Automatic { period_in_days: YEAR, since: key.created };
    kept.or_else(|| (key.manager == KeyManager::Aws).then_some(yearly))
}

fn kind(contents: &Contents, material: &[u8; 16]) -> Option<RotationKind> {
    match contents.attribute(material, KIND)? {
        b"AUTOMATIC" => Some(RotationKind::Automatic),
        b"ON_DEMAND" => Some(RotationKind::OnDemand),
        _ => None,
    }
}

pub(super) fn set_kind(contents: &mut Contents, material: &[u8; 16], kind: RotationKind) {
    let text: &[u8] = match kind {
        RotationKind::Automatic => b"AUTOMATIC",
        RotationKind::OnDemand => b"ON_DEMAND",
    };
    contents.set_attribute(material, KIND, text.to_vec());
}

/// Keys that are enabled and whose next rotation is due.
pub(super) fn overdue(contents: &Contents, now: i64) -> Vec<[u8; 16]> {
    let enabled = contents.keys.iter().filter(|key| key.state == KeyState::Enabled && key.origin == KeyOrigin::AwsKms);
    let due = |key: &&Key| {
        automatic(contents, key)
            .is_some_and(|automatic| automatic.next() <= now || is_ahead(automatic.since, key.created, now))
    };
    enabled.filter(due).map(|key| key.id).collect()
}

/// Whether a rotation was made by a clock that was ahead of now: it would be the last one for as long. (A clock that is
/// behind finds everything ahead, the key itself too.)
fn is_ahead(rotated: i64, created: i64, now: i64) -> bool {
    rotated > now.saturating_add(DAY) && created <= now
}

/// A new material, once however often it was due.
pub(super) fn rotate(
    contents: &mut Contents,
    id: &[u8; 16],
    kind: RotationKind,
    wrapping: &Wrapping,
    now: i64,
) -> Result<(), Error> {
    let Some(key) = contents.key(id) else { return Ok(()) };
    if let (RotationKind::Automatic, Some(mut schedule)) = (kind, automatic(contents, key)) {
        schedule.since = schedule.since.min(now);
        while schedule.next() <= now {
            schedule.since = schedule.next();
        }
        contents.set_json(id, AUTOMATIC, Some(&schedule));
    }
    let material = Material::random(wrapping, now)?;
    set_kind(contents, &material.id, kind);
    if let Some(key) = contents.key_mut(id) {
        key.materials.push(material);
    }
    Ok(())
}

/// The service's own key rotates yearly, and no call shows it.
pub(super) fn service_is_overdue(contents: &Contents, now: i64) -> bool {
    let (Some(first), Some(newest)) = (contents.service.first(), contents.service.last()) else { return false };
    newest.created.saturating_add(YEAR.cast_signed() * DAY) <= now || is_ahead(newest.created, first.created, now)
}

pub(super) fn rotate_service(contents: &mut Contents, wrapping: &Wrapping, now: i64) -> Result<(), Error> {
    contents.service.push(Material::random(wrapping, now)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALLER, code, kms_with_clock};
    use super::*;
    use crate::LocalKms;
    use crate::lookup::AWS_S3;
    use kmsfs_kms::{EncryptionContext, Kms, ServiceKey};

    fn generate(kms: &LocalKms, key: &str) -> (Vec<u8>, String) {
        let generated = Kms::generate_data_key(kms, key, &EncryptionContext::new(), &CALLER).unwrap();
        let material = kms.describe_key(key).unwrap().material_id.unwrap();
        (generated.ciphertext_blob, material)
    }

    fn opens(kms: &LocalKms, key: &str, blob: &[u8]) -> bool {
        Kms::decrypt(kms, &kms.describe_key(key).unwrap().arn, blob, &EncryptionContext::new(), &CALLER).is_ok()
    }

    #[test]
    fn after_a_rotation_old_blobs_open_and_new_ones_name_the_new_material() {
        let (_dir, kms, clock) = kms_with_clock();
        let admin = kms.administer(CALLER);
        let key = kms.create_key("").unwrap().arn;
        let (old, first) = generate(&kms, &key);
        clock.pass(1);
        assert_eq!(admin.rotate_key_on_demand(&key).unwrap(), key);
        let (new, second) = generate(&kms, &key);
        assert_ne!(first, second);
        assert!(opens(&kms, &key, &old) && opens(&kms, &key, &new));
        let list = |all| admin.list_key_rotations(&key, all, &PageRequest::default()).unwrap().entries;
        let [rotation] = &list(false)[..] else { panic!("{:?}", list(false)) };
        assert_eq!(
            (&rotation.material_id, rotation.kind, rotation.current),
            (&second, Some(RotationKind::OnDemand), true)
        );
        assert_eq!(rotation.date, clock.now());
        let materials: Vec<_> =
            list(true).into_iter().map(|rotation| (rotation.material_id, rotation.current)).collect();
        assert_eq!(materials, [(second, true), (first, false)]);
    }

    #[test]
    fn automatic_rotation_comes_when_its_time_has_come_and_not_while_the_key_is_disabled() {
        let (_dir, kms, clock) = kms_with_clock();
        let admin = kms.administer(CALLER);
        let key = kms.create_key("").unwrap().arn;
        for bad in [89, 2561] {
            assert_eq!(code(admin.enable_key_rotation(&key, Some(bad))), Code::Validation);
        }
        assert_eq!(admin.get_key_rotation_status(&key).unwrap().automatic, None);
        admin.enable_key_rotation(&key, Some(90)).unwrap();
        let start = clock.now();
        assert_eq!(admin.get_key_rotation_status(&key).unwrap().automatic, Some((90, start + 90 * DAY)));
        let count = || admin.list_key_rotations(&key, false, &PageRequest::default()).unwrap().entries.len();
        clock.pass(89);
        kms.tick();
        assert_eq!(count(), 0);
        clock.pass(1);
        kms.tick();
        kms.tick();
        assert_eq!(count(), 1);
        assert_eq!(admin.get_key_rotation_status(&key).unwrap().automatic, Some((90, start + 180 * DAY)));
        kms.set_enabled(&key, false).unwrap();
        clock.pass(200);
        kms.tick();
        assert_eq!(count(), 1);
        kms.set_enabled(&key, true).unwrap();
        assert_eq!(count(), 2, "an overdue one runs at once, and once");
        admin.disable_key_rotation(&key).unwrap();
        clock.pass(200);
        kms.tick();
        assert_eq!(count(), 2);
    }

    #[test]
    fn twenty_five_rotations_on_demand_are_all() {
        let (_dir, kms, _) = kms_with_clock();
        let admin = kms.administer(CALLER);
        let key = kms.create_key("").unwrap().arn;
        for _ in 0..25 {
            admin.rotate_key_on_demand(&key).unwrap();
        }
        let text = format!("The on-demand rotations limit has been reached for the given keyId: {key}");
        assert_eq!(admin.rotate_key_on_demand(&key), Err(Error::new(Code::LimitExceeded, text)));
    }

    #[test]
    fn the_aws_managed_key_and_the_services_own_rotate_yearly_and_not_by_the_user() {
        let (_dir, kms, clock) = kms_with_clock();
        let admin = kms.administer(CALLER);
        let context = EncryptionContext::new();
        let (blob, first) = generate(&kms, AWS_S3);
        let (_, of_service) = ServiceKey::generate_data_key(&*kms, &context).unwrap();
        let arn = kms.describe_key(AWS_S3).unwrap().arn;
        assert_eq!(code(admin.rotate_key_on_demand(&arn)), Code::AccessDenied);
        assert_eq!(code(admin.enable_key_rotation(&arn, None)), Code::AccessDenied);
        assert_eq!(admin.get_key_rotation_status(&arn).unwrap().automatic.map(|automatic| automatic.0), Some(365));
        clock.pass(366);
        kms.tick();
        let (_, second) = generate(&kms, AWS_S3);
        assert_ne!(first, second);
        assert!(opens(&kms, AWS_S3, &blob));
        let (_, newer) = ServiceKey::generate_data_key(&*kms, &context).unwrap();
        assert_ne!(of_service[17..33], newer[17..33], "the material");
        assert!(ServiceKey::decrypt(&*kms, &of_service, &context).is_ok());
        assert!(ServiceKey::decrypt(&*kms, &newer, &context).is_ok());
        assert_eq!(kms.list_keys().unwrap(), [arn]);
    }

    /// Jumps in days: forth and back by ten years, back behind the making of everything, forth and back by an hour (no
    /// day).
    #[test]
    fn a_clock_that_jumps_neither_stops_rotations_for_years_nor_makes_one_a_start() {
        let (_dir, kms, clock) = kms_with_clock();
        let admin = kms.administer(CALLER);
        let (blob, _) = generate(&kms, AWS_S3);
        let key = kms.create_key("").unwrap().arn;
        admin.enable_key_rotation(&key, Some(90)).unwrap();
        let context = EncryptionContext::new();
        let (_, of_service) = ServiceKey::generate_data_key(&*kms, &context).unwrap();
        let count = || admin.list_key_rotations(&key, true, &PageRequest::default()).unwrap().entries.len();
        let ticks = |days: i64| {
            clock.jump(days);
            (0..3).for_each(|_| kms.tick());
            (count(), kms.ask(|contents| Ok(contents.service.len())).unwrap())
        };
        assert_eq!(ticks(1), (1, 1));
        assert_eq!(ticks(3650), (2, 2), "once however often it was due");
        assert_eq!(ticks(-3650), (3, 3), "what the clock did ten years ahead does not count");
        assert_eq!(ticks(91), (4, 3), "and it goes on in time");
        for _ in 0..3 {
            assert_eq!(ticks(-20_000), (4, 3), "a machine without a clock of its own rotates nothing at its start");
            assert_eq!(ticks(20_000), (4, 3));
        }
        assert!(opens(&kms, AWS_S3, &blob));
        assert!(ServiceKey::decrypt(&*kms, &of_service, &context).is_ok());
    }
}
