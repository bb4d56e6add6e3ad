//! An ordinary service: notes over HTTP, in SQLite, with health, metrics and an orderly end.
//!
//! cargo run --release --example web -- examples/web/notes.toml
//!
//! A handler of actix-web must not block, and SQLite blocks. So a pool of workers, each with a
//! thread and a connection of its own, does that work. A worker that panics or hangs is replaced,
//! and the requests that wait go on to its siblings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, Error, HttpResponse, HttpServer, web};
use heartbeat_actors::pool::{Pool, Routing};
use heartbeat_actors::prelude::*;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{StartError, StopReason, SuperviseError};
use rusqlite::{Connection, OptionalExtension};

/// A failure of the service itself; the text is for people.
type Failure = Box<dyn std::error::Error>;

// ANCHOR: worker
/// A connection to the database, on a thread of its own.
struct Notes {
    connection: Connection,
}

impl Actor for Notes {
    type Context = Context<Self>;
}

impl Notes {
    /// Each replacement opens the file anew. An error counts as a failed start, which is tried
    /// again after a pause.
    fn open(path: &Path) -> Result<Notes, StartError> {
        let connection = Connection::open(path)?;
        // Writers wait for each other, for less than the timeout of a request.
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
        )?;
        Ok(Notes { connection })
    }
}

#[derive(Message)]
#[rtype(result = "rusqlite::Result<i64>")]
struct Add(String);

impl Handler<Add> for Notes {
    type Result = rusqlite::Result<i64>;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> rusqlite::Result<i64> {
        self.connection.execute("INSERT INTO notes (text) VALUES (?1)", [&add.0])?;
        Ok(self.connection.last_insert_rowid())
    }
}

#[derive(Message)]
#[rtype(result = "rusqlite::Result<Option<String>>")]
struct Find(i64);

impl Handler<Find> for Notes {
    type Result = rusqlite::Result<Option<String>>;

    fn handle(&mut self, find: Find, _: &mut Context<Self>) -> rusqlite::Result<Option<String>> {
        let text = |row: &rusqlite::Row<'_>| row.get(0);
        self.connection.query_row("SELECT text FROM notes WHERE id = ?1", [find.0], text).optional()
    }
}
// ANCHOR_END: worker

// ANCHOR: pool
/// Four connections behind one queue: a request waits for the one that is free first.
fn notes(node: &Node, path: PathBuf) -> Result<Pool<Notes>, SuperviseError> {
    let spec = WorkerSpec::new("notes").placement(Placement::Dedicated).capacity(256);
    node.root().pool_with(spec, 4, Routing::SharedQueue, move |_| Notes::open(&path))
}
// ANCHOR_END: pool

// ANCHOR: handlers
/// How long a request may wait for the database, its turn included.
const WITHIN: Duration = Duration::from_secs(2);

async fn add(notes: web::Data<Pool<Notes>>, text: String) -> Result<String, Error> {
    // The first `?` is the pool's: full, too late or interrupted. The second is the database's.
    let id = notes.send(Add(text)).within(WITHIN).await?.map_err(actix_web::error::ErrorInternalServerError)?;
    Ok(format!("{id}\n"))
}

async fn find(notes: web::Data<Pool<Notes>>, id: web::Path<i64>) -> Result<HttpResponse, Error> {
    let found = notes.send(Find(*id)).within(WITHIN).await?.map_err(actix_web::error::ErrorInternalServerError)?;
    Ok(match found {
        Some(text) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text),
        None => HttpResponse::NotFound().body(format!("there is no note {id}\n")),
    })
}
// ANCHOR_END: handlers

// ANCHOR: serve
/// The server of the service. Health and metrics have a port of their own, `[http]` in the config.
fn serve(notes: Pool<Notes>, listen: &str) -> Result<Server, Failure> {
    let app = move || {
        App::new()
            .app_data(web::Data::new(notes.clone()))
            .route("/notes", web::post().to(add))
            .route("/notes/{id}", web::get().to(find))
    };
    let server = HttpServer::new(app).workers(2).shutdown_timeout(10).disable_signals();
    Ok(server.bind(listen).map_err(|error| format!("cannot listen at {listen}: {error}"))?.run())
}

