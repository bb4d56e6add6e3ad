//! Events as they happen: server-sent events, with a backlog for readers that come back.
//!
//! A reader holds nothing but its place in the log. A slow one is told how many events it missed.
//! One that reads nothing at all loses its turn to another reader.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, RETRY_AFTER};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream::unfold;
use heartbeat_core::Event;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use crate::http::{Door, access};
use crate::lock::lock;
use crate::view::event_log::NumberedEvent;

/// Readers at once.
const READERS_MAX: usize = 64;

/// How often a reader without events gets a comment, so that both sides see that the other lives.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// A reader that took nothing for this long gives its place to another one.
const READS_WITHIN: Duration = Duration::from_secs(60);

/// Events in one piece of the stream.
const PIECE: usize = 64;

pub(super) fn routes(service: &mut ServiceConfig) {
    service.service(web::resource("/events").wrap(from_fn(access::check)).route(web::get().to(events)));
}

/// The readers of the events.
#[derive(Default)]
pub(crate) struct Readers(Mutex<Vec<Arc<Reader>>>);

/// One of them.
#[derive(Default)]
struct Reader {
    /// When it took something last, in milliseconds of its node's clock.
    read_at: AtomicU64,
    /// Whether another one has its place.
    is_over: AtomicBool,
}

impl Readers {
    /// A place for one more, if there is one.
    fn add(&self, now: u64) -> Option<Arc<Reader>> {
        let mut readers = lock(&self.0);
        // Those that have ended hold their own half no more.
        readers.retain(|reader| Arc::strong_count(reader) > 1);
        if readers.len() >= READERS_MAX {
            let late = |reader: &Arc<Reader>| {
                now.saturating_sub(reader.read_at.load(Ordering::Relaxed)) > READS_WITHIN.as_millis() as u64
            };
            let place = readers.iter().position(late)?;
            readers.swap_remove(place).is_over.store(true, Ordering::Release);
        }
        let reader = Arc::new(Reader { read_at: AtomicU64::new(now), ..Reader::default() });
        readers.push(reader.clone());
        Some(reader)
    }
}

async fn events(door: Data<Door>, request: HttpRequest) -> HttpResponse {
    let header = request.headers().get("Last-Event-ID");
    let after = match header.map(|id| id.to_str().ok().and_then(|id| door.place(id))) {
        None => 0,
        Some(Some(after)) => after,
        Some(None) => {
            let error =
                format!("Last-Event-ID {header:?} is none of this door; use the id of an event, or leave it out");
            return HttpResponse::BadRequest().json(json!({ "error": error }));
        }
    };
    let Some(reader) = door.readers.add(door.now_millis()) else {
        let error = format!("{READERS_MAX} readers follow the events already; try again later");
        // It gives its place at the door to another client at once.
        let mut refused = HttpResponse::ServiceUnavailable();
        return refused.insert_header((RETRY_AFTER, "10")).force_close().json(json!({ "error": error }));
    };
    let newest = door.view.events().newest();
    let stream = unfold(Reading { door, reader, newest, after }, |mut reading| async move {
        let piece = reading.next().await?;
        Some((Ok::<_, actix_web::Error>(piece), reading))
    });
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).content_type("text/event-stream").streaming(stream)
}

/// Where a reader is.
struct Reading {
    door: Data<Door>,
    reader: Arc<Reader>,
    newest: watch::Receiver<u64>,
    after: u64,
}

impl Reading {
    /// The next events in the form of the stream; `None` if the reader's place was given away or
    /// the node is gone.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.reader.is_over.load(Ordering::Acquire) {
                return None;
            }
            self.reader.read_at.store(self.door.now_millis(), Ordering::Relaxed);
            self.newest.mark_unchanged();
            let (missed, events) = self.door.view.events().after(self.after, PIECE);
            if let Some(last) = events.last() {
                self.after = last.number;
                return Some(self.door.piece(missed, &events));
            }
            if !self.door.pulse.is_connected() {
                return None; // The node has left, and this reader has all its events.
            }
            match tokio::time::timeout(COMMENT_EVERY, self.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b": nothing new\n\n")),
            }
        }
    }
}

/// An event, with when it happened.
#[derive(Clone, Serialize)]
pub(super) struct Shown<'a> {
    /// Seconds since 1970.
    at: f64,
    #[serde(flatten)]
    event: Cow<'a, Event>,
}

impl Shown<'_> {
    /// When it happened, in seconds since 1970.
    pub(super) fn at(&self) -> f64 {
        self.at
    }
}

impl Door {
    fn now_millis(&self) -> u64 {
        self.clock.now().as_nanos() / 1_000_000
    }

    /// The ids of another process of this node's name have another beginning: their reader starts
    /// with the oldest event.
    fn place(&self, id: &str) -> Option<u64> {
        let (generation, number) = id.split_once('.')?;
        let (generation, number): (u64, u64) = (generation.parse().ok()?, number.parse().ok()?);
        Some(if generation == self.generation.0 { number } else { 0 })
    }

    /// The newest verdict on each member that is suspected or dead, by its name.
    pub(super) fn verdicts(&self) -> BTreeMap<Arc<str>, Shown<'static>> {
        let (now, wall) = self.clock.with_wall();
        let shown = |NumberedEvent { at, event, .. }: NumberedEvent| {
            let at = wall.saturating_sub(now - at.min(now)).as_secs_f64();
            Shown { at, event: Cow::Owned(event) }
        };
        self.view.events().verdicts().into_iter().map(|(name, verdict)| (name, shown(verdict))).collect()
    }

    fn piece(&self, missed: u64, events: &[NumberedEvent]) -> Bytes {
        let generation = self.generation.0;
        let (now, wall) = self.clock.with_wall();
        let mut text = String::new();
        if missed > 0 {
            text.push_str(&format!("event: missed\ndata: {{\"event\":\"missed\",\"count\":{missed}}}\n\n"));
        }
        for NumberedEvent { number, at, event } in events {
            let at = wall.saturating_sub(now - (*at).min(now)).as_secs_f64();
            // JSON has no line breaks, so each event is one line of data.
            let Ok(data) = serde_json::to_string(&Shown { at, event: Cow::Borrowed(event) }) else { continue };
            text.push_str(&format!("id: {generation}.{number}\nevent: {}\ndata: {data}\n\n", event.name()));
        }
        Bytes::from(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_reads_nothing_loses_its_place_to_another() {
        let readers = Readers::default();
        let there: Vec<_> = (0..READERS_MAX as u64).map(|now| readers.add(now).unwrap()).collect();
        assert!(readers.add(100).is_none(), "all of them read a moment ago");
        let late = READS_WITHIN.as_millis() as u64 + 1;
        there[1..].iter().for_each(|reader| reader.read_at.store(late, Ordering::Relaxed));
        assert!(readers.add(late).is_some());
        assert!(there[0].is_over.load(Ordering::Relaxed));
        assert!(!there[1].is_over.load(Ordering::Relaxed));
    }

    #[test]
    fn a_reader_that_ended_leaves_its_place() {
        let readers = Readers::default();
        let there: Vec<_> = (0..READERS_MAX as u64).map(|now| readers.add(now).unwrap()).collect();
        drop(there);
        assert!(readers.add(0).is_some());
    }
}
