//! The router from request to answer, over an engine and a source that answer what the test says.

use std::time::Duration;

use annulus_shards::core::{Count, HeadStats, ReadError, StatsScope};
use annulus_shards::exemplars::Exemplar;
use annulus_shards::metadata::{Description, MetricKind};
use annulus_shards::{Labels, MatchOp, Matcher};
use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::promql::ast::Span;
use crate::promql::value::{MatrixSeries, ParseError, QueryAnswer, QueryError, QueryValue, VectorSample};
use crate::source::{
    Metadata, SelectRequest, SeriesChunks, SeriesExemplars, Source, SourceError, SourceFuture, View,
};

mod pages;

/// Answers by the query's text.
struct FakeEngine;

impl FakeEngine {
    fn answer(query: &str, value: QueryValue) -> Result<QueryAnswer, QueryError> {
        match query {
            "" => Err(parse_error("no expression found in input").into()),
            "slow" => Err(QueryError::Timeout),
            "execution" => Err(QueryError::Execution("many-to-many matching not allowed".to_owned())),
            "panic" => panic!("planted"),
            _ => Ok(QueryAnswer { value, warnings: vec![], infos: vec!["PromQL info: x".to_owned()] }),
        }
    }
}

/// Counts as many series as the name of the scope has letters.
struct FakeHead;

impl HeadCounts for FakeHead {
    fn head_stats(&self, scope: StatsScope, limit: usize) -> CountFuture<'_> {
        Box::pin(async move {
            let metrics = vec![Count { name: "up".to_owned(), count: limit as u64 }];
            let stats = |tenant, series| HeadStats {
                tenant,
                series,
                series_by_metric: metrics,
                ..HeadStats::default()
            };
            match scope {
                StatsScope::Together => Ok(vec![stats(None, 8)]),
                StatsScope::Each => Ok(vec![stats(Some("a".into()), 4)]),
                StatsScope::Tenant(tenant) if *tenant == *"gone" => {
                    Err(ReadError::Unavailable { shard: 1, reason: "it has stopped" })
                }
                StatsScope::Tenant(tenant) => Ok(vec![stats(Some(tenant), 6)]),
            }
        })
    }
}

fn parse_error(message: &str) -> ParseError {
    ParseError { message: message.to_owned(), line: 1, column: 1, span: Span::default() }
}

impl Evaluate for FakeEngine {
    fn instant<'a>(
        &'a self,
        source: Arc<dyn Source>,
        query: &'a str,
        time_ms: i64,
        options: &'a QueryOptions,
    ) -> AnswerFuture<'a> {
        Box::pin(async move {
            if query == "part" {
                let matchers = self.selector(query)?;
                {
                    let budget = None;
                    source.select(SelectRequest { matchers, min_ms: 0, max_ms: 0, skip_chunks: true, budget })
                }
                .await?;
            }
            if let Some(costs) = &options.costs {
                costs.add_steps([(time_ms, 7)].into_iter());
            }
            if query == "hang" {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            let sample = |job: &str, value: f64| VectorSample {
                labels: Labels::from_pairs([("__name__", "up"), ("job", job)]),
                timestamp_ms: time_ms,
                value: value.into(),
            };
            let lookback = options.lookback_delta_ms as f64;
            FakeEngine::answer(query, QueryValue::Vector(vec![sample("a", 1.0), sample("b", lookback)]))
        })
    }

    fn range<'a>(
        &'a self,
        _source: Arc<dyn Source>,
        query: &'a str,
        steps: Steps,
        _options: &'a QueryOptions,
    ) -> AnswerFuture<'a> {
        let points = vec![(steps.start_ms, 0.5), (steps.start_ms + steps.step_ms, f64::NAN)];
        let matrix = QueryValue::Matrix(vec![MatrixSeries {
            labels: Labels::empty(),
            points,
            histograms: Vec::new(),
        }]);
        Box::pin(async move { FakeEngine::answer(query, matrix) })
    }

    fn selector(&self, text: &str) -> Result<Vec<Matcher>, ParseError> {
        match text {
            "{}" => Ok(vec![Matcher::new(MatchOp::Equal, "x", "").unwrap()]),
            "(" => Err(parse_error("unexpected end of input")),
            name if name.starts_with("patterns") => {
                Ok(vec![Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap(); 300])
            }
            name => Ok(vec![Matcher::new(MatchOp::Equal, "__name__", name).unwrap()]),
        }
    }

    /// As many selectors as the query has words.
    fn selectors(&self, query: &str) -> Result<Vec<Vec<Matcher>>, ParseError> {
        query.split_whitespace().map(|word| self.selector(word)).collect()
    }
}

