//! `tables`: the tables in PostgreSQL, and the statements on them.
//!
//! | table | row | holds |
//! |---|---|---|
//! | `stores` | one for each cluster | its last server and session, and when grants begin |
//! | `sessions` | one for each session | its node, its time to live, when it ends |
//! | `shards` | one for each shard that had an owner | the session that has it, the last epoch |
//!
//! Names are written as in a file name (`name`), since no text in PostgreSQL holds a zero byte.
//!
//! A session exists as long as its row does. When its time is over, a node deletes the row, and the
//! foreign key makes its shards free in the same step. So a renewal and the end of a session cannot
//! both succeed: both lock the row. A claim takes a shard only if its row names no session at the
//! moment at which the claim has locked it.

use tokio_postgres::{Client, Error, Statement};

/// The channel of `NOTIFY`. Its payload names schema and cluster.
pub(super) const CHANNEL: &str = "heartbeat";

/// The statements, with the schema's name in them.
pub(super) struct Tables {
    schema: String,
    user: String,
}

/// The statements as one server knows them.
pub(super) struct Statements {
    pub(super) begin: Statement,
    pub(super) renew: Statement,
    pub(super) claim: Statement,
    pub(super) release: Statement,
    pub(super) raise_guard: Statement,
    pub(super) evict: Statement,
    pub(super) end_over: Statement,
    pub(super) look: Statement,
}

impl Tables {
    pub(super) fn new(schema: &str, user: &str) -> Tables {
        Tables { schema: quoted(schema), user: quoted(user) }
    }

