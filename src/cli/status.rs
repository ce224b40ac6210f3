//! `kmsfs status`: what a mount has done so far and what it holds.

use super::exit::{Failure, describe};
use super::interruption::interruption;
use super::mounted;
use super::text::{pretty, shown};
use super::threads;
use clap::Args;
use kmsfs_client::{attributes, mounts};
use kmsfs_fuse::STATUS;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

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
    /// Again and again, every so many seconds, until it is interrupted or unmounted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with = "check")]
    watch: Option<u64>,
    /// Say in a line, and by the exit code, whether the mount is well
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs status /mnt
  kmsfs status /mnt --json | jq .KmsCalls
  kmsfs status /mnt --json | jq .Refusals
  kmsfs status --watch=5 /mnt
  kmsfs status --check /mnt

Exit codes of --check: 0 the mount is well, 1 it is not, or there is none.";

/// How long a mount may take to answer before --check gives it up.
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

pub fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    if args.check {
        return check(&args.mount);
    }
    let target = mounted::find_alive(&args.mount)?;
    let Some(seconds) = args.watch else {
        let status = of(&target)?;
        if args.json {
            print!("{}", pretty(&Value::Object(status)));
        } else {
            print!("{}", text(&status));
        }
        return Ok(ExitCode::SUCCESS);
    };
    watch(args, &target, Duration::from_secs(seconds))
}

/// On a terminal each takes the place of the one before; elsewhere a line of JSON each, or a block.
fn watch(args: &StatusArgs, target: &Path, interval: Duration) -> Result<ExitCode, Failure> {
    let interrupted = interruption();
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    loop {
        let status = match of(target) {
            Ok(status) => status,
            Err(_) if !mounts::at(target).is_ok_and(|mount| mount.is_some()) => return Ok(ExitCode::SUCCESS),
            Err(failure) => return Err(failure),
        };
        if args.json {
            println!("{}", Value::Object(status));
        } else {
            println!("{clear}{}", text(&status));
        }
        let since = Instant::now();
        while since.elapsed() < interval {
            if interrupted.load(Ordering::Acquire) {
                return Ok(ExitCode::SUCCESS);
            }
            thread::sleep(TICK.min(interval));
        }
    }
}

/// A mount that does not answer keeps whoever asks, so that another thread asks.
fn check(mount: &Path) -> Result<ExitCode, Failure> {
    let (answer, answered) = mpsc::channel();
    let asked = mount.to_owned();
    let asking = move || {
        let _ = answer.send(mounted::find_alive(&asked).and_then(|target| of(&target)));
    };
    threads::start("status", asking).map_err(|e| Failure::new(describe(&e)))?;
    let shown = shown(mount);
    let Ok(status) = answered.recv_timeout(PATIENCE) else {
        let text = format!("{shown} has not answered for {} s: kmsfs umount --force ends it", PATIENCE.as_secs());
        return Err(Failure::new(text));
    };
    let status = status?;
    if let Some(why) = ill(&status) {
        return Err(Failure::new(format!("{shown} {why}")));
    }
    println!("{shown} is well");
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a mount that answers.
pub fn ill(status: &Map<String, Value>) -> Option<&'static str> {
    let is = |name: &str| status.get(name) == Some(&Value::Bool(true));
    (is("ReadOnly") && !is("MountedReadOnly"))
        .then_some("takes no changes any more, since its store has failed: the log says why; mount it anew")
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
            Value::Array(lines) => {
                let _ = writeln!(text, "{name}:{}", if lines.is_empty() { "                none" } else { "" });
                for one in lines {
                    let _ = writeln!(text, "  {}", refusal(one));
                }
            }
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

/// When, how often, where and why.
fn refusal(one: &Value) -> String {
    let word = |name: &str| super::text::escape(one[name].as_str().unwrap_or("-"));
    let times = match one["Times"].as_u64() {
        None | Some(1) => String::new(),
        Some(times) => format!(" ({times} times)"),
    };
    let (path, why) = (word("Path"), word("Reason"));
    let path = if why.starts_with(&path) { String::new() } else { format!("{path}: ") };
    format!("{} {}{times} {path}{why}", word("Time"), word("Call"))
}

fn line(value: &Value) -> String {
    match value {
        Value::String(text) => super::text::escape(text),
        Value::Object(members) => {
            // These are for programs.
            let members = members.iter().filter(|(name, _)| *name != "Durations");
            let words: Vec<_> = members.map(|(name, value)| format!("{name} {}", line(value))).collect();
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

    #[test]
    fn refusals_are_lines_that_name_their_file_once() {
        let one = |path: &str, why: &str, times: u64| json!({"Time": "2026-11-29T00:00:00Z", "Call": "open", "Path": path, "Errno": 13, "Reason": why, "Times": times});
        let status = json!({"Refusals": [one("b/f\n", "denied", 2), one("b/g", "b/g: torn", 1)]});
        let expected = "Refusals:\n  2026-11-29T00:00:00Z open (2 times) b/f\\n: denied\n  \
                        2026-11-29T00:00:00Z open b/g: torn\n";
        assert_eq!(text(status.as_object().unwrap()), expected);
        let none = json!({"Refusals": []});
        assert_eq!(text(none.as_object().unwrap()), "Refusals:                none\n");
    }

    #[test]
    fn a_store_that_has_failed_is_not_well() {
        let status = |now: bool, mounted: bool| json!({"ReadOnly": now, "MountedReadOnly": mounted});
        assert!(ill(status(true, false).as_object().unwrap()).is_some());
        assert_eq!(ill(status(true, true).as_object().unwrap()), None);
        assert_eq!(ill(status(false, false).as_object().unwrap()), None);
    }
}
