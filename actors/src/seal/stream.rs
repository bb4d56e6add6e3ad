//! Seals and opens connections.
//!
//! ```text
//! opener      "HSSTREA"  purpose u8  key u16  salt 16 bytes
//! acceptor    0 u8  salt 16 bytes  record, with nothing in it
//!             or 1 u8  count u8  count x key u16            "not that key; these I have"
//! then both   records: length u16, big-endian   ciphertext   tag 16 bytes
//! ```
//!
//! Both salts and the key make two keys for this connection alone, one for each direction. Records
//! are numbered and not sent twice, so their number is the nonce and does not travel. The first
//! record of each side proves that the side has the key; nothing is believed before it.
//!
//! A connection keeps the key that it began with, also when that key is taken away meanwhile.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::key_id::KeyId;
use super::report::StreamPurpose;
use super::shared::SealShared;

/// The first bytes of a sealed connection.
const PREFACE: &[u8; 7] = b"HSSTREA";

const SALT_BYTES: usize = 16;

const TAG_BYTES: usize = 16;

/// Plain bytes in one record at most.
const RECORD_BYTES_MAX: usize = 16 << 10;

/// Keys that an opener tries at most.
const TRIES_MAX: usize = 2;

const ACCEPTED: u8 = 0;
const UNKNOWN_KEY: u8 = 1;

impl StreamPurpose {
    fn to_byte(self) -> u8 {
        match self {
            StreamPurpose::Engine => 0,
            StreamPurpose::Requests => 1,
        }
    }
}

/// Whether a sealed connection may begin with these bytes, of which some may be missing.
pub(crate) fn is_sealed_start(first: &[u8]) -> bool {
    PREFACE.starts_with(&first[..first.len().min(PREFACE.len())])
}

/// What begins with these bytes: `None` if it is not sealed, or they are too few to tell.
pub(crate) fn is_sealed_preface(first: &[u8]) -> Option<StreamPurpose> {
    let purpose = *first.strip_prefix(PREFACE)?.first()?;
    [StreamPurpose::Engine, StreamPurpose::Requests].into_iter().find(|one| one.to_byte() == purpose)
}

/// Seals what this side writes.
pub(crate) struct SealHalf {
    cipher: LessSafeKey,
    records: u64,
}

impl SealHalf {
    /// Appends `plain` to `out`, as records.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        plain.chunks(RECORD_BYTES_MAX).for_each(|part| self.record(part, out));
    }

    fn record(&mut self, part: &[u8], out: &mut Vec<u8>) {
        let length = ((part.len() + TAG_BYTES) as u16).to_be_bytes();
        out.extend_from_slice(&length);
        let begin = out.len();
        out.extend_from_slice(part);
        let nonce = nonce(self.records);
        self.records += 1;
        let tag = self.cipher.seal_in_place_separate_tag(nonce, Aad::from(length), &mut out[begin..]);
        out.extend_from_slice(tag.expect("a record is shorter than the cipher's bound").as_ref());
    }
}

/// Opens what this side reads.
pub(crate) struct OpenHalf {
    cipher: LessSafeKey,
    records: u64,
    /// Bytes that do not make a record yet.
    unread: BytesMut,
}

impl OpenHalf {
    /// Where bytes from the connection are put in.
    pub(crate) fn unread(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// Opens the records that are complete, and appends what they hold to `out`.
    ///
    /// # Errors
    /// `InvalidData` if a record was not sealed by the other side, or not at this place. The
    /// connection cannot be used any more.
    pub(crate) fn open(&mut self, out: &mut BytesMut) -> io::Result<()> {
        while let Some(&[high, low]) = self.unread.first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if !(TAG_BYTES..=RECORD_BYTES_MAX + TAG_BYTES).contains(&length) {
                return Err(broken("a record of a sealed connection has a wrong length"));
            }
            if self.unread.len() < 2 + length {
                return Ok(());
            }
            let mut record = self.unread.split_to(2 + length);
            let nonce = nonce(self.records);
            self.records += 1;
            let plain = self.cipher.open_in_place(nonce, Aad::from([high, low]), &mut record[2..]);
            out.extend_from_slice(
                plain.map_err(|_| broken("a record of a sealed connection is not the other side's"))?,
            );
        }
        Ok(())
    }
}

