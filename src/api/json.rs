//! Writing answers as JSON, byte for byte as Prometheus does, without building a tree first.
//!
//! Prometheus uses two encoders: label sets and values of queries keep `<`, `>` and `&`; all other texts have them
//! escaped for HTML.

use std::io::{self, Write};

use annulus_shards::Labels;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::number::{self, Line};
use super::pieces::{self, Pieces};
use super::stats::QueryStats;
use crate::promql::histogram::{Bucket, FloatHistogram, all_buckets};
use crate::promql::value::{QueryValue, SampleValue};

/// Size of the pieces in which a large answer is written.
const PIECE_BYTES: usize = 256 << 10;

/// An answer with the data that `data` writes, all of it in memory: for answers whose size is bounded.
pub fn success(
    warnings: &[String],
    infos: &[String],
    data: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> Response {
    let mut body = Vec::new();
    write_success(&mut body, warnings, infos, data).expect("writing to memory does not fail");
    json_response(StatusCode::OK, Body::from(body))
}

/// The same for answers of any size: it is sent while it is written, on a thread that may block, and never more of it
/// than a few pieces is in memory.
pub fn streamed(
    warnings: Vec<String>,
    infos: Vec<String>,
    data: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Response {
    let body = pieces::stream(PIECE_BYTES, move |out| write_success(out, &warnings, &infos, data));
    json_response(StatusCode::OK, body)
}

/// An answer with an error.
pub fn error(status: StatusCode, kind: &str, text: &str) -> Response {
    let mut body = format!(r#"{{"status":"error","errorType":"{kind}","error":"#).into_bytes();
    write_text(&mut body, text).expect("writing to memory does not fail");
    body.push(b'}');
    json_response(status, Body::from(body))
}

fn json_response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn write_success<W: Write>(
    out: &mut W,
    warnings: &[String],
    infos: &[String],
    data: impl FnOnce(&mut W) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(br#"{"status":"success","data":"#)?;
    data(out)?;
    for (name, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            write!(out, r#","{name}":"#)?;
            write_texts(out, texts)?;
        }
    }
    out.write_all(b"}")
}

/// The value of a query, with what else is known of it.
pub fn write_query_data(
    out: &mut impl Write,
    value: &QueryValue,
    stats: Option<&QueryStats>,
) -> io::Result<()> {
    write_value(out, value)?;
    if let Some(stats) = stats {
        out.write_all(br#","stats":"#)?;
        stats.write(out)?;
    }
    out.write_all(b"}")
}

/// The value, in an object that is left open.
fn write_value(out: &mut impl Write, value: &QueryValue) -> io::Result<()> {
    match value {
        QueryValue::Scalar { timestamp_ms, value } => {
            out.write_all(br#"{"resultType":"scalar","result":["#)?;
            number::write_scalar_time(out, *timestamp_ms)?;
            out.write_all(b",\"")?;
            number::write_plain(out, *value)?;
            out.write_all(b"\"]")
        }
        QueryValue::String { timestamp_ms, value } => {
            out.write_all(br#"{"resultType":"string","result":["#)?;
            number::write_scalar_time(out, *timestamp_ms)?;
            out.write_all(b",")?;
            write_text(out, value)?;
            out.write_all(b"]")
        }
        QueryValue::Vector(samples) => {
            out.write_all(br#"{"resultType":"vector","result":"#)?;
            write_list(out, samples, |out, sample| {
                out.write_all(br#"{"metric":"#)?;
                write_labels(out, &sample.labels)?;
                match &sample.value {
                    SampleValue::Float(value) => {
                        out.write_all(br#","value":"#)?;
                        write_point(out, sample.timestamp_ms, *value)?;
                    }
                    SampleValue::Histogram(histogram) => {
                        out.write_all(br#","histogram":"#)?;
                        write_histogram_point(out, sample.timestamp_ms, histogram)?;
                    }
                }
                out.write_all(b"}")
            })
        }
        QueryValue::Matrix(series) => {
            out.write_all(br#"{"resultType":"matrix","result":"#)?;
            write_list(out, series, |out, one| {
                out.write_all(br#"{"metric":"#)?;
                write_labels(out, &one.labels)?;
                if !one.points.is_empty() {
                    out.write_all(br#","values":"#)?;
                    write_list(out, &one.points, |out, (ms, value)| write_point(out, *ms, *value))?;
                }
                if !one.histograms.is_empty() {
                    out.write_all(br#","histograms":"#)?;
                    write_list(out, &one.histograms, |out, (ms, histogram)| {
                        write_histogram_point(out, *ms, histogram)
                    })?;
                }
                out.write_all(b"}")
            })
        }
    }
}

fn write_point(out: &mut impl Write, ms: i64, value: f64) -> io::Result<()> {
    let mut line = Line::new();
    line.push(b"[");
    line.push_sample_time(ms);
    line.push(b",\"");
    line.push_sample_value(value);
    line.push(b"\"]");
    out.write_all(line.as_bytes())
}

fn write_histogram_point(out: &mut impl Write, ms: i64, histogram: &FloatHistogram) -> io::Result<()> {
    out.write_all(b"[")?;
    number::write_sample_time(out, ms)?;
    out.write_all(b",")?;
    write_histogram(out, histogram)?;
    out.write_all(b"]")
}

/// Count, sum, and the buckets that are in use, each as boundary rule, bounds and count.
fn write_histogram(out: &mut impl Write, histogram: &FloatHistogram) -> io::Result<()> {
    out.write_all(br#"{"count":"#)?;
    write_quoted_number(out, histogram.count)?;
    out.write_all(br#","sum":"#)?;
    write_quoted_number(out, histogram.sum)?;
    let buckets: Vec<Bucket> = all_buckets(histogram).filter(|bucket| bucket.count != 0.0).collect();
    if !buckets.is_empty() {
        out.write_all(br#","buckets":"#)?;
        write_list(out, &buckets, |out, bucket| {
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            write!(out, "[{rule}")?;
            for number in [bucket.lower, bucket.upper, bucket.count] {
                out.write_all(b",")?;
                write_quoted_number(out, number)?;
            }
            out.write_all(b"]")
        })?;
    }
    out.write_all(b"}")
}

fn write_quoted_number(out: &mut impl Write, value: f64) -> io::Result<()> {
    out.write_all(b"\"")?;
    number::write_sample_value(out, value)?;
    out.write_all(b"\"")
}

/// A list of anything.
pub fn write_list<W: Write, T>(
    out: &mut W,
    items: &[T],
    write: impl Fn(&mut W, &T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write(out, item)?;
    }
    out.write_all(b"]")
}

/// A list of texts.
pub fn write_texts(out: &mut impl Write, texts: &[String]) -> io::Result<()> {
    write_list(out, texts, |out, text| write_text(out, text))
}

/// An object of texts.
pub fn write_object<'a>(
    out: &mut impl Write,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    write_pairs(out, pairs, write_text)
}

/// A label set as an object.
pub fn write_labels(out: &mut impl Write, labels: &Labels) -> io::Result<()> {
    write_pairs(out, labels.iter(), write_label_text)
}

fn write_pairs<'a, W: Write>(
    out: &mut W,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    write: impl Fn(&mut W, &str) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write(out, name)?;
        out.write_all(b":")?;
        write(out, value)?;
    }
    out.write_all(b"}")
}

/// A text, escaped for HTML too, and without the two characters that end a line in scripts but not in JSON.
pub fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut rest = text;
    while let Some(at) = rest.find(['\u{2028}', '\u{2029}']) {
        let (before, after) = rest.split_at(at);
        write_html_escaped(out, before)?;
        out.write_all(if after.starts_with('\u{2028}') { b"\\u2028" } else { b"\\u2029" })?;
        rest = &after['\u{2028}'.len_utf8()..];
    }
    write_html_escaped(out, rest)?;
    out.write_all(b"\"")
}

fn write_html_escaped(out: &mut impl Write, text: &str) -> io::Result<()> {
    write_escaped(out, text, |byte| byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&'))
}

fn write_label_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    write_escaped(out, text, |byte| byte < 0x20 || matches!(byte, b'"' | b'\\'))?;
    out.write_all(b"\"")
}

/// Only ASCII is escaped here, so bytes can be looked at one by one.
fn write_escaped(out: &mut impl Write, text: &str, escaped: impl Fn(u8) -> bool) -> io::Result<()> {
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if !escaped(byte) {
            continue;
        }
        out.write_all(&bytes[plain_from..index])?;
        plain_from = index + 1;
        match byte {
            b'"' | b'\\' => out.write_all(&[b'\\', byte])?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            _ => write!(out, "\\u{byte:04x}")?,
        }
    }
    out.write_all(&bytes[plain_from..])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annulus_shards::chunk::{Buckets, Span};

    use super::*;
    use crate::promql::value::{MatrixSeries, QueryAnswer, VectorSample};

    fn query_answer(answer: &QueryAnswer) -> Response {
        success(&answer.warnings, &answer.infos, |out| write_query_data(out, &answer.value, None))
    }

    fn text(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), usize::MAX);
        String::from_utf8(futures::executor::block_on(body).unwrap().to_vec()).unwrap()
    }

    fn floats(points: Vec<(i64, f64)>) -> MatrixSeries {
        MatrixSeries { labels: Labels::empty(), points, histograms: Vec::new() }
    }

    #[test]
    fn histograms_read_as_in_prometheus() {
        let buckets = |offset, values: &[f64]| Buckets {
            spans: vec![Span { offset, length: values.len() as u32 }],
            values: values.to_vec(),
        };
        let histogram = FloatHistogram {
            count: 42.0,
            sum: 34593.34,
            zero_threshold: 0.25,
            zero_count: 3.0,
            positive: buckets(0, &[12.0, 21.0, 0.0, 6.0]),
            negative: buckets(1, &[1e21]),
            ..FloatHistogram::default()
        };
        let json = r#"{"count":"42","sum":"34593.34","buckets":[[1,"-2","-1","1e+21"],[3,"-0.25","0.25","3"],[0,"0.5","1","12"],[0,"1","2","21"],[0,"4","8","6"]]}"#;
        let empty = FloatHistogram { sum: f64::NAN, ..FloatHistogram::default() };
        let vector = [histogram.clone(), empty].map(|histogram| VectorSample {
            labels: Labels::empty(),
            timestamp_ms: 1_500,
            value: histogram.into(),
        });
        let head = r#"{"status":"success","data":{"resultType":"#;
        assert_eq!(
            text(query_answer(&answer(QueryValue::Vector(vector.to_vec())))),
            format!(
                r#"{head}"vector","result":[{{"metric":{{}},"histogram":[1.500,{json}]}},{{"metric":{{}},"histogram":[1.500,{{"count":"0","sum":"NaN"}}]}}]}}}}"#
            )
        );
        let both = MatrixSeries { histograms: vec![(1_000, Arc::new(histogram))], ..floats(vec![(0, 1.0)]) };
        let alone = MatrixSeries { points: Vec::new(), ..both.clone() };
        assert_eq!(
            text(query_answer(&answer(QueryValue::Matrix(vec![both, alone])))),
            format!(
                r#"{head}"matrix","result":[{{"metric":{{}},"values":[[0,"1"]],"histograms":[[1,{json}]]}},{{"metric":{{}},"histograms":[[1,{json}]]}}]}}}}"#
            )
        );
    }

    fn answer(value: QueryValue) -> QueryAnswer {
        QueryAnswer { value, warnings: vec![], infos: vec![] }
    }

    #[test]
    fn a_vector_reads_as_in_prometheus() {
        let labels = Labels::from_pairs([("__name__", "up"), ("path", "a\\b\"<é>\n\u{1}")]);
        let vector = QueryValue::Vector(vec![VectorSample {
            labels,
            timestamp_ms: 1_435_781_451_781,
            value: 1.0.into(),
        }]);
        assert_eq!(
            text(query_answer(&answer(vector))),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","path":"a\\b\"<é>\n\u0001"},"value":[1435781451.781,"1"]}]}}"#
        );
    }

    #[test]
    fn a_matrix_reads_as_in_prometheus_with_warnings_and_infos() {
        let series = vec![floats(vec![(0, f64::NAN), (500, f64::INFINITY)]), floats(vec![(0, 1.0)])];
        let mut answer = answer(QueryValue::Matrix(series));
        answer.warnings.push("a < b".to_owned());
        answer.infos.push("x".to_owned());
        assert_eq!(
            text(query_answer(&answer)),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"NaN"],[0.500,"+Inf"]]},{"metric":{},"values":[[0,"1"]]}]},"warnings":["a \u003c b"],"infos":["x"]}"#
        );
    }

    #[test]
    fn scalars_and_strings_read_as_in_prometheus() {
        let scalar = QueryValue::Scalar { timestamp_ms: 1_500, value: 0.333 };
        assert_eq!(
            text(query_answer(&answer(scalar))),
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"0.333"]}}"#
        );
        let string = QueryValue::String { timestamp_ms: 0, value: "test".to_owned() };
        assert_eq!(
            text(query_answer(&answer(string))),
            r#"{"status":"success","data":{"resultType":"string","result":[0,"test"]}}"#
        );
    }

    #[test]
    fn an_error_reads_as_in_prometheus() {
        let response = error(StatusCode::BAD_REQUEST, "bad_data", "no \"x\" & y");
        assert_eq!(response.status(), 400);
        assert_eq!(
            text(response),
            r#"{"status":"error","errorType":"bad_data","error":"no \"x\" \u0026 y"}"#
        );
    }

    #[test]
    fn ends_of_lines_in_scripts_are_escaped_in_texts_and_not_in_labels() {
        let value = "a\u{2028}<\u{2029}é";
        let response = error(StatusCode::BAD_REQUEST, "bad_data", value);
        assert!(text(response).ends_with(r#""error":"a\u2028\u003c\u2029é"}"#));
        let mut out = Vec::new();
        write_labels(&mut out, &Labels::from_pairs([("a", value)])).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!(r#"{{"a":"{value}"}}"#));
    }

    #[tokio::test]
    async fn a_large_answer_is_whole() {
        let points: Vec<(i64, f64)> = (0..100_000).map(|i| (i * 1000, i as f64)).collect();
        let matrix = QueryValue::Matrix(vec![floats(points)]);
        let response =
            streamed(vec!["w".to_owned()], vec![], move |out| write_query_data(out, &matrix, None));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let values = value["data"]["result"][0]["values"].as_array().unwrap();
        assert_eq!(values.len(), 100_000);
        assert_eq!(values[99_999], serde_json::json!([99_999, "99999"]));
        assert_eq!(value["warnings"], serde_json::json!(["w"]));
    }
}
