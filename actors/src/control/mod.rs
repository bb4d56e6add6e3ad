//! The control thread: its inputs, and how they are carried out.

pub(crate) mod input;
mod log;
pub(crate) mod orders;
#[cfg(feature = "http")]
mod question;
pub(crate) mod receiver;
pub(crate) mod record;
pub(crate) mod sealing;
pub(crate) mod sender;
pub(crate) mod stream;
pub(crate) mod supervisor;
pub(crate) mod until;
