//! The authorities that run everywhere: in memory, and in a folder, also with processes that are
//! killed and stopped.
//!
//! These tests end each process they start, by its id, also when they fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod folder;
mod memory;
mod process;
mod suite;

use std::future::Future;

/// Runs a test within an actix system of its own.
fn live<F: Future<Output = ()>>(test: F) {
    actix::System::new().block_on(async {
        tokio::time::timeout(suite::PATIENCE * 3, Box::pin(test)).await.expect("the test hangs");
    });
}
