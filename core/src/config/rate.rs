//! `MistakeRate`: how many wrong suspicions a user can bear, as people say it: "one an hour".
//!
//! It is a rate for one link, from one node that watches to one that is watched. A cluster has as
//! many links as pairs that watch each other: a hundred nodes with five observers each, at one an
//! hour, bear five hundred an hour together.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Least rate: one a year. Less cannot be learnt within the life of a process.
const PER_HOUR_MIN: f64 = 1.0 / (24.0 * 366.0);

/// Highest rate: one a second. More is no suspicion, it is noise.
const PER_HOUR_MAX: f64 = 3_600.0;

/// A rate of wrong suspicions, for one link.
///
/// ```
/// use heartbeat_core::MistakeRate;
///
/// let mistakes: MistakeRate = "1/h".parse().unwrap();
/// assert_eq!(mistakes.per_hour(), 1.0);
/// assert_eq!("6/min".parse::<MistakeRate>().unwrap().per_hour(), 360.0);
/// assert!("0/h".parse::<MistakeRate>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct MistakeRate {
    /// Over zero and finite.
    per_hour: f64,
}

/// Why a text is no [`MistakeRate`].
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum MistakeRateError {
    /// Not a number, a slash and a unit of time.
    Malformed(String),
    /// Below one a year or above one a second.
    OutOfRange(String),
}

impl fmt::Display for MistakeRateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MistakeRateError::Malformed(text) => {
                write!(f, "{text:?} is not a rate of mistakes; write it like \"1/h\", \"6/day\" or \"2/min\"")
            }
            MistakeRateError::OutOfRange(text) => {
                write!(
                    f,
                    "{text:?} is out of range; use a rate between one a year (\"0.003/day\") and one a second (\"60/min\")"
                )
            }
        }
    }
}

impl std::error::Error for MistakeRateError {}

impl MistakeRate {
    /// So many in an hour.
    ///
    /// # Errors
    /// [`MistakeRateError::OutOfRange`] for less than one a year, more than one a second, or what
    /// is no number.
    pub fn new(per_hour: f64) -> Result<MistakeRate, MistakeRateError> {
        if (PER_HOUR_MIN..=PER_HOUR_MAX).contains(&per_hour) {
            Ok(MistakeRate { per_hour })
        } else {
            Err(MistakeRateError::OutOfRange(format!("{per_hour}/h")))
        }
    }

    /// How many in an hour.
    pub fn per_hour(self) -> f64 {
        self.per_hour
    }

    /// The share of heartbeats, sent every `interval`, after which a wrong suspicion may follow. No
    /// unit.
    pub fn per_heartbeat(self, interval: Duration) -> f64 {
        self.per_hour / 3_600.0 * interval.as_secs_f64()
    }
}

impl FromStr for MistakeRate {
    type Err = MistakeRateError;

    fn from_str(text: &str) -> Result<MistakeRate, MistakeRateError> {
        let malformed = || MistakeRateError::Malformed(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(malformed)?;
        let hours = match unit.trim() {
            "s" | "sec" | "second" => 1.0 / 3_600.0,
            "m" | "min" | "minute" => 1.0 / 60.0,
            "h" | "hr" | "hour" => 1.0,
            "d" | "day" => 24.0,
            "w" | "week" => 168.0,
            _ => return Err(malformed()),
        };
        let count: f64 = count.trim().parse().map_err(|_| malformed())?;
        MistakeRate::new(count / hours).map_err(|_| MistakeRateError::OutOfRange(text.to_owned()))
    }
}

impl fmt::Display for MistakeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/h", self.per_hour)
    }
}

impl<'de> Deserialize<'de> for MistakeRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MistakeRate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for MistakeRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, per_hour: f64) {
        let mistakes: MistakeRate = text.parse().unwrap();
        assert!((mistakes.per_hour() - per_hour).abs() < 1e-12, "{text}: {mistakes}");
        assert_eq!(mistakes.to_string().parse(), Ok(mistakes));
    }

    #[track_caller]
    fn check_refused(text: &str) {
        let error = text.parse::<MistakeRate>().expect_err(text).to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }

    #[test]
    fn a_rate_is_read_as_people_write_it() {
        check("1/h", 1.0);
        check("10 / hour", 10.0);
        check("1/day", 1.0 / 24.0);
        check("1/d", 1.0 / 24.0);
        check("2/min", 120.0);
        check("0.5/week", 0.5 / 168.0);
    }

    #[test]
    fn a_senseless_rate_is_refused_with_a_right_one() {
        for text in [
            "",
            "1",
            "/h",
            "one/h",
            "1/fortnight",
            "1/h/h",
            "1 per hour",
            "0/h",
            "-1/h",
            "nan/h",
            "inf/h",
            "1e9/h",
            "1e-9/h",
        ] {
            check_refused(text);
        }
    }

    #[test]
    fn a_share_of_heartbeats_follows_from_the_interval() {
        let share = MistakeRate::new(1.0).unwrap().per_heartbeat(Duration::from_millis(100));
        assert!((-share.log10() - 4.556).abs() < 0.001, "{share}");
    }
}
