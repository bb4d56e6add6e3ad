//! `connection`: what is done on a new connection before it is used.
//!
//! The server has to be a primary, and not one that another has replaced. It has to keep one
//! connection for one client. Its tables are created if they are missing. If another server wrote
//! to them last, this is noted before anything is claimed.

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use super::super::secret;
use super::super::tls_files::server_name;
use super::causes::{Cause, cause};
use super::client::{CALL_MAX, ServerClient};
use super::pooler;
use super::tables::{CHANNEL, Statements};
use super::tls::Tls;

/// A connection to a primary.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) statements: Statements,
    _task: Task,
}

/// The task that reads and writes; it ends with its connection, also while the server is paused.
pub(super) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client before its first statement.
pub(super) struct Raw {
    pub(super) client: Client,
    /// The port of this end.
    pub(super) port: u16,
    pub(super) task: Task,
}

/// What identifies the server: a standby that takes over has the same system and a higher timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    system: String,
    timeline: u32,
}

impl Server {
    /// Of a system identifier and the name of a file of its log, which begins with the timeline in
    /// eight hexadecimal digits.
    fn new(system: String, file: &str) -> Option<Server> {
        Some(Server { system, timeline: u32::from_str_radix(file.get(..8)?, 16).ok()? })
    }

    /// As it stands in the table.
    fn text(&self) -> String {
        format!("{}/{}", self.system, self.timeline)
    }

    /// Whether `other` has taken the place of this one.
    fn is_replaced_by(&self, other: &Server) -> bool {
        self.system == other.system && self.timeline < other.timeline
    }
}

impl Connection {
    pub(super) async fn open(servers: &ServerClient, host: &str) -> Result<Connection, Cause> {
        let refused = |error| cause(&error, &servers.config, &servers.tables);
        let Raw { client, port, task } = connect(servers, host).await?;
        pooler::refuse(servers, host, &client, port).await?;
        let is_standby = client.query_typed_one("SELECT pg_is_in_recovery()", &[]).await.map_err(refused)?;
        if is_standby.try_get(0).map_err(refused)? {
            return Err(Cause::Passing("it is a standby".to_owned()));
        }
        client.batch_execute(&settings(servers)).await.map_err(refused)?;
        create(servers, &client).await?;
        adopt(servers, &client).await?;
        let statements = servers.tables.prepare(&client).await.map_err(refused)?;
        Ok(Connection { client, statements, _task: task })
    }
}

/// The settings of a connection, which come before the server's own. The server writes a commit to
/// the disk before it reports it.
fn settings(servers: &ServerClient) -> String {
    let (call_ms, lock_ms) = (CALL_MAX.as_millis(), servers.call_max.as_millis() / 2);
    format!(
        "SET statement_timeout = {call_ms}; SET lock_timeout = {lock_ms}; SET default_transaction_isolation = 'read committed';
         SET default_transaction_read_only = off; SET jit = off; SET client_min_messages = warning;
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
         LISTEN {CHANNEL}"
    )
}

/// Connects and logs in.
pub(super) async fn connect(servers: &ServerClient, host: &str) -> Result<Raw, Cause> {
    let absent = |error: std::io::Error| Cause::Passing(format!("no process listens there, {error}"));
    let stream = TcpStream::connect(host).await.map_err(absent)?;
    stream.set_nodelay(true).map_err(absent)?;
    let port = stream.local_addr().map_err(absent)?.port();
    let mut config = Config::new();
    config.user(&servers.config.user).dbname(&servers.config.database).application_name("heartbeat");
    let password = secret::read("ownership.postgres.password", &servers.config.password).map_err(Cause::Final)?;
    if !password.is_empty() {
        config.password(password);
    }
    let refused = |error| cause(&error, &servers.config, &servers.tables);
    let (client, task) = match &servers.tls {
        Some(files) => {
            config.ssl_mode(SslMode::Require);
            let tls = Tls::new(files.current().client.clone(), server_name(host).map_err(Cause::Final)?);
            let (client, connection) = config.connect_raw(stream, tls).await.map_err(refused)?;
            (client, drive(servers, connection))
        }
        None => {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
            (client, drive(servers, connection))
        }
    };
    Ok(Raw { client, port, task })
}

