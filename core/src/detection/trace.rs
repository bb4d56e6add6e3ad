//! `Trace`: the heartbeats that one node received from another, as text.
//!
//! A trace lists the heartbeats of one link, those that arrived and those that were lost, so that
//! detectors can be compared on them. It can be recorded on your own network, made by a simulation,
//! or taken from elsewhere. [`crate::detection::qos`] replays it to a detector.
//!
//! # Format
//! Text. Lines that begin with `#` are comments, of which two mean something:
//! `# interval_from SLOT NS`, the interval that the sender announces from that slot on, in
//! nanoseconds (the first one may not be missing), and `# stall START_NS END_NS`, a pause of the
//! receiving process. Then comes one line of column names, `seq,send_time_ns,arrive_time_ns`. After
//! it comes one line for each slot of the sender's schedule, in the order of slots: its number,
//! when it was sent, and when it arrived, or `lost`. All times are nanoseconds of one clock. Slots
//! that are left out count as lost.
//!
//! It holds nothing but times. The name of the file says which node they are of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::detection::Pause;
use crate::member::Generation;
use crate::time::{Instant, nanos};
use crate::wire::INTERVAL_MAX;

/// The line of column names.
const COLUMNS: &str = "seq,send_time_ns,arrive_time_ns";

/// The heartbeats that one node received from another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// One for each slot of the schedule that was not left out, in the order of slots.
    pub beats: Vec<Beat>,
    /// The intervals that were announced, each with the first slot it was announced in; in the
    /// order of slots.
    pub intervals: Vec<(u64, Duration)>,
    /// Pauses of the receiving process, in their order.
    pub stalls: Vec<Pause>,
}

/// One heartbeat of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// Number of its slot in the sender's schedule.
    pub slot: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When it arrived; `None` if it was lost, or slept through.
    pub arrived: Option<Instant>,
}

/// Why a text is not a trace: the line, and its fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceError {
    /// Number of the line, from 1; 0 if the trace as a whole is at fault.
    pub line: usize,
    /// The fault, with the value at fault and what would be right.
    pub fault: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(&self.fault)
    }
}

impl std::error::Error for TraceError {}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// The first line that is wrong: too few or too many columns, text that is not a number, slots
    /// or times that go back. Also a trace without a heartbeat, without an arrival, or without an
    /// interval for the first heartbeat.
    pub fn from_text(text: &str) -> Result<Trace, TraceError> {
        let mut trace = Trace::default();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            trace.read_line(line.trim()).map_err(|fault| TraceError { line: line_number, fault })?;
        }
        let whole = |fault: &str| Err(TraceError { line: 0, fault: fault.to_owned() });
        let Some(first) = trace.beats.first() else {
            return whole(
                "there is no heartbeat in it; a trace has one line \"seq,send_time_ns,arrive_time_ns\" for each",
            );
        };
        if trace.intervals.first().is_none_or(|(slot, _)| *slot > first.slot) {
            return whole("the first heartbeat has no interval; write \"# interval_from SLOT NS\" above it");
        }
        if trace.beats.iter().all(|beat| beat.arrived.is_none()) {
            return whole("no heartbeat in it has arrived; there is nothing to learn from");
        }
        Ok(trace)
    }

    /// The interval announced in a slot.
    pub fn interval(&self, slot: u64) -> Duration {
        let after = self.intervals.partition_point(|(from, _)| *from <= slot);
        self.intervals[after.saturating_sub(1)].1
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix('#') {
            return self.read_comment(comment);
        }
        if line.is_empty() || line == COLUMNS {
            return Ok(());
        }
        let mut columns = line.split(',').map(str::trim);
        let (Some(slot), Some(sent), Some(arrived), None) =
            (columns.next(), columns.next(), columns.next(), columns.next())
        else {
            let count = line.split(',').count();
            return Err(format!("{line:?} has {count} columns; use three: {COLUMNS}"));
        };
        let beat = Beat {
            slot: number("seq", slot)?,
            sent: Instant::from_nanos(number("send_time_ns", sent)?),
            arrived: match arrived {
                "lost" => None,
                _ => Some(Instant::from_nanos(number("arrive_time_ns", arrived)?)),
            },
        };
        if let Some(last) = self.beats.last() {
            if beat.slot <= last.slot {
                return Err(format!("seq {slot} does not rise above {}; write the slots in their order", last.slot));
            }
            if beat.sent < last.sent {
                let before = last.sent.as_nanos();
                return Err(format!(
                    "send_time_ns {sent} is before that of the slot before it, {before}; times do not go back"
                ));
            }
        }
        if beat.arrived.is_some_and(|arrived| arrived < beat.sent) {
            return Err(format!(
                "arrive_time_ns {arrived} is before send_time_ns {sent}; use one clock for both, or shift one of them"
            ));
        }
        self.beats.push(beat);
        Ok(())
    }

    fn read_comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.split_whitespace();
        let kind = words.next();
        if !matches!(kind, Some("interval_from" | "stall")) {
            return Ok(());
        }
        let (Some(first), Some(second), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!(
                "#{comment:?} does not have two numbers; use \"# interval_from SLOT NS\" or \"# stall START_NS END_NS\""
            ));
        };
        if kind == Some("stall") {
            let (from, to) = (number("start of a stall", first)?, number("end of a stall", second)?);
            let before = self.stalls.last().map_or(0, |last| last.to.as_nanos());
            if to <= from || from < before {
                return Err(format!(
                    "a stall from {from} to {to} ends before it begins, or begins before {before}, the end of the one before it"
                ));
            }
            self.stalls.push(Pause { from: Instant::from_nanos(from), to: Instant::from_nanos(to) });
            return Ok(());
        }
        let (slot, interval) = (number("slot of an interval", first)?, number("interval", second)?);
        if interval == 0 {
            return Err("an interval of 0 ns is no interval; use the time from one slot to the next".to_owned());
        }
        if Duration::from_nanos(interval) > INTERVAL_MAX {
            let most = nanos(INTERVAL_MAX);
            return Err(format!("an interval of {interval} ns is longer than any heartbeat says; use at most {most}"));
        }
        if self.intervals.last().is_some_and(|(last, _)| slot <= *last) {
            return Err(format!(
                "interval_from {slot} does not rise above the one before it; write the slots in their order"
            ));
        }
        self.intervals.push((slot, Duration::from_nanos(interval)));
        Ok(())
    }
}

