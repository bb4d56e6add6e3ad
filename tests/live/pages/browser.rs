//! A headless Chromium behind its WebDriver, for the tests of the dashboard.
//!
//! Only the few calls of WebDriver (W3C, 2018) that these tests make. The driver and the browser
//! are one process group, which ends with the value, also when a test fails.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::node::free;

/// The Tab key, as WebDriver writes it.
pub(crate) const TAB: &str = "\u{e004}";
/// The Escape key.
pub(crate) const ESCAPE: &str = "\u{e00c}";
/// The Enter key.
pub(crate) const ENTER: &str = "\u{e007}";

/// A browser with one window.
pub(crate) struct Browser {
    driver: ChildGuard,
    /// Where driver and browser put their files.
    _folder: TempDir,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// Starts one. Where Chromium or its driver are missing it says so and returns `None`, unless
    /// `HEARTBEAT_PAGES=required`.
    pub(crate) async fn start() -> Option<Browser> {
        let is_there = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        if let Some(missing) = ["chromedriver", "chromium"].into_iter().find(|program| !is_there(program)) {
            assert!(
                std::env::var("HEARTBEAT_PAGES").as_deref() != Ok("required"),
                "no page can be shown: no {missing}"
            );
            println!("skipped: no page can be shown without {missing} (Debian: chromium, chromium-driver)");
            return None;
        }
        let address = free();
        let folder = TempDir::with_prefix("heartbeat-pages-").unwrap();
        let driver = Command::new("chromedriver")
            .env("TMPDIR", folder.path())
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(ChildGuard::from)
            .unwrap();
        let mut browser = Browser { driver, _folder: folder, address, session: String::new() };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("the driver listens");
        // As root Chromium has no sandbox; it shows pages of this test only.
        let args = [
            "--headless=new",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": args } } } });
        let session = browser.call("POST", "/session", &wanted).await;
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// Shows the page at this address.
    pub(crate) async fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url })).await;
    }

    /// What a piece of JavaScript returns; a promise is waited for.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// Runs a piece of JavaScript until it returns something true.
    pub(crate) async fn until(&self, script: &str) -> Value {
        let whole = async {
            loop {
                let value = self.run(script).await;
                if value.as_bool() != Some(false) && !value.is_null() {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, whole).await {
            Ok(value) => value,
            Err(_) => {
                panic!("never true: {script}; the page says: {}", self.run("return document.body.innerText").await)
            }
        }
    }

    /// Presses these keys, one after the other, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let press = |key: char| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        self.command("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] })).await;
    }

    /// A command of the browser's own protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// Shows the page as wide as this, in light or dark colours.
    pub(crate) async fn show_as(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Writes a picture of the page for people, if `HEARTBEAT_SHOTS` names a folder.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("HEARTBEAT_SHOTS") else { return };
        let shot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.devtools("Page.captureScreenshot", shot).await;
        std::fs::write(Path::new(&folder).join(name), decoded(shot["data"].as_str().unwrap())).unwrap();
    }

    async fn command(&self, command: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{command}", self.session), body).await
    }

    /// Sends a request to the driver. Its errors end the test.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let whole = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request(self.address, method, path, &body.to_string()).as_bytes()).await.unwrap();
            let (mut answer, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                if let Some(body) = complete(&answer) {
                    return serde_json::from_slice::<Value>(body).unwrap()["value"].clone();
                }
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the driver closed: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&buffer[..read]);
            }
        };
        let value = tokio::time::timeout(PATIENCE, whole).await.expect("the driver answers");
        assert!(value.get("error").is_none_or(Value::is_null), "{path}: {body}: {value}");
        value
    }
}

fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The body of an answer that has arrived as a whole.
fn complete(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>().ok()?;
    answer.get(end..end + length)
}

/// Bytes from base64.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, or else with the group.
        if let Ok(mut stream) = std::net::TcpStream::connect(self.address) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let end = request(self.address, "DELETE", &format!("/session/{}", self.session), "");
            let _ = stream.write_all(end.as_bytes()); // It may have ended already.
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = killpg(Pid::from_raw(self.driver.id() as i32), Signal::SIGKILL); // As above.
    }
}
