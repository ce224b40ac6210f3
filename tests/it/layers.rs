//! The layers of docs/ARCHITECTURE.md: manifests name what is below only; and what belongs to one place is nowhere
//! else.

use std::fs;
use std::path::{Path, PathBuf};

/// Each package and those of the project that its manifest may name: what is below it.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "kmsfs",
        &[
            "http",
            "gateway",
            "client",
            "fuse",
            "fs",
            "s3",
            "store",
            "sse",
            "format",
            "kms-providers",
            "kms-remote",
            "kms-local",
            "kms-json",
            "kms",
            "sigv4",
            "witness",
            "crypto",
            "sys",
        ],
    ),
    ("manual", &["kmsfs"]),
    (
        "testing",
        &[
            "kmsfs",
            "http",
            "gateway",
            "store",
            "sse",
            "s3",
            "sigv4",
            "format",
            "kms-local",
            "kms-json",
            "kms",
            "crypto",
        ],
    ),
    ("http", &["gateway", "s3", "kms-json", "kms", "sigv4", "crypto"]),
    ("gateway", &["client", "s3", "sse", "crypto", "sys"]),
    ("client", &["fuse", "fs", "sse", "crypto"]),
    ("fuse", &["fs", "store", "sse", "format", "kms", "crypto", "sys", "locks"]),
    ("fs", &["store", "sse", "format", "kms", "crypto", "sys", "locks"]),
    ("s3", &["sse", "sigv4"]),
    ("store", &["sse", "format", "kms", "witness", "crypto", "sys", "locks"]),
    ("sse", &["format", "kms", "crypto", "sys", "locks"]),
    ("format", &["crypto"]),
    ("kms-json", &["kms", "sigv4"]),
    ("kms-providers", &["kms-remote", "kms", "sigv4", "crypto"]),
    ("kms-remote", &["kms", "crypto", "locks"]),
    ("kms-local", &["kms", "sigv4", "witness", "crypto", "sys", "locks"]),
    ("kms", &["crypto", "sys", "locks"]),
    ("sigv4", &["crypto"]),
    ("witness", &["crypto"]),
    ("crypto", &["sys"]),
    ("sys", &[]),
    ("locks", &[]),
];
const LONGEST_FILE: usize = 600;
/// Columns of a comment line: as of a line of code, which rustfmt looks after.
const LONGEST_COMMENT: usize = 120;

