//! The policies of keys for which nobody put one.

use serde_json::{Value, json};

const THROUGH_S3: &str = "Allow access through S3 for all principals in the account that are authorized to use S3";

/// Of the AWS managed key `aws/s3`, as AWS has it.
pub fn aws_s3_policy(account: &str, region: &str) -> String {
    let metadata = json!({
        "Sid": "Allow direct access to key metadata to the account",
        "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*"],
        "Resource": "*",
    });
    policy("auto-s3-2", &[through_s3(account, region), metadata])
}

/// Of a key that was made without one: AWS's statement for the account's root, and use through a mount for whoever
/// POSIX lets. AWS has the first alone, and leaves the rest to identity policies, which do not exist here.
pub fn default_policy(account: &str, region: &str) -> String {
    let root = json!({
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
        "Action": "kms:*",
        "Resource": "*",
    });
    policy("kmsfs-default-1", &[root, through_s3(account, region)])
}

fn through_s3(account: &str, region: &str) -> Value {
    json!({
        "Sid": THROUGH_S3,
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
        "Resource": "*",
        "Condition": {"StringEquals": {
            "kms:CallerAccount": account,
            "kms:ViaService": format!("s3.{region}.amazonaws.com"),
        }},
    })
}

fn policy(id: &str, statements: &[Value]) -> String {
    format!("{:#}", json!({"Version": "2012-10-17", "Id": id, "Statement": statements}))
}
