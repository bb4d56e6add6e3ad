//! Config files of the examples that are clusters.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use heartbeat_actors::Config;

use crate::Failure;

/// Longest config file, in bytes: a thousand times the longest sensible one. A device has no end.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads a config file, with what the environment says of this node (`HEARTBEAT_NODE` and others).
///
/// # Errors
/// In words, with the path: it cannot be read, is longer than a config, or is refused.
pub fn read(path: &Path) -> Result<Config, Failure> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("{shown} is longer than {CONFIG_BYTES_MAX} bytes; it is no config").into());
    }
    Ok(Config::from_toml_and_env(&text, std::env::vars_os()).map_err(|error| format!("{shown}: {error}"))?)
}

/// Panics of workers are events, and their back traces would only hide them. Any other panic ends
/// the process or cripples it, so it gets one line.
pub fn tell_panics_but_those_of_workers() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        // Workers run on arbiters; actix names their threads.
        if !thread.name().is_some_and(|name| name.contains("arbiter")) {
            eprintln!("error: thread {:?} {info}", thread.name().unwrap_or("without a name"));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_no_config() {
        let error = read(Path::new("/dev/zero")).expect_err("it has no end").to_string();
        assert!(error.contains("/dev/zero is longer than 1048576 bytes"), "{error}");
        let error = read(Path::new("/dev/null/config.toml")).expect_err("it is no folder").to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
}
