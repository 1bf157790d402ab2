//! The endpoints, and what of HTTP decides.

use super::{Broker, Keys};
use crate::oauth::{OAuthError, Reason};
use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Bytes of a request's body (RFC 6749 names no bound).
const BODY: usize = 32 << 10;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(3);

/// By which a caller finds his request again (AuthZEN 1.0, section 10.1.3).
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of it that are sent back.
const REQUEST_ID_BYTES: usize = 256;

/// The routes `/token`, `/access/v1/evaluation`, `/jwks` and the two well-known documents (RFC 8414, section 3, and OpenID Connect Discovery).
pub fn router(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/token", any(token))
        .route("/access/v1/evaluation", any(evaluation))
        .route("/jwks", get(jwks))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/.well-known/openid-configuration", get(metadata))
        .with_state(broker)
}

async fn token(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answered = async {
        let body = form(&parts, body).await.inspect_err(|reason| broker.unread(*reason))?;
        broker.exchange(&parts.headers, &body).await
    };
    match answered.await {
        Ok(given) => json(StatusCode::OK, given.body()),
        Err(refused) => refuse(&refused),
    }
}

/// The body of a request that may be one for a token.
async fn form(parts: &Parts, body: Body) -> Result<Bytes, Reason> {
    if parts.method != Method::POST {
        return Err(Reason::MethodNotAllowed);
    }
    if !is_of(&parts.headers, "application/x-www-form-urlencoded") {
        return Err(Reason::MediaType);
    }
    read(body).await
}

async fn evaluation(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let id = parts.headers.remove(REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES);
    let answered = async {
        if parts.method != Method::POST {
            return Err(OAuthError::from(Reason::MethodNotAllowed));
        }
        let caller = broker.caller(&parts.headers).await?;
        // Not 415: AuthZEN's certification has it so.
        if !is_of(&parts.headers, "application/json") {
            let detail = Some("the body must be application/json");
            return Err(OAuthError { detail, ..Reason::EvaluationMalformed.into() });
        }
        let body = read(body).await?;
        broker.evaluate(&caller, &body).await
    };
    let mut response = match answered.await {
        Ok(evaluation) => json(StatusCode::OK, evaluation.body()),
        Err(refused) => refuse(&refused),
    };
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Whole, in time and within bounds.
async fn read(body: Body) -> Result<Bytes, Reason> {
    match timeout(BODY_TIME, to_bytes(body, BODY)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Reason::BodyTooLarge),
        Err(_) => Err(Reason::FormMalformed),
    }
}

fn is_of(headers: &HeaderMap, expected: &str) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(expected)
}

fn refuse(refused: &OAuthError) -> Response {
    let mut response = json(refused.reason.status(), refused.body(None));
    let headers = response.headers_mut();
    if let Some(challenge) = refused.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = refused.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refused.reason == Reason::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// JSON that nobody keeps (RFC 6749, section 5.1).
fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn jwks(State(broker): State<Arc<Broker>>) -> Response {
    published(&broker, |keys| keys.jwks())
}

async fn metadata(State(broker): State<Arc<Broker>>) -> Response {
    let issuer = &broker.issuers.broker;
    published(&broker, |keys| serde_json::to_value(keys.metadata(issuer)).unwrap_or_default())
}

fn published(broker: &Broker, document: impl FnOnce(&Keys) -> Value) -> Response {
    match broker.keys.borrow().as_deref() {
        Some(keys) => {
            let age = format!("public, max-age={}", keys.max_age());
            ([(header::CACHE_CONTROL, age)], Json(document(keys))).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "there are no signing keys yet; try again").into_response(),
    }
}
