//! `watch`: the stream on which etcd reports shards that became free.
//!
//! It carries the keys that are deleted, by a client or by time. When it ends, or the server does
//! not answer, it is opened anew at another server, from the last revision on. If etcd has
//! forgotten that revision (compacted it), or there is none yet, a deletion may have been missed.
//! The waiting node is then notified as if a shard had become free.

use std::time::Duration;

use etcd_client::{Error, WatchFilterType, WatchOptions, WatchStream};

use super::client::{Connected, ServerClient};

/// How long a stream may be silent before the server is asked for a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The pause before another attempt to open the stream.
const PAUSE: Duration = Duration::from_millis(50);

/// The open stream, and how far it was read.
#[derive(Default)]
pub(super) struct Watch {
    stream: Option<(WatchStream, u64)>,
    /// The first revision that was not received; zero before the first message.
    next: i64,
}

/// What came of waiting for the next message.
enum Received {
    Freed,
    Nothing,
    /// etcd has no record any more of the deletions after the last message.
    Forgotten,
    /// The server does not answer any more, or said that it would not.
    Lost,
}

impl Watch {
    /// Waits until a shard may have become free. May be stopped at any time.
    pub(super) async fn freed(&mut self, servers: &ServerClient, keys: &str) {
        let mut turns = servers.turns();
        loop {
            let Some((stream, turn)) = &mut self.stream else {
                if self.open(servers, keys).await {
                    return;
                }
                continue;
            };
            let turn = *turn;
            if *turns.borrow_and_update() != turn {
                self.stream = None;
                continue;
            }
            let received = tokio::select! {
                _ = turns.changed() => Received::Nothing, // The servers are there, and so is the sender.
                received = receive(stream, &mut self.next) => received,
            };
            match received {
                Received::Freed => return,
                Received::Nothing => {}
                Received::Forgotten => *self = Watch::default(),
                Received::Lost => {
                    self.stream = None;
                    servers.turn_from(turn);
                }
            }
        }
    }

    /// Opens the stream. Returns whether something may have been missed.
    async fn open(&mut self, servers: &ServerClient, keys: &str) -> bool {
        let turn = *servers.turns().borrow();
        let Ok(connected) = servers.connected().await else {
            // The next request of the node reports what is wrong.
            servers.turn_from(turn);
            tokio::time::sleep(PAUSE).await;
            return false;
        };
        let turn = connected.turn();
        match tokio::time::timeout(servers.call_max, begin(connected, keys, self.next)).await {
            Ok(Ok((stream, revision))) => {
                let is_first = self.next == 0;
                self.next = if is_first { revision + 1 } else { self.next };
                self.stream = Some((stream, turn));
                is_first
            }
            Ok(Err(_)) | Err(_) => {
                servers.turn_from(turn);
                tokio::time::sleep(PAUSE).await;
                false
            }
        }
    }
}

/// Opens a stream, and waits for the first word on it: the revision that the store is at.
async fn begin(connected: Connected, keys: &str, next: i64) -> Result<(WatchStream, i64), Error> {
    let options = WatchOptions::new().with_prefix().with_filters([WatchFilterType::NoPut]).with_start_revision(next);
    let mut client = connected.client;
    let mut stream = client.watch(keys, Some(options)).await?;
    let first = stream.message().await?.filter(|first| !first.canceled());
    let revision = first.and_then(|first| Some(first.header()?.revision()));
    Ok((stream, revision.ok_or_else(|| Error::WatchError("it ended before it began".to_owned()))?))
}

async fn receive(stream: &mut WatchStream, next: &mut i64) -> Received {
    for _ in 0..2 {
        let Ok(message) = tokio::time::timeout(SILENCE_MAX, stream.message()).await else {
            // Asks for a sign of life once; a server that stays silent is gone.
            if stream.request_progress().await.is_err() {
                return Received::Lost;
            }
            continue;
        };
        let Ok(Some(message)) = message else { return Received::Lost };
        if message.compact_revision() > 0 {
            return Received::Forgotten;
        }
        if message.canceled() {
            return Received::Lost;
        }
        let Some(last) = message.events().iter().filter_map(|event| Some(event.kv()?.mod_revision())).max() else {
            return Received::Nothing;
        };
        *next = (*next).max(last + 1);
        return Received::Freed;
    }
    Received::Lost
}
