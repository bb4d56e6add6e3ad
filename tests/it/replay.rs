//! A recorded list of inputs replays a node, byte for byte.

use heartbeat_core::{Input, Output};
use heartbeat_sim::{Shape, schedule};

/// Runs this seed, records the node at `place`, and replays each of its processes. Returns what was
/// seen: starts of the process, inputs, and starts of shards.
#[track_caller]
fn check(seed: u64, shape: Shape, place: usize) -> (usize, usize, usize) {
    let (mut world, result) = schedule::run_in(seed, Shape { recorded: Some(place), ..shape });
    result.unwrap();
    let records = world.take_records();
    let (mut inputs, mut shards) = (0, 0);
    for record in &records {
        let replayed = record.replay();
        for (index, (again, before)) in replayed.iter().zip(&record.outputs).enumerate() {
            assert_eq!(again, before, "seed {seed}, output {index}");
        }
        assert_eq!(replayed.len(), record.outputs.len(), "seed {seed}");
        inputs += record.inputs.len();
        shards += record
            .outputs
            .iter()
            .filter(|(output, _)| matches!(output, Output::Start(start) if start.shard.is_some()))
            .count();
    }
    (records.len(), inputs, shards)
}

#[test]
fn recorded_inputs_replay_a_node_byte_for_byte() {
    let (mut starts, mut inputs, mut shards) = (0, 0, 0);
    for seed in 0..12 {
        // Now a cluster with a monitor, now one without.
        let shape = if seed % 2 == 0 { Shape::decentralised(5) } else { Shape::central(1, 5) };
        for place in [0, 2] {
            let seen = check(seed, shape, place);
            (starts, inputs, shards) = (starts + seen.0, inputs + seen.1, shards + seen.2);
        }
    }
    assert!(starts > 30, "processes ended and were started again: {starts} starts");
    assert!(inputs > 10_000, "{inputs} inputs");
    assert!(shards > 50, "shards moved: {shards} starts of one");
}

#[test]
fn a_record_is_plain_data_and_a_lost_input_shows() {
    let (mut world, result) = schedule::run_in(3, Shape { recorded: Some(2), ..Shape::central(1, 5) });
    result.unwrap();
    let mut record = world.take_records().remove(0);
    assert_eq!(record.clone().inputs, record.inputs);
    let lost = record.inputs.iter().position(|(_, input)| matches!(input, Input::Datagrams { .. }));
    record.inputs.remove(lost.expect("a node receives datagrams"));
    assert_ne!(record.replay(), record.outputs);
}
