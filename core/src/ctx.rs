//! `Ctx`: what every rule of a node may look at or use while it takes one input in.
//!
//! The instant, the settings, the one stream of chance, the watches, and the tray for what is to be
//! done. It is lent to whichever rule the engine routes an input to, so that no rule keeps a second
//! copy of any of them.

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
    /// Whether what comes in may have lain waiting while we were paused, so that nothing is to be
    /// learnt from its instant.
    pub(crate) arrivals_stale: bool,
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) monitor: Monitor,
    pub(crate) outputs: VecDeque<Output>,
}

impl Ctx {
    /// Puts something to be done in the tray.
    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Puts an event in the tray.
    pub(crate) fn emit(&mut self, event: Event) {
        self.push(Output::Event(event));
    }
}
