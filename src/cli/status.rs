//! `kmsfs status`: what a mount has done so far and what it holds.

use super::exit::{Failure, describe};
use super::mounted;
use super::text::{pretty, shown};
use clap::Args;
use kmsfs_client::{attributes, mounts};
use kmsfs_fuse::STATUS;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show what a mount has done so far and what it holds in memory
///
/// Uptime, open files, operations and errors by kind, bytes, caches and KMS calls, since it was mounted.
/// Root or whoever mounted may ask.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct StatusArgs {
    /// A mount point, or a store that is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mount: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs status /mnt
  kmsfs status /mnt --json | jq .KmsCalls";

pub fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let status = of(&mounted::find_alive(&args.mount)?)?;
    if args.json {
        print!("{}", pretty(&Value::Object(status)));
    } else {
        print!("{}", text(&status));
    }
    Ok(ExitCode::SUCCESS)
}

/// The status of the mount at a path without symlinks.
pub fn of(target: &Path) -> Result<Map<String, Value>, Failure> {
    let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(target), describe(e)));
    let mount = mounts::at(target).map_err(|e| failed(&e))?;
    let mount = mount.ok_or_else(|| Failure::new(format!("{} is not a mount of a kmsfs store", shown(target))))?;
    let answer = attributes::get(target, STATUS).map_err(|e| failed(&e))?;
    let answer = answer.and_then(|text| serde_json::from_str(&text).ok());
    let Some(Value::Object(answer)) = answer else {
        return Err(Failure::new(format!("{}: the process behind the mount tells no status", shown(target))));
    };
    let mut status = Map::new();
    status.insert("Store".into(), mount.source.to_string_lossy().into());
    status.insert("Mountpoint".into(), target.to_string_lossy().into());
    status.extend(answer);
    Ok(status)
}

/// A line a member, what has members of its own indented below it.
fn text(status: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in status {
        match value {
            Value::Object(members) => {
                let _ = writeln!(text, "{name}:");
                for (name, value) in members {
                    let _ = writeln!(text, "  {name:<20} {}", line(value));
                }
            }
            value => {
                let _ = writeln!(text, "{:<22} {}", format!("{name}:"), line(value));
            }
        }
    }
    text
}

fn line(value: &Value) -> String {
    match value {
        Value::String(text) => super::text::escape(text),
        Value::Object(members) => {
            let words: Vec<_> = members.iter().map(|(name, value)| format!("{name} {}", line(value))).collect();
            words.join(", ")
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_member_has_a_line() {
        let status = json!({"Store": "/s\n", "UptimeSeconds": 5, "Operations": {"Read": {"Calls": 3, "Errors": 0}}});
        let expected = "Store:                 /s\\n\n\
                        UptimeSeconds:         5\n\
                        Operations:\n  Read                 Calls 3, Errors 0\n";
        assert_eq!(text(status.as_object().unwrap()), expected);
    }
}
