//! Text for a terminal: escaped, shortened, coloured where that is wanted.
//!
//! Names of workers and nodes are up to applications, and an answer may come from a stranger. A
//! terminal takes some characters as commands, so each text of a node is escaped before it is
//! printed.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::Failure;

/// Prints a text. A reader that has gone (`heartbeat status … | head -1`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a character changes what a terminal does, or the order or width of its neighbours.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A text in one line, with what a terminal would take as a command written out: `\n`, `\u{1b}`.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            other if is_unsafe(other) => safe.extend(other.escape_unicode()),
            other => safe.push(other),
        }
    }
    safe
}

/// As [`safe`], but line breaks stay.
pub(crate) fn safe_lines(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("\n")
}

/// JSON whose texts hold no character that a terminal would take as a command. It means the same.
pub(crate) fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // JSON escapes line breaks in its texts, so this one is layout.
            '\n' => safe.push('\n'),
            other if is_unsafe(other) => {
                let mut units = [0; 2];
                other.encode_utf16(&mut units).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
            }
            other => safe.push(other),
        }
    }
    safe
}

/// A type without the modules that it is in: `app::Load<std::vec::Vec<u8>>` is `Load<Vec<u8>>`.
pub(crate) fn short_type(name: &str) -> String {
    let mut short = String::new();
    let mut segment = String::new();
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ':' && characters.peek() == Some(&':') {
            characters.next();
            segment.clear();
        } else if character.is_alphanumeric() || character == '_' {
            segment.push(character);
        } else {
            short.push_str(&segment);
            segment.clear();
            short.push(character);
        }
    }
    short + &segment
}

/// A time as people say it: `80 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn time(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match seconds {
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds.max(0.0) * 1e3),
        seconds if seconds < 59.95 => format!("{seconds:.1} s"),
        seconds if seconds < 3_600.0 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

/// A number of things: `1 worker`, `12 workers`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Reads a duration as people write it. The error names what would be right.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a duration ({error}); write it like \"250ms\" or \"1m 30s\""))
}

/// As [`duration`], but zero is refused.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("0s is too short; use at least \"1ms\"".to_owned()),
        other => other,
    }
}

/// Whether colours are wanted: on a terminal, and unless `NO_COLOR` is set.
pub(crate) fn wants_colour() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_coloured(no_colour, std::io::stdout().is_terminal(), std::env::var_os("TERM").is_some_and(|term| term == "dumb"))
}

fn is_coloured(no_colour: bool, is_terminal: bool, is_dumb: bool) -> bool {
    is_terminal && !no_colour && !is_dumb
}

/// Colours with a meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// In order.
    Good,
    /// To be looked at.
    Doubtful,
    /// Wrong.
    Bad,
}

/// A text in a colour, if colours are wanted.
pub(crate) fn coloured(text: &str, tone: Tone, wants_colour: bool) -> String {
    let code = match tone {
        Tone::Good => 32,
        Tone::Doubtful => 33,
        Tone::Bad => 31,
    };
    if wants_colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (text, expected) in [
            ("plain", "plain"),
            ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
            ("\u{1b}[2Jgone\u{7}", "\\u{1b}[2Jgone\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{7f}", "\\u{7f}"),
            ("abc\u{202e}cba", "abc\\u{202e}cba"),
            ("a\u{200b}b\u{2066}", "a\\u{200b}b\\u{2066}"),
            ("\"<b>\" ü 日本", "\"<b>\" ü 日本"),
        ] {
            assert_eq!(safe(text), expected);
        }
        assert_eq!(safe_lines("a\n\u{1b}b"), "a\n\\u{1b}b");
    }

    #[test]
    fn json_means_the_same_and_holds_no_command() {
        let text = "\u{9b}31m \u{202e} \n \u{7f} 日本 \"quoted\"";
        let json = serde_json::to_string_pretty(&serde_json::json!({ "name": text })).unwrap();
        let shown = safe_json(&json);
        assert!(!shown.chars().any(|character| character != '\n' && is_unsafe(character)), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["name"], text);
    }

    #[test]
    fn a_type_is_named_without_its_modules() {
        for (name, expected) in [
            ("app::orders::Load", "Load"),
            ("Load", "Load"),
            ("app::Batch<alloc::vec::Vec<u8>, app::Key>", "Batch<Vec<u8>, Key>"),
            ("a timer (app::Tick)", "a timer (Tick)"),
            ("", ""),
        ] {
            assert_eq!(short_type(name), expected);
        }
    }

    #[test]
    fn a_time_is_shown_in_its_own_unit() {
        for (seconds, expected) in [
            (0.0, "0 ms"),
            (0.0804, "80 ms"),
            (0.9996, "1.0 s"),
            (12.34, "12.3 s"),
            (200.0, "3 min 20 s"),
            (7_500.0, "2 h 5 min"),
        ] {
            assert_eq!(time(seconds), expected);
        }
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(is_coloured(false, true, false));
        for (no_colour, is_terminal, is_dumb) in [(true, true, false), (false, false, false), (false, true, true)] {
            assert!(!is_coloured(no_colour, is_terminal, is_dumb));
        }
        assert_eq!(coloured("x", Tone::Bad, false), "x");
        assert_eq!(coloured("x", Tone::Bad, true), "\u{1b}[31mx\u{1b}[0m");
    }
}
