//! scripts/install: what it puts where, and takes away again.

use crate::harness::{Answer, KMSFS};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PROGRAM: &str = "root/opt/bin/kmsfs";
const DEBUG: &str = "root/usr/lib/debug/opt/bin/kmsfs.debug";

/// A directory `root` to install into, and a build of which the tests' program is the result.
struct Destination {
    dir: TempDir,
}

impl Destination {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("target/release")).unwrap();
        fs::copy(KMSFS, dir.path().join("target/release/kmsfs")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn install(&self, options: &[&str]) -> String {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"));
        command.args(["--no-build", "--prefix", "/opt", "--destdir"]).arg(self.path("root")).args(options);
        command.env("CARGO_TARGET_DIR", self.path("target"));
        Answer::of(command).into_result().unwrap()
    }

    /// The names of an ELF file's sections, and where they have bytes in it.
    fn sections(&self, name: &str) -> String {
        let mut command = Command::new("readelf");
        command.args(["--section-headers", "--wide"]).arg(self.path(name));
        Answer::of(command).into_result().unwrap()
    }

    fn len(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).unwrap().len()
    }
}

#[test]
fn the_installed_program_is_without_debug_information_and_names_the_file_that_has_it() {
    let to = Destination::new();
    assert!(to.sections("target/release/kmsfs").contains(".debug_line"), "there is something to take out");
    to.install(&[]);
    let installed = to.sections(PROGRAM);
    for section in [".debug_line", ".debug_info", ".debug_str"] {
        assert!(!installed.contains(section), "{installed}");
        assert!(to.sections(DEBUG).contains(section), "{section}");
    }
    assert!(installed.contains(".gnu_debuglink"), "{installed}");
    let mut read = Command::new("readelf");
    read.args(["--string-dump=.gnu_debuglink"]).arg(to.path(PROGRAM));
    assert!(Answer::of(read).into_result().unwrap().contains("kmsfs.debug"));
    // What the debug information is of is not in its file a second time.
    let (built, program, debug) = (to.len("target/release/kmsfs"), to.len(PROGRAM), to.len(DEBUG));
    assert!(program < built && program + debug < built + built / 10, "{built}: {program} and {debug}");
    let mut version = Command::new(to.path(PROGRAM));
    version.arg("--version");
    assert!(Answer::of(version).into_result().unwrap().starts_with("kmsfs "));
}

#[test]
fn installing_twice_changes_nothing_and_uninstalling_leaves_no_file() {
    let to = Destination::new();
    let said = to.install(&[]);
    assert_eq!(to.install(&[]), said);
    for helper in ["mount.kmsfs", "mount.fuse.kmsfs", "fsck.kmsfs"] {
        assert_eq!(fs::read_link(to.path("root/sbin").join(helper)).unwrap(), Path::new("/opt/bin/kmsfs"));
    }
    for file in ["opt/share/man/man5/kmsfs.5.gz", "opt/lib/tmpfiles.d/kmsfs.conf", "etc/logrotate.d/kmsfs"] {
        assert!(to.len(&format!("root/{file}")) > 0, "{file}");
    }
    let unit = fs::read_to_string(to.path("root/opt/lib/systemd/system/kmsfs@.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/bin/kmsfs mount --foreground "), "{unit}");
    to.install(&["--uninstall"]);
    let mut left = Command::new("find");
    left.arg(to.path("root")).args(["!", "-type", "d"]);
    assert_eq!(Answer::of(left).into_result().unwrap(), "");
}

#[test]
fn helpers_go_where_they_are_wanted_and_a_strangers_stays() {
    let to = Destination::new();
    to.install(&["--sbindir", "/usr/sbin"]);
    assert_eq!(fs::read_link(to.path("root/usr/sbin/fsck.kmsfs")).unwrap(), Path::new("/opt/bin/kmsfs"));
    assert!(!to.path("root/sbin").exists());
    fs::remove_file(to.path("root/usr/sbin/fsck.kmsfs")).unwrap();
    fs::write(to.path("root/usr/sbin/fsck.kmsfs"), "a stranger's").unwrap();
    to.install(&["--sbindir", "/usr/sbin", "--uninstall"]);
    assert_eq!(fs::read(to.path("root/usr/sbin/fsck.kmsfs")).unwrap(), b"a stranger's");
    assert!(!to.path("root/usr/sbin/mount.kmsfs").exists());
}
