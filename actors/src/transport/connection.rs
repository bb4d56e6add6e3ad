//! Connections between nodes, sealed or plain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use crate::seal::{
    OpenHalf, SealHalf, SealShared, StreamPurpose, accept_sealed, is_sealed_preface, is_sealed_start, open_sealed,
};

/// The start of a connection that tells whether it is sealed, and what for.
const GREETING_BYTES: usize = 8;

/// A connection to another node.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// What seals it; `None` if it is plain.
    pub(crate) halves: Halves,
}

/// What seals and opens a connection; `None` if it is plain.
pub(crate) type Halves = Option<Box<(SealHalf, OpenHalf)>>;

impl Connection {
    /// Connects to another node from this node's own address, by which the other end knows whose
    /// connection it is. If this host does not have that address, the system chooses one.
    pub(crate) async fn open(
        own: IpAddr,
        to: SocketAddr,
        purpose: StreamPurpose,
        seal: Option<&Arc<SealShared>>,
    ) -> io::Result<Connection> {
        let is_usable = own.is_ipv4() == to.is_ipv4() && own.is_loopback() == to.ip().is_loopback();
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if is_usable && !own.is_unspecified() {
            let _ = socket.bind(SocketAddr::new(own, 0)); // The address may be another host's.
        }
        let mut stream = socket.connect(to).await?;
        let halves = match seal.filter(|seal| seal.seals_for(to)) {
            Some(seal) => Some(Box::new(open_sealed(&mut stream, to, purpose, seal).await?)),
            None => None,
        };
        Ok(Connection { stream, halves })
    }

    /// Takes a connection that another node has opened. Returns what it is for, if it is sealed.
    ///
    /// # Errors
    /// It broke, its seal is not right, or it is plain where that is not accepted.
    pub(crate) async fn accept(
        mut stream: TcpStream,
        seal: Option<&Arc<SealShared>>,
    ) -> io::Result<(Connection, Option<StreamPurpose>)> {
        let Some(seal) = seal else { return Ok((Connection { stream, halves: None }, None)) };
        if let Some(purpose) = sealed_purpose(&stream).await? {
            let halves = Some(Box::new(accept_sealed(&mut stream, seal).await?));
            return Ok((Connection { stream, halves }, Some(purpose)));
        }
        if seal.accepts_plain() {
            return Ok((Connection { stream, halves: None }, None));
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the connection is plain, and this node takes sealed ones only"))
    }

    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (reader, writer) = self.stream.into_split();
        let (seal, open) = self.halves.map_or((None, None), |halves| {
            let (seal, open) = *halves;
            (Some(seal), Some(open))
        });
        let read = ReadHalf { stream: reader, open, plain: BytesMut::new() };
        (read, WriteHalf { stream: writer, seal, sealed: Vec::new() })
    }
}

/// What a connection is for, if it is sealed. Nothing is taken off it.
async fn sealed_purpose(stream: &TcpStream) -> io::Result<Option<StreamPurpose>> {
    let mut first = [0; GREETING_BYTES];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || !is_sealed_start(&first[..count]) {
            return Ok(None);
        }
        if count == first.len() {
            return Ok(is_sealed_preface(&first));
        }
        // The rest is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Where a connection is read.
pub(crate) struct ReadHalf {
    stream: OwnedReadHalf,
    open: Option<OpenHalf>,
    /// What was opened and not yet taken.
    plain: BytesMut,
}

impl ReadHalf {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// The connection ended or broke before.
    pub(crate) async fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return self.stream.read_exact(bytes).await.map(drop) };
        while self.plain.len() < bytes.len() {
            if self.stream.read_buf(open.unread()).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            open.open(&mut self.plain)?;
        }
        bytes.copy_from_slice(&self.plain.split_to(bytes.len()));
        Ok(())
    }
}

/// Where a connection is written.
pub(crate) struct WriteHalf {
    stream: OwnedWriteHalf,
    seal: Option<SealHalf>,
    sealed: Vec<u8>,
}

impl WriteHalf {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(seal) = &mut self.seal else { return self.stream.write_all(bytes).await };
        self.sealed.clear();
        seal.seal(bytes, &mut self.sealed);
        self.stream.write_all(&self.sealed).await
    }

    /// Ends this direction.
    ///
    /// # Errors
    /// The connection is broken already.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
