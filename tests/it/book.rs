//! What the book and the README show is what the code takes.
//!
//! Rust code of the book is compiled as doc tests (`examples/lib.rs`, `tests/sim/lib.rs`), or is
//! included from `examples/book`.

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
