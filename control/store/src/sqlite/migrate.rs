//! Numbered migrations. Each runs in one transaction with its version number, so a crash leaves the old schema or the
//! new one; a database of a newer program is refused.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Result, StoreError};

/// The migrations, in order; the number of the last is the schema that this program speaks.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_first.sql")];

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

    /// A copy of the files at the moment of death is what a killed process leaves behind.
    #[test]
    fn d_07_a_migration_that_dies_at_any_statement_leaves_the_old_schema() {
        let sql = MIGRATIONS[0];
        let ends: Vec<usize> = sql.match_indices(';').map(|(at, _)| at + 1).collect();
        let mut tried = 0;
        for end in ends {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.db");
            let mut conn = open::writable(&path).unwrap();
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
            let tables: i64 = left.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
            assert_eq!((tables, version(&left)), (0, 0));
            run(&mut left).unwrap();
            tried += 1;
        }
        assert!(tried > 10);
    }

    #[test]
    fn m_08_ledger_and_rate_cards_refuse_update_and_delete() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = open::writable(&dir.path().join("x.db")).unwrap();
        run(&mut conn).unwrap();
        conn.execute_batch("INSERT INTO rate_cards VALUES (1, 0, 0, '{}')").unwrap();
        for sql in ["UPDATE rate_cards SET models = ''", "DELETE FROM rate_cards"] {
            let err = conn.execute(sql, []).unwrap_err().to_string();
            assert!(err.contains("never change"), "{err}");
        }
        conn.execute_batch(
            "INSERT INTO tenants VALUES (1, 'a', 'a', 'active', 'UTC', '{}', NULL, '{}', 1, 0, 0, NULL);
             INSERT INTO ledger VALUES (1,1,1,1,1,1,'r',0,'complete',200,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);",
        )
        .unwrap();
        for sql in ["UPDATE ledger SET cost_nanos = 0", "DELETE FROM ledger"] {
            let err = conn.execute(sql, []).unwrap_err().to_string();
            assert!(err.contains("never change"), "{err}");
        }
    }
}