/// Cargo refuses an import that no manifest names, and circles; which way is down stands here.
#[test]
fn manifests_name_what_is_below_only() {
    let mut wrong = Vec::new();
    let manifests: Vec<_> = packages().into_iter().map(|(name, dir)| (name, dir.join("Cargo.toml"))).collect();
    assert_eq!(manifests.len(), ALLOWED.len(), "a package without a place in ALLOWED, or the other way round");
    for (package, manifest) in manifests {
        let (_, allowed) = ALLOWED.iter().find(|(name, _)| *name == package).expect("a place in ALLOWED");
        let text = fs::read_to_string(&manifest).unwrap();
        let (_, section) = text.split_once("\n[dependencies]\n").expect("dependencies");
        for line in section.lines().take_while(|line| !line.starts_with('[')) {
            let Some((name, _)) = line.split_once(['.', ' ']) else { continue };
            let below = name.strip_prefix("kmsfs-").or((name == "kmsfs").then_some(name));
            if below.is_some_and(|below| !allowed.contains(&below)) {
                wrong.push(format!("{package} depends on {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is there for tests alone (the store's seeded mistakes, entry points for fuzzing) stands behind a feature that
/// the testing package enables and nobody else. Nothing of what is shipped depends on that package (`ALLOWED`), and a
/// bare `cargo build` does not make it beside the program.
#[test]
fn what_is_for_tests_is_enabled_by_the_testing_package_alone() {
    let text = |dir: &Path| fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    let asks = |line: &str| line.starts_with("kmsfs-store") && line.contains("features");
    let is_of_ours = |word: &str| word.starts_with("kmsfs") && word.ends_with("/testing");
    let names = |manifest: &str| manifest.contains(r#"features = ["testing"]"#) || manifest.split('"').any(is_of_ours);
    let enables = |manifest: &str| manifest.lines().any(asks) || names(manifest);
    let who: Vec<_> = packages().into_iter().filter(|(_, dir)| enables(&text(dir))).map(|(name, _)| name).collect();
    assert_eq!(who, ["testing"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(!text(root).contains("default-members"), "a bare cargo build would make the testing package too");
    for (package, dir) in packages() {
        assert!(!text(&dir).contains("\ndefault ="), "{package}: what is on by default is in every build");
    }
}

#[test]
fn fuser_is_known_to_the_fuse_layer_alone() {
    assert_nowhere_else("fuse", "fuser", |code| names_crate(code, "fuser"));
}

#[test]
fn unsafe_is_in_one_file_alone() {
    assert_nowhere_else("sys", "unsafe", |code| words(code).any(|word| word == "unsafe"));
}

/// What strangers send is parsed, and waited for, in one process.
#[test]
fn http_and_its_runtime_are_known_to_the_front_alone() {
    for name in ["tokio", "hyper"] {
        assert_nowhere_else("http", name, |code| names_crate(code, name));
    }
}

/// Key bytes are an affair of `crypto` alone, so the cipher crates are too.
#[test]
fn ciphers_are_known_to_the_crypto_layer_alone() {
    for name in ["aes_gcm", "ring", "hkdf"] {
        assert_nowhere_else("crypto", name, |code| names_crate(code, name));
    }
}

/// The file system and S3's rules refuse by reasons; what errno that is the front end decides. What the file system
/// below answered is told by `rustix::io::Errno`.
#[test]
fn errnos_are_decided_at_the_edge() {
    let names_errno = |code: &str| {
        let after = |(at, name): (usize, &str)| code.as_bytes()[at + name.len()..].get(..2).map(<[u8]>::to_vec);
        code.match_indices("libc::").filter_map(after).any(|two| two[0] == b'E' && two[1].is_ascii_uppercase())
    };
    assert!(names_errno("Err(libc::EPERM)") && !names_errno("libc::S_IFREG"));
    let edge: Vec<_> = sources().into_iter().filter(|source| source.path.ends_with("fuse/src/errno.rs")).collect();
    assert!(edge.iter().any(|source| names_errno(&source.code)), "the table is not where it is looked for");
    let wrong = sources().into_iter().filter(|source| ["fs", "sse"].contains(&source.layer.as_str()));
    let wrong: Vec<_> = wrong.filter(|source| names_errno(&source.code)).map(|source| source.path).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The order of locks is checked of those alone that have a rank.
#[test]
fn locks_have_ranks() {
    let is_lock = |word: &str| ["Mutex", "RwLock", "ReentrantMutex", "Condvar"].contains(&word);
    let plain =
        |code: &str| names_crate(code, "parking_lot") || words(code).any(is_lock) && !names_crate(code, "kmsfs_locks");
    assert!(plain("use std::sync::{Arc, Mutex};") && !plain("use kmsfs_locks::{Mutex, ranks};"));
    let ranked = sources().into_iter().filter(|source| {
        ["fuse", "fs", "store", "sse", "kms", "kms-local", "kms-remote"].contains(&source.layer.as_str())
    });
    let (with, others): (Vec<_>, Vec<_>) = ranked.partition(|source| words(&source.code).any(is_lock));
    assert!(with.len() > 20, "locks are not where they are looked for");
    let wrong: Vec<_> = with.into_iter().chain(others).filter(|source| plain(&source.code)).map(|s| s.path).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// What changes content takes set-id bits away first, which one file of `fs` does.
#[test]
fn content_changes_through_one_door() {
    let changes = ["object.write(", "object.truncate(", "object.punch(", "object.allocate("];
    let in_fs = |source: &&Source| source.layer == "fs";
    let users: Vec<_> = sources().into_iter().filter(|s| changes.iter().any(|call| s.code.contains(call))).collect();
    let names: Vec<_> = users.iter().filter(in_fs).map(|source| source.path.file_name().unwrap()).collect();
    assert_eq!(names, ["changing.rs"]);
}

/// Where the serving process is confined it may not read of other processes; another one does.
#[test]
fn processes_are_read_of_in_one_place_alone() {
    let reads = |source: &Source| fs::read_to_string(&source.path).unwrap().contains("\"/proc/{");
    let of_requests = ["kms", "kms-local", "kms-remote", "sse", "store", "fs", "fuse"];
    let readers = sources().into_iter().filter(|source| of_requests.contains(&source.layer.as_str()) && reads(source));
    let names: Vec<_> = readers.map(|source| source.path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["processes.rs"]);
}

/// What must not be guessed, and what must not come twice, is from one place; a generator of the process's own, which a
/// snapshot of its memory would repeat, is in none. The simulated disk makes its choices from a seed.
#[test]
fn randomness_has_one_door() {
    const DOOR: &str = "crates/crypto/src/random.rs";
    const OTHERS: [&str; 12] = [
        "getrandom",
        "GetRandomFlags",
        "SysRng",
        "OsRng",
        "SystemRandom",
        "thread_rng",
        "ThreadRng",
        "new_v4",
        "new_v7",
        "RandomState",
        "fastrand",
        "arc4random",
    ];
    let at = |source: &Source, place: &str| source.path.ends_with(place);
    let names = |code: &str| words(code).any(|word| OTHERS.contains(&word));
    let opens = |code: &str| names(code) || names_crate(code, "rand");
    assert!(sources().iter().any(|source| at(source, DOOR) && names(&source.code)), "{DOOR} is not the door");
    let wrong: Vec<_> = sources().into_iter().filter(|source| opens(&source.code) && !at(source, DOOR)).collect();
    let (simulated, wrong): (Vec<_>, Vec<_>) =
        wrong.into_iter().partition(|source| at(source, "crates/testing/src/disk/power.rs") && !names(&source.code));
    assert_eq!(simulated.len(), 1, "the simulated disk makes no choices: the check looks for the wrong thing");
    assert!(wrong.is_empty(), "{:?}", wrong.iter().map(|source| &source.path).collect::<Vec<_>>());
    // Names in strings are no names in the code.
    let devices = ["/dev/random", "/dev/urandom"].map(|device| format!("\"{device}\""));
    let opens_device = |path: &PathBuf| devices.iter().any(|device| fs::read_to_string(path).unwrap().contains(device));
    let wrong: Vec<_> = sources().into_iter().map(|source| source.path).filter(opens_device).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn no_file_is_longer_than_a_few_screens() {
    let count = |source: &Source| fs::read_to_string(&source.path).unwrap().lines().count();
    let long: Vec<_> = sources().into_iter().filter(|source| count(source) > LONGEST_FILE).map(|s| s.path).collect();
    assert!(long.is_empty(), "more than {LONGEST_FILE} lines: {long:?}");
}

/// rustfmt wraps code and leaves comments as they are.
#[test]
fn no_comment_line_is_longer_than_a_line_of_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = sources();
    for dir in ["tests", "benches", "fuzz/fuzz_targets", "examples"] {
        collect("kmsfs", &root.join(dir), &mut all);
    }
    let mut long = Vec::new();
    for source in &all {
        let text = fs::read_to_string(&source.path).unwrap();
        let numbered = text.lines().zip(1..).filter(|(line, _)| is_long_comment(line));
        long.extend(numbered.map(|(_, number)| format!("{}:{number}", source.path.display())));
    }
    assert!(long.is_empty(), "comments of more than {LONGEST_COMMENT} columns: {long:#?}");
}

fn is_long_comment(line: &str) -> bool {
    line.trim_start().starts_with("//") && line.chars().count() > LONGEST_COMMENT
}

#[test]
fn the_check_itself_finds_what_it_looks_for() {
    assert!(words(&stripped("deny(unsafe_code); // unsafe\n")).all(|word| word != "unsafe"));
    assert!(words(&stripped("let x = unsafe { y };")).any(|word| word == "unsafe"));
    assert!(!names_crate(&stripped("// fuser::Session in a comment\n"), "fuser"));
    assert!(names_crate(&stripped("use fuser::Session;"), "fuser"));
    assert!(is_long_comment(&format!("    /// {}", "x".repeat(113))));
    assert!(!is_long_comment(&format!("    /// {}", "x".repeat(112))));
    assert!(!is_long_comment(&format!("let x = \"{}\"", "x".repeat(120))));
}

struct Source {
    path: PathBuf,
    /// Name of the package that the file is part of, without `kmsfs-`.
    layer: String,
    /// Without comments and the contents of strings.
    code: String,
}

#[track_caller]
fn assert_nowhere_else(layer: &str, what: &str, uses: impl Fn(&str) -> bool) {
    let users: Vec<_> = sources().into_iter().filter(|source| uses(&source.code)).collect();
    assert!(users.iter().any(|source| source.layer == layer), "{what} is nowhere: the check looks for the wrong thing");
    let wrong: Vec<_> = users.iter().filter(|source| source.layer != layer).map(|source| &source.path).collect();
    assert!(wrong.is_empty(), "{what} in {wrong:?}");
}

/// Each package's name, without `kmsfs-`, and its directory.
fn packages() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let named = crates.map(|dir| (dir.file_name().unwrap().to_string_lossy().into_owned(), dir));
    named.chain([("kmsfs".to_owned(), root.to_owned())]).collect()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for (package, dir) in packages() {
        collect(&package, &dir.join("src"), &mut found);
    }
    assert!(found.len() > 20, "the sources are not where they are looked for");
    found
}

fn collect(layer: &str, dir: &Path, found: &mut Vec<Source>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(layer, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = stripped(&fs::read_to_string(&path).unwrap());
            found.push(Source { path, layer: layer.to_owned(), code });
        }
    }
}

/// Whether a path begins with the name, as `name::` or `use name;`.
fn names_crate(code: &str, name: &str) -> bool {
    let paths = code.match_indices(name).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        let after = &code[at + name.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || "_:.".contains(c)) && after.starts_with("::")
    });
    paths.count() > 0
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The code without comments and string contents; good enough for a source that rustfmt has formatted.
fn stripped(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(len) = raw_string(rest) {
            len
        } else if c == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest.find("\"'").expect("just seen") + 2
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// Length of the string literal that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix("r#")?.chars().take_while(|&c| c == '#').count() + 1;
    let open = format!("r{}\"", "#".repeat(hashes));
    let body = text.strip_prefix(&open)?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(open.len() + body.find(&close)? + close.len())
}
