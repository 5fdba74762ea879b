//! Replica labels are hidden, unless the request wants to see them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::support::http::post_form;
use super::super::support::now_ms;
use super::super::support::server::Server;
use super::super::support::write::series_of;

#[test]
fn a_request_says_which_labels_it_sees() {
    let server = Server::start_with(&["--query.replica-label=replica,prometheus_replica"]);
    let of =
        |replica: &str| series_of(&[("__name__", "up"), ("prometheus_replica", replica)], &[(now_ms(), 1.0)]);
    server.sender().store(&[of("0"), of("1")]);
    let ask = |path: &str, parameter: (&str, &str)| -> Value {
        let fields = [("query", "up"), ("match[]", "up"), parameter];
        let response = post_form(server.addresses.query, path, &fields).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        serde_json::from_slice::<Value>(&response.body).unwrap()["data"].clone()
    };
    for (parameter, count, hidden) in [
        (("dedup", "true"), 1, &["prometheus_replica", "replica"][..]),
        (("dedup", "false"), 2, &[]),
        (("replicaLabels[]", "prometheus_replica"), 1, &["prometheus_replica"]),
        (("replicaLabels[]", "tenant_id"), 2, &["tenant_id"]),
    ] {
        let all = BTreeSet::from(["__name__", "prometheus_replica", "replica", "tenant_id"]);
        let seen: BTreeSet<&str> = all.into_iter().filter(|name| !hidden.contains(name)).collect();
        let names = ask("/api/v1/labels", parameter);
        let names: BTreeSet<&str> =
            names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, seen, "{parameter:?}");
        let found = ask("/api/v1/query", parameter);
        let found = found["result"].as_array().unwrap();
        assert_eq!(found.len(), count, "{parameter:?}: {found:?}");
        let labels: BTreeSet<&str> =
            found[0]["metric"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(labels, seen, "{parameter:?}");
        assert_eq!(ask("/api/v1/series", parameter).as_array().unwrap().len(), count);
    }
}
