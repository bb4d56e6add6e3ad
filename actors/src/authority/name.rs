//! `name`: writes the names of nodes, groups and clusters where some characters are not allowed: in
//! a file name, a line of text, a key with slashes.
//!
//! Letters, digits, `-` and `_` stand for themselves. Every other byte, a dot included, is written
//! as `%` and two hexadecimal digits, as in a URL (RFC 3986, section 2.1). So no written name is
//! `..`.

/// Writes a name.
pub(super) fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    text
}

/// Reads a written name; `None` if `text` is not one.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(if byte == b'%' { digit(rest.next())? << 4 | digit(rest.next())? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, text: &str) {
        assert_eq!((escaped(name).as_str(), unescaped(text).as_deref()), (text, Some(name)));
    }

    #[test]
    fn every_name_comes_back() {
        check("orders-2_b", "orders-2_b");
        check("a/b c\n%", "a%2fb%20c%0a%25");
        check("..", "%2e%2e");
        check("ü", "%c3%bc");
        check("", "");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(["%", "%4", "%zz", "%ff"].map(unescaped), [const { None }; 4]);
    }
}
