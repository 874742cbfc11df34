//! The admin port: an HTTP port through which operators, Prometheus and Kubernetes inspect a process.
//!
//! | route | answer |
//! |---|---|
//! | `GET /metrics` | 200, Prometheus' text format 0.0.4 |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 or 503, `{"ready": bool, "reasons": {component: reason}}` |
//! | `GET /status` | 200, one JSON object with a value per component |
//! | `POST /config` | changes settings of a training learner, sent as TOML or JSON; see below |
//!
//! Clients of the port are not trusted. The sizes of request heads and bodies are bounded, and so are the number and
//! the duration of connections. A connection serves one request and is then closed, so that an idle or slow client
//! cannot keep it. The port shows no secrets.
//!
//! Status codes of `POST /config`:
//!
//! - 200 with `{"changes": [{"key", "old", "new"}]}` once the training loop has applied the changes;
//! - 401 if `telemetry.admin_token_file` names a file and the request lacks `Authorization: Bearer SECRET`;
//! - 403 if `telemetry.admin_writes` is not `true`, or if the request has an `Origin` header: web browsers send this
//!   header, and a web page must not control a port on its reader's machine;
//! - 404 if this process does not train;
//! - 409 while another change is in progress;
//! - 422 with the reason if the changes are refused;
//! - 503 if the token file cannot be read, or if the training loop did not take the changes in time (it will still take
//!   them later).

mod token;

use crate::config::watch::CHANGE_BYTES_MAX;
use crate::config::{ApplyError, ConfigChange, ConfigPort, Origin, Resolved, TelemetryConfig};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::status::StatusBoard;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

pub use token::{TokenError, TokenFile};

/// Largest request head: the request line and all headers.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Maximum number of headers in a request.
pub const HEADERS_MAX: usize = 64;
/// Maximum number of open connections. Further connections wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 32;
/// Time limit for a connection, from accepting it to its last byte.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the answer of a route. After this time the client receives status 503.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that open connections have to finish after the server was asked to stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for example when the process has run out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

const _: () = assert!(HANDLER_TIMEOUT.as_millis() < CONNECTION_TIMEOUT.as_millis());

/// Content type of Prometheus' text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Body of the answer to an unknown route.
const ROUTES: &str = "routes: /metrics /healthz /readyz /status, POST /config\n";

/// Body of the answer to `POST /config` when changes of settings are turned off.
const WRITES_OFF: &str = "POST /config is off; telemetry.admin_writes = true turns it on\n";

/// Body of the answer to `POST /config` when the secret is missing or wrong.
const NO_TOKEN: &str = "POST /config needs Authorization: Bearer SECRET\n";

/// Reason why the admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the admin port cannot be opened at {address}: {reason}{}", hint(reason))]
pub struct BindError {
    address: String,
    reason: std::io::Error,
}

/// Returns advice for the error message. Returns an empty text if there is no advice for this kind of error.
fn hint(reason: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{AddrInUse, InvalidInput, PermissionDenied};
    match reason.kind() {
        AddrInUse => ", by another process; port 0 takes a free one",
        PermissionDenied => ", ports below 1024 are the administrator's; port 0 takes a free one",
        InvalidInput => ", expected HOST:PORT",
        _ => "",
    }
}

/// Opens the port. `127.0.0.1:0` takes a free port.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|reason| BindError { address: address.into(), reason })
}

/// The data that the admin port shows, and the settings that it may change. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Admin {
    /// Source of `/metrics`.
    pub metrics: Metrics,
    /// Source of `/readyz`.
    pub readiness: Readiness,
    /// Source of `/status`.
    pub status: StatusBoard,
    /// Receiver of changed settings, from `POST /config` and from other sources.
    pub config: ConfigPort,
    /// Which clients may change settings.
    pub writes: Writes,
}

/// Which clients may use `POST /config`.
#[derive(Debug, Clone, Default)]
pub enum Writes {
    /// No client.
    #[default]
    Off,
    /// Every client that can reach the port.
    Open,
    /// Clients that send the secret of this file.
    WithToken(TokenFile),
}

impl Writes {
    /// Returns which clients may change settings, as `telemetry.admin_writes` and `telemetry.admin_token_file` specify.
    pub fn of(telemetry: &TelemetryConfig) -> Self {
        match telemetry.admin_token_file.as_str() {
            _ if !telemetry.admin_writes => Self::Off,
            "" => Self::Open,
            path => Self::WithToken(TokenFile::at(path)),
        }
    }