impl fmt::Display for Trace {
    /// The text that [`Trace::from_text`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (slot, interval) in &self.intervals {
            writeln!(f, "# interval_from {slot} {}", nanos(*interval))?;
        }
        for stall in &self.stalls {
            writeln!(f, "# stall {} {}", stall.from.as_nanos(), stall.to.as_nanos())?;
        }
        writeln!(f, "{COLUMNS}")?;
        for Beat { slot, sent, arrived } in &self.beats {
            match arrived {
                Some(arrived) => writeln!(f, "{slot},{},{}", sent.as_nanos(), arrived.as_nanos())?,
                None => writeln!(f, "{slot},{},lost", sent.as_nanos())?,
            }
        }
        Ok(())
    }
}

/// A heartbeat that arrived, for a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Name of the node that sent it.
    pub node: Arc<str>,
    /// That node's generation: a process started anew counts its slots anew.
    pub generation: Generation,
    /// When it came in.
    pub at: Instant,
    /// Number of its slot.
    pub slot: u64,
    /// From it to the next one, as it announced.
    pub interval: Duration,
}

/// Slots in a row that a recording lists as lost, at most. It leaves out the rest of a larger gap.
const LOST_ROWS_MAX: u64 = 10_000;

/// Writes a trace of one node as its heartbeats come in.
///
/// The sender's clock is not ours, and heartbeats carry no time. So the time of sending is derived
/// from the schedule: slots are as far apart as announced, and the fastest heartbeat so far is
/// taken to have had no delay. Delays in a recording are therefore those *above the minimum*.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    newest: Option<Recorded>,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    slot: u64,
    interval: Duration,
    sent: Instant,
}

impl Recording {
    /// Records an arrival. Returns the lines that it adds; none if a later slot was recorded
    /// before.
    pub fn record(&mut self, arrived: &Arrived) -> String {
        let mut lines = String::new();
        let Some(newest) = self.newest else {
            let slot = arrived.slot;
            lines = format!(
                "# interval_from {slot} {}\n{COLUMNS}\n{slot},{at},{at}\n",
                nanos(arrived.interval),
                at = arrived.at.as_nanos()
            );
            self.newest = Some(Recorded { slot, interval: arrived.interval, sent: arrived.at });
            return lines;
        };
        if arrived.slot <= newest.slot || arrived.interval.is_zero() {
            return lines;
        }
        let mut sent = newest.sent;
        for slot in newest.slot + 1..arrived.slot {
            if slot - newest.slot > LOST_ROWS_MAX {
                break;
            }
            sent = (sent + newest.interval).min(arrived.at);
            lines += &format!("{slot},{},lost\n", sent.as_nanos());
        }
        if arrived.interval != newest.interval {
            lines += &format!("# interval_from {} {}\n", arrived.slot, nanos(arrived.interval));
        }
        sent = (sent + newest.interval).min(arrived.at);
        lines += &format!("{},{},{}\n", arrived.slot, sent.as_nanos(), arrived.at.as_nanos());
        self.newest = Some(Recorded { slot: arrived.slot, interval: arrived.interval, sent });
        lines
    }

    /// The line that a pause of this process adds.
    pub fn paused(&self, pause: Pause) -> String {
        format!("# stall {} {}\n", pause.from.as_nanos(), pause.to.as_nanos())
    }
}

