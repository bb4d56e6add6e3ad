//! The cases under actix's own context.

#[path = "address.rs"]
mod address;
#[path = "answers.rs"]
mod answers;
#[path = "futures.rs"]
mod futures;
#[path = "../programs/interpreter.rs"]
pub(crate) mod interpreter;
#[path = "sinks.rs"]
mod sinks;
#[path = "streams.rs"]
mod streams;
#[path = "timers.rs"]
mod timers;
#[path = "waiting.rs"]
mod waiting;
#[path = "world_plain.rs"]
pub(crate) mod world;
