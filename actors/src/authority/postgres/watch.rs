//! `watch`: waits until a shard may have become free.
//!
//! A release and the end of a session notify all connections that listen. The end of a session by
//! time has to be noticed by some node: each that waits sleeps until the earliest session would
//! end, and looks. It also looks every few seconds, in case a notification was lost.

use std::time::Duration;

use super::client::{Failure, ServerClient};
use super::connection::Connection;

/// Longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A session that another node is just ending is looked at again after this.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// What was last seen.
#[derive(Default)]
pub(super) struct Watch {
    changes: u64,
    seen: Option<Seen>,
}

/// What changes whenever a shard becomes free: the sessions, and how often they released.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    sessions: i64,
    released: i64,
    newest: i64,
}

impl Watch {
    /// Waits until a shard may have become free. May be stopped at any time.
    pub(super) async fn freed(&mut self, servers: &ServerClient, cluster: &String) {
        let mut notified = servers.changes.subscribe();
        loop {
            let changes = *notified.borrow_and_update();
            let (seen, next) = match look(servers, cluster).await {
                Ok(looked) => looked,
                Err(_) => {
                    // The next request of the node reports what is wrong.
                    tokio::time::sleep(servers.next_pause()).await;
                    continue;
                }
            };
            if changes != self.changes || self.seen != Some(seen) {
                (self.changes, self.seen) = (changes, Some(seen));
                return;
            }
            if next.is_some_and(|next| next.is_zero()) {
                // The sessions that it ends are missing in the next look.
                let _ = end_over(servers, cluster).await; // Another look follows in any case.
            }
            let pause = next.unwrap_or(LOOK_MAX).clamp(LOOK_MIN, LOOK_MAX);
            let _ = tokio::time::timeout(pause, notified.changed()).await; // It looks then, or when notified.
        }
    }
}

/// What is to be seen, and in how long the next session ends.
async fn look(servers: &ServerClient, cluster: &String) -> Result<(Seen, Option<Duration>), Failure> {
    let look = async |connection: &Connection| {
        let row = connection.client.query_one(&connection.statements.look, &[cluster]).await?;
        let seen = Seen { sessions: row.try_get(0)?, released: row.try_get(1)?, newest: row.try_get(2)? };
        let next: Option<f64> = row.try_get(3)?;
        Ok((seen, next.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default())))
    };
    servers.call(look).await
}

async fn end_over(servers: &ServerClient, cluster: &String) -> Result<u64, Failure> {
    let payload = servers.payload();
    let end = async |connection: &Connection| {
        connection.client.execute(&connection.statements.end_over, &[cluster, &payload]).await
    };
    servers.call(end).await
}
