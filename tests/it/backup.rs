//! docs/BACKUP.md: its commands, in order.

use crate::harness::{STATE, Store};
use crate::readme::{assert_answers, blocks_of, commands};

#[test]
fn its_commands_answer_what_it_shows() {
    let store = Store::new();
    store.sh("rm -r store key; rmdir mnt");
    let mut run = 0;
    for (command, expected) in blocks_of("docs/BACKUP.md", "console").iter().flat_map(|block| commands(block)) {
        let answer = store.try_sh(&format!("export {STATE}=$PWD/state; {command}"));
        assert_answers(&command, &answer, &expected);
        assert_eq!(answer.code, 0, "$ {command}: {answer:?}");
        run += 1;
    }
    assert!(run > 15);
}
