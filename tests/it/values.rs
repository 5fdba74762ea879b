//! Samples that are unusual and right: they come back as they were sent.

use super::support::now_ms;
use super::support::server::Server;
use super::support::write::{series, series_of};

/// The NaN by which Prometheus marks the end of a series.
const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

#[test]
fn nan_and_infinities_come_back() {
    let server = Server::start();
    let now = now_ms();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX, 0.1];
    let samples: Vec<_> = (0i64..).map(|index| now + index).zip(values).collect();
    server.sender().store(&[series("m", "1", &samples)]);
    let stored = server.query().instant("m[1m]", now + 1000).into_values().next().unwrap();
    assert_eq!(stored.len(), samples.len());
    for (found, sent) in stored.iter().zip(&samples) {
        assert_eq!(found.0, sent.0);
        let is_same = found.1.to_bits() == sent.1.to_bits() || found.1.is_nan() && sent.1.is_nan();
        assert!(is_same, "{found:?} is not {sent:?}");
    }
}

#[test]
fn a_stale_marker_ends_a_series_and_a_plain_nan_does_not() {
    let server = Server::start();
    let now = now_ms();
    server.sender().store(&[
        series("stale", "1", &[(now - 2000, 1.0), (now - 1000, STALE_NAN)]),
        series("plain", "1", &[(now - 2000, 1.0), (now - 1000, f64::NAN)]),
    ]);
    let query = server.query();
    assert_eq!(query.value("stale", now - 1500), Some(1.0));
    assert_eq!(query.value("stale", now), None);
    assert!(query.value("plain", now).unwrap().is_nan());
    assert_eq!(query.value("count_over_time(stale[1m])", now), Some(1.0));
    assert_eq!(query.value("count_over_time(plain[1m])", now), Some(2.0));
}

#[test]
fn a_stale_marker_outlives_a_kill() {
    let mut server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now - 2000, 1.0), (now - 1000, STALE_NAN)])]);
    server.kill_and_restart();
    assert_eq!(server.query().value("m", now - 1500), Some(1.0));
    assert_eq!(server.query().value("m", now), None);
}

#[test]
fn timestamps_far_in_the_past_and_the_future_come_back() {
    let server = Server::start();
    let times = [-1_000_000_000_000, -1, 0, 1, 946_684_800_000, 4_102_444_800_000, 253_402_300_799_000];
    for (index, time) in times.into_iter().enumerate() {
        server.sender().store(&[series("m", &index.to_string(), &[(time, 7.0)])]);
        let found = server.query().instant(&format!("m{{id=\"{index}\"}}[1s]"), time);
        let samples: Vec<_> = found.into_values().collect();
        assert_eq!(samples, [vec![(time, 7.0)]]);
    }
    // The ends of the range have no query time of their own; they must be taken or refused, and nothing else.
    for time in [i64::MIN, i64::MAX] {
        let status =
            server.sender().send(&[series("end", &time.to_string(), &[(time, 1.0)])]).unwrap().status;
        assert!([200, 400, 409].contains(&status), "{time}: {status}");
    }
    let now = now_ms();
    server.sender().store(&[series("after", "1", &[(now, 1.0)])]);
    assert_eq!(server.query().value("after", now), Some(1.0));
}

#[test]
fn labels_in_any_script_come_back() {
    let server = Server::start();
    let now = now_ms();
    let labels = [("__name__", "m"), ("quote", "a\"b\\c\nd"), ("town", "Zürich 東京 🚀")];
    server.sender().store(&[series_of(&labels, &[(now, 1.0)])]);
    let found = server.query().instant("m{town=~\".* 東京 .\"}", now);
    let (series, _) = found.first_key_value().unwrap();
    for (name, value) in labels {
        assert_eq!(series[name], value);
    }
}

#[test]
fn one_label_set_is_one_series_however_it_is_encoded() {
    let server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 1.0)])]);
    // The same labels with a length in two bytes, and the value before the name.
    let metric = b"\x0a\x8d\x00\x0a\x08__name__\x12\x01m";
    let id = b"\x0a\x07\x12\x011\x0a\x02id";
    let mut sample = vec![0x12, 0x10, 0x09];
    sample.extend(2.0f64.to_le_bytes());
    sample.push(0x10);
    let mut timestamp = now as u64 + 1000;
    while timestamp >= 0x80 {
        sample.push(timestamp as u8 | 0x80);
        timestamp >>= 7;
    }
    sample.push(timestamp as u8);
    let content = [&metric[..], id, &sample].concat();
    let request = [&[0x0a, content.len() as u8][..], &content].concat();
    let response = server.sender().send_body(&super::support::write::compress(&request)).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let found: Vec<_> = server.query().instant("m[1m]", now + 1000).into_values().collect();
    assert_eq!(found, [vec![(now, 1.0), (now + 1000, 2.0)]]);
}
