//! Seals and opens datagrams.
//!
//! ```text
//! "HS"  version  kind  cluster  from  generation  clock     as in a plain datagram, readable
//! key u16   counter 47 bits, and 1 bit: for a certain process
//! ciphertext, of the rest of the datagram
//! tag 16 bytes
//! ```
//!
//! The tag covers all of it, and the id and the generation of the receiver, which do not travel. So
//! a recording opens in one process only, and there a counter counts once. A join and a probe may
//! be for any process that has the address; they alone open in any. They are harmless: a join
//! needs a token of the receiving process, and a probe earns no more than an echo.
//!
//! The counter begins at random, so even two processes of one name and one generation are unlikely
//! to use a number twice.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use heartbeat_core::input::BATCH_MAX;
use heartbeat_core::member::{ProcessId, SEAL_KEY};
use heartbeat_core::wire::{DATAGRAM_BYTES_MAX, SEAL_BYTES, SEALED_MAGIC, Start, decode_start};
use heartbeat_core::{Generation, Member, NodeId};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use super::key::Key;
use super::key_id::KeyId;
use super::keyring::Keyring;
use super::report::{OpenError, SealCounts};
use super::window::Window;

/// Counters end here: after 892 years of 5,000 datagrams a second.
const COUNTER_MAX: u64 = (1 << 47) - 1;

/// Counters begin below this, so that more than half of them are left.
const COUNTER_START_MAX: u64 = 1 << 46;

/// Set beside the counter if the seal is for a certain process.
const IS_BOUND: u64 = 1 << 47;

const TAG_BYTES: usize = 16;

/// Bytes between the start of a datagram and its ciphertext.
const KEY_AND_COUNTER_BYTES: usize = SEAL_BYTES - TAG_BYTES;

/// Most bytes that a tag covers beside the ciphertext.
const COVERED_BYTES_MAX: usize = 80;

/// Processes of which it is known how their newest datagram came that was plain or not for this
/// process. So many come in one batch, and all of them are answered after it.
const STRANGERS_MAX: usize = BATCH_MAX;

/// How the datagrams of a sender come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Contact {
    Plain,
    Sealed(KeyId),
}

/// The keys that a member publishes.
struct MemberKeys {
    generation: Generation,
    keys: Vec<KeyId>,
}

/// A process from which sealed datagrams have come.
struct Sender {
    generation: Generation,
    window: Window,
    /// What opens its datagrams, for each key that it has used.
    ciphers: Vec<(KeyId, LessSafeKey)>,
    /// The key of the newest datagram.
    key: KeyId,
    /// When it came, in datagrams.
    turn: u64,
}

/// A sealed datagram that is to be opened.
struct Sealed<'k> {
    key: &'k Key,
    id: KeyId,
    process: ProcessId,
    counter: u64,
    /// Where its ciphertext begins.
    clear: usize,
    receiver: Option<ProcessId>,
}

impl Sealed<'_> {
    /// Decrypts it in place, if its tag is right.
    fn open_with(&self, cipher: &LessSafeKey, bytes: &mut [u8]) -> Result<(), OpenError> {
        let (head, body) = bytes.split_at_mut(self.clear);
        let (covered, length) = covered(head, self.receiver);
        let opened = cipher.open_in_place(nonce(self.counter), Aad::from(&covered[..length]), body);
        opened.map(drop).map_err(|_| OpenError::Forged(self.id))
    }

    /// Opens one of a process that has sent before.
    fn open_known(&self, sender: &mut Sender, bytes: &mut [u8]) -> Result<(), OpenError> {
        if let Some((_, cipher)) = sender.ciphers.iter().find(|(id, _)| *id == self.id) {
            return self.open_with(cipher, bytes);
        }
        sender.ciphers.push((self.id, self.open_unknown(bytes)?));
        Ok(())
    }

    /// Opens one of another process. Returns what opens the next one of it.
    fn open_unknown(&self, bytes: &mut [u8]) -> Result<LessSafeKey, OpenError> {
        let cipher = self.key.cipher_of(self.process);
        self.open_with(&cipher, bytes)?;
        Ok(cipher)
    }
}

