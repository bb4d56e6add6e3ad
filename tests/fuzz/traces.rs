//! Traces: any text is read or refused, and what is read is written and read again alike.

use heartbeat_core::Trace;

use crate::{bounded, fuzz, mutate};

const SAMPLE: &str = "# recorded between two hosts\n# interval_from 1 1000000000\n# stall 2500000000 2700000000\n\
                      seq,send_time_ns,arrive_time_ns\n1,1000000000,1000200000\n2,2000000000,lost\n\
                      3,3000000000,3000300000\n# interval_from 4 500000000\n4,4000000000,4100000000\n\
                      6,4500000000,4500100000\n9,5000000000,5000200000\n";

/// Values that a trace may not expect.
const WORDS: &[&str] = &[
    "0",
    "1",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "lost",
    "",
    " ",
    "1e9",
    "# interval_from",
    "# interval_from 1 0",
    "# interval_from 5 3600000000000",
    "# stall 1 2",
    "# stall 2 1",
    "#",
    ",,",
];

/// Memory for one text of up to a kilobyte, with that of the text it is written to.
const BYTES_MAX: usize = 64 * 1_024;

fn check(text: &str) {
    match Trace::from_text(text) {
        Ok(trace) => {
            let read = Trace::from_text(&trace.to_string()).expect("what was written is read");
            assert_eq!(read, trace);
            let last = trace.beats.last().expect("a trace has a heartbeat");
            assert!(!trace.interval(last.slot).is_zero());
        }
        Err(error) => assert!(error.line <= text.lines().count(), "{error}"),
    }
}

#[test]
fn a_trace_is_read_or_refused() {
    assert!(Trace::from_text(SAMPLE).is_ok());
    let mut read = 0_u64;
    fuzz(
        |random| match random.below(20) {
            0 => String::from_utf8_lossy(&mutate::noise(random, 500)).into_owned(),
            _ => mutate::text(random, SAMPLE, WORDS),
        },
        |text| {
            bounded(BYTES_MAX, || check(text));
            read += u64::from(Trace::from_text(text).is_ok());
        },
    );
    assert!(read > 0, "some inputs are traces");
}