/// One exemplar of each series that is asked for, and what a few families are.
struct FakeExtras;

impl ExtraSource for FakeExtras {
    fn exemplars<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        _max_ms: i64,
    ) -> SourceFuture<'a, Vec<SeriesExemplars>> {
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace_id", "<1>")]),
            value: 0.5,
            timestamp_ms: min_ms.max(1_500),
        };
        let series = move |set: Vec<Matcher>| SeriesExemplars {
            labels: Labels::from_pairs([("__name__", set[0].value.as_str())]),
            exemplars: vec![exemplar.clone(), Exemplar { value: f64::NAN, ..exemplar.clone() }],
        };
        let broken = sets.iter().any(|set| set[0].value == "broken");
        Box::pin(async move {
            if broken {
                return Err(SourceError::Unavailable("shard 0 replays".to_owned()));
            }
            Ok(sets.into_iter().map(series).collect())
        })
    }

    fn metadata<'a>(&'a self, family: Option<&'a str>) -> SourceFuture<'a, Metadata> {
        let described =
            |kind, help: &str, unit: &str| Description { kind, help: help.into(), unit: unit.into() };
        let mut all = Metadata::new();
        let gauge = described(MetricKind::Gauge, "<Is it?>", "");
        all.insert("up".to_owned(), vec![gauge, described(MetricKind::Unknown, "", "")]);
        all.insert("cpu".to_owned(), vec![described(MetricKind::Counter, "CPU time.", "seconds")]);
        all.retain(|name, _| family.is_none_or(|family| family == name));
        Box::pin(async move { Ok(all) })
    }
}

/// Series by the name that is asked for.
#[derive(Default)]
struct FakeSource {
    view: View,
}

impl Source for FakeSource {
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        assert!(request.skip_chunks);
        let name = request.matchers[0].value.clone();
        Box::pin(async move {
            if name == "broken" {
                return Err(SourceError::Unavailable("shard 0 replays".to_owned()));
            }
            if name == "part" {
                let Some(warnings) = &self.view.partial else {
                    return Err(SourceError::Corrupt("a block is broken".to_owned()));
                };
                warnings.add("a block is broken".to_owned());
            }
            if name == "hidden" {
                let text = self.view.hidden_labels.as_ref().map(|labels| format!("[{}]", labels.join(",")));
                let labels = Labels::from_pairs([("hidden", text.as_deref().unwrap_or("default"))]);
                return Ok(vec![SeriesChunks { labels, chunks: vec![] }]);
            }
            if name.starts_with("slow") {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let labels = Labels::from_pairs([("__name__", name.as_str())]);
            Ok(vec![SeriesChunks { labels, chunks: vec![] }])
        })
    }

    fn label_names<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(async move {
            Ok(vec!["a<b".to_owned(), format!("sets{}", sets.len()), format!("{}", max_ms > min_ms)])
        })
    }

    fn label_values<'a>(
        &'a self,
        name: String,
        _sets: Vec<Vec<Matcher>>,
        _min_ms: i64,
        _max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(async move { Ok(vec![name, "z".to_owned()]) })
    }
}

impl ViewSource for FakeSource {
    fn view(&self, view: &View) -> Arc<dyn ViewSource> {
        Arc::new(FakeSource { view: view.clone() })
    }
}

