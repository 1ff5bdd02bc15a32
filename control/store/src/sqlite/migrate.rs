//! Numbered migrations. Each runs in one transaction with its version number, so a crash leaves the old schema or the
//! new one; a database of a newer program is refused.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Result, StoreError};

/// The migrations, in order; the number of the last is the schema that this program speaks.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_money.sql"),
    include_str!("migrations/0003_routing.sql"),
    include_str!("migrations/0004_object.sql"),
    include_str!("migrations/0005_batch.sql"),
    include_str!("migrations/0006_client_secrets.sql"),
    include_str!("migrations/0007_audit.sql"),
    include_str!("migrations/0008_overlay.sql"),
    include_str!("migrations/0009_image_tokens.sql"),
    include_str!("migrations/0010_backup.sql"),
    include_str!("migrations/0011_sandbox.sql"),
    include_str!("migrations/0012_storage.sql"),
    include_str!("migrations/0013_channels.sql"),
    include_str!("migrations/0014_ledger_by_tenant.sql"),
];

/// The version of the schema that this program speaks.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the database up to the newest schema.
pub(crate) fn run(conn: &mut Connection) -> Result<()> {
    run_list(conn, MIGRATIONS)
}

fn run_list(conn: &mut Connection, migrations: &[&str]) -> Result<()> {
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    loop {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > known {
            return Err(StoreError::NewerSchema { found, known });
        }
        let Some(sql) = usize::try_from(found).ok().and_then(|at| migrations.get(at)) else { return Ok(()) };
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", found + 1)?;
        tx.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;

    fn version(conn: &Connection) -> i64 {
        conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn d_07_a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open::writable(&dir.path().join("x.db")).unwrap();
        run(&mut conn).unwrap();
        conn.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(run(&mut conn), Err(StoreError::NewerSchema { found: 99, .. })));
        assert_eq!(version(&conn), 99);
    }

    #[test]
    fn d_07_every_earlier_version_reaches_the_newest() {
        for from in 0..=MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let mut conn = open::writable(&dir.path().join("x.db")).unwrap();
            run_list(&mut conn, &MIGRATIONS[..from]).unwrap();
            assert_eq!(version(&conn), i64::try_from(from).unwrap());
            run(&mut conn).unwrap();
            run(&mut conn).unwrap();
            assert_eq!(version(&conn), i64::try_from(MIGRATIONS.len()).unwrap());
        }
    }

    /// What a database says of itself.
    fn schema(conn: &Connection) -> Vec<String> {
        let mut statement = conn.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// A copy of the files at the moment of death is what a killed process leaves behind.
    fn dies_at_any_statement(number: usize) {
        let sql = MIGRATIONS[number];
        let ends: Vec<usize> = sql.match_indices(';').map(|(at, _)| at + 1).collect();
        let mut tried = 0;
        for end in ends {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.db");
            let mut conn = open::writable(&path).unwrap();
            run_list(&mut conn, &MIGRATIONS[..number]).unwrap();
            let before = (schema(&conn), version(&conn));
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            if tx.execute_batch(&sql[..end]).is_err() {
                continue; // a `;` inside a trigger
            }
            let copy = dir.path().join("copy.db");
            for suffix in ["", "-wal"] {
                let from = dir.path().join(format!("x.db{suffix}"));
                if from.exists() {
                    std::fs::copy(from, dir.path().join(format!("copy.db{suffix}"))).unwrap();
                }
            }
            let mut left = open::writable(&copy).unwrap();
            assert_eq!((schema(&left), version(&left)), before);
            run(&mut left).unwrap();
            tried += 1;
        }
        assert!(tried > 0);
    }

    #[test]
    fn d_07_a_migration_that_dies_at_any_statement_leaves_the_old_schema() {
        (0..MIGRATIONS.len()).for_each(dies_at_any_statement);
    }

    #[test]
    fn d_07_the_rows_of_the_first_schema_are_in_the_newest_with_their_sums() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open::writable(&dir.path().join("x.db")).unwrap();
        run_list(&mut conn, &MIGRATIONS[..1]).unwrap();
        conn.execute_batch(
            "INSERT INTO tenants VALUES (1, 'a', 'a', 'active', 'UTC', '{}', NULL, '{}', 1, 0, 0, NULL);
             INSERT INTO ledger VALUES (1,1,2,3,4,5,'r',0,'complete',200,1,0,6,7,8,9,10,11,12,13,14,15,1,2,4,8,16,32,64,128,256);
             INSERT INTO ledger VALUES (2,1,2,3,4,5,'r',1,'void',502,0,0,6,7,8,9,10,11,100,0,0,0,1,2,4,8,16,32,64,128,256);",
        )
        .unwrap();
        run(&mut conn).unwrap();
        let sums = conn.query_row(
            "SELECT requests, attempts, estimated_rows, cost_nanos, held_nanos, input_tokens, tool_calls FROM usage_days
             WHERE (month, tenant, day, model, upstream, token, rate_card, label) = (8, 1, 7, 3, 4, 2, 5, 0)",
            [],
            |row| (0..7).map(|at| row.get(at)).collect::<Result<Vec<i64>, _>>(),
        );
        assert_eq!(sums.unwrap(), [1, 2, 1, 112, 13, 2, 512]);
        let rows: i64 = conn.query_row("SELECT count(*) FROM ledger", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2);
        let entries: i64 = conn
            .query_row(
                "SELECT count(*) FROM ledger_by_tenant WHERE (tenant, admitted_at_ms) = (1, 6) AND id IN (1, 2)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(entries, 2);
        assert!(conn.execute("DELETE FROM ledger", []).unwrap_err().to_string().contains("never change"));
    }

    #[test]
    fn m_08_ledger_and_rate_cards_refuse_update_and_delete() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open::writable(&dir.path().join("x.db")).unwrap();
        run(&mut conn).unwrap();
        conn.execute_batch("INSERT INTO rate_cards VALUES (1, 0, 0, '{}', 'operator')").unwrap();
        for sql in ["UPDATE rate_cards SET models = ''", "DELETE FROM rate_cards"] {
            let err = conn.execute(sql, []).unwrap_err().to_string();
            assert!(err.contains("never change"), "{err}");
        }
        conn.execute_batch(
            "INSERT INTO tenants VALUES (1, 'a', 'a', 'active', 'UTC', '{}', NULL, '{}', 1, 0, 0, NULL, 0, NULL, NULL);
             INSERT INTO ledger VALUES (1,1,1,1,1,1,0,'r',0,'complete',200,0,0,'standard',0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
             INSERT INTO adjustments VALUES (1, NULL, 'why');",
        )
        .unwrap();
        for sql in [
            "UPDATE ledger SET cost_nanos = 0",
            "DELETE FROM ledger",
            "UPDATE adjustments SET reason = ''",
            "DELETE FROM adjustments",
        ] {
            let err = conn.execute(sql, []).unwrap_err().to_string();
            assert!(err.contains("never change"), "{err}");
        }
    }
}
