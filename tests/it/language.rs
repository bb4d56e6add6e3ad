//! The language of the house, as far as a machine can measure it. It measures the width of
//! comments, subjects without a name, names that are private metaphors, and references that a
//! reader cannot follow.
//!
//! A sentence that passes may still be bad English. These rules are a floor.

use std::collections::BTreeSet;

use crate::tidy::{check, code, is_exempt, root, short, sources};

/// Where the Rust code is.
const FOLDERS: [&str; 4] = ["core/src", "actors/src", "examples", "tests"];

/// Comments are at most this wide; code may be wider.
const COMMENT_COLUMNS_MAX: usize = 100;

/// The share of sentences that may turn on one of [`INDEFINITE`].
const INDEFINITE_SHARE_MAX: f64 = 0.005;

/// Subjects and objects without a name. In this field `nobody` is a number: "no member".
const INDEFINITE: [&str; 10] =
    ["whoever", "whomever", "whatever", "somebody", "nobody", "anybody", "everybody", "someone", "anyone", "everyone"];

/// Parts of names that were private metaphors, and are not to come back.
const METAPHORS: [&str; 25] = [
    "letter",
    "letters",
    "desk",
    "tray",
    "seat",
    "seated",
    "undertaker",
    "heir",
    "heirs",
    "ledger",
    "bury",
    "buries",
    "buried",
    "speak",
    "speaks",
    "hear",
    "hears",
    "vouch",
    "vouches",
    "excuse",
    "excuses",
    "excused",
    "birth",
    "fates",
    "village",
];

/// Documents that are not in this repository, as a comment would cite them.
const OUTSIDE: [&str; 4] = ["DESIGN", "STYLE", "house.md", "design document"];

/// All Rust files with their text. This file is left out: it names what it forbids.
fn rust() -> Vec<(String, String)> {
    let files = FOLDERS.iter().flat_map(|folder| sources(folder)).map(|(path, text)| (short(&path), text));
    files.filter(|(path, _)| path != "tests/it/language.rs").collect()
}

/// All Markdown files of the book and of the root, with their text.
fn markdown() -> Vec<(String, String)> {
    let folders = [root(), root().join("docs/src")];
    let entries =
        folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let pages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (short(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark))
}

/// The sentences of some prose, without code. A blank line, a heading or a fence ends one.
fn sentences<'a>(lines: impl Iterator<Item = Option<&'a str>>) -> Vec<String> {
    let (mut all, mut paragraph, mut is_code) = (Vec::new(), String::new(), false);
    for line in lines.chain([None]) {
        let line = line.unwrap_or_default().trim();
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence || line.is_empty() || line.starts_with('#') {
            all.push(std::mem::take(&mut paragraph));
            continue;
        }
        paragraph.push_str(line);
        paragraph.push(' ');
    }
    let ends = [". ", "! ", "? ", ": ", "; ", " | "];
    for end in ends {
        all = all.iter().flat_map(|text| text.split(end)).map(str::to_owned).collect();
    }
    all.retain(|sentence| sentence.contains(char::is_alphabetic));
    all
}

/// Whether a sentence, its code apart, turns on one of [`INDEFINITE`].
fn is_indefinite(sentence: &str) -> bool {
    let prose: String = sentence.split('`').step_by(2).collect();
    prose.split(|letter: char| !letter.is_alphanumeric()).any(|word| INDEFINITE.contains(&word.to_lowercase().as_str()))
}

/// The lines of prose in the comments of a file: code, tables, rules and commands are none, and
/// cannot be wrapped.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let Some(comment) = comment(line).map(str::trim) else { return false };
        let is_fence = comment.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !["|", "----", "cargo "].iter().any(|begin| comment.starts_with(begin))
    };
    text.lines().filter(is_prose).collect()
}

#[test]
fn comments_are_at_most_a_hundred_columns_wide() {
    let found = rust().into_iter().flat_map(|(path, text)| {
        let wide = prose(&text).into_iter().filter(|line| line.chars().count() > COMMENT_COLUMNS_MAX);
        wide.map(|line| (path.clone(), line.trim().to_owned())).collect::<Vec<_>>()
    });
    check("width of comments", found.collect());
}

#[test]
fn few_sentences_have_a_subject_without_a_name() {
    let comments = rust().into_iter().map(|(path, text)| {
        let sentences = sentences(text.lines().map(comment));
        (path, sentences)
    });
    let pages = markdown().into_iter().map(|(path, text)| {
        let sentences = sentences(text.lines().map(Some));
        (path, sentences)
    });
    let (mut total, mut found) = (0, Vec::new());
    for (path, sentences) in comments.chain(pages).filter(|(path, _)| !is_exempt("indefinite subjects", path)) {
        total += sentences.len();
        let broken = sentences.into_iter().filter(|sentence| is_indefinite(sentence));
        found.extend(broken.map(|sentence| format!("{path}: {sentence}")));
    }
    let share = found.len() as f64 / total as f64;
    assert!(share < INDEFINITE_SHARE_MAX, "{} of {total} sentences:\n{}", found.len(), found.join("\n"));
}

