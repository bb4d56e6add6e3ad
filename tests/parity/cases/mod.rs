//! The cases, and the two worlds in which they are compiled.

pub(crate) mod ours;
pub(crate) mod plain;
