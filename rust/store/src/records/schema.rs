//! Tables and migrations. `user_version` counts the migrations that a database has had.

use std::path::Path;

use rusqlite::Connection;

use super::types::StoreError;

/// One step a version; never change a step that was released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE queue (
        seq       INTEGER PRIMARY KEY AUTOINCREMENT,
        number    REAL    NOT NULL,
        counter   INTEGER NOT NULL,
        prompt_id TEXT    NOT NULL,
        item      TEXT    NOT NULL,
        attempts  INTEGER NOT NULL DEFAULT 0,
        running   INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE history (
        seq         INTEGER PRIMARY KEY AUTOINCREMENT,
        prompt_id   TEXT    NOT NULL UNIQUE,
        bytes       INTEGER NOT NULL,
        status      TEXT    NOT NULL,
        created     INTEGER NOT NULL,
        duration    INTEGER NOT NULL,
        workflow_id TEXT,
        job         TEXT    NOT NULL,
        entry       TEXT    NOT NULL
    );
"];

/// Brings a database up to the newest version.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { path: path.into(), found, known });
    }
    for (index, step) in MIGRATIONS.iter().enumerate().skip(found.max(0) as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
