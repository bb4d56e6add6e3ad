//! Any text is a trace or an error, and a trace that was written is read alike.
#![no_main]

use heartbeat_core::Trace;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Trace::from_text(text) {
        Ok(trace) => assert_eq!(Trace::from_text(&trace.to_string()).as_ref(), Ok(&trace)),
        Err(error) => assert!(error.line <= text.lines().count()),
    }
});
