//! Who may read: a bearer token, compared in constant time.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpResponse};

use crate::http::Door;

/// Lets a request in that has the token, or refuses it with 401.
pub(super) async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let token = request.app_data::<Data<Door>>().and_then(|door| door.config.http.as_ref()).map(|http| &http.token);
    let given = request.headers().get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let is_allowed = token.is_none_or(|token| {
        token.is_empty()
            || given.strip_prefix(b"Bearer ").is_some_and(|given| is_same(given, token.expose().as_bytes()))
    });
    if is_allowed {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let refused = HttpResponse::Unauthorized()
        .insert_header((WWW_AUTHENTICATE, "Bearer"))
        .json(serde_json::json!({ "error": "this path wants the header \"Authorization: Bearer\" with http.token of the node's config" }));
    Ok(request.into_response(refused).map_into_right_body())
}

/// Whether two texts are the same; how long it takes tells only their lengths.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(is_same(b"0123456789abcdef", b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdef0", b"1123456789abcdef", b"0123456789abcdeg"] {
            assert!(!is_same(other, b"0123456789abcdef"), "{other:?}");
        }
    }
}