    fn refusal(&self, headers: &HeaderMap) -> Result<Option<Response>, TokenError> {
        let file = match self {
            Self::Off => return Ok(Some((StatusCode::FORBIDDEN, WRITES_OFF).into_response())),
            Self::Open => return Ok(None),
            Self::WithToken(file) => file,
        };
        let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let unknown = (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], NO_TOKEN);
        Ok((!file.admits(authorization)?).then(|| unknown.into_response()))
    }
}

impl Admin {
    /// Accepts changes of settings from now on. `POST /config` validates a change against `resolved`. The training loop
    /// must poll the returned receiver between updates. See [`ConfigPort::open`].
    ///
    /// # Panics
    /// Panics if it was called before.
    pub fn config_changes(&self, resolved: &Resolved) -> mpsc::Receiver<ConfigChange> {
        self.config.open(resolved.clone())
    }
}

/// Serves until `shutdown` completes, then gives connections in progress up to [`STOP_TIMEOUT`] to finish.
///
/// Stop the admin port last, because `/readyz` and `/status` report what a draining process waits for.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: impl Future<Output = ()>) {
    info!(address = listener.local_addr().ok().map(tracing::field::display), "admin port open");
    serve_within(CONNECTION_TIMEOUT, listener, router(admin), shutdown).await;
}

async fn serve_within(
    connection_timeout: Duration,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    match timeout(connection_timeout, connection(stream, router)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "admin connection failed"),
                        Err(_) => debug!(?connection_timeout, "admin connection took too long"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "failed to accept an admin connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, finish).await.is_err() {
        debug!(open = connections.len(), "admin connections cut off");
    }
}

async fn connection(stream: TcpStream, router: Router) -> hyper::Result<()> {
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/config", post(config).layer(DefaultBodyLimit::max(CHANGE_BYTES_MAX)))
        .fallback(async || (StatusCode::NOT_FOUND, ROUTES))
        .layer(middleware::from_fn(bounded))
        .with_state(admin)
}

/// Refuses a body on routes that take none, and limits the time to an answer.
async fn bounded(request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let takes_body = path == "/config" && request.method() == Method::POST;
    if !takes_body && !request.body().is_end_stream() {
        return (StatusCode::PAYLOAD_TOO_LARGE, "only POST /config takes a body\n").into_response();
    }
    match timeout(HANDLER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            warn!(path, timeout = ?HANDLER_TIMEOUT, "admin request took too long");
            (StatusCode::SERVICE_UNAVAILABLE, "took too long\n").into_response()
        }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            warn!(%error, "failed to encode metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "failed to encode metrics\n").into_response()
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let reasons = admin.readiness.reasons();
    let ready = reasons.is_empty();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready, "reasons": reasons }))).into_response()
}

async fn status(State(admin): State<Admin>) -> Response {
    match admin.status.collect().await {
        Some(status) => Json(status).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n").into_response(),
    }
}

async fn config(State(admin): State<Admin>, headers: HeaderMap, body: String) -> Response {
    match admin.writes.refusal(&headers) {
        Ok(None) => {}
        Ok(Some(refusal)) => return refusal,
        Err(error) => {
            warn!(%error, "POST /config refused: its token cannot be read");
            return (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be read\n").into_response();
        }
    }
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "not from a web page\n").into_response();
    }
    let error = match admin.config.apply(&body, &Origin::Admin).await {
        Ok(changes) => return Json(json!({ "changes": changes })).into_response(),
        Err(error) => error,
    };
    let code = match error {
        ApplyError::Config(_) | ApplyError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ApplyError::Busy => StatusCode::CONFLICT,
        ApplyError::Closed => StatusCode::NOT_FOUND,
    };
    (code, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_request_that_never_ends_is_cut_off() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let never = std::future::pending();
        let limit = Duration::from_millis(20);
        tokio::spawn(serve_within(limit, listener, router(Admin::default()), never));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nX: drip").await.unwrap();
        let mut answer = Vec::new();
        // Without the time limit this read would wait forever. A reset of the connection is a valid end, too.
        let ended = stream.read_to_end(&mut answer).await;
        assert!(ended.is_err() || answer.is_empty(), "{answer:?}");
    }

    #[tokio::test]
    async fn a_silent_client_does_not_hold_up_the_stop() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async { stopped.await.expect("sent below") };
        let hour = Duration::from_secs(3_600);
        let server = serve_within(hour, listener, router(Admin::default()), shutdown);
        let server = tokio::spawn(server);
        let _silent = TcpStream::connect(address).await.unwrap();
        stop.send(()).unwrap();
        server.await.unwrap();
    }
}
