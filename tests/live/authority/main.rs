//! The authorities that run everywhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod memory;
mod suite;

use std::future::Future;

/// Runs a test within an actix system of its own.
fn live<F: Future<Output = ()>>(test: F) {
    actix::System::new().block_on(async {
        tokio::time::timeout(suite::PATIENCE * 3, test).await.expect("the test hangs");
    });
}
