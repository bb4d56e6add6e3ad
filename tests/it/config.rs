//! The defaults: one file, one truth.

use heartbeat_core::Config;
use heartbeat_core::config::DEFAULT_TOML;

#[test]
fn the_default_file_is_the_default_config() {
    assert_eq!(Config::from_toml(DEFAULT_TOML).unwrap(), Config::default());
}

#[test]
fn every_default_has_a_comment_that_helps_to_choose() {
    let mut comment = 0;
    for line in DEFAULT_TOML.lines() {
        if line.starts_with('#') {
            comment += line.len();
        } else if line.is_empty() || line.starts_with('[') {
            comment = 0;
        } else {
            // Keys that belong together share the comment above the first of them.
            assert!(comment > 40, "{line} has no comment");
        }
    }
}

#[test]
fn the_commented_cluster_table_works_once_it_is_uncommented() {
    let table: String = DEFAULT_TOML
        .lines()
        .skip_while(|line| !line.starts_with("# [cluster]"))
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let config = Config::from_toml(&table).unwrap();
    assert_eq!(config.cluster.unwrap().name, "orders");
}
