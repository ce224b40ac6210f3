//! Writes the man pages and completions that are made from the definition of the command line, so that they say what
//! `--help` says. `cargo run -p kmsfs-manual -- DIR`; scripts/install and scripts/package run it.
//!
//! A package of its own and no subcommand: the program that has keys is not to carry what is needed once, when it is
//! packaged. And no example of the program's package, which would have all that the tests use built first.

use clap::Command;
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: kmsfs-manual DIR    (writes DIR/man1, DIR/bash, DIR/zsh and DIR/fish)";

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [directory] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match write(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kmsfs-manual: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let pages = made(directory, "man1")?;
    clap_mangen::generate_to(kmsfs::command().disable_help_subcommand(true), &pages)?;
    for page in fs::read_dir(&pages)? {
        let page = page?.path();
        fs::write(&page, as_typed(&fs::read_to_string(&page)?))?;
    }
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let mut command: Command = kmsfs::command();
        clap_complete::generate_to(shell, &mut command, "kmsfs", made(directory, name)?)?;
    }
    Ok(())
}

/// What stands behind the options in `--help` is laid out by hand, examples and tables: in the page its lines stay as
/// they are.
fn as_typed(page: &str) -> String {
    let Some((before, extra)) = page.split_once(".SH EXTRA\n") else { return page.to_owned() };
    let (extra, after) = match extra.split_once("\n.SH ") {
        Some((extra, after)) => (extra, format!("\n.SH {after}")),
        None => (extra.trim_end(), "\n".to_owned()),
    };
    format!("{before}.SH NOTES\n.nf\n{extra}\n.fi{after}")
}

fn made(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let made = directory.join(name);
    fs::create_dir_all(&made)?;
    Ok(made)
}
