//! `causes`: what an error of the client or the server means, and what would be right.

use std::error::Error as _;

use heartbeat_core::config::PostgresConfig;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::super::tls_files;
use super::tables::{Tables, quoted};

/// What one attempt came to that did not succeed.
#[derive(Debug)]
pub(super) enum Cause {
    /// The session is not there.
    Gone,
    /// No other server would answer otherwise.
    Final(String),
    /// Another server, or another connection, may succeed.
    Passing(String),
    /// The same connection may succeed.
    Again(String),
}

/// What an error means.
pub(super) fn cause(error: &Error, config: &PostgresConfig, tables: &Tables) -> Cause {
    if let Some(error) = error.as_db_error() {
        return answered(error, config, tables);
    }
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    if let Some(error) = tls_files::error_within(error) {
        return Cause::Passing(tls_files::reason("ownership.postgres", error));
    }
    match reason.as_str() {
        "password missing" => Cause::Final("it asks for a password; set ownership.postgres.password".to_owned()),
        "server does not support TLS" => Cause::Passing(
            "it has no TLS and ownership.postgres.ca asks for it; set ssl = on there, or leave ca out".to_owned(),
        ),
        _ => Cause::Passing(format!("the connection is of no use, {reason}; is it a PostgreSQL?")),
    }
}

/// What an answer of the server means.
fn answered(error: &DbError, config: &PostgresConfig, tables: &Tables) -> Cause {
    let (code, text) = (error.code(), error.message());
    let PostgresConfig { user, database, .. } = config;
    let is = |all: &[SqlState]| all.contains(code);
    if is(&[SqlState::FOREIGN_KEY_VIOLATION]) {
        // The session ended while it claimed.
        Cause::Gone
    } else if is(&[SqlState::INVALID_PASSWORD]) {
        Cause::Final(format!(
            "it does not know user {user:?} with this password; correct ownership.postgres.user and ownership.postgres.password"
        ))
    } else if is(&[SqlState::INVALID_AUTHORIZATION_SPECIFICATION]) {
        Cause::Final(format!("it does not let user {user:?} in, {text}; see pg_hba.conf there"))
    } else if is(&[SqlState::INVALID_CATALOG_NAME]) {
        let name = quoted(database);
        Cause::Final(format!(
            "it has no database {database:?}; correct ownership.postgres.database, or run: CREATE DATABASE {name}"
        ))
    } else if is(&[SqlState::INSUFFICIENT_PRIVILEGE]) {
        Cause::Final(format!(
            "user {user:?} may not do that, {text}; let an owner of the database run: {}",
            tables.grants()
        ))
    } else if is(&[SqlState::DISK_FULL]) {
        Cause::Passing(format!("its disk is full, {text}; make room there"))
    } else if is(&[SqlState::READ_ONLY_SQL_TRANSACTION]) {
        Cause::Passing(format!("it is read-only, {text}; name the primary in ownership.postgres.hosts"))
    } else if is(&[SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT]) {
        Cause::Passing(format!("it has lost what was prepared, {text}; is a pooler in transaction mode in between?"))
    } else if is(&[
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_SCHEMA,
    ]) {
        Cause::Again(text.to_owned())
    } else {
        Cause::Passing(format!("{text} ({})", code.code()))
    }
}
