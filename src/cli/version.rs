//! `kmsfs version`: this program's version, the formats that it reads and writes, and what it can do.

use super::text::pretty;
use clap::Args;
use kmsfs_kms_local::{BACKUP_VERSION, BUILT_IN, KEYRING_VERSION};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show the versions of the program and of its formats, and what it can do
#[derive(Args)]
#[command(after_help = "Examples:\n  kmsfs version\n  kmsfs version --json | jq .Formats")]
pub struct VersionArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VersionArgs) -> ExitCode {
    let version = version();
    if args.json {
        print!("{}", pretty(&version));
        return ExitCode::SUCCESS;
    }
    println!("kmsfs {}", env!("CARGO_PKG_VERSION"));
    for group in ["Formats", "Features"] {
        println!("{group}:");
        for (name, value) in version[group].as_object().into_iter().flatten() {
            let value = match value {
                Value::Array(values) => {
                    values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>().join(", ")
                }
                value => value.to_string(),
            };
            println!("  {name:<12} {value}");
        }
    }
    ExitCode::SUCCESS
}

fn version() -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        // docs/FORMAT.md specifies each.
        "Formats": {
            "Store": kmsfs_format::VERSION,
            "RedoLog": kmsfs_format::log_header::VERSION,
            "Keyring": KEYRING_VERSION,
            "Backup": BACKUP_VERSION,
        },
        "Features": {
            "Encryption": ["AES256", "aws:kms", "aws:kms:dsse"],
            "Suites": ["AES-256-GCM", "AES-256-GCM twice"],
            "Unlocking": ["key file", "passphrase (Argon2id)", "recovery key", "systemd credential"],
            "Providers": BUILT_IN,
            "Endpoints": ["S3", "KMS", "STS"],
        },
    })
}
