//! Settings that differ from host to host, from environment variables.
//!
//! A container image carries one config file; who a node is and where it listens comes from
//! outside. Four keys of `[cluster]` can, and no others: a setting that changes what the cluster
//! does belongs in the file, where it is reviewed. The caller hands the variables in, so this
//! module reads no environment of its own.

use std::ffi::OsString;
use std::net::SocketAddr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::check::check_seed;
use crate::config::{Config, ConfigError};
use crate::member::NAME_BYTES_MAX;

/// The variables that are read, each with its key in `[cluster]`.
const VARIABLES: [(&str, &str); 4] = [
    ("HEARTBEAT_NODE", "node"),
    ("HEARTBEAT_LISTEN", "listen"),
    ("HEARTBEAT_ADVERTISE", "advertise"),
    ("HEARTBEAT_SEEDS", "seeds"),
];

impl Config {
    /// Reads a user's TOML as [`Config::from_toml`] does, with `node`, `listen`, `advertise` and
    /// `seeds` of its `[cluster]` table from environment variables where these are set.
    ///
    /// The variables are `HEARTBEAT_NODE`, `HEARTBEAT_LISTEN`, `HEARTBEAT_ADVERTISE` and
    /// `HEARTBEAT_SEEDS`. Seeds are separated by commas; an empty text means that there are none.
    /// A variable comes before the file. Others are ignored.
    ///
    /// ```
    /// use heartbeat_core::Config;
    ///
    /// let file = "
    ///     [cluster]
    ///     name = 'orders'
    ///     role = 'worker'
    ///     mode = 'random'
    ///     listen = '0.0.0.0:7101'
    ///     seeds = []
    /// ";
    /// let variables = [("HEARTBEAT_NODE", "orders-0"), ("HEARTBEAT_ADVERTISE", "10.0.0.5:7101")];
    /// // A program passes std::env::vars_os().
    /// let variables = variables.map(|(name, value)| (name.into(), value.into()));
    /// let config = Config::from_toml_and_env(file, variables).unwrap();
    /// assert_eq!(config.cluster.unwrap().node, "orders-0");
    /// ```
    ///
    /// # Errors
    /// As [`Config::from_toml`], and [`ConfigError::Variable`] for a variable whose value makes no
    /// sense.
    pub fn from_toml_and_env(
        text: &str,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigError> {
        let mut found: [Option<String>; VARIABLES.len()] = Default::default();
        for (name, value) in variables {
            let Some(place) = VARIABLES.iter().position(|(of, _)| name == *of) else { continue };
            let value = value.into_string().map_err(|value| {
                wrong(VARIABLES[place].0, &value.to_string_lossy(), "is not UTF-8; use text in UTF-8")
            })?;
            found[place] = Some(value);
        }
        let config = Config::read(text, |user| {
            for ((name, key), value) in VARIABLES.into_iter().zip(&found) {
                if let Some(value) = value {
                    insert(user, name, key, value)?;
                }
            }
            Ok(())
        });
        // A contradiction names the key; its reader has to know that the value is not in the file.
        config.map_err(|error| match error {
            ConfigError::Contradiction(mut text) => {
                for ((name, key), value) in VARIABLES.into_iter().zip(&found) {
                    if value.is_some() && text.contains(&format!("cluster.{key} ")) {
                        text.push_str(&format!(" (cluster.{key} comes from {name})"));
                    }
                }
                ConfigError::Contradiction(text)
            }
            ConfigError::Syntax(_) | ConfigError::Renamed { .. } | ConfigError::Variable { .. } => error,
        })
    }
}

/// Puts the value of a variable into the `[cluster]` table of the user's config.
fn insert(user: &mut DeTable<'_>, name: &'static str, key: &'static str, value: &str) -> Result<(), ConfigError> {
    let cluster = match user.get_mut("cluster").map(Spanned::get_mut) {
        Some(DeValue::Table(table)) => table,
        // It is refused with its position when it is read.
        Some(_) => return Ok(()),
        None => {
            let reason = "is set, and the config has no [cluster] table; add one with name, role and mode, or unset it";
            return Err(wrong(name, value, reason));
        }
    };
    let value = match key {
        "seeds" => DeValue::Array(seeds(name, value)?.into_iter().map(unlocated).collect()),
        "node" => {
            if value.is_empty() || value.len() > NAME_BYTES_MAX {
                let reason = format!("has {} bytes; use a name of 1 to {NAME_BYTES_MAX}", value.len());
                return Err(wrong(name, value, reason));
            }
            text(value)
        }
        _ => {
            if value.parse::<SocketAddr>().is_err() {
                let reason = "is no address with a port; use one like \"10.0.0.5:7101\" or \"[fd00::5]:7101\"";
                return Err(wrong(name, value, reason));
            }
            text(value)
        }
    };
    cluster.remove(key);
    cluster.insert(Spanned::new(0..0, key.into()), unlocated(value));
    Ok(())
}

/// The seeds of a list with commas.
fn seeds(name: &'static str, value: &str) -> Result<Vec<DeValue<'static>>, ConfigError> {
    if value.trim().is_empty() {
        return Ok(Vec::new());
    }
    let seed = |seed: &str| match check_seed(seed.trim()) {
        Ok(()) => Ok(text(seed.trim())),
        Err(_) => {
            let reason = format!(
                "holds {seed:?}; use addresses or host names with ports and commas between them, like \"10.0.0.5:7101,seed.example:7101\""
            );
            Err(wrong(name, value, reason))
        }
    };
    value.split(',').map(seed).collect()
}

fn text(value: &str) -> DeValue<'static> {
    DeValue::String(value.to_owned().into())
}

/// A value that stands nowhere in the user's text.
fn unlocated(value: DeValue<'_>) -> Spanned<DeValue<'_>> {
    Spanned::new(0..0, value)
}

fn wrong(name: &'static str, value: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Variable { name, value: value.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[cluster]\nname = 'c'\nrole = 'worker'\nmode = 'random'\n";
    const WHOLE: [(&str, &str); 3] =
        [("HEARTBEAT_NODE", "n-1"), ("HEARTBEAT_LISTEN", "127.0.0.1:7101"), ("HEARTBEAT_SEEDS", "")];

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_toml_and_env(file, variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// Asserts that the variables are refused and that the error holds each of `parts`.
    #[track_caller]
    fn check(file: &str, variables: &[(&str, &str)], parts: &[&str]) {
        let error = read(file, variables).expect_err("it is refused").to_string();
        for part in parts {
            assert!(error.contains(part), "error of {variables:?} lacks {part:?}: {error}");
        }
    }

    #[test]
    fn without_variables_the_file_counts() {
        let whole = format!("{FILE}node = 'n'\nlisten = '127.0.0.1:1'\nseeds = ['a:1']");
        assert_eq!(read(&whole, &[]).unwrap(), Config::from_toml(&whole).unwrap());
        assert_eq!(
            read(&whole, &[("HOME", "x"), ("HEARTBEAT_OTHER", "y")]).unwrap(),
            Config::from_toml(&whole).unwrap()
        );
        assert_eq!(read("", &[]).unwrap(), Config::default());
    }

    #[test]
    fn variables_come_before_the_file() {
        let whole = format!("{FILE}node = 'n'\nlisten = '127.0.0.1:1'\nadvertise = '10.0.0.1:1'\nseeds = ['a:1']");
        let variables = [
            ("HEARTBEAT_NODE", "pod \"0\""),
            ("HEARTBEAT_LISTEN", "0.0.0.0:7101"),
            ("HEARTBEAT_ADVERTISE", "10.0.0.5:7101"),
            ("HEARTBEAT_SEEDS", "10.0.0.6:7101, seed.example:7101"),
        ];
        let cluster = read(&whole, &variables).unwrap().cluster.unwrap();
        assert_eq!((&*cluster.node, cluster.listen), ("pod \"0\"", "0.0.0.0:7101".parse().unwrap()));
        assert_eq!(cluster.advertise, Some("10.0.0.5:7101".parse().unwrap()));
        assert_eq!(cluster.seeds, ["10.0.0.6:7101", "seed.example:7101"]);
    }

    #[test]
    fn variables_fill_in_what_the_file_leaves_out() {
        let cluster = read(FILE, &WHOLE).unwrap().cluster.unwrap();
        assert_eq!((&*cluster.node, cluster.seeds.len()), ("n-1", 0));
        check(FILE, &WHOLE[..2], &["missing field `seeds`"]);
    }

    #[test]
    fn a_wrong_variable_is_named_with_its_value() {
        let long = "x".repeat(65);
        for (name, value, right) in [
            ("HEARTBEAT_NODE", "", "use a name of 1 to 64"),
            ("HEARTBEAT_NODE", &long, "has 65 bytes"),
            ("HEARTBEAT_LISTEN", "7101", "like \"10.0.0.5:7101\""),
            ("HEARTBEAT_ADVERTISE", "", "is no address with a port"),
            ("HEARTBEAT_ADVERTISE", "host.example:7101", "is no address with a port"),
            ("HEARTBEAT_SEEDS", "a:1,,b:1", "holds \"\""),
            ("HEARTBEAT_SEEDS", "a:1,b", "holds \"b\""),
        ] {
            let whole = format!("{FILE}node = 'n'\nlisten = '127.0.0.1:1'\nseeds = []");
            check(&whole, &[(name, value)], &[name, &format!("{value:?}"), right]);
        }
    }

    #[test]
    fn a_variable_without_a_cluster_is_refused() {
        check("", &[("HEARTBEAT_NODE", "n")], &["HEARTBEAT_NODE \"n\"", "no [cluster] table", "unset it"]);
        check("cluster = 1", &[("HEARTBEAT_NODE", "n")], &["line 1"]);
    }

    #[test]
    fn a_contradiction_says_which_value_came_from_a_variable() {
        let variables = [("HEARTBEAT_NODE", "n"), ("HEARTBEAT_LISTEN", "0.0.0.0:1"), ("HEARTBEAT_SEEDS", "")];
        check(FILE, &variables, &["cluster.listen 0.0.0.0:1 is no address", "comes from HEARTBEAT_LISTEN"]);
        let many = "a:1,".repeat(64) + "b:1";
        let variables = [WHOLE[0], WHOLE[1], ("HEARTBEAT_SEEDS", &many)];
        check(FILE, &variables, &["cluster.seeds has 65 entries", "comes from HEARTBEAT_SEEDS"]);
    }

    #[test]
    fn a_key_of_the_file_is_still_refused_at_its_line() {
        check(&format!("{FILE}nodes = 'n'"), &WHOLE, &["line 5", "unknown field `nodes`"]);
    }

    #[test]
    fn an_error_quotes_no_more_than_a_few_lines_hold() {
        let long = "ü".repeat(1 << 19);
        for name in ["HEARTBEAT_NODE", "HEARTBEAT_LISTEN", "HEARTBEAT_SEEDS"] {
            let error = read(FILE, &[(name, &long)]).expect_err("it is refused").to_string();
            assert!(error.len() < 3_000, "{} bytes", error.len());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let variables = [("HEARTBEAT_NODE".into(), OsString::from_vec(vec![b'n', 0xff]))];
        let error = Config::from_toml_and_env(FILE, variables).expect_err("it is refused").to_string();
        assert!(error.contains("HEARTBEAT_NODE") && error.contains("is not UTF-8"), "{error}");
    }
}
