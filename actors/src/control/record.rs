//! Recording: the heartbeats of other nodes as traces, so that detectors can be judged on the
//! network where they are to work.
//!
//! Files are written by a thread of their own: a slow disk must not look like silence. If it cannot
//! keep up, or a file grows too long, the recording ends with a warning rather than with a hole in
//! it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use heartbeat_core::Generation;
use heartbeat_core::detection::Pause;
use heartbeat_core::detection::trace::{Arrived, Recording};
use tracing::warn;

/// Lines that may wait for the disk: a second of ten thousand links.
const WAITING_MAX: usize = 10_000;

/// Longest file: nine million heartbeats, three months at one a second.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Processes recorded at most; each is a file that is open.
const FILES_MAX: usize = 1_000;

/// How long a line may wait in our own buffer.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// An entry of the recording.
enum Note {
    Arrived(Arrived),
    Paused(Pause),
}

/// Takes the entries of a recording and passes them to its writer.
pub(crate) struct Recorder {
    /// None once the recording has ended.
    notes: Option<SyncSender<Note>>,
}

impl Recorder {
    /// Records into this folder, which is made if there is none: one file for each process, named
    /// for node and generation.
    pub(crate) fn start(folder: &Path) -> io::Result<Recorder> {
        fs::create_dir_all(folder)?;
        let (notes, waiting) = sync_channel(WAITING_MAX);
        let mut writer = Writer { folder: folder.to_owned(), files: BTreeMap::new() };
        std::thread::Builder::new().name("heartbeat-record".to_owned()).spawn(move || {
            if let Err(error) = writer.run(&waiting) {
                warn!(event = "recording_ended", folder = %writer.folder.display(), %error, "recording ended");
            }
        })?;
        Ok(Recorder { notes: Some(notes) })
    }

    pub(crate) fn arrived(&mut self, arrived: Arrived) {
        self.note(Note::Arrived(arrived));
    }

    pub(crate) fn paused(&mut self, pause: Pause) {
        self.note(Note::Paused(pause));
    }

    fn note(&mut self, note: Note) {
        let Some(notes) = &self.notes else { return };
        match notes.try_send(note) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                warn!(event = "recording_ended", waiting = WAITING_MAX, "the disk does not keep up; recording ended");
                self.notes = None;
            }
            // The writer has logged why.
            Err(TrySendError::Disconnected(_)) => self.notes = None,
        }
    }
}

struct Writer {
    folder: PathBuf,
    files: BTreeMap<(Arc<str>, Generation), Open>,
}

struct Open {
    recording: Recording,
    file: BufWriter<File>,
    bytes: u64,
}

impl Writer {
    fn run(&mut self, waiting: &Receiver<Note>) -> io::Result<()> {
        let mut flushed = Instant::now();
        loop {
            // The files of a recording of a minute are to show something before it ends.
            if flushed.elapsed() >= FLUSH_EVERY {
                self.flush()?;
                flushed = Instant::now();
            }
            match waiting.recv_timeout(FLUSH_EVERY) {
                Ok(Note::Arrived(arrived)) => self.arrived(&arrived)?,
                Ok(Note::Paused(pause)) => {
                    for open in self.files.values_mut() {
                        let lines = open.recording.paused(pause);
                        open.write(&lines)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn arrived(&mut self, arrived: &Arrived) -> io::Result<()> {
        let key = (arrived.node.clone(), arrived.generation);
        if !self.files.contains_key(&key) {
            if self.files.len() == FILES_MAX {
                let text = format!("{FILES_MAX} processes are recorded already; record for a shorter time");
                return Err(io::Error::other(text));
            }
            let path = self.folder.join(format!("{}-{}.csv", file_name(&arrived.node), arrived.generation.0));
            let open = Open { recording: Recording::default(), file: BufWriter::new(File::create(path)?), bytes: 0 };
            self.files.insert(key.clone(), open);
        }
        let Some(open) = self.files.get_mut(&key) else { return Ok(()) };
        let lines = open.recording.record(arrived);
        open.write(&lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.files.values_mut().try_for_each(|open| open.file.flush())
    }
}

impl Open {
    fn write(&mut self, lines: &str) -> io::Result<()> {
        self.bytes += lines.len() as u64;
        if self.bytes > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a file has grown to {FILE_BYTES_MAX} bytes; record for a shorter time"
            )));
        }
        self.file.write_all(lines.as_bytes())
    }
}

/// A node's name as a file name, without slashes and dots.
fn file_name(node: &str) -> String {
    let safe = |character: char| if character.is_alphanumeric() || "-_".contains(character) { character } else { '_' };
    node.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_network_stays_within_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), "______etc_passwd");
        assert_eq!(file_name("node-1"), "node-1");
    }
}