fn nonce(record: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&record.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn broken(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn half(cipher: LessSafeKey) -> OpenHalf {
    OpenHalf { cipher, records: 0, unread: BytesMut::new() }
}

/// Seals a connection that this node has opened to `to`.
///
/// # Errors
/// The connection broke, or the other side has none of this node's keys.
pub(crate) async fn open_sealed(
    stream: &mut TcpStream,
    to: SocketAddr,
    purpose: StreamPurpose,
    shared: &SealShared,
) -> io::Result<(SealHalf, OpenHalf)> {
    let ring = shared.ring();
    let theirs = shared.keys_at(to).unwrap_or_default();
    let mut key = ring.keys().iter().find(|key| theirs.contains(&key.id())).or(ring.keys().first()).cloned();
    for _ in 0..TRIES_MAX {
        let Some(tried) = key.take() else { break };
        let mut salts = [[0; SALT_BYTES]; 2];
        shared.fill_random(&mut salts[0]).map_err(|error| io::Error::other(error.to_string()))?;
        let mut preface = PREFACE.to_vec();
        preface.push(purpose.to_byte());
        preface.extend_from_slice(&tried.id().0.to_le_bytes());
        preface.extend_from_slice(&salts[0]);
        stream.write_all(&preface).await?;
        match stream.read_u8().await? {
            ACCEPTED => {
                stream.read_exact(&mut salts[1]).await?;
                let [ours, theirs] = tried.ciphers_of_stream(purpose.to_byte(), [&salts[0], &salts[1]]);
                let mut open = half(theirs);
                prove(stream, &mut open).await?;
                return Ok((SealHalf { cipher: ours, records: 0 }, open));
            }
            UNKNOWN_KEY => {
                let mut theirs = Vec::new();
                for _ in 0..stream.read_u8().await? {
                    theirs.push(KeyId(stream.read_u16_le().await?));
                }
                key = ring.keys().iter().find(|key| theirs.contains(&key.id())).cloned();
            }
            other => return Err(broken(format!("a node answers a sealed connection with {other}"))),
        }
    }
    Err(broken("the other node has none of the keys of this node"))
}

/// Waits for the record with nothing in it.
async fn prove(stream: &mut TcpStream, open: &mut OpenHalf) -> io::Result<()> {
    let mut record = [0; 2 + TAG_BYTES];
    stream.read_exact(&mut record).await?;
    open.unread().extend_from_slice(&record);
    let mut nothing = BytesMut::new();
    open.open(&mut nothing)?;
    if open.records == 1 && nothing.is_empty() { Ok(()) } else { Err(broken("the first record is not empty")) }
}

/// Seals a connection that another node has opened; [`is_sealed_preface`] has seen its first bytes.
///
/// # Errors
/// The connection broke, or the other node asked for keys that this node does not have.
pub(crate) async fn accept_sealed(stream: &mut TcpStream, shared: &SealShared) -> io::Result<(SealHalf, OpenHalf)> {
    let ring = shared.ring();
    let mut asked = KeyId(0);
    for _ in 0..TRIES_MAX {
        let mut preface = [0; PREFACE.len() + 1];
        stream.read_exact(&mut preface).await?;
        let Some(purpose) = is_sealed_preface(&preface) else {
            return Err(broken("a sealed connection goes on with something else"));
        };
        asked = KeyId(stream.read_u16_le().await?);
        let mut salts = [[0; SALT_BYTES]; 2];
        stream.read_exact(&mut salts[0]).await?;
        let Some(key) = ring.get(asked) else {
            let mut answer = vec![UNKNOWN_KEY, ring.keys().len() as u8];
            ring.keys().iter().for_each(|key| answer.extend_from_slice(&key.id().0.to_le_bytes()));
            stream.write_all(&answer).await?;
            continue;
        };
        shared.fill_random(&mut salts[1]).map_err(|error| io::Error::other(error.to_string()))?;
        let [theirs, ours] = key.ciphers_of_stream(purpose.to_byte(), [&salts[0], &salts[1]]);
        let mut seal = SealHalf { cipher: ours, records: 0 };
        let mut answer = vec![ACCEPTED];
        answer.extend_from_slice(&salts[1]);
        seal.record(&[], &mut answer);
        stream.write_all(&answer).await?;
        return Ok((seal, half(theirs)));
    }
    Err(broken(format!("the other node seals with key {asked}, which this node does not have")))
}
