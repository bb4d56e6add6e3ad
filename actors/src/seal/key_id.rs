//! What a key is called.

use std::fmt;
use std::str::FromStr;

/// Names a key without telling what it is: two bytes that are derived of it, shown as four
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyId(pub u16);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<KeyId, Self::Err> {
        u16::from_str_radix(text, 16).map(KeyId)
    }
}
