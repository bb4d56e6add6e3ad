//! What a request says of the trace that it belongs to.
//!
//! The fields are those of a W3C [`traceparent`], version 00. `heartbeat` carries them and makes
//! none: the ids come from the tracing system of the application.
//!
//! [`traceparent`]: https://www.w3.org/TR/trace-context/#traceparent-header

use std::fmt;
use std::str::FromStr;

/// The length of a `traceparent` of version 00.
const TEXT_BYTES: usize = 55;

/// The trace that a request belongs to, and the span that sent it.
///
/// As text it is a W3C [`traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header).
///
/// ```
/// use heartbeat_core::requests::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context: TraceContext = text.parse().unwrap();
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// assert_eq!(TraceContext::new([0; 16], [7; 8], 1), None); // no trace has this id
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TraceContext {
    /// Not all zero.
    trace_id: [u8; 16],
    /// Not all zero.
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// The trace with this id, and the span of the sender. `None` if either id is all zero, which
    /// names nothing. Bit 0 of the flags: the sender records the trace.
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) -> Option<TraceContext> {
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(TraceContext { trace_id, parent_id, flags })
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span that sent the request.
    pub fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// All flags, as they came.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the sender records the trace: bit 0 of the flags.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.parent_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// The text is no `traceparent`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContextError {
    /// The text, or its first 64 characters.
    pub text: String,
}

impl fmt::Display for TraceContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no traceparent; use 00-, 32 hexadecimal digits of a trace, -, 16 of a span, -, 2 of flags, in small letters and no id all zero",
            self.text
        )
    }
}

impl std::error::Error for TraceContextError {}

impl FromStr for TraceContext {
    type Err = TraceContextError;

    /// Reads a `traceparent`. One of a later version counts if it begins like one of version 00, as
    /// the recommendation asks.
    fn from_str(text: &str) -> Result<TraceContext, TraceContextError> {
        parse(text).ok_or_else(|| TraceContextError { text: text.chars().take(64).collect() })
    }
}

fn parse(text: &str) -> Option<TraceContext> {
    let (version, rest) = (text.get(..2)?, text.get(TEXT_BYTES..)?);
    let [version] = hex::<1>(version)?;
    if version == 0xff || version == 0 && !rest.is_empty() || !(rest.is_empty() || rest.starts_with('-')) {
        return None;
    }
    let dashes = [2, 35, 52];
    if dashes.iter().any(|at| text.as_bytes()[*at] != b'-') {
        return None;
    }
    let [flags] = hex::<1>(text.get(53..TEXT_BYTES)?)?;
    TraceContext::new(hex(text.get(3..35)?)?, hex(text.get(36..52)?)?, flags)
}

/// The bytes of `2 * N` hexadecimal digits in small letters.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what a text is read as, written again; `None` if it is refused.
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let read = text.parse::<TraceContext>().ok().map(|context| context.to_string());
        assert_eq!(read.as_deref(), expected, "{text}");
    }

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        check(TEXT, Some(TEXT));
        check(&TEXT.replace("-01", "-ff"), Some(&TEXT.replace("-01", "-ff")));
    }

    #[test]
    fn a_later_version_counts_if_it_begins_the_same() {
        check(&TEXT.replace("00-", "cc-"), Some(TEXT));
        check(&format!("{}-more", TEXT.replace("00-", "cc-")), Some(TEXT));
        check(&format!("{}more", TEXT.replace("00-", "cc-")), None);
        check(&TEXT.replace("00-", "ff-"), None);
    }

    #[test]
    fn other_texts_are_refused() {
        check("", None);
        check("00", None);
        check(&TEXT[..54], None);
        check(&format!("{TEXT}-"), None);
        check(&TEXT.to_uppercase(), None);
        check(&TEXT.replace('-', "_"), None);
        check(&TEXT.replace("b7ad6b7169203331", "0000000000000000"), None);
        check(&TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), None);
        check(&format!("{}\u{e9}-01", &TEXT[..50]), None);
        check(&"\u{e9}".repeat(30), None);
        let error = "x".repeat(100).parse::<TraceContext>().unwrap_err();
        assert_eq!(error.text.len(), 64);
        assert!(error.to_string().contains("is no traceparent; use 00-"), "{error}");
    }
}