/// Seals the datagrams of one process, and opens those that it receives.
pub struct Seal {
    me: ProcessId,
    ring: Keyring,
    /// What seals, for each key in the order of the ring.
    own: Vec<LessSafeKey>,
    accept_plain: bool,
    /// The counter of the next datagram.
    counter: u64,
    senders: HashMap<NodeId, Sender>,
    /// Senders that are remembered at most: the one that was silent longest is forgotten.
    senders_max: usize,
    members: HashMap<NodeId, MemberKeys>,
    strangers: VecDeque<(ProcessId, Contact)>,
    counts: SealCounts,
    turn: u64,
    /// Members of which the first datagram under another key has come.
    changes: Vec<(NodeId, Option<KeyId>)>,
    scratch: Vec<u8>,
}

impl Seal {
    /// The seal of the process `me`, with at least one key. `start` is a random number, and
    /// `senders_max` is over the number of members.
    pub fn new(me: ProcessId, ring: Keyring, accept_plain: bool, senders_max: usize, start: u64) -> Seal {
        let mut seal = Seal {
            me,
            ring: Keyring::default(),
            own: Vec::new(),
            accept_plain,
            counter: start % COUNTER_START_MAX,
            senders: HashMap::new(),
            senders_max,
            members: HashMap::new(),
            strangers: VecDeque::new(),
            counts: SealCounts::default(),
            turn: 0,
            changes: Vec::new(),
            scratch: Vec::new(),
        };
        seal.set_keys(ring);
        seal
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Seals and opens with these keys from now on.
    pub fn set_keys(&mut self, ring: Keyring) {
        let me = self.me;
        self.own = ring.keys().iter().map(|key| key.cipher_of(me)).collect();
        self.senders.values_mut().for_each(|sender| sender.ciphers.retain(|(id, _)| ring.get(*id).is_some()));
        self.ring = ring;
    }

    /// Reads in the rows of members which keys each of them has.
    pub fn set_members<'a>(&mut self, members: impl Iterator<Item = &'a Member>) {
        self.members = members
            .filter(|member| member.status.is_member())
            .map(|member| (member.id, MemberKeys { generation: member.generation, keys: published_keys(member) }))
            .collect();
    }

    /// Seals a datagram of this process, and passes each form in which it is to be sent to `send`.
    /// There is one form, but for a first contact: it is sent under each key, and plain if that is
    /// accepted.
    pub fn seal(&mut self, receiver: Option<ProcessId>, datagram: &[u8], mut send: impl FnMut(&[u8])) {
        let Ok(start) = decode_start(datagram) else { return send(datagram) };
        let (places, plain) = match receiver {
            Some(process) if self.accept_plain && start.is_answer_to_stranger() => self.form_of_answer(process),
            Some(_) | None => self.forms(receiver),
        };
        for place in places {
            if self.seal_with(place, receiver, datagram, start) {
                send(&self.scratch);
            }
        }
        if plain {
            send(datagram);
        }
    }

