//! Configs: any text is read or refused, and what is read can be written and read again.

use heartbeat_core::Config;
use heartbeat_core::config::DEFAULT_TOML;

use crate::{bounded, fuzz, mutate};

/// Values that a config may not expect.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "9223372036854775807",
    "1e308",
    "nan",
    "inf",
    "''",
    "'0s'",
    "'1ns'",
    "'1s'",
    "'1y'",
    "'500y'",
    "'18446744073709551615s'",
    "'584y'",
    "'1/h'",
    "'inf/h'",
    "'1e-300/s'",
    "true",
    "[]",
    "{}",
    "[0]",
    "{ a = 1 }",
    "'majority'",
    "'etcd'",
    "'postgres'",
    "'file'",
    "'phi'",
    "'budget'",
    "'chen'",
    "'fixed'",
    "'\u{0}'",
    "'\u{fc}'",
    "1979-05-27",
    "0x7f",
    "\"\"\"",
    "[workers]",
    "'0.0.0.0:0'",
    "'[::]:1'",
];

/// Memory for one text: the tree of the defaults, and what TOML makes of a byte.
const BYTES_MAX: usize = 1 << 20;

fn check(text: &str) {
    match Config::from_toml(text) {
        Ok(config) => {
            let bounds = config.check().expect("what was read holds no contradiction");
            assert!(!bounds.to_string().is_empty());
            let written = toml::Table::try_from(&config).expect("every config can be written").to_string();
            assert_eq!(Config::from_toml(&written).expect("what was written is read"), config);
        }
        // An error quotes what a file holds; it stays readable.
        Err(error) => assert!(error.to_string().len() < 10_000, "{} bytes", error.to_string().len()),
    }
}

#[test]
fn a_config_is_read_or_refused() {
    let cluster = "[cluster]\nname = 'c'\nnode = 'n'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:7101'\n\
                   advertise = '10.0.0.5:7101'\nseeds = ['10.0.0.1:7101', 'seed.example:7101']\nzone = 'rack-4'\n\
                   metadata = { http = '8080', weight = '2' }";
    let lines = DEFAULT_TOML.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = lines.chain(cluster.lines()).collect::<Vec<_>>().join("\n");
    assert!(Config::from_toml(&sample).is_ok());
    let mut read = 0_u64;
    fuzz(
        |random| match random.below(20) {
            0 => String::from_utf8_lossy(&mutate::noise(random, 500)).into_owned(),
            _ => mutate::text(random, &sample, WORDS),
        },
        |text| {
            bounded(BYTES_MAX, || check(text));
            read += u64::from(Config::from_toml(text).is_ok());
        },
    );
    assert!(read > 0, "some inputs are configs");
}