#[actix::main]
async fn main() -> Result<StopReason, Failure> {
    let path = std::env::args().nth(1).ok_or("usage: web CONFIG.toml")?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let config = Config::from_toml_and_env(&text, std::env::vars_os()).map_err(|error| format!("{path}: {error}"))?;
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());

    let node = Node::start(config).await?;
    let notes = notes(&node, variable("NOTES_FILE", "notes.sqlite").into())?;
    notes.until_ready().await; // before the port is open
    let listen = variable("NOTES_LISTEN", "127.0.0.1:8080");
    let server = serve(notes, &listen)?;
    let handle = server.handle();
    actix_rt::spawn(server);
    println!("notes at http://{listen}/notes");
    if let Some(address) = node.http_address() {
        println!("health and metrics at http://{address}");
    }

    let reason = node.until_stopped().await?; // SIGTERM or SIGINT: not ready, drain, then leave
    handle.stop(true).await; // answers under way end first
    println!("stopped: {reason:?}");
    Ok(reason)
}
// ANCHOR_END: serve

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test;

    use super::*;

    #[test]
    fn the_configs_beside_this_file_are_right() -> Result<(), Failure> {
        Config::from_toml(include_str!("notes.toml"))?.check()?;
        let cluster = include_str!("cluster.toml");
        let variables = [
            ("HEARTBEAT_NODE", "notes-0"),
            ("HEARTBEAT_LISTEN", "0.0.0.0:7101"),
            ("HEARTBEAT_ADVERTISE", "10.0.0.5:7101"),
            ("HEARTBEAT_SEEDS", "notes-nodes:7101"),
        ];
        let variables = || variables.map(|(name, value)| (name.into(), value.into()));
        let error = Config::from_toml_and_env(cluster, variables()).expect_err("TOKEN is to be replaced");
        assert!(error.to_string().contains("http.token has 5 bytes"), "{error}");
        let cluster = cluster.replace("TOKEN", "0123456789abcdef");
        let sums = Config::from_toml_and_env(&cluster, variables())?.check()?;
        // What the manifest allows, less the time that the HTTP server has.
        assert!(sums.stop <= Duration::from_secs(40 - 10), "{sums}");
        Ok(())
    }

    #[actix_rt::test]
    async fn notes_outlive_the_worker_and_the_node() -> Result<(), Failure> {
        let file = std::env::temp_dir().join(format!("heartbeat-notes-{}.sqlite", std::process::id()));
        for (text, expected) in [("first", "1\n"), ("second", "2\n")] {
            let node = Node::start(Config::default()).await?;
            let notes = notes(&node, file.clone())?;
            notes.until_ready().await;
            let app = App::new().app_data(web::Data::new(notes.clone()));
            let app = app.route("/notes", web::post().to(add)).route("/notes/{id}", web::get().to(find));
            let app = test::init_service(app).await;
            let ask = async |request: test::TestRequest| {
                let response = test::call_service(&app, request.to_request()).await;
                (response.status(), test::read_body(response).await)
            };
            let added = ask(test::TestRequest::post().uri("/notes").set_payload(text)).await;
            assert_eq!(added, (StatusCode::OK, expected.into()));
            let found = ask(test::TestRequest::get().uri(&format!("/notes/{}", expected.trim()))).await;
            assert_eq!(found, (StatusCode::OK, text.into()));
            assert_eq!(ask(test::TestRequest::get().uri("/notes/99")).await.0, StatusCode::NOT_FOUND);
            node.leave().await;
            assert_eq!(ask(test::TestRequest::get().uri("/notes/1")).await.0, StatusCode::SERVICE_UNAVAILABLE);
        }
        ["", "-wal", "-shm"].iter().for_each(|end| drop(std::fs::remove_file(format!("{}{end}", file.display()))));
        Ok(())
    }
}
