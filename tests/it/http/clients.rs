//! Programs that people use with S3 and KMS, unchanged, on a real server: what each of them stores is compared with the
//! files of the mount, byte by byte. Each goes a long walk without TLS, and a short one with it.
//!
//! Those that no package of the system has are where `KMSFS_TEST_CLIENTS` says, as pip(1) puts them, which
//! `scripts/test` does.

use super::{Server, access_key};
use crate::harness::Store;

/// A program, a command that works where it is there, and in what language its scripts are.
struct Program {
    works: &'static str,
    script: &'static str,
    is_python: bool,
}

const fn shell(works: &'static str, script: &'static str) -> Program {
    Program { works, script, is_python: false }
}

const fn python(works: &'static str, script: &'static str) -> Program {
    Program { works, script, is_python: true }
}

/// Runs a script for which `kmsfs serve` is AWS. It finds the mount in `$MNT` and the server at `$AWS_ENDPOINT_URL`, or
/// `$HOST`, which is its `ADDRESS:PORT`. A program that is not here is told of, and nothing else.
#[track_caller]
fn walk(program: &Program) {
    go(program, |store| {
        let server = Server::start(store, "");
        let url = format!("export AWS_ENDPOINT_URL=http://{0} HOST={0}\nunset AWS_CA_BUNDLE\n", server.address);
        (server, url)
    });
}

/// The same by TLS, with a certificate of the authority in the file `$CA`.
#[track_caller]
fn walk_by_tls(program: &Program) {
    go(program, |store| {
        store.sh(
            "make() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \"$@\" 2>>openssl.said; }
             make -x509 -days 2 -subj '/CN=An authority' -keyout ca.key -out ca.pem
             make -subj /CN=localhost -keyout tls.key -out tls.request
             echo subjectAltName=DNS:localhost,IP:127.0.0.1 > tls.extensions
             openssl x509 -req -in tls.request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile tls.extensions -out tls.pem 2>>openssl.said
             chmod 600 tls.key",
        );
        let path = |name: &str| store.path(name).display().to_string();
        let server = Server::start(store, &format!("--tls-cert {} --tls-key {}", path("tls.pem"), path("tls.key")));
        let host = server.address.replace("127.0.0.1", "localhost");
        let url = format!(
            "export AWS_ENDPOINT_URL=https://{host} HOST={host} CA={ca} AWS_CA_BUNDLE={ca}\n",
            ca = path("ca.pem")
        );
        (server, url)
    });
}

#[track_caller]
fn go(program: &Program, start: impl FnOnce(&Store) -> (Server, String)) {
    const PATHS: &str =
        "export PATH=${KMSFS_TEST_CLIENTS:+$KMSFS_TEST_CLIENTS/bin:}$PATH PYTHONPATH=${KMSFS_TEST_CLIENTS:-}\n";
    let store = Store::on_tmpfs();
    if store.try_sh(&format!("{PATHS}{}", program.works)).code != 0 {
        eprintln!("NOT RUN: `{}` does not work here", program.works);
        return;
    }
    store.open_to_all();
    let _mount = store.mount_with("allow_other");
    let key = access_key(&store, "root");
    let (server, url) = start(&store);
    let environment = format!(
        "{PATHS}{url}export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_DEFAULT_REGION=us-east-1 AWS_PAGER= \
         AWS_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true HOME=$PWD\n",
        key.id, key.secret,
    );
    let script =
        if program.is_python { format!("python3 - <<'END'\n{}\nEND", program.script) } else { program.script.into() };
    store.sh(&(environment + &script));
    server.end();
}

const AWS: &str = "aws --version";
const BOTO3: &str = "python3 -c 'import boto3'";
const DUCKDB: &str = "python3 -c 'import duckdb, duckdb_extension_httpfs'";
const RCLONE: &str = "rclone version";
const RESTIC: &str = "restic version";
const S3CMD: &str = "s3cmd --version";
const S3FS: &str = "s3fs --version";
const S5CMD: &str = "s5cmd version";
const TERRAFORM: &str = "terraform version && ls $KMSFS_TEST_CLIENTS/cloudrail/terraform_plugins/*.zip";

#[test]
fn aws() {
    walk(&shell(AWS, include_str!("clients/aws.sh")));
}

#[test]
fn boto3() {
    walk(&python(BOTO3, include_str!("clients/boto3.py")));
}

#[test]
fn duckdb() {
    walk(&python(DUCKDB, include_str!("clients/duckdb.py")));
}

#[test]
fn rclone() {
    walk(&shell(RCLONE, include_str!("clients/rclone.sh")));
}

#[test]
fn restic() {
    walk(&shell(RESTIC, include_str!("clients/restic.sh")));
}

#[test]
fn s3cmd() {
    walk(&shell(S3CMD, include_str!("clients/s3cmd.sh")));
}

#[test]
fn s3fs() {
    walk(&shell(S3FS, include_str!("clients/s3fs.sh")));
}

#[test]
fn s5cmd() {
    walk(&shell(S5CMD, include_str!("clients/s5cmd.sh")));
}

#[test]
fn terraform() {
    walk(&shell(TERRAFORM, include_str!("clients/terraform.sh")));
}

/// What Terraform's provider asks for, in its order: where the provider itself is not there too.
#[test]
fn what_terraform_reads() {
    walk(&python(BOTO3, include_str!("clients/refresh.py")));
}

#[test]
fn aws_by_tls() {
    walk_by_tls(&shell(AWS, include_str!("clients/tls/aws.sh")));
}

#[test]
fn boto3_by_tls() {
    walk_by_tls(&python(BOTO3, include_str!("clients/tls/boto3.py")));
}

#[test]
fn duckdb_by_tls() {
    walk_by_tls(&python(DUCKDB, include_str!("clients/tls/duckdb.py")));
}

#[test]
fn rclone_by_tls() {
    walk_by_tls(&shell(RCLONE, include_str!("clients/tls/rclone.sh")));
}

#[test]
fn restic_by_tls() {
    walk_by_tls(&shell(RESTIC, include_str!("clients/tls/restic.sh")));
}

#[test]
fn s3cmd_by_tls() {
    walk_by_tls(&shell(S3CMD, include_str!("clients/tls/s3cmd.sh")));
}

#[test]
fn s3fs_by_tls() {
    walk_by_tls(&shell(S3FS, include_str!("clients/tls/s3fs.sh")));
}

#[test]
fn s5cmd_by_tls() {
    walk_by_tls(&shell(S5CMD, include_str!("clients/tls/s5cmd.sh")));
}
