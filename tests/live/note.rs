//! A worker that notes each request that it handles, for the process of a node and for the test
//! that sends the requests.

use std::sync::Arc;

use actix::prelude::*;
use heartbeat_actors::Context;
use heartbeat_actors::shard::RemoteMessage;
use serde::{Deserialize, Serialize};

/// How many shards the group has.
pub(crate) const SHARDS: u32 = 64;

/// The worker of one shard.
pub(crate) struct Tally {
    /// Called with the number of each request, before it is answered.
    pub(crate) note: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Actor for Tally {
    type Context = Context<Self>;
}

/// A request with this number; it is answered with the number.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(crate) struct Note(pub(crate) u64);

impl RemoteMessage for Note {
    const NAME: &str = "live.note";
}

impl Handler<Note> for Tally {
    type Result = u64;

    fn handle(&mut self, Note(number): Note, _: &mut Context<Self>) -> u64 {
        (self.note)(number);
        number
    }
}
