//! The deterministic suites.
