use super::Answer;
use rustix::mount::{UnmountFlags, unmount};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A small ext4 file system of its own, for disks that fill up or turn read-only.
pub struct Disk {
    dir: TempDir,
}

impl Disk {
    /// With the small blocks that mkfs gives a small disk.
    pub fn new(mebibytes: u32) -> Self {
        Self::with_blocks(1024, mebibytes)
    }

    /// With blocks of so many bytes: 4096 on all but the smallest disks.
    pub fn with_blocks(block: u32, mebibytes: u32) -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        disk.sh(&format!("truncate -s {mebibytes}M image && mkfs.ext4 -q -b {block} -m 0 image && mkdir mnt"));
        disk.sh("mount -o loop image mnt && rmdir mnt/lost+found");
        disk
    }

    /// Made by another command than mkfs.ext4, which is given the image's name.
    pub fn made_by(mkfs: &str, mebibytes: u32) -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        disk.sh(&format!("truncate -s {mebibytes}M image && {mkfs} image && mkdir mnt && mount -o loop image mnt"));
        disk
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// In the directory that holds `mnt`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(self.dir.path());
        let answer = Answer::of(command);
        assert!(answer.code == 0, "{script}\nanswered {answer:?}");
        answer.out
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
