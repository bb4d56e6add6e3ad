//! The asking side of HTTP/1.1, as far as the clients of the service and of the ledger need it:
//! short bodies, with their length, over connections that are kept. The processes of the service
//! send each other no HTTP.
//!
//! Not a client for the world. awc would be one, but it brings actix-http's `http2` with it, which
//! this project builds without.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that was idle for longer is not used again. The other side closes it after 5 s, and
/// a request sent just then may or may not have arrived.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// Longest answer, head and body.
const ANSWER_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Idle connections of this thread, the latest last.
    static IDLE: RefCell<BTreeMap<SocketAddr, Vec<(Instant, TcpStream)>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Asks once, on a connection of this thread's or a new one. The caller limits the time.
///
/// # Errors
/// Of the kind `ConnectionRefused` if no process listens there: the request was not sent. Any other
/// error leaves open whether it was done.
pub(crate) async fn ask(to: SocketAddr, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = match take_idle(to) {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).await?;
    let answer = read(&mut stream).await?;
    IDLE.with_borrow_mut(|idle| idle.entry(to).or_default().push((Instant::now(), stream)));
    Ok(answer)
}

fn take_idle(to: SocketAddr) -> Option<TcpStream> {
    IDLE.with_borrow_mut(|idle| {
        let (since, stream) = idle.get_mut(&to)?.pop()?;
        if since.elapsed() <= IDLE_MAX {
            return Some(stream);
        }
        // All others have lain there for longer still.
        idle.remove(&to);
        None
    })
}

async fn read(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        if let Some(Head { status, start, end }) = head(&bytes)?
            && bytes.len() >= end
        {
            return Ok(Answer { status, body: bytes[start..end].to_vec() });
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer of over {ANSWER_BYTES_MAX} bytes"),
            ));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What the head of an answer says: its status, and where its body lies.
#[derive(PartialEq, Eq, Debug)]
struct Head {
    status: u16,
    start: usize,
    end: usize,
}

/// Reads the head, if all of it is there.
fn head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("an answer without {what}"));
    let Some(start) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..start]).map_err(|_| malformed("a head in ASCII"))?;
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| malformed("a length"))?;
    Ok(Some(Head { status: status.ok_or_else(|| malformed("a status"))?, start, end: start.saturating_add(length) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u16, usize, usize)>) {
        let expected = expected.map(|(status, start, end)| Head { status, start, end });
        assert_eq!(head(text.as_bytes()).unwrap(), expected, "{text:?}");
    }

    #[test]
    fn a_head_is_read_once_all_of_it_is_there() {
        check("", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Some((200, 38, 40)));
        check("HTTP/1.1 503 Service Unavailable\r\nContent-Length:12\r\nx: y\r\n\r\nabc", Some((503, 61, 73)));
    }

    #[test]
    fn an_answer_that_does_not_say_its_length_is_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "x\r\ncontent-length: 1\r\n\r\n",
        ] {
            assert!(head(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
