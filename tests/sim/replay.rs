//! Replays a run.
fn main() {}
