//! `secret`: a password that stands in the config, or at a place that the config names.

use heartbeat_core::config::Secret;

/// The password, or what is at the place that it names. It is read anew each time, so that it can
/// be changed. `setting` names it in errors.
pub(super) fn read(setting: &str, secret: &Secret) -> Result<String, String> {
    let text = secret.expose();
    if let Some(name) = text.strip_prefix("env:") {
        let unset = |error| format!("{setting} names the variable {name:?}, {error}; set it");
        return std::env::var(name).map_err(unset);
    }
    if let Some(path) = text.strip_prefix("file:") {
        let unread = |error| format!("{setting} names the file {path:?}, {error}; let it be readable");
        return Ok(std::fs::read_to_string(path).map_err(unread)?.trim_end_matches(['\n', '\r']).to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (read("a.password", &text.into()), expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (read, expected) => panic!("{read:?} and not {expected:?}"),
        }
    }

    #[test]
    fn a_password_is_read_from_where_it_is() {
        let path = std::env::temp_dir().join(format!("heartbeat-secret-{}", std::process::id()));
        std::fs::write(&path, "sesame\n").unwrap();
        check("sesame", Ok("sesame"));
        check(&format!("file:{}", path.display()), Ok("sesame"));
        std::fs::remove_file(&path).unwrap();
        check(&format!("file:{}", path.display()), Err("a.password names the file"));
        check("env:HEARTBEAT_NO_SUCH_VARIABLE", Err("a.password names the variable \"HEARTBEAT_NO_SUCH_VARIABLE\""));
    }
}
