//! Any bytes are the state that entities leave behind or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(entities) = heartbeat_core::entities::decode(bytes) {
        assert!(entities.len() <= bytes.len());
    }
});
