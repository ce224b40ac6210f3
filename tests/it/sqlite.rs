//! SQLite works in the mount, in both of its journal modes.

use crate::harness::Store;

fn database_works(journal: &str, options: &str) {
    let store = Store::new();
    let mount = store.mount_with(options);
    mount.bucket("bucket");
    let sql = |statements: &str| {
        store.sh(&format!("sqlite3 -bail -cmd '.timeout 60000' $MNT/bucket/db <<'SQL'\n{statements}\nSQL"))
    };
    assert_eq!(sql(&format!("PRAGMA journal_mode={journal};")), format!("{journal}\n"));
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, data BLOB); CREATE INDEX by_who ON t(who);");
    // Several processes write at once.
    store.sh(r#"
        for who in a b c; do
            for i in $(seq 40); do
                echo "BEGIN IMMEDIATE; INSERT INTO t(who, data) VALUES('$who', randomblob(3000)); COMMIT;"
            done | sqlite3 -bail -cmd '.timeout 60000' $MNT/bucket/db &
            pids="${pids:-} $!"
        done
        for pid in $pids; do wait $pid; done"#);
    assert_eq!(sql("SELECT who, count(*) FROM t GROUP BY who;"), "a|40\nb|40\nc|40\n");
    sql("BEGIN; DELETE FROM t WHERE id % 3 = 0; UPDATE t SET data = randomblob(100) WHERE id % 3 = 1; ROLLBACK;");
    sql("BEGIN; DELETE FROM t WHERE id % 3 = 0; UPDATE t SET data = zeroblob(9000) WHERE id % 3 = 1; COMMIT; VACUUM;");
    let sum = "SELECT count(*), sum(id), sum(length(data)) FROM t;";
    let before = sql(sum);
    assert!(before.starts_with("80|"), "{before}");
    assert_eq!(sql("PRAGMA integrity_check;"), "ok\n");
    mount.unmount();
    let _mount = store.mount_with(options);
    assert_eq!(sql("PRAGMA integrity_check;"), "ok\n");
    assert_eq!(sql(sum), before);
}

#[test]
fn with_a_rollback_journal() {
    database_works("delete", "");
}

#[test]
fn with_a_write_ahead_log() {
    database_works("wal", "");
}

#[test]
fn with_a_write_ahead_log_and_without_the_writeback_cache() {
    database_works("wal", "nowriteback");
}
