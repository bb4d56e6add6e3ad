//! actix's prelude with this crate's [`Context`] in the place of actix's.
//!
//! Import it instead of `actix::prelude`, and a file of plain actors is a file of workers:
//! `type Context = Context<Self>;` is unchanged. It brings the names that nearly every program with
//! workers uses, and nothing else of this crate.
//!
//! ```
//! use heartbeat_actors::prelude::*; // instead of actix::prelude::*
//!
//! struct Greeter;
//!
//! impl Actor for Greeter {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "String")]
//! struct Greet(&'static str);
//!
//! impl Handler<Greet> for Greeter {
//!     type Result = String;
//!
//!     fn handle(&mut self, greet: Greet, _: &mut Context<Self>) -> String {
//!         format!("hello {}", greet.0)
//!     }
//! }
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let node = Node::start(Config::default()).await?;
//!     let greeter: WorkerAddr<Greeter> = node.supervise("greeter", || Greeter)?;
//!     assert_eq!(greeter.send(Greet("ada")).await?, "hello ada");
//!     Ok(())
//! }
//! ```
//!
//! Where a file imports all of `actix::prelude` and all of this crate, the name `Context` is
//! ambiguous. One more import decides it, since a name that is imported by itself wins over a glob:
//!
//! ```
//! use actix::prelude::*;
//! use heartbeat_actors::Context; // decides
//! use heartbeat_actors::*;
//!
//! struct Worker;
//!
//! impl Actor for Worker {
//!     type Context = Context<Self>;
//! }
//! # fn start(node: &Node) -> Result<WorkerAddr<Worker>, SuperviseError> {
//! #     node.supervise("worker", || Worker)
//! # }
//! ```

#[allow(clippy::wildcard_imports, reason = "all of actix's prelude, as its users have it")]
pub use actix::prelude::*;

pub use crate::{Config, Context, Node, WorkerAddr, WorkerSpec};
