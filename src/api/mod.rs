//! The HTTP API of Prometheus over one source.
//! Owns:     the paths, parameters and answers of the query address; how many queries run at once.
//! Touches:  the source and the engine, each behind a trait.
//! Runs on:  the tokio threads of the query plane; evaluation and large answers run on threads of their own.
//! Promises: every request gets an answer in Prometheus' form, whatever it holds.

mod error;
mod evaluate;
mod exemplars;
mod gate;
mod json;
mod metadata;
mod metric_metadata;
mod metrics;
mod number;
mod observe;
mod params;
mod probes;
mod query;
mod status;
mod status_tsdb;

use std::any::Any;
use std::sync::Arc;

use annulus_shards::core::Readiness;
use annulus_shards::metrics::Metrics;
use axum::Router;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{Method, Uri};
use prometheus::Registry;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

pub use evaluate::{AnswerFuture, Evaluate};
pub use params::Steps;
pub use status_tsdb::{CountFuture, HeadCounts};

use crate::promql::value::QueryOptions;
use crate::source::{ExtraSource, Source};
use error::{ApiError, ErrorKind};
use gate::Gate;
use metrics::ApiMetrics;

/// Settings of the query API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// What queries get that say nothing else; the timeout is also the most they may ask for.
    pub options: QueryOptions,
    /// The step of range queries that name none.
    pub default_step_ms: i64,
    /// Queries that run at once.
    pub concurrent_max: usize,
    /// What `/api/v1/status/flags` shows.
    pub flags: Vec<(String, String)>,
    /// When the process started, in milliseconds since the Unix epoch.
    pub started_ms: i64,
}

/// Whether the process answers queries.
pub type ReadinessCheck = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// All that the handlers share.
pub struct Api {
    evaluator: Arc<dyn Evaluate>,
    source: Arc<dyn Source>,
    config: ApiConfig,
    metrics: ApiMetrics,
    gate: Gate,
    registry: Registry,
    readiness: ReadinessCheck,
    /// Counts what is in memory, in roles that ingest.
    head: Option<Arc<dyn HeadCounts>>,
    /// Has exemplars and metadata, in roles that ingest.
    extras: Option<Arc<dyn ExtraSource>>,
}

impl Api {
    /// An API over `source`. Its metrics are registered in `registry`, where `http`, those of the ingest plane, are
    /// already.
    pub fn new(
        evaluator: Arc<dyn Evaluate>,
        source: Arc<dyn Source>,
        config: ApiConfig,
        registry: Registry,
        http: Metrics,
        readiness: ReadinessCheck,
    ) -> Api {
        let metrics = ApiMetrics::register(&registry, http);
        let gate = Gate::new(config.concurrent_max, &metrics);
        Api { evaluator, source, config, metrics, gate, registry, readiness, head: None, extras: None }
    }

    /// With `/api/v1/status/tsdb` over `head`.
    pub fn with_head(self, head: Arc<dyn HeadCounts>) -> Api {
        Api { head: Some(head), ..self }
    }

    /// With exemplars and metadata.
    pub fn with_extras(self, extras: Arc<dyn ExtraSource>) -> Api {
        Api { extras: Some(extras), ..self }
    }

    /// The routes of the query address.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
        Router::new()
            .route("/api/v1/query", query_page(&api, "query", query::instant))
            .route("/api/v1/query_range", query_page(&api, "query_range", query::range))
            .route("/api/v1/labels", query_page(&api, "label_names", metadata::label_names))
            .route("/api/v1/label/{name}/values", page(&api, "label_values", metadata::label_values))
            .route("/api/v1/series", query_page(&api, "series", metadata::series))
            .route("/api/v1/status/buildinfo", page(&api, "status_build", status::build_info))
            .route("/api/v1/status/runtimeinfo", page(&api, "status_runtime", status::runtime_info))
            .route("/api/v1/status/flags", page(&api, "status_flags", status::flags))
            .route("/api/v1/status/tsdb", page(&api, "status_tsdb", status_tsdb::head_stats))
            .route("/api/v1/metadata", page(&api, "metadata", metric_metadata::metadata))
            .route("/api/v1/rules", page(&api, "rules", status::no_rules))
            .route("/api/v1/alerts", page(&api, "alerts", status::no_alerts))
            .route("/api/v1/query_exemplars", query_page(&api, "exemplars", exemplars::query))
            .route("/-/healthy", get(probes::healthy))
            .route("/-/ready", get(probes::ready))
            .route("/metrics", get(probes::metrics))
            .fallback(unknown_path)
            .method_not_allowed_fallback(wrong_method)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(compression)
            .layer(from_fn(observe::cross_origin))
            .with_state(api)
    }
}

/// A page that is read with GET.
fn page<H, T>(api: &Arc<Api>, name: &'static str, handler: H) -> MethodRouter<Arc<Api>>
where
    H: Handler<T, Arc<Api>>,
    T: 'static,
{
    get(handler).layer(from_fn_with_state((Arc::clone(api), name), observe::count))
}

/// A page whose parameters may also come as a form.
fn query_page<H, T>(api: &Arc<Api>, name: &'static str, handler: H) -> MethodRouter<Arc<Api>>
where
    H: Handler<T, Arc<Api>>,
    T: 'static,
{
    get(handler.clone()).post(handler).layer(from_fn_with_state((Arc::clone(api), name), observe::count))
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("there is no page {:?} here", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(ErrorKind::MethodNotAllowed, format!("{:?} does not take {method}", uri.path()))
}

/// The last net: a bug of ours costs one answer, not the connection.
fn panicked(_payload: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request to the query API made its handler panic");
    ApiError::new(ErrorKind::Internal, "the request met a bug of this server; its log says more")
        .into_response()
}

#[cfg(test)]
mod tests;
