//! The HTTP API of Prometheus over one source.
//! Owns:     the paths, parameters and answers of the query address; how many queries run at once.
//! Touches:  the source and the engine, each behind a trait.
//! Runs on:  the tokio threads of the query plane; evaluation and large answers run on threads of their own.
//! Promises: every request gets an answer in Prometheus' form, whatever it holds.

mod error;
mod evaluate;
mod exemplars;
mod form;
mod format;
mod gate;
mod json;
mod metadata;
mod metric_metadata;
mod metrics;
mod number;
mod observe;
mod params;
mod pieces;
mod probes;
mod query;
mod query_log;
mod read;
mod room;
mod stats;
mod status;
mod status_tsdb;
mod summary;
mod tree;
mod view;

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use annulus_shards::core::Readiness;
use annulus_shards::metrics::Metrics;
use axum::Router;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::{Method, Uri};
use prometheus::Registry;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};

pub use evaluate::{AnswerFuture, Evaluate};
pub use params::Steps;
pub use read::ReadLimits;
pub use status_tsdb::{CountFuture, HeadCounts};

use crate::promql::value::QueryOptions;
use crate::source::{ExtraSource, ViewSource};
use error::{ApiError, ErrorKind};
use gate::Gate;
use metrics::ApiMetrics;
use query_log::QueryLog;
use room::AnswerRoom;

/// Settings of the query API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// What queries get that say nothing else; the timeout is also the most they may ask for.
    pub options: QueryOptions,
    /// The step of range queries that name none.
    pub default_step_ms: i64,
    /// Queries that run at once.
    pub concurrent_max: usize,
    /// Whether queries that do not say may be answered in part, with a warning.
    pub partial_response: bool,
    /// Limits of remote read.
    pub read: ReadLimits,
    /// Queries that take at least as long are logged.
    pub slow_query: Option<Duration>,
    /// What `/api/v1/status/flags` shows.
    pub flags: Vec<(String, String)>,
    /// What `/api/v1/status/config` shows.
    pub external_labels: Vec<(String, String)>,
    /// How long samples stay, as people read it.
    pub retention: String,
    /// When the process started, in milliseconds since the Unix epoch.
    pub started_ms: i64,
}

/// Whether the process answers queries.
pub type ReadinessCheck = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// All that the handlers share.
pub struct Api {
    evaluator: Arc<dyn Evaluate>,
    source: Arc<dyn ViewSource>,
    config: ApiConfig,
    metrics: ApiMetrics,
    gate: Gate,
    room: Arc<AnswerRoom>,
    query_log: QueryLog,
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
        source: Arc<dyn ViewSource>,
        config: ApiConfig,
        registry: Registry,
        http: Metrics,
        readiness: ReadinessCheck,
    ) -> Api {
        let metrics = ApiMetrics::register(&registry, http);
        let gate = Gate::new(config.concurrent_max, &metrics);
        let answer_bytes_max = config.options.samples_max.saturating_mul(query::POINT_BYTES as u64);
        let answer_bytes_max = answer_bytes_max.max(config.options.fetch_bytes_max);
        let room = AnswerRoom::new(answer_bytes_max, metrics.answer_bytes.clone());
        let query_log =
            QueryLog::new(config.slow_query, metrics.engine_queries.clone(), metrics.slow_queries.clone());
        let (head, extras) = (None, None);
        Api { evaluator, source, config, metrics, gate, room, query_log, registry, readiness, head, extras }
    }

    /// With a file in `folder` that says which queries run.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn with_active_queries(mut self, folder: &Path) -> io::Result<Api> {
        self.query_log.keep_file(folder, self.config.concurrent_max)?;
        Ok(self)
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
        // Of what is compressed already only the head would change.
        let is_text = DefaultPredicate::new().and(NotForContentType::new("application/x-protobuf"));
        let is_text = is_text.and(NotForContentType::new("application/x-streamed-protobuf"));
        let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_text);
        Router::new()
            .route("/", get(status::index))
            .route("/api/v1/query", query_page(&api, "query", query::instant))
            .route("/api/v1/query_range", query_page(&api, "query_range", query::range))
            .route("/api/v1/format_query", query_page(&api, "format_query", format::format))
            .route("/api/v1/parse_query", query_page(&api, "parse_query", format::parse))
            .route(
                "/api/v1/read",
                post(read::read).layer(from_fn_with_state((Arc::clone(&api), "remote_read"), observe::count)),
            )
            .route("/api/v1/labels", query_page(&api, "label_names", metadata::label_names))
            .route("/api/v1/label/{name}/values", page(&api, "label_values", metadata::label_values))
            .route("/api/v1/series", query_page(&api, "series", metadata::series))
            .route("/api/v1/status/buildinfo", page(&api, "status_build", status::build_info))
            .route("/api/v1/status/runtimeinfo", page(&api, "status_runtime", status::runtime_info))
            .route("/api/v1/status/flags", page(&api, "status_flags", status::flags))
            .route("/api/v1/status/tsdb", page(&api, "status_tsdb", status_tsdb::head_stats))
            .route("/api/v1/status/config", page(&api, "status_config", status::config))
            .route("/api/v1/features", page(&api, "features", status::features))
            .route("/api/v1/status/walreplay", page(&api, "status_walreplay", status::wal_replay))
            .route("/api/v1/targets", page(&api, "targets", status::no_targets))
            .route("/api/v1/targets/metadata", page(&api, "targets_metadata", status::nothing))
            .route("/api/v1/scrape_pools", page(&api, "scrape_pools", status::no_scrape_pools))
            .route("/api/v1/notifications", page(&api, "notifications", status::nothing))
            .route("/api/v1/stores", page(&api, "stores", status::no_stores))
            .route("/api/v1/alertmanagers", page(&api, "alertmanagers", status::no_alertmanagers))
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
