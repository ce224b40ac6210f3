//! What time brings: deletions, rotations, and imported material that expires.

use super::{deletion, import, rotation};
use crate::keyring::{Contents, Wrapping};
use crate::local::Moment;
use kmsfs_kms::Error;
use kmsfs_kms::api::RotationKind;

/// Whether there is something to do. Cheap: it is asked every few seconds.
pub(crate) fn is_due(contents: &Contents, moment: &Moment) -> bool {
    let now = moment.date;
    deletion::is_due(contents, moment)
        || !rotation::overdue(contents, now).is_empty()
        || rotation::service_is_overdue(contents, now)
        || !import::expired(contents, now).is_empty()
}

/// Does it. Answers AWS's name of each thing that was done, and the ARN of the key.
pub(crate) fn settle(
    contents: &mut Contents,
    wrapping: &Wrapping,
    moment: &Moment,
) -> Result<Vec<(&'static str, String)>, Error> {
    let (now, mut done) = (moment.date, Vec::new());
    for id in deletion::pass(contents, moment) {
        let arn = contents.key_arn(&id);
        log::info!("the key {arn} is deleted: its time has come");
        contents.remove_key(&id);
        done.push(("DeleteKey", arn));
    }
    for id in import::expired(contents, now) {
        import::forget(contents, &id, now);
        done.push(("DeleteExpiredKeyMaterial", contents.key_arn(&id)));
    }
    for id in rotation::overdue(contents, now) {
        rotation::rotate(contents, &id, RotationKind::Automatic, wrapping, now)?;
        done.push(("RotateKey", contents.key_arn(&id)));
    }
    if rotation::service_is_overdue(contents, now) {
        rotation::rotate_service(contents, wrapping, now)?;
    }
    Ok(done)
}
