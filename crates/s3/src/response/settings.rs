//! What a new bucket answers to those who ask for its configurations (recorded answers of S3; a test of Terraform's
//! refresh reads them all).

use super::{Response, owner};
use crate::answer::Owner;
use crate::error::{Code, Error};
use crate::operation::Setting;
use crate::xml::write::{PUBLIC_ACCESS, Writer};

pub(super) fn response(setting: Setting, owner: &Owner) -> Result<Response, Error> {
    let empty = |root: &str| Ok(Response::document(Writer::document(root, |_| {})));
    let list = |root: &str| Ok(Response::document(Writer::document(root, |xml| xml.text("IsTruncated", "false"))));
    match setting {
        Setting::Abac => Ok(Response::document(Writer::document("AbacStatus", |xml| xml.text("Status", "Disabled")))),
        Setting::Accelerate => empty("AccelerateConfiguration"),
        Setting::Acl => Ok(acl(owner)),
        Setting::Analytics => list("ListBucketAnalyticsConfigurationResult"),
        Setting::Cors => Err(Code::NoSuchCORSConfiguration.into()),
        Setting::IntelligentTiering => list("ListBucketIntelligentTieringConfigurationsResult"),
        Setting::Inventory => list("ListInventoryConfigurationsResult"),
        Setting::Lifecycle => Err(Code::NoSuchLifecycleConfiguration.into()),
        Setting::Logging => empty("BucketLoggingStatus"),
        Setting::Metrics => list("ListMetricsConfigurationsResult"),
        Setting::NamedConfiguration => Err(Code::NoSuchConfiguration.into()),
        Setting::Notification => empty("NotificationConfiguration"),
        Setting::ObjectLock => Err(Code::ObjectLockConfigurationNotFoundError.into()),
        Setting::OwnershipControls => Ok(Response::document(Writer::document("OwnershipControls", |xml| {
            xml.within("Rule", |xml| xml.text("ObjectOwnership", "BucketOwnerEnforced"));
        }))),
        Setting::Policy | Setting::PolicyStatus => Err(Code::NoSuchBucketPolicy.into()),
        Setting::PublicAccessBlock => {
            Ok(Response::document(Writer::document("PublicAccessBlockConfiguration", |xml| {
                for name in PUBLIC_ACCESS {
                    xml.text(name, "true");
                }
            })))
        }
        Setting::Replication => Err(Code::ReplicationConfigurationNotFoundError.into()),
        Setting::RequestPayment => Ok(Response::document(Writer::document("RequestPaymentConfiguration", |xml| {
            xml.text("Payer", "BucketOwner");
        }))),
        Setting::Versioning => empty("VersioningConfiguration"),
        Setting::Website => Err(Code::NoSuchWebsiteConfiguration.into()),
    }
}

/// The owner has full control, of buckets and objects.
pub(super) fn acl(of: &Owner) -> Response {
    const GRANTEE: &str = "Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"";
    Response::document(Writer::document("AccessControlPolicy", |xml| {
        owner(xml, "Owner", of);
        xml.within("AccessControlList", |xml| {
            xml.within("Grant", |xml| {
                xml.between(GRANTEE, "Grantee", |xml| {
                    xml.text("ID", &of.id);
                    xml.text("DisplayName", &of.display_name);
                });
                xml.text("Permission", "FULL_CONTROL");
            });
        });
    }))
}
