//! What docs/KMS.md and README.md say about unlocking.

use crate::harness::Store;
use crate::readme::{assert_answers, blocks_of, commands};

#[test]
fn the_commands_of_kms_md_answer_what_it_shows() {
    // A store of its own is made on the way; this one lends its directory.
    let store = Store::on_tmpfs();
    store.sh("rm -r store key");
    let blocks = blocks_of("docs/KMS.md", "console");
    let blocks: Vec<_> = blocks.iter().filter(|block| block.contains("kmsfs keyring ")).collect();
    assert_eq!(blocks.len(), 1);
    let mut run = 0;
    for (command, expected) in blocks.iter().flat_map(|block| commands(block)) {
        let answer = store.try_sh(&command);
        assert_answers(&command, &answer, &expected);
        assert_eq!(answer.code == 0, !expected.starts_with("kmsfs: "), "$ {command}: {answer:?}");
        run += 1;
    }
    assert!(run >= 8, "only {run} commands were found");
}

/// What systemd would do, as far as kmsfs sees it: it copies the credential and names its directory.
#[test]
fn the_unit_of_readme_mounts() {
    let store = Store::new();
    let blocks = blocks_of("README.md", "ini");
    let unit = blocks.iter().find(|unit| unit.contains("LoadCredential=")).expect("a unit with a credential");
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).expect(name).to_owned();
    let credential = value("LoadCredential=");
    let (name, file) = credential.split_once(':').unwrap();
    assert_eq!(file, "/root/kmsfs.key");
    let start = value("ExecStart=").replace("/srv/store", "$STORE").replace("/mnt", "$MNT");
    store.sh(&format!(
        "mkdir credentials; cp $KEY credentials/{name}
         CREDENTIALS_DIRECTORY=$PWD/credentials {start} 2> said & for n in $(seq 600); do
             if mountpoint -q $MNT; then break; fi; sleep 0.05; done
         mountpoint -q $MNT; umount $MNT; wait $!"
    ));
    store.wait_until_closed();
}
