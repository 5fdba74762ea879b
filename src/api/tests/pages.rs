//! Parameters of Thanos, pages without data, compression, remote read.

use super::*;

#[tokio::test]
async fn parts_of_the_data_may_be_missing_where_that_is_wanted() {
    let warned = r#""warnings":["a block is broken"]"#;
    for path in ["/api/v1/query?query=part", "/api/v1/series?match[]=part&partial_response=1"] {
        let response = send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let (status, text) = read(response).await;
        assert!(status == 200 && text.contains(warned), "{text}");
        let (status, text) =
            get_page(&format!("{path}&partial_response=false").replacen("&partial_response=1", "", 1)).await;
        assert!(status == 500 && text.contains("a block is broken"), "{text}");
    }
    let whole = send(Request::get("/api/v1/query?query=up").body(Body::empty()).unwrap()).await;
    assert!(!whole.headers().contains_key(header::CACHE_CONTROL));
}

#[tokio::test]
async fn replica_labels_are_hidden_as_the_request_says() {
    for (parameters, hidden) in [
        ("", "default"),
        ("&dedup=true", "default"),
        ("&dedup=false", "[]"),
        ("&replicaLabels[]=a&replicaLabels[]=b", "[a,b]"),
        ("&dedup=false&replicaLabels[]=a", "[]"),
    ] {
        let (_, text) = get_page(&format!("/api/v1/series?match[]=hidden{parameters}")).await;
        assert_eq!(
            text,
            format!(r#"{{"status":"success","data":[{{"hidden":"{hidden}"}}]}}"#),
            "{parameters}"
        );
    }
    for (parameter, reason) in [
        ("dedup=maybe", r#"invalid parameter \"dedup\": \"maybe\" is neither true nor false"#),
        ("engine=x", r#"invalid parameter \"engine\": \"x\" is neither prometheus nor thanos"#),
        (
            "max_source_resolution=x",
            r#"invalid parameter \"max_source_resolution\": cannot parse \"x\" to a valid duration"#,
        ),
        ("shard_info=x", "queries cannot be sharded by series here"),
    ] {
        let answer = get_page(&format!("/api/v1/query?query=up&{parameter}")).await;
        assert_eq!(answer, (400, error_text("bad_data", reason)));
    }
    let (_, text) = get_page("/api/v1/query?query=up&analyze=true").await;
    assert!(text.contains(r#""warnings":["this engine has no analysis of queries"]"#), "{text}");
}

#[tokio::test]
async fn costs_are_shown_on_request() {
    let stats = async |parameter: &str| {
        let (_, text) = get_page(&format!("/api/v1/query?query=up&time=2{parameter}")).await;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["data"]["stats"].clone()
    };
    assert!(stats("").await.is_null());
    let sums = stats("&stats=1").await;
    assert_eq!(sums["samples"]["totalQueryableSamples"], 7);
    assert!(
        sums["samples"]["totalQueryableSamplesPerStep"].is_null()
            && sums["timings"]["execTotalTime"].is_f64()
    );
    let all = stats("&stats=all").await;
    assert_eq!(all["samples"]["totalQueryableSamplesPerStep"], serde_json::json!([[2, 7]]));
}

#[tokio::test]
async fn queries_are_formatted_and_drawn_without_data() {
    let (status, text) = get_page("/api/v1/format_query?query=foo%2Fbar").await;
    assert_eq!((status, text.as_str()), (200, r#"{"status":"success","data":"foo / bar"}"#));
    let (status, text) = post_form("/api/v1/parse_query", "query=(1)").await;
    let number = r#"{"type":"numberLiteral","val":"1"}"#;
    assert_eq!(
        (status, text),
        (200, format!(r#"{{"status":"success","data":{{"expr":{number},"type":"parenExpr"}}}}"#))
    );
    for path in ["/api/v1/format_query", "/api/v1/parse_query"] {
        let error = r#"invalid parameter \"query\": 1:1: parse error: no expression found in input"#;
        assert_eq!(get_page(path).await, (400, error_text("bad_data", error)));
    }
}

#[tokio::test]
async fn pages_without_content_have_their_form() {
    for (path, data) in [
        ("targets", r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#),
        ("alertmanagers", r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#),
        ("alerts", r#"{"alerts":[]}"#),
        ("targets/metadata", "[]"),
        ("scrape_pools", r#"{"scrapePools":[]}"#),
        ("notifications", "[]"),
        ("stores", "{}"),
        ("status/walreplay", r#"{"min":0,"max":0,"current":0}"#),
        ("status/config", r#"{"yaml":"global:\n  external_labels:\n    cluster: \"a\\\"b\"\n"}"#),
    ] {
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        assert_eq!(get_page(&format!("/api/v1/{path}")).await, (200, expected), "{path}");
    }
    let (_, text) = get_page("/api/v1/features").await;
    let features: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(features["data"]["promql_functions"]["rate"], true);
    assert_eq!(
        (&features["data"]["api"]["admin"], &features["data"]["promql_operators"]["=="]),
        (&false.into(), &true.into())
    );
    let (_, text) = get_page("/api/v1/status/runtimeinfo").await;
    let runtime: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(runtime["data"]["GOMAXPROCS"].is_u64() && runtime["data"]["storageRetention"] == "15d", "{text}");
    let (status, page) = get_page("/").await;
    assert_eq!(status, 200);
    for link in
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"))
    {
        let (status, _) = get_page(&link.replace('{', "%7B")).await;
        assert_eq!(status, 200, "{link}");
    }
}

#[tokio::test]
async fn answers_are_compressed_as_the_client_can_read() {
    for (accept, encoding) in [("zstd", Some("zstd")), ("gzip;q=0.5, zstd", Some("zstd")), ("br", None)] {
        let request = Request::get("/api/v1/query?query=up").header(header::ACCEPT_ENCODING, accept);
        let response = send(request.body(Body::empty()).unwrap()).await;
        let found =
            response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(found.as_deref(), encoding, "{accept}");
    }
}

#[tokio::test]
async fn a_compressed_list_is_whole() {
    for path in ["/api/v1/labels", "/api/v1/series?match[]=up"] {
        let plain = get_page(path).await.1;
        let request = Request::get(path).header(header::ACCEPT_ENCODING, "gzip").body(Body::empty()).unwrap();
        let compressed = send(request).await.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut text).unwrap();
        assert_eq!(text, plain);
    }
}

#[tokio::test]
async fn remote_read_answers_in_plain_text_when_it_cannot() {
    let request = |body: &'static [u8]| Request::post("/api/v1/read").body(Body::from(body)).unwrap();
    let (status, text) = read(send(request(b"\x01")).await).await;
    assert!(status == 400 && text.ends_with('\n') && !text.starts_with('{'), "{text}");
    let empty = send(request(&[0])).await;
    assert_eq!(
        (empty.status().as_u16(), &empty.headers()[header::CONTENT_ENCODING]),
        (200, &"snappy".parse().unwrap())
    );
    let get = send(Request::get("/api/v1/read").body(Body::empty()).unwrap()).await;
    assert_eq!(get.status(), 405);
}
