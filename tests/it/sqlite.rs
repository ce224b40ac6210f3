//! SQLite works in the mount, in both of its journal modes.

use crate::harness::{Store, wait_until};

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

/// Transactions that sqlite has acknowledged survive the daemon's death, all of them, and nothing is half there.
fn database_survives_kills(journal: &str) {
    let store = Store::new();
    let mut mount = Some(store.mount());
    mount.as_ref().unwrap().bucket("bucket");
    let sql = |statements: &str| store.sh(&format!("sqlite3 -bail $MNT/bucket/db <<'SQL'\n{statements}\nSQL"));
    sql(&format!("PRAGMA journal_mode={journal}; CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB);"));
    let mut acknowledged = 0;
    for life in 1..=5 {
        acknowledged = std::thread::scope(|scope| {
            // Two rows to a transaction, and its number printed once it is committed.
            let writer = scope.spawn(|| {
                store.try_sh(&format!(
                    r"n={acknowledged}
                    while :; do
                        n=$((n + 1))
                        printf 'PRAGMA synchronous=FULL; BEGIN IMMEDIATE; INSERT OR REPLACE INTO t VALUES(%d, randomblob(5000));
                            INSERT OR REPLACE INTO t VALUES(-%d, randomblob(900)); COMMIT;\n.shell echo %d >> acknowledged\n' $n $n $n
                    done | sqlite3 -bail $MNT/bucket/db"
                ))
            });
            let last = || {
                let text = std::fs::read_to_string(store.path("acknowledged")).unwrap_or_default();
                text.lines().last().and_then(|line| line.parse::<u64>().ok()).unwrap_or(0)
            };
            let gets_on = wait_until(|| last() > acknowledged + 20 || writer.is_finished());
            mount.take().unwrap().kill9();
            let answer = writer.join().unwrap();
            assert!(gets_on && last() > acknowledged + 20, "life {life} does not get on: {answer:?}");
            last()
        });
        mount = Some(store.mount());
        assert_eq!(sql("PRAGMA integrity_check;"), "ok\n");
        let pairs = sql(&format!(
            "SELECT count(*) FROM t a JOIN t b ON b.id = -a.id WHERE a.id BETWEEN 1 AND {acknowledged};
             SELECT count(*) FROM t a WHERE NOT EXISTS (SELECT 1 FROM t b WHERE b.id = -a.id);"
        ));
        assert_eq!(pairs, format!("{acknowledged}\n0\n"), "life {life}");
    }
}

#[test]
fn what_a_rollback_journal_has_committed_survives_kills() {
    database_survives_kills("delete");
}

#[test]
fn what_a_write_ahead_log_has_committed_survives_kills() {
    database_survives_kills("wal");
}
