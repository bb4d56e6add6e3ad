//! `Record`: what passed the engine of one process, and its replay.
//!
//! The inputs are what counts; the outputs are kept beside them, so that a replay can be compared
//! with them to the byte. An engine is drained after each input here.

use heartbeat_core::{Config, Engine, Identity, Input, Instant, Output};

/// All inputs of an engine, from its start on, and its outputs with their datagrams.
#[derive(Clone, Debug)]
pub struct Record {
    config: Config,
    identity: Identity,
    seed: u64,
    start: Instant,
    /// Each input with its instant.
    pub inputs: Vec<(Instant, Input)>,
    /// Each output, with the datagram that it sends, if it sends one.
    pub outputs: Vec<(Output, Vec<u8>)>,
}

impl Record {
    /// Of an engine that was made of these.
    pub(crate) fn new(config: &Config, identity: &Identity, seed: u64, start: Instant) -> Record {
        Record {
            config: config.clone(),
            identity: identity.clone(),
            seed,
            start,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    pub(crate) fn input(&mut self, now: Instant, input: &Input) {
        // The batch of a simulated node is used again for the next datagram.
        let input = match input {
            Input::Datagrams { batch, wall, empty_at } => {
                let batch = std::sync::Arc::new((**batch).clone());
                Input::Datagrams { batch, wall: *wall, empty_at: *empty_at }
            }
            other => other.clone(),
        };
        self.inputs.push((now, input));
    }

    pub(crate) fn output(&mut self, output: &Output, buffer: &[u8]) {
        self.outputs.push((output.clone(), datagram(output, buffer)));
    }

    /// The outputs of a new engine that is given the same inputs at the same instants.
    pub fn replay(&self) -> Vec<(Output, Vec<u8>)> {
        let mut engine = Engine::new(self.config.clone(), self.identity.clone(), self.seed, self.start)
            .expect("the config is valid");
        let (mut outputs, mut buffer) = (Vec::new(), Vec::new());
        let mut drain = |engine: &mut Engine| {
            while let Some(output) = engine.poll_output(&mut buffer) {
                let datagram = datagram(&output, &buffer);
                outputs.push((output, datagram));
            }
        };
        drain(&mut engine);
        for (now, input) in &self.inputs {
            engine.handle(*now, input.clone());
            drain(&mut engine);
        }
        outputs
    }
}

/// The datagram that an output sends.
fn datagram(output: &Output, buffer: &[u8]) -> Vec<u8> {
    match output {
        Output::Transmit { .. } | Output::Frame { .. } => buffer.to_vec(),
        _ => Vec::new(),
    }
}
