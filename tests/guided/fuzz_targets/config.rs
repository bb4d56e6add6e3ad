//! Any text is a config without contradictions or an error.
#![no_main]

use heartbeat_core::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(config) = Config::from_toml(text) {
        let bounds = config.check().expect("what was read holds no contradiction");
        assert!(!bounds.to_string().is_empty());
    }
});
