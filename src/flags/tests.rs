//! Whole command lines, those of the deployments that annulus has to take over among them.

use super::*;
use crate::promql::parser::Features;

fn parse_line(line: &str) -> Result<Setup, Exit> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&args)
}

fn setup(line: &str) -> Setup {
    parse_line(line).unwrap_or_else(|exit| panic!("{line}: {}", exit.text))
}

fn usage_error(line: &str) -> String {
    let exit = parse_line(line).unwrap_err();
    assert_eq!(exit.code, EXIT_USAGE, "{line}: {}", exit.text);
    assert!(!exit.text.contains('\n'), "one line: {}", exit.text);
    exit.text
}

fn has_warning(setup: &Setup, text: &str) -> bool {
    setup.warnings.iter().any(|warning| warning.contains(text))
}

#[test]
fn all_starts_without_flags() {
    let setup = setup("all");
    assert_eq!(setup.node.listen, ["0.0.0.0:10901", "0.0.0.0:10902"].map(|text| text.parse().unwrap()));
    assert_eq!(setup.write_address, "0.0.0.0:10901".parse().unwrap());
    assert_eq!(setup.node.data_dir.to_str(), Some("./data"));
    assert_eq!((setup.node.shards, setup.node.ring_bytes), (None, 512 << 20));
    assert_eq!(
        (setup.node.tenant_header.as_str(), setup.tenant_label.as_str()),
        ("THANOS-TENANT", "tenant_id")
    );
    assert_eq!(setup.self_scrape, Some(Duration::from_secs(15)));
    assert_eq!(setup.grace_period, Duration::from_secs(120));
    assert_eq!(setup.log, LogSetup { level: tracing::Level::INFO, json: false });
    assert_eq!(setup.external_labels.len(), 1);
    assert!(setup.external_labels[0].0 == "receive_replica" && !setup.external_labels[0].1.is_empty());
    assert!(has_warning(&setup, "no --label is given"));
    let query = setup.query.unwrap();
    assert_eq!(query.address, "0.0.0.0:9090".parse().unwrap());
    assert_eq!(query.replica_labels, ["receive_replica"]);
    assert_eq!((query.options.lookback_delta_ms, query.options.default_step_ms), (300_000, 60_000));
    assert_eq!(query.concurrent_max, 20);
    let extras = setup.node.extras;
    assert_eq!((extras.exemplars_max, extras.families_max), (100_000, 10_000));
    assert!(setup.flags.contains(&("query.timeout".to_owned(), "2m".to_owned())), "{:?}", setup.flags);
}

#[test]
fn the_receiver_of_the_reference_deployment_starts_with_warnings() {
    let hashrings = tempfile::NamedTempFile::new().unwrap();
    let json = r#"[{"hashring":"default","endpoints":["thanos-receive-0.thanos-receive:10901","thanos-receive-1.thanos-receive:10901"]}]"#;
    std::fs::write(hashrings.path(), json).unwrap();
    let setup = setup(&format!(
        "receive --log.level=info --log.format=logfmt --grpc-address=0.0.0.0:10901 --http-address=0.0.0.0:10902 \
         --remote-write.address=0.0.0.0:19291 --objstore.config=$(OBJSTORE_CONFIG) --tsdb.path=/var/thanos/receive \
         --label=replica=\"$(NAME)\" --label=receive=\"true\" --tsdb.retention=15d \
         --receive --http-address=0.0.0.0:10901 --grpc-address=0.0.0.0:10902 \
         --receive.hashrings-file={} \
         --receive.local-endpoint=thanos-receive-0.thanos-receive:10901 \
         --objstore.config-file=/etc/thanos/objstore/objstore.yml --receive.replication-factor=2 --log.level=debug",
        hashrings.path().display()
    ));
    let listen = ["0.0.0.0:19291", "0.0.0.0:10901", "0.0.0.0:10902"].map(|text| text.parse().unwrap());
    assert_eq!(setup.node.listen, listen);
    assert_eq!(setup.node.data_dir.to_str(), Some("/var/thanos/receive"));
    assert_eq!(setup.log.level, tracing::Level::DEBUG);
    assert_eq!(setup.external_labels[0], ("receive".to_owned(), "true".to_owned()));
    assert!(setup.query.is_none() && setup.self_scrape.is_none());
    for warning in [
        "--receive has no effect",
        "--objstore.config and --objstore.config-file are both given: the file is used",
        "--http-address is given more than once: \"0.0.0.0:10901\" takes the place of \"0.0.0.0:10902\"",
        "--log.level is given more than once",
        "NO REPLICATION: the hashrings name 2 endpoints and --receive.replication-factor=2",
    ] {
        assert!(has_warning(&setup, warning), "{warning} in {:#?}", setup.warnings);
    }
    assert!(!has_warning(&setup, "no --label"));
}

