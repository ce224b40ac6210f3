//! What time brings: deletions, rotations, and imported material that expires.

use super::{deletion, import, rotation};
use crate::crypto::SecretKey;
use crate::kms::keyring::Contents;

/// Whether there is something to do. Cheap: it is asked every few seconds.
pub fn is_due(contents: &Contents, now: i64) -> bool {
    !deletion::overdue(contents, now).is_empty()
        || !rotation::overdue(contents, now).is_empty()
        || rotation::service_is_overdue(contents, now)
        || !import::expired(contents, now).is_empty()
}

/// Does it. Answers whether material was destroyed, which must then be in no kept generation either.
pub fn settle(contents: &mut Contents, root: &SecretKey, now: i64) -> bool {
    let gone = deletion::overdue(contents, now);
    for id in &gone {
        log::info!("the key {} is deleted: its time has come", contents.key_arn(id));
        contents.remove_key(id);
    }
    let expired = import::expired(contents, now);
    for id in &expired {
        import::forget(contents, id, now);
    }
    for id in rotation::overdue(contents, now) {
        rotation::rotate(contents, &id, rotation::RotationKind::Automatic, root, now);
    }
    if rotation::service_is_overdue(contents, now) {
        rotation::rotate_service(contents, root, now);
    }
    !gone.is_empty() || !expired.is_empty()
}
