//! The rules of supervision, driven without actors: the tests T1 to T6 of `docs/src/promises.md`.
//!
//! T1 (`model`): what follows a failure or an end, compared with a second model on random trees. T2
//! and T3, the window and the pauses, stand with the rule in `core/src/supervision/restart.rs`. T4,
//! T5 and T6 (`order`): stale inputs, stopping and starting, significant children. `commands`:
//! commands to a child in the middle of all that. A12 (`nested`): groups in groups that fail too
//! often. `verdicts`: what a silent thread and a look at a cell mean. `held`: what the neighbours
//! on a held thread do. `fuzz`: random commands and failures.

mod commands;
mod fuzz;
mod held;
mod model;
mod nested;
mod order;
mod play;
mod table;
mod templates;
mod times;
mod verdicts;
