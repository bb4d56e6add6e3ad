//! Rules of the house that a machine can check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of `core` in the order of their imports: each may use only those before it. The book
/// shows the same table.
const CORE: [&str; 26] = [
    "time",
    "random",
    "lease",
    "leaving",
    "line_limit",
    "member",
    "snapshot",
    "wire",
    "counters",
    "config",
    "timer_wheel",
    "detection",
    "event",
    "interruption",
    "authority",
    "output",
    "bounds",
    "ctx",
    "supervision",
    "input",
    "membership",
    "sharding",
    "requests",
    "entities",
    "engine",
    "lib",
];

/// The rooms of `actors` in the order of their imports, as for [`CORE`]. What the crate root
/// exports (`use crate::Config`) belongs to no room.
const ACTORS: [&str; 21] = [
    "clock",
    "lock",
    "spans",
    "seal",
    "transport",
    "thread",
    "authority",
    "worker",
    "view",
    "requests",
    "control",
    "http",
    "node",
    "web",
    "prelude",
    "testkit",
    "cluster",
    "config",
    "event",
    "lib",
    "program",
];

/// Places at which a rule does not hold yet: the rule, and the beginning of the path. To be
/// emptied.
const NOT_YET: [(&str, &str); 8] = [
    ("private metaphors", "core/src/supervision/"),
    ("private metaphors", "examples/"),
    ("private metaphors", "tests/it/"),
    ("private metaphors", "tests/kit/"),
    ("private metaphors", "tests/live/"),
    ("private metaphors", "tests/parity/"),
    ("private metaphors", "tests/histories/"),
    ("catch-all arms", "core/src/supervision/"),
];

/// Fails with what breaks a rule (each with its path), the places in [`NOT_YET`] apart.
#[track_caller]
pub(crate) fn check(rule: &str, mut found: Vec<(String, String)>) {
    found.retain(|(path, _)| !is_exempt(rule, path));
    let lines: Vec<String> = found.iter().map(|(path, what)| format!("{path}: {what}")).collect();
    assert!(lines.is_empty(), "{} break the rule \"{rule}\":\n{}", lines.len(), lines.join("\n"));
}

/// Whether a rule does not hold yet in a file.
pub(crate) fn is_exempt(rule: &str, path: &str) -> bool {
    NOT_YET.iter().any(|(of, begin)| *of == rule && path.starts_with(begin))
}

/// A path as seen from the root of the repository.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files below a folder, with their text.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

/// The part of a file before its tests, without comments.
pub(crate) fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The room that a file below `folder` is, or belongs to.
fn room(folder: &str, path: &Path) -> String {
    let under = path.strip_prefix(root().join(folder)).unwrap();
    under.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Checks that each file below `folder` uses its own room and those before it in `rooms` only.
#[track_caller]
fn check_imports(folder: &str, rooms: &[&str]) {
    for (path, text) in sources(folder) {
        let room = room(folder, &path);
        let place = rooms.iter().position(|name| *name == room).unwrap_or_else(|| panic!("{room} is not in the table"));
        for other in &rooms[place + 1..] {
            let is_used = code(&text).contains(&format!("crate::{other}"));
            assert!(!is_used, "{} uses {other}, which stands above it", path.display());
        }
    }
}

#[test]
fn core_imports_only_downwards() {
    check_imports("core/src", &CORE);
}

#[test]
fn actors_imports_only_downwards() {
    check_imports("actors/src", &ACTORS);
}

#[test]
fn core_depends_on_bytes_and_what_reads_a_config_alone() {
    let manifest = std::fs::read_to_string(root().join("core/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: BTreeSet<&str> = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
    assert_eq!(names, BTreeSet::from(["", "bytes", "humantime", "serde", "toml"]));
}

#[test]
fn core_has_no_clock_thread_socket_or_unordered_table() {
    let banned = [
        "Instant::now",
        "SystemTime",
        "thread::",
        "HashMap",
        "HashSet",
        "UdpSocket",
        "TcpStream",
        "println!",
        "async ",
    ];
    for (path, text) in sources("core/src") {
        for word in banned {
            assert!(!code(&text).contains(word), "{} holds {word}", path.display());
        }
    }
}

#[test]
fn libraries_do_not_unwrap() {
    for (path, text) in sources("core/src").into_iter().chain(sources("actors/src")) {
        // What the unit tests of a room share is compiled for tests only.
        let is_fixture = path.ends_with("fixture.rs") || path.ends_with("tests.rs");
        assert!(is_fixture || !code(&text).contains(".unwrap()"), "{}", path.display());
    }
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for folder in ["core/src", "actors/src", "examples", "tests"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//! "), "{} has no head", path.display());
        }
    }
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    for folder in ["core/src", "actors/src", "examples", "tests/sim", "tests/it"] {
        for (path, text) in sources(folder) {
            for (name, length, body) in functions(&text) {
                // A pattern may take several lines.
                let is_pattern = |line: &&str| line.contains("=>") || line.trim_start().starts_with("| ");
                let is_flat_match = body.lines().filter(is_pattern).count() * 3 > length;
                if length > 70 && !is_flat_match {
                    found.push((short(&path), format!("{name} has {length} lines")));
                }
            }
        }
    }
    check("length of functions", found);
}

/// Functions with their lengths, found by the indentation that rustfmt gives them.
fn functions(text: &str) -> Vec<(String, usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function = line.trim_start().split_once("fn ").is_some_and(|(before, _)| {
            let words = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe"];
            before.split_whitespace().all(|word| words.contains(&word) || word.starts_with("pub(in "))
        }) && !line.ends_with(';')
            && !is_declaration(&lines[start..], indent);
        let Some(end) = lines[start..].iter().position(|line| *line == format!("{}}}", " ".repeat(indent))) else {
            continue;
        };
        if is_function {
            found.push((line.trim().to_owned(), end + 1, lines[start..=start + end].join("\n")));
        }
    }
    found
}

/// Whether the function that begins here has no body: its list of arguments ends in a semicolon.
fn is_declaration(lines: &[&str], indent: usize) -> bool {
    let is_end = |line: &&&str| line.strip_prefix(&" ".repeat(indent)).is_some_and(|rest| rest.starts_with([')', '}']));
    lines.iter().find(is_end).is_some_and(|line| line.ends_with(';'))
}

#[test]
fn every_event_is_explained_to_operators() {
    let events = std::fs::read_to_string(root().join("core/src/event.rs")).unwrap();
    let events = events.split("pub enum Event {").nth(1).unwrap().split("\n}").next().unwrap();
    let operating = std::fs::read_to_string(root().join("docs/src/operating.md")).unwrap();
    let is_variant =
        |line: &&str| line.starts_with("    ") && line[4..].starts_with(|first: char| first.is_ascii_uppercase());
    let variants: Vec<&str> =
        events.lines().filter(is_variant).map(|line| line.trim().trim_end_matches([' ', '{', ','])).collect();
    assert!(variants.len() > 15, "{variants:?}");
    for variant in variants {
        assert!(operating.contains(&format!("`{variant}`")), "docs/src/operating.md does not explain {variant}");
    }
}

#[test]
fn each_package_carries_both_licences() {
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let ours = std::fs::read_to_string(root().join(licence)).unwrap();
        for package in ["core", "actors"] {
            assert_eq!(
                std::fs::read_to_string(root().join(package).join(licence)).unwrap(),
                ours,
                "{package}/{licence}"
            );
        }
    }
}