/// The words of the names in some code, in lower case: `handle_frame` and `HandleFrame` have two.
fn words_of_names(code: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    // A dead letter is a term of the field. What stands in quotes is text.
    let code =
        ["dead_letter", "DeadLetter", "DEAD_LETTER"].iter().fold(code.to_owned(), |code, term| code.replace(term, ""));
    let names: String = code.lines().flat_map(|line| line.split('"').step_by(2).chain(["\n"])).collect();
    for name in names.split(|letter: char| !letter.is_alphanumeric()) {
        let mut word = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !word.is_empty() {
                words.insert(std::mem::take(&mut word));
            }
            word.extend(letter.to_lowercase());
        }
        words.insert(word);
    }
    words
}

#[test]
fn names_are_no_private_metaphors() {
    let found = rust().into_iter().flat_map(|(path, text)| {
        let words = words_of_names(&code(&text));
        let broken: Vec<_> = METAPHORS.iter().filter(|word| words.contains(**word)).collect();
        broken.into_iter().map(|word| (path.clone(), (*word).to_owned())).collect::<Vec<_>>()
    });
    check("private metaphors", found.collect());
}

#[test]
fn every_document_that_is_cited_is_in_the_repository() {
    let found = rust().into_iter().chain(markdown()).flat_map(|(path, text)| {
        let broken = text.lines().filter(|line| OUTSIDE.iter().any(|name| line.contains(name)));
        broken.map(|line| (path.clone(), line.trim().to_owned())).collect::<Vec<_>>()
    });
    check("documents outside", found.collect());
}

#[test]
fn test_names_have_at_most_sixty_characters() {
    let found = rust().into_iter().flat_map(|(path, text)| {
        let names = text.split("\nfn ").chain(text.split("    fn ")).chain(text.split("async fn ")).skip(1);
        let names = names.filter_map(|rest| rest.split('(').next()).filter(|name| {
            name.len() > 60 && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        });
        names.map(|name| (path.clone(), name.to_owned())).collect::<Vec<_>>()
    });
    check("length of test names", found.collect());
}

/// The names of the enums that the two libraries define.
fn own_enums() -> BTreeSet<String> {
    let files = ["core/src", "actors/src"].iter().flat_map(|folder| sources(folder));
    let enums = |text: &str| {
        let names = code(text);
        let names = names.split("enum ").skip(1).filter_map(|rest| rest.split([' ', '<', '{']).next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    files.flat_map(|(_, text)| enums(&text)).collect()
}

/// The catch-all arms in some code that stand beside arms for the variants of an enum of ours. Arms
/// of one match have one indentation, as rustfmt gives it.
///
/// An arm that passes the value on (`other => log(other)`) is allowed: an enum of `core` is
/// `#[non_exhaustive]` for `actors`, and an unknown variant is not dropped silently there.
fn catch_alls(code: &str, enums: &BTreeSet<String>) -> Vec<String> {
    let lines: Vec<&str> = code.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let arm = line.trim_start();
        if !(arm.starts_with("_ =>") || arm.starts_with("other =>")) {
            continue;
        }
        if arm.strip_prefix("other => ").is_some_and(|result| result.contains("other")) {
            continue;
        }
        let before = lines[..number].iter().rev();
        let arms = before.take_while(|other| other.trim().is_empty() || indent(other) >= indent(line));
        let mut arms = arms.filter(|other| indent(other) == indent(line));
        let is_own = |arm: &&str| {
            let pattern = arm.trim_start().trim_start_matches("| ").trim_start_matches("Some(");
            pattern.split_once("::").is_some_and(|(name, _)| enums.contains(name))
        };
        if arms.any(is_own) {
            found.push(format!("line {} of the code: {arm}", number + 1));
        }
    }
    found
}

#[test]
fn a_match_on_our_own_enum_names_every_variant() {
    let enums = own_enums();
    assert!(enums.contains("Event") && enums.len() > 50, "{enums:?}");
    let files = rust().into_iter().filter(|(path, _)| path.starts_with("core/src") || path.starts_with("actors/src"));
    let found = files.flat_map(|(path, text)| {
        let broken = catch_alls(&code(&text), &enums);
        broken.into_iter().map(|arm| (path.clone(), arm)).collect::<Vec<_>>()
    });
    check("catch-all arms", found.collect());
}
