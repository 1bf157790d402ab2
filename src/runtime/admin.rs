//! `/livez`, `/readyz` and `/metrics`, the same on every role.

use crate::metrics::{CONTENT_TYPE, Metrics};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;
use tokio::sync::watch;

/// A named thing a process waits for before it is ready.
#[derive(Clone, Debug)]
pub struct Check {
    /// What is waited for, as `/readyz` shows it.
    pub name: &'static str,
    /// Whether it is there.
    pub passed: watch::Receiver<bool>,
}

struct Admin {
    metrics: Metrics,
    checks: Vec<Check>,
}

/// The router. Ready means that every check has passed.
pub fn router(metrics: Metrics, checks: Vec<Check>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Arc::new(Admin { metrics, checks }))
}

/// Lists each check, as the API server's own `/readyz?verbose` does.
async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    let mut status = StatusCode::OK;
    let mut text = String::new();
    for check in &admin.checks {
        let passed = *check.passed.borrow();
        if !passed {
            status = StatusCode::SERVICE_UNAVAILABLE;
        }
        text.push_str(&format!("[{}]{}\n", if passed { '+' } else { '-' }, check.name));
    }
    (status, text)
}

async fn render(State(admin): State<Arc<Admin>>) -> Response {
    match admin.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