/// Reads and writes until the connection ends, and counts the notifications for this cluster.
fn drive<T>(servers: &ServerClient, mut connection: tokio_postgres::Connection<TcpStream, T>) -> Task
where
    T: TlsStream + Unpin + 'static,
{
    let (payload, changes): (String, watch::Sender<u64>) = (servers.payload(), servers.changes.clone());
    let task = actix_rt::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message
                && notification.channel() == CHANNEL
                && notification.payload() == payload
            {
                changes.send_modify(|changes| *changes += 1);
            }
        }
    });
    Task(task.abort_handle())
}

/// Creates schema and tables if they are missing.
async fn create(servers: &ServerClient, client: &Client) -> Result<(), Cause> {
    let refused = |error| cause(&error, &servers.config, &servers.tables);
    let tables = &servers.tables;
    let schema = &servers.config.schema;
    let found = client.query_typed_one(&tables.exist(), &[(schema, Type::TEXT)]).await.map_err(refused)?;
    let (has_schema, count): (bool, i64) = (found.try_get(0).map_err(refused)?, found.try_get(1).map_err(refused)?);
    if !has_schema {
        client.batch_execute(&tables.create_schema()).await.map_err(refused)?;
    }
    if count < 3 {
        client.batch_execute(&tables.create()).await.map_err(refused)?;
    }
    Ok(())
}

/// Notes which server writes from now on.
async fn adopt(servers: &ServerClient, client: &Client) -> Result<(), Cause> {
    let refused = |error| cause(&error, &servers.config, &servers.tables);
    let cluster = (&servers.cluster as _, Type::TEXT);
    let row =
        client.query_typed_one(&servers.tables.server(), std::slice::from_ref(&cluster)).await.map_err(refused)?;
    let (system, file): (String, String) = (row.try_get(0).map_err(refused)?, row.try_get(1).map_err(refused)?);
    let last: Option<String> = row.try_get(2).map_err(refused)?;
    let Some(server) = Server::new(system, &file) else {
        return Err(Cause::Passing(format!("its log has a file {file:?}, which names no timeline")));
    };
    if let Some(newer) = servers.primary.borrow().as_ref().filter(|known| server.is_replaced_by(known)) {
        return Err(Cause::Passing(format!(
            "it is a former primary, on timeline {}, and timeline {} has begun since; stop it",
            server.timeline, newer.timeline
        )));
    }
    let (text, ttl_ms) = (server.text(), i64::try_from(servers.ttl.as_millis()).unwrap_or(i64::MAX));
    if last.as_ref() != Some(&text) {
        let parameters = [cluster, (&text as _, Type::TEXT), (&ttl_ms as _, Type::INT8)];
        client.query_typed(&servers.tables.adopt(), &parameters).await.map_err(refused)?;
        if let Some(last) = last {
            tracing::warn!(
                event = "primary_changed",
                last,
                now = text,
                "PostgreSQL has another primary: no shard is granted until the sessions have ended that it may not know of"
            );
        }
    }
    *servers.primary.borrow_mut() = Some(server);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_timeline_of_the_same_system_replaces() {
        let server = |system: &str, file| Server::new(system.to_owned(), file).unwrap();
        let (first, second) = (server("7", "000000010000000000000001"), server("7", "0000000A0000000000000001"));
        assert_eq!((first.text().as_str(), second.text().as_str()), ("7/1", "7/10"));
        assert!(first.is_replaced_by(&second) && !second.is_replaced_by(&first) && !first.is_replaced_by(&first));
        assert!(!first.is_replaced_by(&server("8", "000000020000000000000001")));
        assert_eq!(Server::new(String::new(), "0000"), None);
    }
}