fn number(what: &str, text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{what} {text:?} is not a whole number of 0 or more, as from a clock in nanoseconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# made up\n# interval_from 1 100\n# interval_from 3 200\n# stall 250 260\nseq,send_time_ns,arrive_time_ns\n1,100,105\n2,200,lost\n3,300,301\n";

    /// Asserts that `text` is refused at this line, and that the error holds each of `parts`.
    #[track_caller]
    fn check(text: &str, line: usize, parts: &[&str]) {
        let error = Trace::from_text(text).expect_err(text);
        assert_eq!(error.line, line, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{error} lacks {part:?}");
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let trace = Trace::from_text(TEXT).unwrap();
        assert_eq!(trace.beats.len(), 3);
        assert_eq!((trace.interval(2), trace.interval(3)), (Duration::from_nanos(100), Duration::from_nanos(200)));
        assert_eq!(Trace::from_text(&trace.to_string()), Ok(trace));
    }

    #[test]
    fn bad_lines_are_refused_with_their_number() {
        check("", 0, &["no heartbeat"]);
        check("# interval_from 0 100\nseq,send_time_ns,arrive_time_ns\n", 0, &["no heartbeat"]);
        check("1,2,3", 0, &["interval_from SLOT NS"]);
        check("# interval_from 2 9\n1,2,3", 0, &["interval_from SLOT NS"]);
        check("# interval_from 0 9\n1,2,lost", 0, &["nothing to learn"]);
        let with = |line: &str| format!("# interval_from 0 9\n5,100,101\n{line}");
        check(&with("6,200"), 3, &["2 columns", "use three"]);
        check(&with("6,200,201,7"), 3, &["4 columns"]);
        check(&with("6,-200,201"), 3, &["send_time_ns \"-200\""]);
        check(&with("6,200,gone"), 3, &["arrive_time_ns \"gone\""]);
        check(&with("5,200,201"), 3, &["seq 5 does not rise above 5"]);
        check(&with("6,99,201"), 3, &["times do not go back"]);
        check(&with("6,200,199"), 3, &["arrive_time_ns 199 is before send_time_ns 200"]);
        check(&with("# stall 9"), 3, &["two numbers"]);
        check(&with("# stall 9 9"), 3, &["ends before it begins"]);
        check(&with("# interval_from 7 0"), 3, &["interval of 0"]);
        assert!(Trace::from_text(&with("# interval_from 7 3600000000000")).is_ok());
        check(&with("# interval_from 7 3600000000001"), 3, &["3600000000001 ns", "at most 3600000000000"]);
        check(&with("# interval_from 7 31536000000000000"), 3, &["longer than any heartbeat"]);
        check(&with("# interval_from 0 7"), 3, &["does not rise"]);
    }

    fn arrived(slot: u64, at: u64, interval: u64) -> Arrived {
        let (at, interval) = (Instant::from_nanos(at), Duration::from_nanos(interval));
        Arrived { node: Arc::from("a"), generation: Generation(1), at, slot, interval }
    }

    #[test]
    fn a_recording_is_a_trace_of_what_came_in() {
        let mut recording = Recording::default();
        let mut text = String::new();
        for (slot, at) in [(7, 1_000), (8, 1_130), (11, 1_420), (10, 1_425), (12, 1_500)] {
            text += &recording.record(&arrived(slot, at, if slot < 12 { 100 } else { 400 }));
        }
        text += &recording.paused(Pause { from: Instant::from_nanos(1_510), to: Instant::from_nanos(1_890) });
        text += &recording.record(&arrived(13, 1_890, 400));
        let trace = Trace::from_text(&text).unwrap();
        let rows: Vec<_> = trace
            .beats
            .iter()
            .map(|beat| (beat.slot, beat.sent.as_nanos(), beat.arrived.map_or(0, Instant::as_nanos)))
            .collect();
        // Slot 10 was overtaken. Slot 13 came sooner after slot 12 than any other: the time-table
        // is laid anew by it.
        assert_eq!(
            rows,
            [
                (7, 1_000, 1_000),
                (8, 1_100, 1_130),
                (9, 1_200, 0),
                (10, 1_300, 0),
                (11, 1_400, 1_420),
                (12, 1_500, 1_500),
                (13, 1_890, 1_890)
            ]
        );
        assert_eq!((trace.intervals.len(), trace.stalls.len()), (2, 1));
    }

    #[test]
    fn a_wild_slot_does_not_fill_the_disk() {
        let mut recording = Recording::default();
        recording.record(&arrived(1, 1_000, 100));
        let lines = recording.record(&arrived(1 << 40, 2_000, 100));
        assert_eq!(lines.lines().count() as u64, LOST_ROWS_MAX + 1);
        assert_eq!(recording.record(&arrived(1 << 40, 2_100, 100)), "");
    }
}
