//! README.md: its commands run and answer what it shows; its tables name what the program knows.

use crate::harness::{Answer, Store, mounts_below};
use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Contents of the fenced blocks of that kind.
fn blocks(kind: &str) -> Vec<String> {
    blocks_of("README.md", kind)
}

pub fn blocks_of(document: &str, kind: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let fence = format!("\n```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split_once("\n```").expect("a closed block").0.to_owned()).collect()
}

/// Commands of a console block and what they answer.
pub fn commands(block: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push((command.to_owned(), String::new()));
        } else {
            let (_, answer) = found.last_mut().expect("a block begins with a command");
            answer.push_str(line);
            answer.push('\n');
        }
    }
    found
}

#[test]
fn its_commands_answer_what_it_shows() {
    // A store of its own is made on the way; this one lends its directory and takes down what is mounted in it.
    let store = Store::new();
    store.sh("rm -r store key; rmdir mnt");
    let mut run = 0;
    let mut variables = String::new();
    for (command, expected) in blocks("console").iter().flat_map(|block| commands(block)) {
        if command.starts_with("key=") {
            // Each command has a shell of its own, with the variables that were set before.
            variables = format!("{command}; ");
        }
        // mount(8) finds its helper in a namespace of the script's own; there it has to be unmounted too.
        let answer = if command.starts_with("mount ") {
            store.try_sh_private(&format!("{command}; umount mnt"))
        } else if command == "umount mnt" && mounts_below(&store.mountpoint()).is_empty() {
            continue;
        } else {
            store.try_sh(&format!("{variables}{command}"))
        };
        assert_answers(&command, &answer, &expected);
        let shows_a_refusal = expected.contains("denied");
        assert_eq!(answer.code == 0, !shows_a_refusal, "$ {command}: {answer:?}");
        run += 1;
    }
    assert!(run > 15, "only {run} commands were found");
}

#[test]
fn its_fstab_lines_mount() {
    let store = Store::new();
    let lines = blocks("fstab").join("\n");
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let line = line
            .replace("/srv/store", store.store().to_str().unwrap())
            .replace("/mnt", store.mountpoint().to_str().unwrap())
            .replace("/root/kmsfs.key", store.path("key").to_str().unwrap());
        let answer = store.try_sh_private(&format!(
            "echo '{line}' > fstab; mount -T fstab $MNT; grep -c \" $MNT fuse.kmsfs \" /proc/mounts; umount $MNT"
        ));
        assert_eq!((answer.code, answer.out.as_str()), (0, "1\n"), "{answer:?}");
        store.wait_until_closed();
    }
}

#[test]
fn its_other_commands_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let program = line.split_whitespace().next().unwrap();
        assert!(root.join(program).is_file(), "{line}");
    }
    for link in readme().split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0) {
        assert!(root.join(link).is_file(), "{link}");
    }
}

#[test]
fn the_commands_of_contributing_md_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for line in blocks_of("CONTRIBUTING.md", "sh").iter().flat_map(|block| block.lines()) {
        let program = line.split_whitespace().next().unwrap();
        assert!(program == "cargo" || root.join(program).is_file(), "{line}");
    }
}

/// Paths of the project, in backticks or as the target of a link: all that begin with one of its directories, and all
/// names of source files.
#[test]
fn paths_that_documents_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let of_root = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name));
    let documents = of_docs.chain(of_root).filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let (mut checked, mut missing) = (0, Vec::new());
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let prose = text.split("\n```").step_by(2).collect::<String>();
        let quoted = prose.split('`').skip(1).step_by(2).filter(|name| is_path(name)).map(|name| root.join(name));
        let links = prose.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        let links = links.map(|link| document.parent().unwrap().join(link));
        for path in quoted.chain(links) {
            checked += 1;
            if !path.exists() {
                missing.push(format!("{}: {}", document.display(), path.display()));
            }
        }
    }
    assert!(checked > 60, "only {checked} paths were found");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Whether what stands in backticks is a path of the project, from its root.
fn is_path(quoted: &str) -> bool {
    const DIRECTORIES: [&str; 9] =
        ["crates", "src", "tests", "scripts", "docs", "benches", "fuzz", "examples", "packaging"];
    let plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let in_a_directory = quoted.split_once('/').is_some_and(|(first, _)| DIRECTORIES.contains(&first));
    plain && (in_a_directory || Path::new(quoted).extension().is_some_and(|kind| kind == "rs"))
}

#[test]
fn it_names_every_option_and_exit_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("packaging/man/kmsfs.5")).unwrap();
    let store = Store::new();
    let help = store.sh("kmsfs mount --help");
    let options = help.split_once("Options for -o:\n").expect("the options").1;
    // `  name, name=VALUE    what it does`: names end where two spaces follow.
    let names = options.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut count = 0;
    for name in names.flat_map(|line| line.trim().split("  ").next().unwrap().split(", ").collect::<Vec<_>>()) {
        let name = name.trim_end_matches(',');
        assert!(readme().contains(&format!("`{name}`")), "README.md does not name the option {name}");
        let word = name.split_inclusive('=').next().unwrap();
        assert!(page.split(|c: char| " ,\n\"".contains(c)).any(|w| w == word), "kmsfs(5) does not name {word}");
        count += 1;
    }
    assert!(count > 15, "{options}");
    let help = store.sh("kmsfs --help");
    let codes = help.split_once("Exit codes:\n").expect("the exit codes").1;
    for code in codes.lines().take_while(|line| line.starts_with("  ")) {
        let code = code.split_whitespace().next().unwrap();
        assert!(
            readme().contains(&format!("| {code} |"))
                || readme().contains(&format!("{code}, "))
                || readme().contains(&format!(", {code} |")),
            "{code}"
        );
    }
}

/// A machine may have no syslog; that is then said, and nothing that a document can show.
#[track_caller]
pub fn assert_answers(command: &str, answer: &Answer, expected: &str) {
    let said = answer.out.clone() + &answer.err;
    let said: String = said.split_inclusive('\n').filter(|line| !line.contains("no syslog")).collect();
    assert!(matches(&said, expected), "$ {command}\n{said}\nthe document has:\n{expected}");
}

/// Whether `text` is as `pattern` says, where `…` stands for anything, lines included.
fn matches(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    let mut parts = pattern.split('…');
    let first = parts.next().expect("split answers one part at least");
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        if number + 1 == parts.len() {
            return rest.ends_with(part.trim_start_matches('\n'));
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Each place of a request's path in docs/ARCHITECTURE.md: a file, and a function in it.
#[test]
fn places_of_requests_are_where_architecture_md_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let (_, section) = document.split_once("## The path of a request").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<Vec<_>> = section
        .lines()
        .filter(|line| line.starts_with("| ") && line[2..].starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| line.split('|').skip(2).take(3).map(str::trim).collect())
        .collect();
    assert!((4..=8).contains(&rows.len()), "{} rows", rows.len());
    for column in 0..3 {
        let mut files = Vec::new();
        for cell in rows.iter().map(|row| row[column]) {
            let [_, file, _, function, ..] = cell.split('`').collect::<Vec<_>>()[..] else {
                panic!("no place: {cell}")
            };
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let found = ["(", "<"].iter().any(|next| text.contains(&format!("fn {function}{next}")));
            assert!(found, "{function} is not in {file}");
            assert!(!files.contains(&file), "{file} is visited twice");
            files.push(file);
        }
    }
}
