//! The sockets of the requests thread: bytes that wait to be written, and what is read.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Bytes that are read at once.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// One connection.
pub(crate) struct Socket {
    pub(crate) stream: Rc<TcpStream>,
    waiting: VecDeque<Vec<u8>>,
    /// How many bytes of the first one are written.
    offset: usize,
    /// Wakes the task that waits until more can be written.
    pub(crate) has_more: Rc<Notify>,
    /// Whether it is closed once everything is written.
    pub(crate) is_closing: bool,
    /// The tasks that read and write. They share the stream, which is closed when they end.
    pub(crate) tasks: Vec<AbortHandle>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Socket {
        // Small messages must not wait for others; an error means that the other side is gone.
        let _ = stream.set_nodelay(true);
        Socket {
            stream: Rc::new(stream),
            waiting: VecDeque::new(),
            offset: 0,
            has_more: Rc::default(),
            is_closing: false,
            tasks: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        match self.waiting.back_mut() {
            // Many small frames share one write.
            Some(last) if last.len() + bytes.len() <= READ_BYTES => last.extend_from_slice(&bytes),
            _ => self.waiting.push_back(bytes),
        }
    }

    /// Writes what the system takes now. Returns how many bytes that was.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while let Some(bytes) = self.waiting.front() {
            match self.stream.try_write(&bytes[self.offset..]) {
                Ok(count) => {
                    written += count;
                    self.offset += count;
                    if self.offset == bytes.len() {
                        self.waiting.pop_front();
                        self.offset = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_more.notify_one();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }
}
