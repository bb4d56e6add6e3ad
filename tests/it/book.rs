//! What the book and the README show is what the code takes.
//!
//! Rust code of the book is compiled as doc tests (`examples/lib.rs`, `tests/sim/lib.rs`), or is
//! included from `examples/book`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use heartbeat_core::Config;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All pages of the book, and the README, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let pages = std::fs::read_dir(root().join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.chain([root().join("README.md")]);
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of a page that open with this line, each without its fences.
fn blocks<'a>(text: &'a str, opening: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(opening).skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn each_config_in_the_book_is_one() {
    let mut configs = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "```toml\n") {
            if block.contains("dependencies]") || block.contains("{{#include") {
                continue;
            }
            let config = Config::from_toml(block).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            config.check().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            configs += 1;
        }
    }
    assert!(configs >= 2, "{configs}");
}

#[test]
fn each_file_that_the_book_includes_is_there() {
    for (path, text) in pages() {
        for include in text.split("{{#include ").skip(1) {
            let (file, anchor) = include.split("}}").next().unwrap().split_once(':').unwrap_or((include, ""));
            let file = path.parent().unwrap().join(file.split("}}").next().unwrap());
            let included = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("no file {}", file.display()));
            let has_anchor = included.lines().any(|line| line.trim() == format!("// ANCHOR: {anchor}"));
            assert!(anchor.is_empty() || has_anchor, "{} has no anchor {anchor}", file.display());
        }
    }
}

/// The files and folders of this repository that a page names in backticks.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let named = text.split('`').skip(1).step_by(2);
    named.filter(|name| {
        let is_here =
            ["core/", "actors/", "tests/", "examples/", "docs/"].iter().any(|folder| name.starts_with(folder));
        is_here && !name.contains(['*', ' ', '{'])
    })
}

#[test]
fn each_file_that_the_book_names_is_there() {
    for page in ["architecture.md", "promises.md", "benchmarks.md", "decisions.md", "wire.md"] {
        let text = std::fs::read_to_string(root().join("docs/src").join(page)).unwrap();
        for path in paths(&text) {
            assert!(root().join(path).exists(), "{page} names {path}");
        }
    }
}

#[test]
fn each_test_of_the_catalogue_is_where_the_book_says() {
    let book = std::fs::read_to_string(root().join("docs/src/promises.md")).unwrap();
    let rows = book.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let mut rows: Vec<(&str, &str)> = rows.map(|line| (line.split('|').nth(1).unwrap().trim(), line)).collect();
    rows.retain(|(number, _)| number.len() <= 3 && number.ends_with(|last: char| last.is_ascii_digit()));
    assert_eq!(rows.len(), 23, "T1 to T6, A1 to A14, P1, P2 and B1");
    for (number, row) in rows {
        for path in paths(row) {
            let text = std::fs::read_to_string(root().join(path)).unwrap();
            let is_cited = |line: &str| {
                let mut words = line.split(|other: char| !other.is_alphanumeric());
                let spans = [("T1 to T6", "T"), ("T4 to T6", "T")];
                words.any(|word| word == number)
                    || spans.iter().any(|(span, kind)| line.contains(span) && number.starts_with(kind))
            };
            let is_there = text.lines().any(|line| line.trim_start().starts_with("//") && is_cited(line));
            assert!(is_there, "{path} does not cite {number}");
        }
    }
}

/// The names in the first column of the table under a heading of the architecture chapter.
fn rooms(heading: &str) -> Vec<String> {
    let book = std::fs::read_to_string(root().join("docs/src/architecture.md")).unwrap();
    let section = book.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let first_column = rows.map(|line| line.split('|').nth(1).unwrap());
    let names = first_column.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned()).collect()
}

/// The names of a list in the tidy test.
fn listed(list: &str) -> Vec<String> {
    let tidy = std::fs::read_to_string(root().join("tests/it/tidy.rs")).unwrap();
    let list = tidy.split(&format!("const {list}: ")).nth(1).unwrap().split("];").next().unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_book_shows_the_rooms_in_the_order_of_their_imports() {
    assert_eq!(rooms("## The rooms of `core`"), listed("CORE"));
    assert_eq!(rooms("## The rooms of `actors`"), listed("ACTORS"));
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let names = text.split(|character: char| !(character.is_ascii_lowercase() || character == '_'));
    names.filter(|name| name.starts_with("heartbeat_") && *name != "heartbeat_actors").map(str::to_owned).collect()
}

#[test]
fn alerts_and_grafana_use_metrics_that_the_book_lists() {
    let read = |file: &str| std::fs::read_to_string(root().join("docs").join(file)).unwrap();
    let page = read("src/http.md");
    let table = page.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed = metrics(table);
    for file in ["alerts.yml", "grafana.json"] {
        // A histogram is listed by its name, and used by its parts.
        let part = |name: String| name.trim_end_matches("_bucket").to_owned();
        let used: BTreeSet<String> = metrics(&read(file)).into_iter().map(part).collect();
        let unknown: Vec<_> = used.difference(&listed).collect();
        assert!(used.len() > 10 && unknown.is_empty(), "{file}: {unknown:?}");
    }
    let alerts = read("alerts.yml");
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(|name| format!("`{name}`"));
    let described = read("src/alerts.md");
    let missing: Vec<_> = names.filter(|name| !described.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_book_lists_each_metric_of_a_node() {
    let source = std::fs::read_to_string(root().join("actors/src/http/metrics.rs")).unwrap();
    let mut exported = BTreeSet::new();
    let calls = [("gauge(", ""), ("gauges(", ""), ("counter(", "_total"), ("counters(", "_total"), ("histograms(", "")];
    for (call, ending) in calls {
        let call = format!("gathered.{call}");
        let calls = source.split(&call).skip(1);
        let names = calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        exported.extend(names.map(|name| format!("heartbeat_{name}{ending}")));
    }
    let page = std::fs::read_to_string(root().join("docs/src/http.md")).unwrap();
    let table = page.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    assert_eq!(exported, metrics(table));
}