#[test]
fn one_process_starts_with_the_flags_of_all_components_of_the_reference_deployment() {
    let setup = setup(
        "all --receive --http-address=0.0.0.0:10901 --grpc-address=0.0.0.0:10902 --tsdb.path=/var/thanos/receive \
         --receive.replication-factor=1 --query.replica-label=replica \
         --store=dnssrv+_grpc._tcp.thanos-receive.monitoring.svc.cluster.local --grpc-address=0.0.0.0:10904 \
         --http-address=0.0.0.0:9091 --log.level=info --data-dir=/var/thanos/compact \
         --objstore.config-file=/etc/thanos/objstore/objstore.yml --retention.resolution-raw=15d \
         --retention.resolution-5m=90d --retention.resolution-1h=365d --wait",
    );
    for flag in ["store", "retention.resolution-raw", "retention.resolution-1h", "wait"] {
        assert!(has_warning(&setup, &format!("--{flag} has no effect in this version")), "{flag}");
    }
    assert_eq!(setup.blocks.bucket, BucketSetup::File("/etc/thanos/objstore/objstore.yml".into()));
    assert_eq!(setup.query.unwrap().replica_labels, ["replica"]);
}

#[test]
fn blocks_go_where_the_flags_say() {
    let bucket = |line: &str| setup(line).blocks.bucket;
    assert_eq!(bucket("all --data-dir=/d"), BucketSetup::Directory("/d/bucket".into()));
    assert_eq!(bucket("receive"), BucketSetup::None);
    assert_eq!(bucket("receive --objstore.config="), BucketSetup::None);
    let content = "receive --objstore.config=type:FILESYSTEM";
    assert_eq!(bucket(content), BucketSetup::Content("type:FILESYSTEM".to_owned()));
    let blocks = setup("receive --tsdb.retention=2d --tsdb.max-retention-bytes=3GB").blocks;
    assert_eq!((blocks.retention_ms, blocks.retention_bytes), (172_800_000, 3 << 30));
    assert_eq!(blocks.ship_interval, Duration::from_secs(30));
    assert_eq!(setup("all --shipper.interval=2m").blocks.ship_interval, Duration::from_secs(120));
}

#[test]
fn kingpin_rules_hold() {
    for (line, on) in [
        ("all --self-scrape", true),
        ("all --self-scrape=false", false),
        ("all --no-self-scrape", false),
        ("receive --self-scrape", true),
        ("receive --self-scrape --no-self-scrape", false),
    ] {
        assert_eq!(setup(line).self_scrape.is_some(), on, "{line}");
    }
    let setup = setup(
        "--log.level debug all --data-dir x --query.timeout 1h30m --tsdb.path=y --no-tsdb.wal-compression",
    );
    assert_eq!(setup.log.level, tracing::Level::DEBUG);
    assert_eq!(setup.node.data_dir.to_str(), Some("y"));
    assert!(has_warning(&setup, "--data-dir is given more than once"));
    assert!(has_warning(&setup, "--tsdb.wal-compression has no effect"));
    assert_eq!(setup.query.unwrap().options.timeout, Duration::from_secs(5400));
}

#[test]
fn queries_have_settings_of_their_own() {
    let query = setup("all --data-dir=/d").query.unwrap();
    assert!(query.partial_response && query.slow_query.is_none());
    assert_eq!(query.active_query_dir, std::path::Path::new("/d"));
    assert_eq!((query.read.samples_max, query.read.frame_bytes), (50_000_000, 1 << 20));
    let query = setup(
        "all --no-query.partial-response --query.log-queries-longer-than=2s --query.active-query-path=/q \
         --storage.remote.read-sample-limit=5 --storage.remote.read-max-bytes-in-frame=10GiB",
    );
    let query = query.query.unwrap();
    assert!(!query.partial_response);
    assert_eq!(query.slow_query, Some(Duration::from_secs(2)));
    assert_eq!(query.active_query_dir, std::path::Path::new("/q"));
    assert_eq!((query.read.samples_max, query.read.frame_bytes), (5, 32 << 20));
}

