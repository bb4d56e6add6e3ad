//! Errors as answers of an actix-web service (feature `actix-web`): a handler may end in
//! `worker.send(..).await?`.
//!
//! The status says what the client may do. 503: the message was not handled, so the client may ask
//! again. 504: no answer came in time. 500: the worker failed while it had the message. After the
//! last two the request may have had its effect.

use actix_web::ResponseError;
use actix_web::http::StatusCode;

use crate::view::owner::NoOwner;
use crate::worker::messages::NotUp;
use crate::worker::send_error::{SendError, TrySendError};

impl ResponseError for SendError {
    fn status_code(&self) -> StatusCode {
        match self {
            SendError::Full
            | SendError::Closed
            | SendError::GaveUp
            | SendError::NotReady
            | SendError::Dropped
            | SendError::UnknownMember(_)
            | SendError::UnknownWorker { .. }
            | SendError::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
            SendError::UnknownMessage(_) | SendError::Unencodable(_) => StatusCode::NOT_IMPLEMENTED,
            SendError::Key(_) => StatusCode::BAD_REQUEST,
            SendError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            SendError::Interrupted(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl<M> ResponseError for TrySendError<M> {
    fn status_code(&self) -> StatusCode {
        self.error.status_code()
    }
}

impl ResponseError for NoOwner {
    fn status_code(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

impl ResponseError for NotUp {
    fn status_code(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: SendError, status: u16) {
        assert_eq!(error.status_code().as_u16(), status, "{error}");
        assert_eq!(error.error_response().status().as_u16(), status);
        let refused = TrySendError { error, message: () };
        assert_eq!(refused.status_code().as_u16(), status);
    }

    #[test]
    fn the_status_says_whether_the_client_may_ask_again() {
        check(SendError::Full, 503);
        check(SendError::Closed, 503);
        check(SendError::GaveUp, 503);
        check(SendError::NotReady, 503);
        check(SendError::Dropped, 503);
        check(SendError::TimedOut, 504);
        check(SendError::Interrupted(heartbeat_core::Interruption::Blocked), 500);
    }
}