fn router_and_registry(readiness: Readiness) -> (Router, Registry) {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry);
    let config = ApiConfig {
        options: QueryOptions { timeout: Duration::from_millis(500), ..QueryOptions::default() },
        default_step_ms: 1_000,
        concurrent_max: 2,
        partial_response: true,
        read: ReadLimits { samples_max: 10, frame_bytes: 1_000 },
        slow_query: None,
        flags: vec![("log.level".to_owned(), "info".to_owned())],
        external_labels: vec![("cluster".to_owned(), "a\"b".to_owned())],
        retention: "15d".to_owned(),
        started_ms: 0,
    };
    let readiness: ReadinessCheck = Arc::new(move || readiness.clone());
    let api = Api::new(
        Arc::new(FakeEngine),
        Arc::new(FakeSource::default()),
        config,
        registry.clone(),
        metrics,
        readiness,
    );
    (api.with_head(Arc::new(FakeHead)).with_extras(Arc::new(FakeExtras)).router(), registry)
}

async fn send(request: Request<Body>) -> Response {
    router_and_registry(Readiness::Ready).0.oneshot(request).await.unwrap()
}

async fn read(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get_page(path: &str) -> (u16, String) {
    read(send(Request::get(path).body(Body::empty()).unwrap()).await).await
}

async fn post_form(path: &str, form: impl Into<Body>) -> (u16, String) {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .body(form.into())
        .unwrap();
    read(send(request).await).await
}

fn error_text(kind: &str, error: &str) -> String {
    format!(r#"{{"status":"error","errorType":"{kind}","error":"{error}"}}"#)
}

#[tokio::test]
async fn an_instant_query_answers_as_prometheus_does() {
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"vector","result":["#,
        r#"{"metric":{"__name__":"up","job":"a"},"value":[1.500,"1"]},"#,
        r#"{"metric":{"__name__":"up","job":"b"},"value":[1.500,"300000"]}]},"infos":["PromQL info: x"]}"#
    );
    assert_eq!(get_page("/api/v1/query?query=up&time=1.5").await, (200, expected.to_owned()));
    let thanos = "query=up&time=1.5&dedup=true&partial_response=true&max_source_resolution=0s&engine=thanos\
                  &replicaLabels[]=a&storeMatch[]=b&max_source_resolution=auto";
    assert_eq!(post_form("/api/v1/query", thanos).await, (200, expected.to_owned()));
    // What is not positive stands for the default.
    let usual = get_page("/api/v1/query?query=up&time=1.5&lookback_delta=0").await;
    assert_eq!(usual, (200, expected.to_owned()));
    let (_, limited) = get_page("/api/v1/query?query=up&time=1&limit=1&lookback_delta=1m").await;
    assert!(
        limited.contains(r#""warnings":["results truncated due to limit"]"#) && !limited.contains("\"b\"")
    );
}

#[tokio::test]
async fn a_range_query_answers_as_prometheus_does() {
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"matrix","result":["#,
        r#"{"metric":{},"values":[[1,"0.5"],[16,"NaN"]]}]},"infos":["PromQL info: x"]}"#
    );
    let query = "/api/v1/query_range?query=up&start=1&end=100&step=15s";
    assert_eq!(get_page(query).await, (200, expected.to_owned()));
}

#[tokio::test]
async fn metadata_answers_as_prometheus_does() {
    assert_eq!(
        get_page("/api/v1/labels?match[]=a&match[]=b").await.1,
        r#"{"status":"success","data":["a\u003cb","sets2","true"]}"#
    );
    assert_eq!(
        get_page("/api/v1/label/U__a_2e_b/values?limit=1").await.1,
        r#"{"status":"success","data":["a.b"],"warnings":["results truncated due to limit"]}"#
    );
    assert_eq!(
        post_form("/api/v1/series", "match[]=up&match[]=down&match[]=up").await.1,
        r#"{"status":"success","data":[{"__name__":"down"},{"__name__":"up"}]}"#
    );
    assert_eq!(
        get_page("/api/v1/status/flags").await.1,
        r#"{"status":"success","data":{"log.level":"info"}}"#
    );
    let (_, build) = get_page("/api/v1/status/buildinfo").await;
    assert!(build.contains(r#""version":"3.14.0","application":"annulus","applicationVersion":"#), "{build}");
    assert!(
        get_page("/api/v1/status/runtimeinfo").await.1.contains(r#""startTime":"1970-01-01T00:00:00.000Z""#)
    );
    assert_eq!(get_page("/api/v1/rules").await.1, r#"{"status":"success","data":{"groups":[]}}"#);
}

#[tokio::test]
async fn exemplars_answer_as_prometheus_does() {
    let series = |name: &str| {
        format!(
            r#"{{"seriesLabels":{{"__name__":"{name}"}},"exemplars":[{{"labels":{{"trace_id":"<1>"}},"value":"0.5","timestamp":1.500}},{{"labels":{{"trace_id":"<1>"}},"value":"NaN","timestamp":1.500}}]}}"#
        )
    };
    let one = format!(r#"{{"status":"success","data":[{}]}}"#, series("up"));
    assert_eq!(get_page("/api/v1/query_exemplars?query=up&start=1&end=2").await, (200, one));
    let two = format!(r#"{{"status":"success","data":[{},{}]}}"#, series("up"), series("down"));
    assert_eq!(post_form("/api/v1/query_exemplars", "query=up+down").await, (200, two));
    let none = (200, r#"{"status":"success","data":[]}"#.to_owned());
    assert_eq!(get_page("/api/v1/query_exemplars").await, none);
    for (path, status, kind, error) in [
        ("query=up&start=2&end=1", 400, "bad_data", "end timestamp must not be before start timestamp"),
        ("query=up+(", 400, "bad_data", "1:1: parse error: unexpected end of input"),
        ("query=broken", 503, "unavailable", "shard 0 replays"),
    ] {
        let path = format!("/api/v1/query_exemplars?{path}");
        assert_eq!(get_page(&path).await, (status, error_text(kind, error)), "{path}");
    }
    let (status, text) = post_form("/api/v1/query_exemplars", format!("query={}", "a+".repeat(2_000))).await;
    assert!(status == 400 && text.contains("more than 1000 selectors"), "{text}");
}

#[tokio::test]
async fn metadata_of_families_answers_as_prometheus_does() {
    let cpu = r#""cpu":[{"type":"counter","unit":"seconds","help":"CPU time."}]"#;
    let gauge = r#"{"type":"gauge","unit":"","help":"\u003cIs it?\u003e"}"#;
    let up = format!(r#""up":[{gauge},{{"type":"unknown","unit":"","help":""}}]"#);
    for (query, expected) in [
        ("", format!("{cpu},{up}")),
        ("?limit=-1", format!("{cpu},{up}")),
        ("?limit=1", cpu.to_owned()),
        ("?limit=0", String::new()),
        ("?limit_per_metric=1&metric=up", format!(r#""up":[{gauge}]"#)),
        ("?limit_per_metric=0&metric=up", up.clone()),
        ("?metric=nope", String::new()),
    ] {
        let expected = format!(r#"{{"status":"success","data":{{{expected}}}}}"#);
        assert_eq!(get_page(&format!("/api/v1/metadata{query}")).await, (200, expected), "{query}");
    }
    for name in ["limit", "limit_per_metric"] {
        let error = error_text("bad_data", &format!("{name} must be a number"));
        assert_eq!(get_page(&format!("/api/v1/metadata?{name}=x")).await, (400, error));
    }
}

#[tokio::test]
async fn errors_have_prometheus_kinds_and_codes() {
    for (path, status, kind, error) in [
        (
            "/api/v1/query",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:1: parse error: no expression found in input"#,
        ),
        (
            "/api/v1/query_range?start=1&end=2&step=1",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:1: parse error: no expression found in input"#,
        ),
        ("/api/v1/query?query=hang&timeout=0", 503, "timeout", "query timed out in expression evaluation"),
        ("/api/v1/query?query=slow", 503, "timeout", "query timed out in expression evaluation"),
        ("/api/v1/query?query=hang", 503, "timeout", "query timed out in expression evaluation"),
        ("/api/v1/query?query=execution", 422, "execution", "many-to-many matching not allowed"),
        (
            "/api/v1/query?query=panic",
            500,
            "internal",
            "the request met a bug of this server; its log says more",
        ),
        (
            "/api/v1/query?query=up&time=%00",
            400,
            "bad_data",
            r#"invalid parameter \"time\": Invalid time value for 'time': cannot parse \"\\0\" to a valid timestamp"#,
        ),
        ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
        (
            "/api/v1/series?match[]={}",
            400,
            "bad_data",
            r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#,
        ),
        ("/api/v1/labels?match[]=(", 400, "bad_data", "1:1: parse error: unexpected end of input"),
        ("/api/v1/series?match[]=broken", 503, "unavailable", "shard 0 replays"),
        ("/nope", 404, "not_found", r#"there is no page \"/nope\" here"#),
    ] {
        let path = path.replace('{', "%7B").replace('}', "%7D");
        assert_eq!(get_page(&path).await, (status, error_text(kind, error)), "{path}");
    }
    let (status, text) = get_page("/api/v1/label/%ff/values").await;
    assert!(status == 400 && text.contains("bad_data"), "{text}");
    let delete = Request::delete("/api/v1/query").body(Body::empty()).unwrap();
    let (status, text) = read(send(delete).await).await;
    assert_eq!((status, text), (405, error_text("bad_data", r#"\"/api/v1/query\" does not take DELETE"#)));
}

// Where selectors are slow, the clock stands still while something can be done and jumps when all wait: these tests take
// no time, and no other load on the machine changes their outcome.

#[tokio::test(start_paused = true)]
async fn many_selectors_share_one_timeout() {
    let form: Vec<String> = (0..10).map(|index| format!("match[]=slow{index}")).collect();
    let timed_out = error_text("timeout", "no answer within 500ms");
    assert_eq!(post_form("/api/v1/series", form.join("&")).await, (503, timed_out));
}

#[tokio::test(start_paused = true)]
async fn equal_selectors_are_asked_for_once() {
    let (status, _) = post_form("/api/v1/series", "match[]=slow&".repeat(2_000)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn selectors_have_a_bound() {
    for path in ["/api/v1/series", "/api/v1/labels"] {
        let form: Vec<String> = (0..2_000).map(|index| format!("match[]=up{index}")).collect();
        let (status, text) = post_form(path, form.join("&")).await;
        assert!(status == 400 && text.contains("more than 1000 selectors"), "{text}");
    }
    let form: Vec<String> = (0..4).map(|index| format!("match[]=patterns{index}")).collect();
    let (status, text) = post_form("/api/v1/labels", form.join("&")).await;
    assert!(status == 400 && text.contains("more than 1000 regular expressions"), "{text}");
}

#[tokio::test]
async fn only_queries_count_as_queries() {
    let (router, registry) = router_and_registry(Readiness::Ready);
    for path in ["series?match[]=up", "labels", "format_query?query=up", "query?query=up", "metadata"] {
        let request = Request::get(format!("/api/v1/{path}")).body(Body::empty()).unwrap();
        let _ = read(router.clone().oneshot(request).await.unwrap()).await;
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains("thanos_query_concurrent_gate_queries_total 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn metadata_requests_wait_for_their_turn_too() {
    let (router, _) = router_and_registry(Readiness::Ready);
    let ask = |path: &str| router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());
    // Two may run, and these two take as long as they may.
    let (first, second, third) = tokio::join!(
        ask("/api/v1/query?query=hang"),
        ask("/api/v1/query?query=hang"),
        ask("/api/v1/series?match[]=up&timeout=100ms"),
    );
    assert_eq!((first.unwrap().status().as_u16(), second.unwrap().status().as_u16()), (503, 503));
    let timed_out = error_text("timeout", "query timed out in query queue");
    assert_eq!(read(third.unwrap()).await, (503, timed_out));
}

#[tokio::test]
async fn a_body_past_its_bound_is_refused_and_other_bodies_are_not_read() {
    let (status, text) = post_form("/api/v1/query", format!("query={}", "x".repeat(2 << 20))).await;
    assert!(status == 413 && text.contains("2097152 bytes"), "{text}");
    let (status, text) = post_form("/api/v1/query", format!("query={}", "x".repeat(3 << 19))).await;
    assert!(status == 400 && text.contains("it is 1572864 bytes long"), "{text}");
    // Not a form: the body is not read, the URL still counts.
    let json = Request::post("/api/v1/query?query=up").body(Body::from("{")).unwrap();
    assert_eq!(send(json).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn probes_answer_as_thanos_does() {
    assert_eq!(get_page("/-/healthy").await, (200, "OK".to_owned()));
    assert_eq!(get_page("/-/ready").await, (200, "OK".to_owned()));
    let (router, _) = router_and_registry(Readiness::NotReady("replay".to_owned()));
    let request = Request::get("/-/ready").body(Body::empty()).unwrap();
    assert_eq!(read(router.oneshot(request).await.unwrap()).await, (503, "NOT OK".to_owned()));
}

#[tokio::test]
async fn requests_are_counted_under_their_handler() {
    let (router, registry) = router_and_registry(Readiness::Ready);
    for path in ["/api/v1/query?query=up", "/api/v1/query?query=slow", "/metrics"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let _ = read(router.clone().oneshot(request).await.unwrap()).await;
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        r#"http_requests_total{code="200",handler="query",method="get",tenant=""} 1"#,
        r#"http_requests_total{code="503",handler="query",method="get",tenant=""} 1"#,
        r#"http_request_duration_seconds_count{code="200",handler="query",method="get",tenant=""} 1"#,
        "thanos_query_api_instant_query_duration_seconds_count 2",
        "thanos_query_concurrent_gate_queries_max 2",
        "thanos_query_concurrent_gate_queries_in_flight 0",
        r#"prometheus_engine_query_duration_seconds_count{slice="result_sort"} 2"#,
        r#"prometheus_engine_query_duration_seconds{slice="queue_time",quantile="0.9"} "#,
        "annulus_query_form_bytes 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn browsers_and_compressing_clients_are_served() {
    let request = Request::get("/api/v1/query?query=up")
        .header(header::ORIGIN, "http://grafana")
        .header(header::ACCEPT_ENCODING, "gzip")
        .body(Body::empty())
        .unwrap();
    let response = send(request).await;
    assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes()[..2], [0x1f, 0x8b]);
    let options = Request::options("/api/v1/query").header(header::ORIGIN, "x").body(Body::empty()).unwrap();
    let response = send(options).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_METHODS));
}

#[tokio::test]
async fn the_head_is_counted_as_one_or_by_tenant() {
    let ask = async |target: &str, tenant: Option<&str>| {
        let mut request = Request::get(target);
        if let Some(tenant) = tenant {
            request = request.header("THANOS-TENANT", tenant);
        }
        let (status, text) = read(send(request.body(Body::empty()).unwrap()).await).await;
        (status, serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    let (status, all) = ask("/api/v1/status/tsdb", None).await;
    assert_eq!((status, &all["data"]["headStats"]["numSeries"]), (200, &serde_json::json!(8)));
    assert_eq!(all["data"]["seriesCountByMetricName"], serde_json::json!([{"name": "up", "value": 10}]));
    let (_, each) = ask("/api/v1/status/tsdb?all_tenants=true&limit=3", None).await;
    assert_eq!(
        (&each["data"][0]["tenant"], &each["data"][0]["headStats"]["numSeries"]),
        (&"a".into(), &4.into())
    );
    assert_eq!(each["data"][0]["seriesCountByMetricName"][0]["value"], 3);
    let (_, one) = ask("/api/v1/status/tsdb", Some("team")).await;
    assert_eq!(one["data"][0]["tenant"], "team");
    let (status, gone) = ask("/api/v1/status/tsdb", Some("gone")).await;
    assert_eq!((status, &gone["errorType"]), (503, &"unavailable".into()));
    for (target, tenant) in [
        ("/api/v1/status/tsdb?limit=0", None),
        ("/api/v1/status/tsdb?limit=x", None),
        ("/api/v1/status/tsdb?all_tenants=true", Some("team")),
    ] {
        let (status, wrong) = ask(target, tenant).await;
        assert_eq!((status, &wrong["errorType"]), (400, &"bad_data".into()), "{target}");
    }
}
