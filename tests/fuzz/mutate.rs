//! Damage to valid inputs.

use heartbeat_core::Random;

/// Bytes at which readers tend to go wrong: ends of ranges, and both sides of a varint's mark.
const EDGES: [u8; 9] = [0, 1, 2, 0x7f, 0x80, 0x81, 0xc8, 0xfe, 0xff];

/// An index below `bound`, which is not zero.
pub(crate) fn index(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

/// Bytes of no meaning, up to `length_max`.
pub(crate) fn noise(random: &mut Random, length_max: usize) -> Vec<u8> {
    let length = index(random, length_max + 1);
    (0..length).map(|_| random.next_u64() as u8).collect()
}

/// One of `samples` with up to six faults, or none; one in twenty is noise.
pub(crate) fn bytes(random: &mut Random, samples: &[Vec<u8>], length_max: usize) -> Vec<u8> {
    if random.chance(0.05) {
        return noise(random, length_max);
    }
    let mut bytes = samples[index(random, samples.len())].clone();
    for _ in 0..random.below(7) {
        damage(random, &mut bytes, samples);
    }
    bytes
}

/// One fault.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
    if bytes.is_empty() {
        bytes.push(random.next_u64() as u8);
    }
    let (at, length) = (index(random, bytes.len()), bytes.len());
    let to = (at + 1 + index(random, 8)).min(length);
    match random.below(9) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = EDGES[index(random, EDGES.len())],
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes.insert(at, EDGES[index(random, EDGES.len())]),
        4 => drop(bytes.drain(at..to)),
        5 => bytes.extend_from_within(at..to),
        6 => bytes.truncate(at),
        // The longest varint, or one that is longer than any.
        7 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([1 + random.below(2) as u8]))),
        _ => {
            // The rest of another sample: a head of one kind with the fields of another.
            let other = &samples[index(random, samples.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
}

/// `sample`, line by line, with up to four faults; `words` are put in the place of a value.
pub(crate) fn text(random: &mut Random, sample: &str, words: &[&str]) -> String {
    let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
    for _ in 0..random.below(5) {
        if lines.is_empty() {
            break;
        }
        let at = index(random, lines.len());
        match random.below(7) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = index(random, lines.len());
                lines.swap(at, other);
            }
            3 => lines[at] = replace_value(random, &lines[at], words),
            4 => lines[at] = replace_value(random, &lines[at], words) + words[index(random, words.len())],
            5 => {
                let mut bytes = std::mem::take(&mut lines[at]).into_bytes();
                damage(random, &mut bytes, &[b"[x]".to_vec()]);
                lines[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
            _ => lines.truncate(at),
        }
    }
    lines.join("\n")
}

/// The line with another value behind its `=`, or in the place of one of its columns.
fn replace_value(random: &mut Random, line: &str, words: &[&str]) -> String {
    let word = words[index(random, words.len())];
    match line.split_once('=') {
        Some((key, _)) => format!("{key}= {word}"),
        None => {
            let mut columns: Vec<&str> = line.split(',').collect();
            let at = index(random, columns.len());
            columns[at] = word;
            columns.join(",")
        }
    }
}