#[test]
fn lists_keep_all_values() {
    let setup = setup(
        "all --query.replica-label=replica --query.replica-label prometheus_replica,prometheus \
         --label=a=\"1\" --label=b=\"2\" --label=a=\"3\" --label=c=4",
    );
    assert_eq!(setup.query.as_ref().unwrap().replica_labels, ["replica", "prometheus_replica", "prometheus"]);
    let labels = [("a", "3"), ("b", "2"), ("c", "4")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(setup.external_labels, labels);
    assert!(has_warning(&setup, "--label a is given more than once"));
    assert!(has_warning(&setup, "has no quotes"));
}

#[test]
fn otlp_is_translated_as_the_flags_say() {
    let otlp = |line: &str| setup(line).node.otlp;
    let plain = otlp("all");
    assert!(plain.target_info && plain.promoted.is_empty());
    assert!(!otlp("receive --receive.otlp-enable-target-info=false").target_info);
    assert!(!otlp("receive --no-receive.otlp-enable-target-info").target_info);
    let promoting = otlp(
        "all --receive.otlp-promote-resource-attributes=host.name,k8s.pod.name \
         --receive.otlp-promote-resource-attributes= --receive.otlp-promote-resource-attributes=zone",
    );
    assert_eq!(promoting.promoted, ["host.name", "k8s.pod.name", "zone"]);
}

#[test]
fn mistakes_are_named_in_one_line() {
    for (line, expected) in [
        ("all --htp-address=:1", "unknown flag --htp-address; did you mean --http-address?"),
        ("all --query.timout=1m", "unknown flag --query.timout; did you mean --query.timeout?"),
        ("all --zzz", "unknown flag --zzz; `annulus all --help` lists all flags"),
        ("all --no-data-dir", "unknown flag --no-data-dir"),
        (
            "compact --wait",
            "unknown command \"compact\": this version has `annulus all` and `annulus receive`",
        ),
        ("all --shards=x", "invalid value 'x' for '--shards <N>': invalid digit found in string"),
        ("all --shards=0", "--shards must be between 1 and"),
        (
            "all --query.timeout=5",
            "invalid value '5' for '--query.timeout <DURATION>': not a valid duration string",
        ),
        ("all --wal.ring-size=1GiBs", "invalid value '1GiBs' for '--wal.ring-size <SIZE>': it is not a size"),
        ("all --wal.ring-size=4KiB", "--wal.ring-size must be a multiple of 4096, and at least 1048576"),
        ("all --receive.max-decoded-bytes=2GiB", "must be at most 1GiB"),
        ("all --http-address=10901", "it is not an address to listen on (write 0.0.0.0:10901)"),
        ("all --http-address=:1 --grpc-address=:1", "two flags name the address 0.0.0.0:1"),
        ("all --log.level=verbose", "invalid value 'verbose' for '--log.level <LEVEL>'"),
        ("all --label=a", "it has no ="),
        ("all --data-dir", "a value is required for '--data-dir <DIR>'"),
        ("all --retention.resolution-raw", "--retention.resolution-raw needs a value"),
        ("all --no-self-scrape=true", "--no-self-scrape takes no value"),
        ("all stray", "unexpected argument 'stray' found"),
        ("receive --http.config=web.yml", "asks for TLS or authentication"),
        ("all --receive.tenant-header=a:b", "it is not a header's name"),
        ("all --receive.default-tenant-id=a/b", "holds no /"),
        ("all --query.max-concurrent=0", "--query.max-concurrent must be more than 0"),
        ("all --receive.max-connections=0", "--receive.max-connections must be more than 0"),
        ("all --receive.max-inflight-bytes=1MiB", "could never be taken"),
        ("all --receive.limits-config={write:{defaults:{}}}", "--receive.limits-config: "),
        ("all --receive.limits-config-file=/no/such/file", "--receive.limits-config-file: cannot read"),
        ("all --receive.relabel-config=[{action:\"kept\"}]", "--receive.relabel-config: "),
        ("receive --receive.hashrings=[{\"x\":\"$(ANNULUS_UNSET)\"}]", "ANNULUS_UNSET is not set"),
    ] {
        let text = usage_error(line);
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn limits_and_rules_are_read_before_anything_starts() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "write: {default: {head_series_limit: 7}, global: {meta_monitoring_url: 'http://m'}}",
    )
    .unwrap();
    let path = file.path().display();
    let rules = setup(&format!(
        "all --receive.limits-config={{}} --receive.limits-config-file={path} --receive.memory-limit=3GiB \
         --receive.relabel-config=[{{\"action\":\"labeldrop\",\"regex\":\"x\"}}] \
         --receive.split-tenant-label-name=team"
    ));
    assert_eq!(rules.node.rules.limits.default.series_max, Some(7));
    assert_eq!(rules.node.rules.memory_bytes_max, 3 << 30);
    assert_eq!((rules.node.rules.relabel.len(), rules.node.rules.tenant_label.as_deref()), (1, Some("team")));
    assert!(rules.rule_files.limits.is_some() && rules.rule_files.relabel.is_none());
    assert_eq!(rules.rule_files.look_interval, Duration::from_secs(1));
    assert!(has_warning(&rules, "write.global.meta_monitoring_url has no effect"));
    assert!(has_warning(&rules, "both given: the file is used"));
    let none = setup("all --receive.memory-limit=0 --receive.limits-config=");
    assert!(none.rule_files.limits.is_none() && none.node.rules.relabel.is_empty());
    assert_eq!((none.node.rules.memory_bytes_max, none.node.rules.tenant_label), (0, None));
    let rules = setup("all").node.rules;
    assert!(rules.memory_bytes_max > 0 && rules.tenants_max == 100_000);
    assert_eq!(setup("receive --receive.max-connections=7").node.connections_max, Some(7));
    assert_eq!(setup("receive --receive.max-tenants=0").node.rules.tenants_max, 0);
}

#[test]
fn empty_values_of_charts_are_no_flags() {
    let setup =
        setup("receive --http.config= --grpc-server-tls-cert= --receive.local-endpoint= --tracing.config=");
    assert!(!has_warning(&setup, "no effect"), "{:?}", setup.warnings);
}

#[test]
fn features_of_promql_are_listed_or_repeated() {
    let features = |line: &str| setup(line).query.unwrap().options.features;
    assert_eq!(features("all"), Features::default());
    let line = "all --enable-feature=promql-experimental-functions,promql-extended-range-selectors \
                --enable-feature promql-binop-fill-modifiers";
    assert_eq!(features(line), Features::ALL);
    assert!(has_warning(&setup("all --enable-feature=agent"), "--enable-feature=agent has no effect"));
    assert!(has_warning(&setup("receive --enable-feature=x"), "--enable-feature has no effect"));
}

#[test]
fn journald_is_logfmt_with_a_warning() {
    let setup = setup("all --log.format=journald");
    assert!(!setup.log.json && has_warning(&setup, "journald"));
    assert!(super::tests::setup("all --log.format json").log.json);
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "-h", "help", "help all", "all --help", "receive -h", "--version", "-V"] {
        let exit = parse_line(line).unwrap_err();
        assert_eq!(exit.code, 0, "{line}: {}", exit.text);
    }
    let help = parse_line("all --help").unwrap_err().text;
    for text in ["--query.lookback-delta", "[default: 5m]", "Addresses:", "--no-flag"] {
        assert!(help.contains(text), "{text} in {help}");
    }
    assert_eq!(parse_line("").unwrap_err().code, EXIT_USAGE);
}

#[test]
fn exemplars_and_metadata_are_bounded_by_flags() {
    let extras = setup("all --tsdb.max-exemplars=7 --receive.metadata-max-families=0").node.extras;
    assert_eq!((extras.exemplars_max, extras.families_max), (7, 0));
    assert_eq!(setup("receive --tsdb.max-exemplars=-1").node.extras.exemplars_max, 0);
}
