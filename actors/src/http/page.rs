//! The dashboard: one page that asks the other paths, and holds nothing by itself.
//!
//! Everything is in it: no style, script, font or picture comes from elsewhere. Its policy allows
//! the one script and the one style that carry the response's nonce, and requests to its own server
//! only. So a name that looks like markup stays text, even if the script had a fault. The page
//! itself needs no token: it asks for it, and sends it with each request.

use std::hash::{BuildHasher, Hasher, RandomState};

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::web::{self, ServiceConfig};

/// The page, with places for the script and for the nonce.
const PAGE: &str = include_str!("page.html");

const SCRIPT: &str = include_str!("page.js");

/// The page's place in every server.
pub(super) fn routes(service: &mut ServiceConfig) {
    at("/dashboard", service);
}

/// The page at the root of a server that has nothing else there.
pub(super) fn root(service: &mut ServiceConfig) {
    at("/", service);
}

fn at(path: &str, service: &mut ServiceConfig) {
    service.service(web::resource(path).route(web::get().to(page)).route(web::head().to(page)));
}

async fn page() -> HttpResponse {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HttpResponse::Ok()
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("text/html; charset=utf-8")
        .body(PAGE.replace("{nonce}", &nonce).replace("{script}", SCRIPT))
}

/// A number that no reader can guess: the standard library keys its hash tables from the system's
/// source of randomness.
fn nonce() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", number(), number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_used_once() {
        let nonces: std::collections::BTreeSet<String> = (0..1_000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 1_000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 32));
    }

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_writes_no_markup() {
        for foreign in ["src=", "@import", "url(", "http://", "https://"] {
            // The name of SVG is no address, and `url(#` names something on the page itself.
            let others = |line: &str| line.replace("http://www.w3.org/2000/svg", "").replace("url(#", "");
            let found = PAGE.lines().chain(SCRIPT.lines()).find(|line| others(line).contains(foreign));
            assert_eq!(found, None);
        }
        for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "</script"] {
            assert!(!SCRIPT.contains(unsafe_way), "{unsafe_way}");
        }
        assert_eq!((PAGE.matches("{script}").count(), PAGE.matches("{nonce}").count()), (1, 2));
    }
}
