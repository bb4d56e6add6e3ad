//! `Door`: a node's HTTP door, asked by this program.
//!
//! Plain HTTP only, since the door has nothing else; TLS is the work of a proxy or a tunnel.
//! Answers are bounded in time and size, since the other side may be any server.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::seen::{Health, Page, SeenEvent, Worker};
use crate::{Access, Failure};

/// Largest answer, in bytes: the table of ten thousand members has four million.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Longest line of the events.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Longest token file.
const TOKEN_BYTES_MAX: u64 = 4096;

/// A worker that has been at work for this many seconds is busy.
pub(crate) const BUSY_FROM: f64 = 1.0;

/// Which workers come first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those with the fullest queues.
    Fullest,
    /// Those that have been at work for longest, and at least for [`BUSY_FROM`].
    Busiest,
}

impl Order {
    fn query(self) -> String {
        match self {
            Order::Fullest => "sort=fullness".to_owned(),
            Order::Busiest => format!("sort=busy_for&busy_for={BUSY_FROM}"),
        }
    }
}

/// A node's door.
#[derive(Clone)]
pub(crate) struct Door {
    agent: Agent,
    /// Its address without a slash at the end.
    base: String,
    token: Option<String>,
    within: Duration,
}

/// Why a node gave no answer that can be shown.
#[derive(Debug)]
pub(crate) enum AskError {
    /// No connection, or no answer in time.
    Silent(String),
    /// It wants a token, and none or a wrong one was given.
    Token(String),
    /// The server is no node, or one of another version.
    Foreign(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Silent(text) | AskError::Token(text) | AskError::Foreign(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for AskError {}

impl Door {
    /// The door at a URL.
    ///
    /// # Errors
    /// The URL is none of a door, or the token cannot be read.
    pub(crate) fn new(url: &str, access: &Access) -> Result<Door, Failure> {
        let base = base(url)?;
        let token = match &access.token_file {
            Some(path) => Some(token(path)?),
            None => match std::env::var("HEARTBEAT_TOKEN") {
                Ok(token) if token.trim().is_empty() => None,
                Ok(token) => Some(checked(token.trim(), "HEARTBEAT_TOKEN")?),
                Err(std::env::VarError::NotPresent) => None,
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err("HEARTBEAT_TOKEN is not text; use letters, digits and signs".into());
                }
            },
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A node of one's own network is not asked through a proxy to the internet.
            .proxy(None)
            .timeout_connect(Some(access.within))
            .user_agent(concat!("heartbeat/", env!("CARGO_PKG_VERSION")));
        Ok(Door { agent: config.build().new_agent(), base, token, within: access.within })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// Asks a path for JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let (status, body) = self.get(path)?;
        self.read(path, status, &body)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, status: u16, body: &[u8]) -> Result<T, AskError> {
        if status == 200 {
            return serde_json::from_slice(body)
                .map_err(|error| self.foreign(path, &format!("no such JSON ({error})")));
        }
        let told: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let told = told.as_ref().and_then(|told| told.get("error")).and_then(serde_json::Value::as_str);
        match told {
            Some(told) => Err(AskError::Foreign(format!("{} answers {path} with: {told}", self.base))),
            None => Err(self.foreign(path, &format!("status {status}"))),
        }
    }

    /// As [`Door::json`]; `None` if the node cannot say it now, as its control thread does not
    /// answer.
    pub(crate) fn json_unless_stuck<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, AskError> {
        let (status, body) = self.get(path)?;
        if status == 503 { Ok(None) } else { self.read(path, status, &body).map(Some) }
    }

    /// The workers that come first in an order, of those whose names begin with `prefix`. The node
    /// sorts them.
    pub(crate) fn first_workers(&self, order: Order, prefix: &str, limit: usize) -> Result<Vec<Worker>, AskError> {
        let query = format!("{}&limit={limit}&prefix={}", order.query(), encoded(prefix));
        self.json::<Page>(&format!("/workers?{query}")).map(|page| page.workers)
    }

    /// Asks `/livez` or `/readyz`.
    pub(crate) fn health(&self, path: &str) -> Result<Health, AskError> {
        let (status, body) = self.get(&format!("{path}?verbose"))?;
        let health = match status {
            200 | 503 => Health::read(status == 200, &String::from_utf8_lossy(&body)),
            _ => return Err(self.foreign(path, &format!("status {status}"))),
        };
        health.ok_or_else(|| self.foreign(path, "other text than that of a check"))
    }

    /// Hands each event to `take`, from behind `after`, until `take` says no, the server ends the
    /// stream, or it is silent for `silence`.
    pub(crate) fn events(
        &self,
        after: Option<&str>,
        silence: Duration,
        mut take: impl FnMut(SeenEvent) -> bool,
    ) -> Result<(), AskError> {
        let mut request = self.agent.get(format!("{}/events", self.base));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let config = request.config().timeout_recv_response(Some(self.within)).timeout_per_read(Some(silence));
        let response = self.authorised(config.build()).call().map_err(|error| self.silent(&error))?;
        let status = response.status().as_u16();
        self.refuse_without_token(status)?;
        let is_stream = response.body().mime_type() == Some("text/event-stream");
        if status != 200 || !is_stream {
            return Err(self.foreign("/events", &format!("status {status}")));
        }
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut lines = BufReader::new(body);
        let mut id = String::new();
        loop {
            let mut line = Vec::new();
            // An error: nothing came for that long, or the connection has ended.
            let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).unwrap_or(0);
            if read == 0 || !line.ends_with(b"\n") {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(new) = line.strip_prefix("id: ") {
                new.clone_into(&mut id);
            } else if let Some(event) = line.strip_prefix("data: ").and_then(|data| SeenEvent::read(&id, data))
                && !take(event)
            {
                return Ok(());
            }
        }
    }

    fn authorised(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    ) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn get(&self, path: &str) -> Result<(u16, Vec<u8>), AskError> {
        let request = self.agent.get(format!("{}{path}", self.base)).config().timeout_global(Some(self.within)).build();
        let mut response = self.authorised(request).call().map_err(|error| self.silent(&error))?;
        let status = response.status().as_u16();
        self.refuse_without_token(status)?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        match body {
            Ok(body) => Ok((status, body)),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(self.foreign(path, &format!("more than {} MiB", ANSWER_BYTES_MAX >> 20)))
            }
            Err(error) => Err(self.silent(&error)),
        }
    }

    fn refuse_without_token(&self, status: u16) -> Result<(), AskError> {
        if status != 401 {
            return Ok(());
        }
        Err(AskError::Token(match &self.token {
            Some(_) => format!("{} refuses this token; give the one that is http.token in its config", self.base),
            None => format!(
                "{} wants a token (http.token in its config); put it into the environment variable HEARTBEAT_TOKEN or give --token-file FILE",
                self.base
            ),
        }))
    }

    fn silent(&self, error: &ureq::Error) -> AskError {
        let (base, within) = (&self.base, humantime::format_duration(self.within));
        AskError::Silent(match error {
            ureq::Error::Timeout(_) => {
                format!("{base} did not answer within {within}; is the address right, and does the node run?")
            }
            ureq::Error::HostNotFound => format!("{base}: no such host"),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                format!(
                    "{base} refuses connections; does the node run, and does its config have [http] with this address?"
                )
            }
            ureq::Error::Protocol(error) => return AskError::Foreign(format!("{base} does not speak HTTP: {error}")),
            other => format!("{base} did not answer: {other}"),
        })
    }

    fn foreign(&self, path: &str, what: &str) -> AskError {
        AskError::Foreign(format!(
            "{} is no node's HTTP door, or one of another version: {path} is answered with {what}",
            self.base
        ))
    }
}

/// The address of a door, from what the user wrote.
fn base(url: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("URL {url:?} {why}; use one like http://127.0.0.1:7180"));
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            return Err(format!(
                "URL {url:?}: only plain HTTP is supported, as nodes have no other door; for a node behind TLS open a tunnel (ssh -L, kubectl port-forward) and use http://127.0.0.1:PORT, not {rest}"
            ));
        }
        Some((scheme, _)) => return wrong(&format!("has the scheme {scheme:?}")),
        None => url,
    };
    if rest.contains(['?', '#']) {
        return wrong("has a query or a fragment");
    }
    let rest = rest.trim_end_matches('/');
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return wrong("holds a user or a password; the token goes into HEARTBEAT_TOKEN or --token-file");
    }
    let is_address = !host.is_empty() && !host.starts_with(':') && has_port(host);
    let is_uri = rest.bytes().all(|byte| byte.is_ascii_graphic())
        && format!("http://{rest}/").parse::<ureq::http::Uri>().is_ok();
    if !is_address || !is_uri {
        return wrong("is no address of a server");
    }
    Ok(format!("http://{rest}"))
}