    /// What an owner of the database runs if the user may not create the schema.
    pub(super) fn grants(&self) -> String {
        let Tables { schema, user } = self;
        format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}"
        )
    }

    /// Whether schema and tables are there.
    pub(super) fn exist(&self) -> String {
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1), \
         (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relname IN ('stores', 'sessions', 'shards'))"
            .to_owned()
    }

    pub(super) fn create_schema(&self) -> String {
        format!("CREATE SCHEMA {};", self.schema)
    }

    /// Creates the tables. The number is a lock of this library: nodes that start together create
    /// them one after the other.
    pub(super) fn create(&self) -> String {
        let schema = &self.schema;
        format!(
            "SELECT pg_advisory_xact_lock(7522537965572);
             CREATE TABLE IF NOT EXISTS {schema}.stores (
                 cluster text PRIMARY KEY, server text NOT NULL, number bigint NOT NULL,
                 quiet_until timestamptz NOT NULL);
             CREATE TABLE IF NOT EXISTS {schema}.sessions (
                 session bigint PRIMARY KEY, cluster text NOT NULL, node text NOT NULL, generation numeric(20) NOT NULL,
                 ttl_ms bigint NOT NULL, ends timestamptz NOT NULL, guard bigint NOT NULL DEFAULT 0,
                 version bigint NOT NULL DEFAULT 0, released bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
             CREATE TABLE IF NOT EXISTS {schema}.shards (
                 cluster text, shard_group text, shard_index bigint,
                 session bigint REFERENCES {schema}.sessions ON DELETE SET NULL, epoch bigint NOT NULL,
                 PRIMARY KEY (cluster, shard_group, shard_index)) WITH (fillfactor = 80);
             CREATE INDEX IF NOT EXISTS shards_session ON {schema}.shards (session);"
        )
    }

    /// The server's identity, and the one that wrote last.
    pub(super) fn server(&self) -> String {
        format!(
            "SELECT (SELECT system_identifier FROM pg_control_system())::text, \
             pg_walfile_name(pg_current_wal_lsn()), (SELECT server FROM {0}.stores WHERE cluster = $1)",
            self.schema
        )
    }

    /// Notes that another server writes from now on. The sessions that it may not know of have
    /// ended when the longest time to live is over; those that it knows count anew, since its clock
    /// is another one.
    pub(super) fn adopt(&self) -> String {
        let schema = &self.schema;
        format!(
            "WITH adopted AS (
                INSERT INTO {schema}.stores AS s (cluster, server, number, quiet_until)
                VALUES ($1, $2, {NOW_US}, '-infinity')
                ON CONFLICT (cluster) DO UPDATE SET server = excluded.server,
                    number = greatest(s.number, excluded.number) + {NUMBERS_SKIPPED},
                    quiet_until = clock_timestamp() + interval '1 ms' * greatest($3::bigint,
                        (SELECT max(ttl_ms) FROM {schema}.sessions WHERE cluster = $1))
                WHERE s.server <> excluded.server
                RETURNING quiet_until)
            UPDATE {schema}.sessions SET ends = clock_timestamp() + ttl_ms * interval '1 ms'
            FROM adopted WHERE cluster = $1 AND adopted.quiet_until > '-infinity'"
        )
    }

    pub(super) async fn prepare(&self, client: &Client) -> Result<Statements, Error> {
        let texts = [
            self.begin(),
            self.renew(),
            self.claim(),
            self.release(),
            self.raise_guard(),
            self.evict(),
            self.end_over(),
            self.look(),
        ];
        let all = texts.iter().map(|text| client.prepare(text));
        let mut all = futures_util::future::try_join_all(all).await?.into_iter();
        let mut next = || all.next().expect("as many statements as texts");
        Ok(Statements {
            begin: next(),
            renew: next(),
            claim: next(),
            release: next(),
            raise_guard: next(),
            evict: next(),
            end_over: next(),
            look: next(),
        })
    }

    /// Begins a session, and ends the previous one: cluster, node, generation, time to live,
    /// previous session or null.
    fn begin(&self) -> String {
        let schema = &self.schema;
        format!(
            "WITH previous AS (
                DELETE FROM {schema}.sessions WHERE session = $5 AND cluster = $1 AND node = $2 RETURNING session
            ), number AS (
                UPDATE {schema}.stores SET number = greatest(number + 1, {NOW_US}) WHERE cluster = $1 RETURNING number
            )
            INSERT INTO {schema}.sessions (session, cluster, node, generation, ttl_ms, ends)
            SELECT number, $1, $2, $3::text::numeric, $4::bigint, clock_timestamp() + $4::bigint * interval '1 ms' FROM number
            RETURNING session, (SELECT count(pg_notify('{CHANNEL}', $6)) FROM previous)"
        )
    }

    /// Session, cluster, and the last version that is known.
    fn renew(&self) -> String {
        format!(
            "UPDATE {}.sessions SET ends = clock_timestamp() + ttl_ms * interval '1 ms'
             WHERE session = $1 AND cluster = $2 AND version >= $3 AND ends > clock_timestamp() RETURNING version",
            self.schema
        )
    }

    /// Session, cluster, guard, version, groups, indices, epoch to grant at least.
    ///
    /// A shard that the statement sees with another session is left alone, so that its row is not
    /// locked. Of the others it takes each whose row names no session once it is locked.
    fn claim(&self) -> String {
        let schema = &self.schema;
        format!(
            "WITH own AS (
                UPDATE {schema}.sessions SET version = version + 1
                WHERE session = $1 AND cluster = $2 AND guard = $3 AND version >= $4 AND ends > clock_timestamp()
                RETURNING session, version
            ), quiet AS (
                SELECT greatest(0, extract(epoch FROM quiet_until - clock_timestamp()))::float8 AS seconds
                FROM {schema}.stores WHERE cluster = $2 AND quiet_until > clock_timestamp()
            ), seen AS (
                SELECT w.shard_group, w.shard_index, w.place, s.session, h.node, h.ends <= clock_timestamp() AS is_over
                FROM unnest($5::text[], $6::bigint[]) WITH ORDINALITY AS w (shard_group, shard_index, place)
                LEFT JOIN {schema}.shards s
                    ON s.cluster = $2 AND s.shard_group = w.shard_group AND s.shard_index = w.shard_index
                LEFT JOIN {schema}.sessions h ON h.session = s.session
            ), taken AS (
                INSERT INTO {schema}.shards AS s (cluster, shard_group, shard_index, session, epoch)
                SELECT $2, seen.shard_group, seen.shard_index, own.session, greatest($7, {NOW_EPOCH})
                FROM seen CROSS JOIN own
                WHERE seen.session = $1 OR (seen.session IS NULL AND NOT EXISTS (SELECT FROM quiet))
                ORDER BY seen.place
                ON CONFLICT (cluster, shard_group, shard_index) DO UPDATE SET session = excluded.session,
                    epoch = CASE WHEN s.session = excluded.session THEN s.epoch
                        ELSE greatest(excluded.epoch, CASE WHEN s.epoch < {EPOCH_MAX} THEN s.epoch + 1 ELSE s.epoch END)
                    END
                WHERE s.session IS NULL OR s.session = excluded.session
                RETURNING shard_group, shard_index, epoch
            )
            SELECT own.version, seen.place, taken.epoch, seen.node, coalesce(seen.is_over, false),
                (SELECT seconds FROM quiet)
            FROM own LEFT JOIN seen ON true LEFT JOIN taken USING (shard_group, shard_index)
            ORDER BY seen.place"
        )
    }

    /// Session, cluster, guard, groups, indices, payload.
    fn release(&self) -> String {
        let schema = &self.schema;
        format!(
            "WITH own AS (
                UPDATE {schema}.sessions SET version = version + 1, released = released + 1
                WHERE session = $1 AND cluster = $2 AND guard = $3
                RETURNING session, version
            ), freed AS (
                UPDATE {schema}.shards s SET session = NULL
                FROM own, unnest($4::text[], $5::bigint[]) AS w (shard_group, shard_index)
                WHERE s.cluster = $2 AND s.shard_group = w.shard_group AND s.shard_index = w.shard_index
                    AND s.session = own.session
                RETURNING s.shard_index
            )
            SELECT own.version, (SELECT pg_notify('{CHANNEL}', $6) WHERE EXISTS (SELECT FROM freed))::text FROM own"
        )
    }

    /// Session, cluster, and the last version that is known: a session whose last change is lost is
    /// over.
    fn raise_guard(&self) -> String {
        format!(
            "UPDATE {}.sessions SET guard = guard + 1 WHERE session = $1 AND cluster = $2 AND version >= $3
             AND ends > clock_timestamp() RETURNING guard",
            self.schema
        )
    }

    /// Cluster, node, generation, payload.
    fn evict(&self) -> String {
        format!(
            "WITH ended AS (
                DELETE FROM {}.sessions WHERE cluster = $1 AND node = $2 AND generation <= $3::text::numeric
                RETURNING session
            )
            SELECT pg_notify('{CHANNEL}', $4)::text WHERE EXISTS (SELECT FROM ended)",
            self.schema
        )
    }

    /// Ends the sessions whose time is over: cluster, payload. A session whose row is locked is
    /// being renewed, or ended by another node.
    fn end_over(&self) -> String {
        let schema = &self.schema;
        format!(
            "WITH over AS (
                SELECT session FROM {schema}.sessions WHERE cluster = $1 AND ends <= clock_timestamp()
                ORDER BY session LIMIT {SESSIONS_MAX} FOR UPDATE SKIP LOCKED
            ), ended AS (
                DELETE FROM {schema}.sessions s USING over WHERE s.session = over.session RETURNING s.session
            )
            SELECT pg_notify('{CHANNEL}', $2)::text WHERE EXISTS (SELECT FROM ended)",
        )
    }

    /// What changes whenever a shard becomes free, and in how many seconds the next session ends:
    /// cluster.
    fn look(&self) -> String {
        format!(
            "SELECT count(*), coalesce(sum(released), 0)::bigint, coalesce(max(session), 0),
                extract(epoch FROM min(ends) - clock_timestamp())::float8
             FROM {}.sessions WHERE cluster = $1",
            self.schema
        )
    }
}

/// The server's clock, in microseconds.
const NOW_US: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// An epoch of the server's clock: milliseconds and ten bits. A server that lacks the last commits
/// does not know the last epoch of each shard, and still grants a higher one.
const NOW_EPOCH: &str = "((extract(epoch FROM clock_timestamp()) * 1000)::bigint << 10)";

/// A server that lacks the last commits skips the numbers of sessions that it may not know of: a
/// session's number is the time of its begin in microseconds, and the clocks of two servers do not
/// differ by as much as this.
const NUMBERS_SKIPPED: i64 = 600_000_000;

/// Sessions that are ended at once.
const SESSIONS_MAX: u32 = 64;

const EPOCH_MAX: i64 = i64::MAX;

/// A name as an identifier in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
    }
}
