//! `Ctx`: what the rules of a node share while one input is handled.
//!
//! It holds the instant, the config, the random generator, the monitor and the queue of outputs.
//! The engine lends it to the rule that handles the input, so no rule keeps a copy of its own.

use std::collections::VecDeque;

use crate::config::Config;
use crate::detection::monitor::Monitor;
use crate::event::Event;
use crate::output::Output;
use crate::random::Random;
use crate::time::Instant;

/// What the rules of one node share.
#[derive(Clone, Debug)]
pub(crate) struct Ctx {
    /// The instant of the input; never goes back.
    pub(crate) now: Instant,
    /// Whether arrivals may have waited in the socket while this process was paused. Their instants
    /// then say nothing about the network.
    pub(crate) arrivals_stale: bool,
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) monitor: Monitor,
    pub(crate) outputs: VecDeque<Output>,
}

impl Ctx {
    /// Adds an output.
    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Adds an event.
    pub(crate) fn emit(&mut self, event: Event) {
        self.push(Output::Event(event));
    }
}
