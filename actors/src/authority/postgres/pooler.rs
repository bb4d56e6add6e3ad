//! `pooler`: recognises a pooler that does not keep one connection of the server for one client.
//!
//! In transaction mode each transaction may run on another connection of the server. Settings,
//! prepared statements and `LISTEN` are then lost or another client's. What is between, the client
//! cannot ask for. But the server sees the port of the pooler instead of the client's. Then a
//! second client shows whether two clients share a connection of the server.

use tokio_postgres::Client;

use super::causes::{Cause, cause};
use super::client::ServerClient;
use super::connection::connect;

const REFUSAL: &str = "a pooler in transaction mode is in between, which loses settings and notifications; \
                       connect to the server itself, or set pool_mode = session there";

/// Refuses a server behind a pooler in transaction mode.
pub(super) async fn refuse(servers: &ServerClient, host: &str, client: &Client, port: u16) -> Result<(), Cause> {
    let refused = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(error) if error.message().contains("pooling mode") => Cause::Final(REFUSAL.to_owned()),
        Some(_) | None => cause(&error, &servers.config, &servers.tables),
    };
    let (process, seen) = process(client).await.map_err(refused)?;
    if seen == Some(i32::from(port)) {
        return Ok(());
    }
    // A translated address looks the same, and keeps connections.
    let second = connect(servers, host).await?;
    second.client.batch_execute("BEGIN").await.map_err(refused)?;
    let (other, _) = self::process(&second.client).await.map_err(refused)?;
    // While the transaction lasts, its connection is not free.
    if other == process || self::process(client).await.map_err(refused)?.0 != process {
        return Err(Cause::Final(REFUSAL.to_owned()));
    }
    second.client.batch_execute("ROLLBACK").await.map_err(refused)
}

/// The server's process, and the port of the client that it sees.
async fn process(client: &Client) -> Result<(i32, Option<i32>), tokio_postgres::Error> {
    let row = client.query_typed_one("SELECT pg_backend_pid(), inet_client_port()", &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
