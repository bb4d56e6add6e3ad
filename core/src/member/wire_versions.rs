//! `WireVersions`: the versions of the wire format that a member can use, and the highest that all
//! members have in common.
//!
//! The formats themselves are in [`crate::wire`]. Nothing here knows how they differ.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::member::Member;

/// The versions of the wire format that a member can decode and send, from the lowest to the
/// highest. A member publishes them in its row, and keeps them for the life of its process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct WireVersions {
    /// The lowest, at least 1.
    pub min: u8,
    /// The highest, at least `min`.
    pub max: u8,
}

impl WireVersions {
    /// What a member can use that publishes no range: it runs a release that knows version 3 alone.
    pub const UNPUBLISHED: WireVersions = WireVersions { min: 3, max: 3 };

    /// This range; `None` if it is empty or begins at 0.
    pub fn new(min: u8, max: u8) -> Option<WireVersions> {
        (1 <= min && min <= max).then_some(WireVersions { min, max })
    }

    /// Whether this version is in the range.
    pub fn contains(self, version: u8) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The version in the range that is nearest to this one.
    pub fn nearest(self, version: u8) -> u8 {
        version.clamp(self.min, self.max)
    }

    /// The range in this text, as [`WireVersions`] is displayed.
    pub(crate) fn parse(text: &str) -> Option<WireVersions> {
        let (min, max) = text.split_once('-')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        WireVersions::new(number(min)?, number(max)?)
    }
}

impl fmt::Display for WireVersions {
    /// `3-4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// The highest version of the wire format that all live members have in common.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CommonVersion {
    /// The version: the lowest of the highest versions of all members.
    pub version: u8,
    /// The names of the members that can use no higher version, where others can; in their order.
    pub held_back_by: Vec<Arc<str>>,
}

impl CommonVersion {
    /// The common version of those of `members` that are alive or suspect; `None` if there is none.
    pub fn of<'a>(members: impl Iterator<Item = &'a Member> + Clone) -> Option<CommonVersion> {
        let live = members.filter(|member| member.status.is_member());
        let version = live.clone().map(|member| member.wire_versions.max).min()?;
        let is_higher_possible = live.clone().any(|member| member.wire_versions.max > version);
        let holds_back = |member: &&Member| is_higher_possible && member.wire_versions.max == version;
        let mut held_back_by: Vec<Arc<str>> = live.filter(holds_back).map(|member| member.name.clone()).collect();
        held_back_by.sort();
        Some(CommonVersion { version, held_back_by })
    }
}

/// How many members have each lowest and each highest version, so that what they have in common is
/// known without a look at all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct VersionCounts {
    min: BTreeMap<u8, u32>,
    max: BTreeMap<u8, u32>,
}

impl VersionCounts {
    pub(crate) fn add(&mut self, versions: WireVersions) {
        *self.min.entry(versions.min).or_default() += 1;
        *self.max.entry(versions.max).or_default() += 1;
    }

    /// Takes out a range that was added.
    pub(crate) fn remove(&mut self, versions: WireVersions) {
        for (counts, version) in [(&mut self.min, versions.min), (&mut self.max, versions.max)] {
            if let Some(count) = counts.get_mut(&version) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&version);
                }
            }
        }
    }

    /// The highest version that all ranges have in common; `None` if there is no range, or none in
    /// common.
    pub(crate) fn common(&self) -> Option<u8> {
        let (&version, _) = self.max.first_key_value()?;
        let (&lowest, _) = self.min.last_key_value()?;
        (lowest <= version).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Generation, Profile, Status};

    fn versions(min: u8, max: u8) -> WireVersions {
        WireVersions::new(min, max).unwrap()
    }

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for range in [versions(3, 4), versions(1, 1), versions(9, 255)] {
            assert_eq!(WireVersions::parse(&range.to_string()), Some(range));
        }
        for text in ["", "3", "3-", "-4", "4-3", "0-3", "3-256", "+3-4", "3-4-5", "3 - 4"] {
            assert_eq!(WireVersions::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_common_version_is_the_lowest_of_the_highest() {
        let mut counts = VersionCounts::default();
        assert_eq!(counts.common(), None);
        counts.add(versions(3, 5));
        counts.add(versions(3, 4));
        counts.add(versions(4, 6));
        assert_eq!(counts.common(), Some(4));
        counts.add(versions(3, 3));
        assert_eq!(counts.common(), None, "one can use 3 alone, another one only 4 and more");
        counts.remove(versions(3, 3));
        counts.remove(versions(3, 4));
        assert_eq!(counts.common(), Some(5));
    }

    #[test]
    fn those_that_hold_the_version_back_are_named() {
        let member = |name: &str, range: WireVersions, status: Status| {
            let profile = Profile { wire_versions: range, ..Profile::new(name, "10.0.0.1:1".parse().unwrap()) };
            Member { status, ..Member::new(profile, Generation(1)) }
        };
        let mut members =
            vec![member("c", versions(3, 4), Status::Alive), member("b", versions(3, 4), Status::Suspect)];
        let check = |members: &[Member], version: u8, names: &[&str]| {
            let held_back_by = names.iter().map(|name| Arc::from(*name)).collect();
            assert_eq!(CommonVersion::of(members.iter()), Some(CommonVersion { version, held_back_by }));
        };
        check(&members, 4, &[]);
        members.push(member("z", versions(3, 3), Status::Dead));
        check(&members, 4, &[]);
        members.push(member("y", versions(3, 3), Status::Suspect));
        members.push(member("a", versions(2, 3), Status::Alive));
        check(&members, 3, &["a", "y"]);
        assert_eq!(CommonVersion::of(members[..0].iter()), None);
    }
}
