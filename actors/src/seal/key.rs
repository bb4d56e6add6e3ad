//! One key, and what is derived of it.

use std::fmt;

use heartbeat_core::config::{SEAL_KEY_DIGITS, key_fault};
use heartbeat_core::member::ProcessId;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::Zeroizing;

use super::key_id::KeyId;

/// Bytes of a key.
const KEY_BYTES: usize = SEAL_KEY_DIGITS / 2;

/// A key of 32 bytes. Its memory is wiped when it is dropped, and `Debug` shows its id alone.
pub struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.id).finish()
    }
}

/// How many bytes are derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// Reads 64 hexadecimal digits; space around them does not matter.
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right. The text itself is not in it.
    pub fn from_hex(text: &str) -> Result<Key, String> {
        let text = text.trim();
        if let Some(fault) = key_fault(text) {
            return Err(fault);
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).expect("key_fault has refused other characters");
            *byte = (digit(pair[0]) << 4 | digit(pair[1])) as u8;
        }
        let mut id = [0; 2];
        derive(&*bytes, &[b"heartbeat key id"], &mut id);
        Ok(Key { id: KeyId(u16::from_be_bytes(id)), bytes })
    }

    /// The id under which it is known.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What seals and opens the datagrams of one process.
    pub(super) fn cipher_of(&self, process: ProcessId) -> LessSafeKey {
        let (node, generation) = (process.node.0.to_be_bytes(), process.generation.0.to_be_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        derive(&*self.bytes, &[b"heartbeat datagrams", &node, &generation], &mut *bytes);
        cipher(&*bytes)
    }

    /// What seals and opens a connection: the direction of its opener first. `salts` is what both
    /// sides have drawn for it, and `purpose` what it is for.
    pub(super) fn ciphers_of_stream(&self, purpose: u8, salts: [&[u8]; 2]) -> [LessSafeKey; 2] {
        let mut bytes = Zeroizing::new([0; 64]);
        derive(&*self.bytes, &[b"heartbeat stream", &[purpose], salts[0], salts[1]], &mut *bytes);
        [cipher(&bytes[..32]), cipher(&bytes[32..])]
    }

    /// Whether both are the same key.
    pub(super) fn equals(&self, other: &Key) -> bool {
        self.bytes == other.bytes
    }
}

fn cipher(bytes: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 has 32 bytes"))
}

/// HKDF-Expand with SHA-256 (RFC 5869, section 2.3): the key is uniform, so nothing is extracted.
fn derive(key: &[u8], info: &[&[u8]], out: &mut [u8]) {
    let prk = Prk::new_less_safe(HKDF_SHA256, key);
    let derived = prk.expand(info, Length(out.len())).and_then(|okm| okm.fill(out));
    derived.expect("at most 8,160 bytes are derived at once");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn the_id_of_a_key_never_changes() {
        let key = Key::from_hex(TEXT).unwrap();
        assert_eq!(key.id(), Key::from_hex(&format!(" {}\n", TEXT.to_uppercase())).unwrap().id());
        assert_eq!(key.id().to_string().parse(), Ok(key.id()));
        assert_eq!(key.id().to_string(), "4f44", "a node of another release has to know the key by it");
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = Key::from_hex(TEXT).unwrap();
        assert_eq!(format!("{key:?}"), format!("Key(KeyId({}))", key.id().0));
        let fault = Key::from_hex("correct horse").unwrap_err();
        assert!(fault.starts_with("has 13 characters; use 64") && !fault.contains("horse"), "{fault}");
    }
}