    /// Opens a datagram that came. Returns where in `bytes` the plain datagram stands.
    ///
    /// # Errors
    /// Why it is not believed; it is counted, and changes nothing else.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Range<usize>, OpenError> {
        let opened = self.open_uncounted(bytes);
        *match opened {
            Ok(_) => &mut self.counts.opened,
            Err(OpenError::Plain) => &mut self.counts.plain_refused,
            Err(OpenError::UnknownKey(_)) => &mut self.counts.unknown_key,
            Err(OpenError::Forged(_)) => &mut self.counts.forged,
            Err(OpenError::Replayed) => &mut self.counts.replayed,
            Err(OpenError::Stale) => &mut self.counts.stale,
            Err(OpenError::Unaddressed) => &mut self.counts.unaddressed,
            Err(OpenError::Malformed) => &mut self.counts.malformed,
        } += 1;
        opened
    }

    /// Takes the members whose datagrams have come under another key than before, or plain.
    pub fn take_changes(&mut self) -> Vec<(NodeId, Option<KeyId>)> {
        std::mem::take(&mut self.changes)
    }

    // ---- questions ------------------------------------------------------------------------------

    /// What was sealed, opened and refused so far.
    pub fn counts(&self) -> SealCounts {
        self.counts
    }

    // ---- sealing --------------------------------------------------------------------------------

    /// The keys under which a datagram for this receiver is sent, by their place in the ring, and
    /// whether it is also sent plain.
    fn forms(&self, receiver: Option<ProcessId>) -> (Range<usize>, bool) {
        let one = |place: usize| (place..place + 1, false);
        let Some(process) = receiver else { return (0..self.own.len(), self.accept_plain) };
        let member = self.members.get(&process.node).filter(|member| member.generation == process.generation);
        let is_theirs = |theirs: &[KeyId]| self.ring.keys().iter().position(|key| theirs.contains(&key.id()));
        match (member, self.contact(process)) {
            (Some(member), _) if !member.keys.is_empty() => one(is_theirs(&member.keys).unwrap_or(0)),
            (_, Some(Contact::Sealed(id))) => one(is_theirs(&[id]).unwrap_or(0)),
            (Some(_), _) | (None, Some(Contact::Plain)) if self.accept_plain => (0..0, true),
            (Some(_) | None, Some(Contact::Plain) | None) => (0..1, self.accept_plain),
        }
    }

    /// The one form of an answer that goes to an address which has not proven that it receives, as
    /// in [`Seal::forms`]: that in which the process has sent, so that the answer is no longer than
    /// what it answers. The keys that a member publishes do not count here: another process may
    /// have sent in its name, without them.
    fn form_of_answer(&self, process: ProcessId) -> (Range<usize>, bool) {
        let place = match self.contact_of_stranger(process).or_else(|| self.contact(process)) {
            Some(Contact::Sealed(id)) => self.ring.keys().iter().position(|key| key.id() == id),
            Some(Contact::Plain) | None => None,
        };
        place.map_or((0..0, true), |place| (place..place + 1, false))
    }

    /// How the newest datagram of a process came.
    fn contact(&self, process: ProcessId) -> Option<Contact> {
        if let Some(sender) = self.senders.get(&process.node).filter(|sender| sender.generation == process.generation) {
            return Some(Contact::Sealed(sender.key));
        }
        self.contact_of_stranger(process)
    }

    /// How the newest datagram of a process came that was plain or not for this process.
    fn contact_of_stranger(&self, process: ProcessId) -> Option<Contact> {
        self.strangers.iter().find(|(known, _)| *known == process).map(|(_, contact)| *contact)
    }

    /// Writes the sealed datagram into `scratch`. Returns whether there was a counter left.
    fn seal_with(&mut self, place: usize, receiver: Option<ProcessId>, datagram: &[u8], start: Start) -> bool {
        if self.counter > COUNTER_MAX {
            self.counts.exhausted += 1;
            return false;
        }
        let counter = self.counter | if receiver.is_some() { IS_BOUND } else { 0 };
        self.counter += 1;
        let (out, clear) = (&mut self.scratch, start.length + KEY_AND_COUNTER_BYTES);
        out.clear();
        out.extend_from_slice(&SEALED_MAGIC);
        out.extend_from_slice(&datagram[SEALED_MAGIC.len()..start.length]);
        out.extend_from_slice(&self.ring.keys()[place].id().0.to_le_bytes());
        out.extend_from_slice(&counter.to_le_bytes()[..6]);
        out.extend_from_slice(&datagram[start.length..]);
        let (head, body) = out.split_at_mut(clear);
        let (covered, length) = covered(head, receiver);
        let tag = self.own[place].seal_in_place_separate_tag(nonce(counter), Aad::from(&covered[..length]), body);
        let Ok(tag) = tag else { return false }; // A datagram is never as long as the cipher's bound.
        out.extend_from_slice(tag.as_ref());
        self.counts.sealed += 1;
        true
    }

    // ---- opening --------------------------------------------------------------------------------

    fn open_uncounted(&mut self, bytes: &mut [u8]) -> Result<Range<usize>, OpenError> {
        let start = decode_start(bytes).map_err(|_| OpenError::Malformed)?;
        let process = start.header.sender();
        if !start.is_sealed {
            if !self.accept_plain {
                return Err(OpenError::Plain);
            }
            self.counts.plain_taken += 1;
            if self.senders.get(&process.node).is_some_and(|sender| sender.generation < process.generation) {
                self.changes.push((process.node, None));
            }
            self.note_contact(process, Contact::Plain);
            return Ok(0..bytes.len());
        }
        let clear = start.length + KEY_AND_COUNTER_BYTES;
        if bytes.len() < clear + TAG_BYTES || bytes.len() > DATAGRAM_BYTES_MAX + SEAL_BYTES {
            return Err(OpenError::Malformed);
        }
        let id = KeyId(u16::from_le_bytes([bytes[start.length], bytes[start.length + 1]]));
        let mut counter = [0; 8];
        counter[..6].copy_from_slice(&bytes[start.length + 2..clear]);
        let counter = u64::from_le_bytes(counter);
        let is_bound = counter & IS_BOUND != 0;
        let key = self.ring.get(id).ok_or(OpenError::UnknownKey(id))?;
        if !is_bound && !start.is_first_contact() {
            return Err(OpenError::Unaddressed);
        }
        self.turn += 1;
        let receiver = is_bound.then_some(self.me);
        let sealed = Sealed { key, id, process, counter, clear, receiver };
        match self.senders.get_mut(&process.node) {
            Some(sender) if sender.generation == process.generation => {
                if !sender.window.is_new(counter & COUNTER_MAX) {
                    return Err(OpenError::Replayed);
                }
                sealed.open_known(sender, bytes)?;
                sender.window.note(counter & COUNTER_MAX);
                sender.turn = self.turn;
                if is_bound && self.accept_plain {
                    self.strangers.retain(|(known, _)| *known != process);
                }
                if sender.key != id {
                    sender.key = id;
                    self.changes.push((process.node, Some(id)));
                }
            }
            Some(sender) if sender.generation > process.generation && is_bound => return Err(OpenError::Stale),
            Some(_) | None => {
                let cipher = sealed.open_unknown(bytes)?;
                if is_bound {
                    self.note_sender(process, Window::new(counter & COUNTER_MAX), (id, cipher));
                } else {
                    self.note_contact(process, Contact::Sealed(id));
                }
            }
        }
        // The start moves up to what it was cut off from, as a plain one.
        let begin = KEY_AND_COUNTER_BYTES;
        bytes.copy_within(0..start.length, begin);
        bytes[begin + 1] = b'B';
        Ok(begin..bytes.len() - TAG_BYTES)
    }

    /// Notes a process of which the first datagram for this very process has come. Only such a one
    /// begins a window: it cannot be a recording from before.
    fn note_sender(&mut self, process: ProcessId, window: Window, cipher: (KeyId, LessSafeKey)) {
        let is_new = !self.senders.contains_key(&process.node);
        if is_new
            && self.senders.len() >= self.senders_max
            && let Some(oldest) = self.senders.iter().min_by_key(|(_, sender)| sender.turn).map(|(id, _)| *id)
        {
            self.senders.remove(&oldest);
        }
        let (generation, key, turn) = (process.generation, cipher.0, self.turn);
        self.senders.insert(process.node, Sender { generation, window, ciphers: vec![cipher], key, turn });
        self.changes.push((process.node, Some(key)));
    }

    /// Notes how a datagram of a process came that was plain or not for this process.
    fn note_contact(&mut self, process: ProcessId, contact: Contact) {
        if let Some((_, known)) = self.strangers.iter_mut().find(|(known, _)| *known == process) {
            *known = contact;
            return;
        }
        if self.strangers.len() == STRANGERS_MAX {
            self.strangers.pop_front();
        }
        self.strangers.push_back((process, contact));
    }
}

