//! What is written: a page for each command, as a man page is written, and completions that complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn written() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_kmsfs-manual")).arg(dir.path()).status().unwrap();
    assert!(done.success());
    dir
}

fn output(program: &str, words: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(words).arg(path).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} {}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a test can go on that needs it.
fn is_there(program: &str) -> bool {
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(program).exists()));
    if !found {
        eprintln!("NOT RUN: there is no {program}");
    }
    found
}

fn commands(command: &clap::Command, name: &str, all: &mut Vec<String>) {
    all.push(name.to_string());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        commands(sub, &format!("{name}-{}", sub.get_name()), all);
    }
}

#[test]
fn every_command_has_a_page_and_examples_keep_their_lines() {
    let dir = written();
    let mut expected = Vec::new();
    commands(&kmsfs::command(), "kmsfs", &mut expected);
    assert!(expected.len() > 40, "{expected:?}");
    let mut pages: Vec<String> =
        fs::read_dir(dir.path().join("man1")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let mut expected: Vec<_> = expected.into_iter().map(|name| format!("{name}.1")).collect();
    expected.sort();
    assert_eq!(pages, expected);
    let mount = fs::read_to_string(dir.path().join("man1/kmsfs-mount.1")).unwrap();
    let example = "\n  kmsfs mount \\-\\-key\\-file /root/kmsfs.key /srv/store /mnt\n";
    let (_, notes) = mount.split_once(".SH NOTES\n.nf\n").expect("what stands behind the options");
    assert!(notes.contains(example), "{notes}");
    assert!(notes.trim_end().ends_with("\n.fi"), "{notes}");
}

/// The pages that are written by hand too.
#[test]
fn pages_are_rendered_without_a_warning() {
    if !is_there("groff") {
        return;
    }
    let dir = written();
    let by_hand = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/man");
    let mut pages: Vec<PathBuf> = Vec::new();
    for directory in [dir.path().join("man1"), by_hand] {
        pages.extend(fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
    }
    for page in pages {
        let link = fs::read_to_string(&page).unwrap();
        if link.starts_with(".so man8/") {
            let target = page.parent().unwrap().join(link.trim_start_matches(".so man8/").trim());
            assert!(target.exists(), "{}", page.display());
            continue;
        }
        let text = output("groff", &["-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=200n"], &page);
        assert!(text.contains("NAME") && text.contains("kmsfs"), "{}", page.display());
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = written();
    let script = dir.path().join("bash/kmsfs.bash");
    let completed = |words: &str, at: usize| {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={at}; _kmsfs kmsfs \"${{COMP_WORDS[$COMP_CWORD]}}\" ''; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    assert_eq!(completed("kmsfs mo", 1), "mount");
    assert_eq!(completed("kmsfs mount --passphrase-f", 2), "--passphrase-file");
    assert_eq!(completed("kmsfs kms describe-k", 2), "describe-key");
    assert_eq!(completed("kmsfs __", 1), "", "what starts helpers is nobody's to type");
}

#[test]
fn zsh_and_fish_take_theirs() {
    let dir = written();
    for (shell, file) in [("zsh", "zsh/_kmsfs"), ("fish", "fish/kmsfs.fish")] {
        let path = dir.path().join(file);
        assert!(fs::read_to_string(&path).unwrap().contains("describe-key"), "{file}");
        if is_there(shell) {
            output(shell, &["-n"], &path);
        }
    }
}