/// Whether what follows the host is a port, or nothing. An IPv6 address holds colons in brackets.
fn has_port(host: &str) -> bool {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// Reads a token from a file. Space around it is left out, since editors end a file with a line
/// break.
fn token(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read the token file {shown}: {error}"))?;
    if text.len() as u64 > TOKEN_BYTES_MAX {
        return Err(format!("the token file {shown} is longer than {TOKEN_BYTES_MAX} bytes; it holds no token").into());
    }
    checked(text.trim(), &format!("the token file {shown}"))
}

/// A token can be sent as a header if it is one word of ASCII.
fn checked(token: &str, place: &str) -> Result<String, Failure> {
    if token.is_empty() {
        return Err(format!("{place} is empty; put http.token of the node's config there").into());
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            format!("{place} holds a space or a character that is not ASCII; use letters, digits and signs").into()
        );
    }
    Ok(token.to_owned())
}

/// A text as a part of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_door_is_read_as_people_write_it() {
        for (url, expected) in [
            ("http://127.0.0.1:7180", "http://127.0.0.1:7180"),
            ("http://127.0.0.1:7180/", "http://127.0.0.1:7180"),
            ("127.0.0.1:7180", "http://127.0.0.1:7180"),
            ("HTTP://[::1]:7180/ops/", "http://[::1]:7180/ops"),
            ("node-1", "http://node-1"),
            ("node-1:80", "http://node-1:80"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(base(url).unwrap(), expected);
        }
    }

    #[test]
    fn a_url_of_no_door_is_refused_with_a_right_one() {
        for (url, expected) in [
            ("", "is no address"),
            ("http://", "is no address"),
            ("http:///workers", "is no address"),
            ("http://:80", "is no address"),
            ("http://a b", "is no address"),
            ("http://a:99999999", "is no address"),
            ("http://a:0", "is no address"),
            ("http://[::1]:x", "is no address"),
            ("http://ü.example", "is no address"),
            ("https://node-1:7180", "kubectl port-forward"),
            ("ftp://node-1", "\"ftp\""),
            ("http://user:secret@node-1", "--token-file"),
            ("http://node-1/?x=1", "query"),
        ] {
            let error = base(url).expect_err(url);
            assert!(error.contains(expected) && error.contains("http://127.0.0.1"), "{url}: {error}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused() {
        assert_eq!(checked("0123456789abcdef", "x").unwrap(), "0123456789abcdef");
        for (token, expected) in
            [("", "is empty"), ("two words", "a space"), ("line\nbreak", "a space"), ("ü", "not ASCII")]
        {
            assert!(checked(token, "HEARTBEAT_TOKEN").unwrap_err().to_string().contains(expected), "{token:?}");
        }
        let error = super::token(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("longer than 4096 bytes"), "{error}");
        assert!(super::token(Path::new("/dev/null")).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn a_name_in_a_query_keeps_its_bytes() {
        assert_eq!(encoded("mail-1"), "mail-1");
        assert_eq!(encoded("a&b=c ü\n"), "a%26b%3Dc%20%C3%BC%0A");
    }
}
