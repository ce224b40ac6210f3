//! Programs that people use with S3 and KMS, unchanged, on a real server: what each of them stores is compared with the
//! files of the mount, byte by byte.

use super::{Served, access_key};

/// Runs a script for which `kmsfs serve` is AWS. It finds the mount in `$MNT` and the server at `$AWS_ENDPOINT_URL`, or
/// `$HOST`, which is its `ADDRESS:PORT`. A program that is not here is told of, and nothing else.
#[track_caller]
fn with_client(program: &str, script: &str) {
    let served = Served::new();
    if served.store.try_sh(program).code != 0 {
        eprintln!("NOT RUN: `{program}` does not work here");
        return;
    }
    let key = access_key(&served.store, "root");
    let host = &served.server.address;
    let environment = format!(
        "unset AWS_CA_BUNDLE\nexport AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_DEFAULT_REGION=us-east-1 AWS_PAGER= \
         AWS_EC2_METADATA_DISABLED=true AWS_ENDPOINT_URL=http://{host} HOST={host} HOME=$PWD\n",
        key.id, key.secret,
    );
    served.store.sh(&(environment + script));
    served.server.end();
}

#[test]
fn aws() {
    with_client("aws --version", include_str!("clients/aws.sh"));
}

#[test]
fn boto3() {
    with_client("python3 -c 'import boto3'", &format!("python3 - <<'END'\n{}\nEND", include_str!("clients/boto.py")));
}

#[test]
fn rclone() {
    with_client("rclone version", include_str!("clients/rclone.sh"));
}

#[test]
fn s3cmd() {
    with_client("s3cmd --version", include_str!("clients/s3cmd.sh"));
}

#[test]
fn restic() {
    with_client("restic version", include_str!("clients/restic.sh"));
}

#[test]
fn s3fs() {
    with_client("s3fs --version", include_str!("clients/s3fs.sh"));
}