/// The ids of the keys that a member publishes; what is no id is left out.
pub(super) fn published_keys(member: &Member) -> Vec<KeyId> {
    let text = member.metadata.get(SEAL_KEY).map_or("", |text| text.as_str());
    text.split(',').filter_map(|id| id.parse().ok()).collect()
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// What a tag covers beside the ciphertext, and its length: all that comes before it, and the
/// receiver.
fn covered(head: &[u8], receiver: Option<ProcessId>) -> ([u8; COVERED_BYTES_MAX], usize) {
    let mut covered = [0; COVERED_BYTES_MAX];
    let mut length = head.len();
    covered[..length].copy_from_slice(head);
    if let Some(ProcessId { node, generation }) = receiver {
        covered[length..length + 8].copy_from_slice(&node.0.to_le_bytes());
        covered[length + 8..length + 16].copy_from_slice(&generation.0.to_le_bytes());
        length += 16;
    }
    (covered, length)
}

#[cfg(test)]
mod tests {
    use heartbeat_core::member::name_hash;
    use heartbeat_core::wire::{self, Body, Header};

    use super::*;

    const KEYS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

    fn ring(keys: &[usize]) -> Keyring {
        Keyring::new(keys.iter().map(|key| Key::from_hex(&KEYS[*key].repeat(4)).unwrap())).unwrap()
    }

    fn process(name: &str, generation: u64) -> ProcessId {
        ProcessId { node: NodeId::of(name), generation: Generation(generation) }
    }

    fn seal_of(name: &str, generation: u64, keys: &[usize]) -> Seal {
        Seal::new(process(name, generation), ring(keys), false, 8, 41)
    }

    fn datagram(from: &str, generation: u64, body: &Body<'_>) -> Vec<u8> {
        let from = process(from, generation);
        let header =
            Header { cluster: name_hash("c") as u32, from: from.node, generation: from.generation, clock: 300 };
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header, body);
        bytes
    }

    /// Seals a datagram, which has to have one form.
    #[track_caller]
    fn sealed(seal: &mut Seal, receiver: Option<ProcessId>, body: &Body<'_>) -> Vec<u8> {
        let mut forms = Vec::new();
        let ProcessId { node, generation } = seal.me;
        let header = Header { cluster: name_hash("c") as u32, from: node, generation, clock: 300 };
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header, body);
        seal.seal(receiver, &bytes, |form| forms.push(form.to_vec()));
        assert_eq!(forms.len(), 1);
        forms.remove(0)
    }

    /// What a seal makes of these bytes.
    fn open(seal: &mut Seal, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut bytes = bytes.to_vec();
        seal.open(&mut bytes).map(|plain| bytes[plain].to_vec())
    }

    #[test]
    fn a_sealed_datagram_opens_once_at_its_receiver() {
        let (mut a, mut b) = (seal_of("a", 7, &[0]), seal_of("b", 8, &[0]));
        let bytes = sealed(&mut a, Some(process("b", 8)), &Body::Poll { number: 5 });
        let plain = datagram("a", 7, &Body::Poll { number: 5 });
        assert_eq!(bytes.len(), plain.len() + SEAL_BYTES);
        assert_eq!(open(&mut b, &bytes), Ok(plain));
        assert_eq!(open(&mut b, &bytes), Err(OpenError::Replayed));
        let id = ring(&[0]).ids()[0];
        for mut other in [seal_of("c", 8, &[0]), seal_of("b", 9, &[0])] {
            assert_eq!(open(&mut other, &bytes), Err(OpenError::Forged(id)), "another process");
        }
        assert_eq!(open(&mut a, &bytes), Err(OpenError::Forged(id)), "thrown back");
        assert_eq!((b.counts().opened, b.counts().replayed), (1, 1));
    }

    /// Each bit of a datagram, and each length of it.
    #[test]
    fn a_datagram_that_was_changed_anywhere_does_not_open() {
        let (mut a, mut b) = (seal_of("a", 7, &[0]), seal_of("b", 8, &[0]));
        let bytes = sealed(&mut a, Some(process("b", 8)), &Body::Probe { number: 5 });
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&mut b, &forged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(open(&mut b, &bytes[..length]).is_err(), "length {length}");
        }
        assert!(open(&mut b, &[&bytes[..], &[0]].concat()).is_err());
        assert!(open(&mut b, &bytes).is_ok(), "and none of that has used its counter up");
    }

    #[test]
    fn only_a_first_contact_opens_at_any_process() {
        let (mut a, mut b) = (seal_of("a", 7, &[0]), seal_of("b", 8, &[0]));
        let probe = sealed(&mut a, None, &Body::Probe { number: 5 });
        assert!(open(&mut b, &probe).is_ok());
        assert!(open(&mut seal_of("b", 9, &[0]), &probe).is_ok(), "a recording, which is harmless");
        let poll = sealed(&mut a, None, &Body::Poll { number: 5 });
        assert_eq!(open(&mut b, &poll), Err(OpenError::Unaddressed));
    }

    #[test]
    fn an_earlier_process_of_a_sender_is_not_believed() {
        let mut b = seal_of("b", 8, &[0]);
        let (mut before, mut after) = (seal_of("a", 7, &[0]), seal_of("a", 9, &[0]));
        let to = Some(process("b", 8));
        let late = sealed(&mut before, to, &Body::Gossip);
        assert!(open(&mut b, &sealed(&mut before, to, &Body::Gossip)).is_ok());
        assert!(open(&mut b, &late).is_ok(), "out of order");
        let recorded = sealed(&mut before, to, &Body::Gossip);
        assert!(open(&mut b, &sealed(&mut after, to, &Body::Gossip)).is_ok());
        assert_eq!(open(&mut b, &recorded), Err(OpenError::Stale));
        let join = sealed(&mut before, None, &Body::Probe { number: 1 });
        assert!(open(&mut b, &join).is_ok(), "it may learn that it is superseded");
        assert!(open(&mut b, &sealed(&mut after, to, &Body::Gossip)).is_ok());
    }

    #[test]
    fn a_plain_datagram_counts_only_if_that_is_accepted() {
        let mut b = seal_of("b", 8, &[0]);
        let plain = datagram("a", 7, &Body::Gossip);
        assert_eq!(open(&mut b, &plain), Err(OpenError::Plain));
        let mut lenient = Seal::new(process("b", 8), ring(&[0]), true, 8, 0);
        assert_eq!(open(&mut lenient, &plain), Ok(plain.clone()));
        let mut forms = Vec::new();
        let answer = datagram("b", 8, &Body::Gossip);
        lenient.seal(Some(process("a", 7)), &answer, |form| forms.push(form.to_vec()));
        assert_eq!(forms, [answer], "and is answered in kind");
        let probe = datagram("b", 8, &Body::Probe { number: 1 });
        let mut count = 0;
        lenient.seal(None, &probe, |_| count += 1);
        assert_eq!(count, 2, "a first contact goes out sealed and plain");
    }

    /// An answer to an address that is not proven has the form of what it answers: another process
    /// may have sent in the name of a member that has keys.
    #[test]
    fn an_introduction_has_the_form_of_what_it_answers() {
        let (a, me) = (process("a", 7), process("b", 8));
        let mut b = Seal::new(me, ring(&[0, 1]), true, 8, 0);
        let profile = heartbeat_core::member::Profile {
            metadata: [(SEAL_KEY.to_owned(), ring(&[0]).ids()[0].to_string())].into(),
            ..heartbeat_core::member::Profile::new("a", "10.0.0.1:1".parse().unwrap())
        };
        b.set_members([Member::new(profile, Generation(7))].iter());
        let answer = datagram("b", 8, &Body::Introduce);
        let lengths = |b: &mut Seal| {
            let mut lengths = Vec::new();
            b.seal(Some(a), &answer, |form| lengths.push(form.len()));
            lengths
        };
        let mut sender = seal_of("a", 7, &[1]);
        assert!(open(&mut b, &sealed(&mut sender, Some(me), &Body::Gossip)).is_ok());
        assert_eq!(lengths(&mut b), [answer.len() + SEAL_BYTES]);
        assert!(open(&mut b, &datagram("a", 7, &Body::Gossip)).is_ok());
        assert_eq!(lengths(&mut b), [answer.len()]);
        assert!(open(&mut b, &sealed(&mut sender, Some(me), &Body::Gossip)).is_ok());
        assert_eq!(lengths(&mut b), [answer.len() + SEAL_BYTES]);
    }

    #[test]
    fn keys_are_replaced_without_a_gap() {
        let to = Some(process("b", 8));
        let (mut a, mut b) = (seal_of("a", 7, &[0]), seal_of("b", 8, &[0, 1]));
        assert!(open(&mut b, &sealed(&mut a, to, &Body::Gossip)).is_ok());
        a.set_keys(ring(&[1, 0]));
        assert!(open(&mut b, &sealed(&mut a, to, &Body::Gossip)).is_ok());
        let [(_, first), (_, second)] = b.take_changes()[..] else { panic!("two keys were used") };
        assert_eq!([first, second], [Some(ring(&[0]).ids()[0]), Some(ring(&[1]).ids()[0])]);
        b.set_keys(ring(&[0]));
        let id = ring(&[1]).ids()[0];
        assert_eq!(open(&mut b, &sealed(&mut a, to, &Body::Gossip)), Err(OpenError::UnknownKey(id)));
        // A member that publishes its keys is sent the first of this node's that it has.
        let profile = heartbeat_core::member::Profile {
            metadata: [(SEAL_KEY.to_owned(), ring(&[0]).ids()[0].to_string())].into(),
            ..heartbeat_core::member::Profile::new("b", "10.0.0.1:1".parse().unwrap())
        };
        a.set_members([Member::new(profile, Generation(8))].iter());
        assert!(open(&mut b, &sealed(&mut a, to, &Body::Gossip)).is_ok());
    }

    #[test]
    fn a_counter_at_its_end_seals_nothing_more() {
        let mut a = seal_of("a", 7, &[0]);
        a.counter = COUNTER_MAX;
        let bytes = sealed(&mut a, Some(process("b", 8)), &Body::Gossip);
        assert!(open(&mut seal_of("b", 8, &[0]), &bytes).is_ok(), "the last one counts");
        a.seal(Some(process("b", 8)), &datagram("a", 7, &Body::Gossip), |_| panic!("it is over"));
        assert_eq!(a.counts().exhausted, 1);
    }

    #[test]
    fn the_table_of_senders_is_bounded() {
        let mut b = seal_of("b", 8, &[0]);
        for sender in 0..20 {
            let mut a = seal_of(&format!("a-{sender}"), 7, &[0]);
            assert!(open(&mut b, &sealed(&mut a, Some(process("b", 8)), &Body::Gossip)).is_ok());
        }
        assert_eq!(b.senders.len(), 8);
        for sender in 0..STRANGERS_MAX as u64 + 9 {
            b.note_contact(process("x", sender), Contact::Plain);
        }
        assert_eq!(b.strangers.len(), STRANGERS_MAX);
    }

    #[test]
    fn anything_at_all_is_opened_or_refused() {
        let mut b = Seal::new(process("b", 8), ring(&[0]), true, 8, 0);
        let mut state = 9_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bytes: Vec<u8> = (0..state >> 57).map(|byte| (state >> (byte % 50)) as u8).collect();
            for (at, byte) in [b'H', b'S', 3].into_iter().enumerate().take(bytes.len()) {
                bytes[at] = byte;
            }
            let _ = b.open(&mut bytes); // Nothing is expected of it but to return.
        }
        assert_eq!(b.counts().opened, 0);
    }
}
