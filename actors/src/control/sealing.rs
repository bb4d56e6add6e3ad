//! `Sealing`: seals the datagrams that leave the control thread, and opens those that come.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use heartbeat_core::Instant;
use heartbeat_core::input::Batch;
use heartbeat_core::member::ProcessId;
use tracing::{trace, warn};

use crate::control::log::Repeated;
use crate::seal::{OpenError, Seal, SealError, SealShared, SealVersions};

/// Members of other nodes and clusters that send here at most, beside those in the table.
const STRANGERS_MAX: usize = 256;

/// The seal of this node's datagrams, if it has one; every copy is the same one.
#[derive(Clone, Default)]
pub(crate) struct Sealing(Option<Rc<RefCell<State>>>);

struct State {
    seal: Seal,
    shared: Arc<SealShared>,
    /// The versions of the keys and members that `seal` has.
    seen: SealVersions,
    refused: Repeated,
}

impl Sealing {
    /// The seal of the keys that all threads share.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn new(shared: &Arc<SealShared>, members_max: u32) -> Result<Sealing, SealError> {
        let seal = shared.seal(members_max as usize + STRANGERS_MAX)?;
        let state = State {
            seal,
            shared: shared.clone(),
            seen: SealVersions::default(),
            refused: Repeated::new("datagram_refused"),
        };
        Ok(Sealing(Some(Rc::new(RefCell::new(state)))))
    }

    /// Passes a datagram of this node on, sealed if it has a seal.
    pub(crate) fn seal(&self, receiver: Option<ProcessId>, datagram: &[u8], mut send: impl FnMut(&[u8])) {
        let Some(state) = &self.0 else { return send(datagram) };
        let State { seal, shared, seen, .. } = &mut *state.borrow_mut();
        shared.refresh(seal, seen);
        seal.seal(receiver, datagram, send);
    }

    /// Opens the datagrams of a batch. Those that are not believed are left out.
    pub(crate) fn open(&self, batch: &mut Batch, now: impl Fn() -> Instant) {
        let Some(state) = &self.0 else { return };
        let State { seal, shared, seen, refused } = &mut *state.borrow_mut();
        shared.refresh(seal, seen);
        refused.handle_timeout(&now);
        batch.open_each(|from, bytes| match seal.open(bytes) {
            Ok(plain) => Some(plain),
            Err(OpenError::UnknownKey(key)) => {
                if refused.allows(now()) {
                    warn!(
                        event = "datagram_refused",
                        %from,
                        %key,
                        "a datagram is sealed with a key that this node does not have"
                    );
                }
                None
            }
            Err(OpenError::Plain) => {
                if refused.allows(now()) {
                    warn!(event = "datagram_refused", %from, "a datagram is plain, and this node takes sealed ones only");
                }
                None
            }
            Err(error @ (OpenError::Forged(_) | OpenError::Replayed | OpenError::Stale)) => {
                if refused.allows(now()) {
                    warn!(event = "datagram_refused", %from, reason = ?error, "a datagram is forged, or a recording");
                }
                None
            }
            Err(error @ (OpenError::Unaddressed | OpenError::Malformed)) => {
                trace!(event = "datagram_refused", %from, reason = ?error, "a datagram cannot be opened");
                None
            }
        });
        shared.note(seal);
    }
}
