//! [`HeadSource`] over shards that are a list of series.

use annulus_shards::{Labels, MatchOp};

use super::*;

/// Answers from a list, by the rules that the shards follow.
struct FakeShards(Vec<HeadSeries>);

impl FakeShards {
    fn matching(&self, request: &ReadRequest) -> Vec<HeadSeries> {
        let holds = |series: &HeadSeries| {
            request.tenants.iter().all(|matcher| matcher.matches(&series.tenant))
                && request.matchers.iter().all(|m| m.matches(series.labels.get(&m.name).unwrap_or("")))
        };
        self.0.iter().filter(|series| holds(series)).cloned().collect()
    }

    fn texts(&self, request: ReadRequest, texts: impl Fn(&Labels) -> Vec<String>) -> Vec<TenantTexts> {
        let mut found: Vec<TenantTexts> = Vec::new();
        for series in self.matching(&request) {
            let new = texts(&series.labels);
            match found.iter_mut().find(|one| one.tenant == series.tenant) {
                Some(one) => one.texts.extend(new),
                None => found.push(TenantTexts { tenant: series.tenant, texts: new }),
            }
        }
        found
    }
}

impl HeadReads for FakeShards {
    fn select(&self, request: ReadRequest, budget: ReadBudget) -> ReadFuture<'_, Vec<HeadSeries>> {
        Box::pin(async move {
            let found = self.matching(&request);
            budget.charge(found.iter().map(HeadSeries::size_bytes).sum())?;
            Ok(found)
        })
    }

    fn label_names(&self, request: ReadRequest) -> ReadFuture<'_, Vec<TenantTexts>> {
        let found = self.texts(request, |labels| labels.iter().map(|(name, _)| name.to_owned()).collect());
        Box::pin(async move { Ok(found) })
    }

    fn label_values(&self, request: ReadRequest, name: String) -> ReadFuture<'_, Vec<TenantTexts>> {
        let found = self.texts(request, |labels| labels.get(&name).map(str::to_owned).into_iter().collect());
        Box::pin(async move { Ok(found) })
    }
}

fn series(tenant: &str, pairs: &[(&str, &str)], chunk_starts_ms: &[i64]) -> HeadSeries {
    let chunk = |start_ms: &i64| HeadChunk::xor(*start_ms, *start_ms, bytes::Bytes::new());
    HeadSeries {
        tenant: Arc::from(tenant),
        labels: Labels::from_pairs(pairs.iter().copied()),
        chunks: chunk_starts_ms.iter().map(chunk).collect(),
    }
}

fn source(series: Vec<HeadSeries>, replica_labels: &[&str]) -> HeadSource {
    let fixed = [("receive_replica", "r0"), ("region", "eu")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let replica_labels = replica_labels.iter().map(|&name| name.to_owned()).collect();
    let labels = ExternalLabels::new(fixed, "tenant_id".to_owned(), replica_labels);
    HeadSource::new(Arc::new(FakeShards(series)), labels, 1 << 28)
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).unwrap()
}

fn select(source: &HeadSource, matchers: Vec<Matcher>) -> Vec<SeriesChunks> {
    let request = SelectRequest { matchers, min_ms: 0, max_ms: 100, skip_chunks: false, budget: None };
    futures::executor::block_on(source.select(request)).unwrap()
}

fn texts(series: &[SeriesChunks]) -> Vec<String> {
    series.iter().map(|one| format!("{:?}", one.labels)).collect()
}

#[test]
fn series_get_external_labels_and_lose_replica_labels() {
    let head = vec![
        series("b", &[("__name__", "up"), ("region", "us"), ("tenant_id", "liar")], &[0]),
        series("a", &[("__name__", "up"), ("replica", "x")], &[0]),
    ];
    let found = select(&source(head, &["receive_replica", "replica"]), vec![]);
    assert_eq!(
        texts(&found),
        [
            r#"{"__name__": "up", "region": "eu", "tenant_id": "a"}"#,
            r#"{"__name__": "up", "region": "eu", "tenant_id": "b"}"#,
        ]
    );
}

#[test]
fn label_sets_that_become_equal_are_one_series_in_order_of_time() {
    let head = vec![
        series("a", &[("__name__", "up"), ("replica", "1")], &[0, 40]),
        series("a", &[("__name__", "down")], &[7]),
        series("a", &[("__name__", "up"), ("replica", "2")], &[20, 60]),
    ];
    let found = select(&source(head, &["replica"]), vec![]);
    assert_eq!(found.len(), 2);
    let starts: Vec<i64> = found[1].chunks.iter().map(|chunk| chunk.min_ms).collect();
    assert_eq!(starts, [0, 20, 40, 60]);
}

#[test]
fn replicas_stay_apart_in_head_and_blocks_alike() {
    let head = vec![
        series("a", &[("__name__", "up"), ("replica", "1")], &[0, 40]),
        series("a", &[("__name__", "up"), ("replica", "2")], &[20]),
    ];
    let found = select(&source(head, &["receive_replica", "replica"]), vec![]);
    let replicas: Vec<u64> = found[0].chunks.iter().map(|chunk| chunk.replica).collect();
    assert!(replicas[0] != replicas[1] && replicas[0] == replicas[2], "{replicas:?}");
    let names = ["receive_replica", "replica"].map(str::to_owned).to_vec();
    let of_head =
        ExternalLabels::new([("receive_replica".to_owned(), "r0".to_owned())], "tenant_id".to_owned(), names);
    let pairs = [("tenant_id", "a"), ("receive_replica", "r0")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let own = Labels::from_pairs([("__name__", "up"), ("receive_replica", "liar"), ("replica", "1")]);
    assert_eq!(of_head.replica(&own, "a"), of_head.of_block(pairs).replica(&own, "a"));
    assert_eq!(of_head.replica(&own, "a"), replicas[0]);
    assert_eq!(of_head.hiding(Arc::from([])).replica(&own, "a"), 0);
}

#[test]
fn very_many_replicas_of_one_series_are_joined_in_order_of_time() {
    let count = 20_000;
    let head =
        (0..count).map(|i| series("a", &[("replica", &i.to_string())], &[(i * 7_919) % 19_997])).collect();
    let found = select(&source(head, &["replica"]), vec![]);
    assert!(found.len() == 1 && found[0].chunks.len() == count as usize);
    assert!(found[0].chunks.is_sorted_by_key(|chunk| chunk.min_ms));
}

#[test]
fn matchers_on_external_labels_are_decided_before_the_head_is_asked() {
    let source = source(
        vec![
            series("a", &[("__name__", "up"), ("replica", "1")], &[0]),
            series("b", &[("__name__", "up")], &[0]),
        ],
        &["receive_replica", "replica"],
    );
    let count = |matchers| select(&source, matchers).len();
    assert_eq!(count(vec![matcher(MatchOp::Equal, "region", "eu")]), 2);
    assert_eq!(count(vec![matcher(MatchOp::Equal, "region", "us")]), 0);
    assert_eq!(count(vec![matcher(MatchOp::NotEqual, "region", "")]), 2);
    assert_eq!(count(vec![matcher(MatchOp::Equal, "tenant_id", "b")]), 1);
    assert_eq!(count(vec![matcher(MatchOp::NotRegex, "tenant_id", "a|b")]), 0);
    // Hidden labels can still be asked for.
    assert_eq!(count(vec![matcher(MatchOp::Equal, "receive_replica", "r1")]), 0);
    assert_eq!(count(vec![matcher(MatchOp::Equal, "replica", "1")]), 1);
}

#[test]
fn names_and_values_follow_the_final_labels() {
    let head = vec![
        series("a", &[("__name__", "up"), ("job", "x"), ("replica", "1")], &[0]),
        series("b", &[("__name__", "up"), ("job", "y"), ("region", "us")], &[0]),
    ];
    let source = source(head, &["receive_replica", "replica"]);
    let names = |sets| futures::executor::block_on(source.label_names(sets, 0, 100)).unwrap();
    let values = |name: &str, sets| {
        futures::executor::block_on(source.label_values(name.to_owned(), sets, 0, 100)).unwrap()
    };
    assert_eq!(names(vec![]), ["__name__", "job", "region", "tenant_id"]);
    assert!(names(vec![vec![matcher(MatchOp::Equal, "job", "z")]]).is_empty());
    assert_eq!(values("job", vec![]), ["x", "y"]);
    assert_eq!(values("region", vec![]), ["eu"]);
    assert!(values("region", vec![vec![matcher(MatchOp::Equal, "job", "z")]]).is_empty());
    assert_eq!(values("tenant_id", vec![vec![matcher(MatchOp::Equal, "job", "y")]]), ["b"]);
    assert!(values("replica", vec![]).is_empty() && values("receive_replica", vec![]).is_empty());
    let both = vec![
        vec![matcher(MatchOp::Equal, "job", "y")],
        vec![matcher(MatchOp::Equal, "region", "us")],
        vec![matcher(MatchOp::Equal, "job", "x")],
    ];
    assert_eq!(values("job", both), ["x", "y"]);
}

#[test]
fn many_series_take_the_parallel_path_to_the_same_order() {
    let count = INLINE_SERIES_MAX + 1;
    let head = (0..count).rev().map(|i| series("a", &[("i", &format!("{i:05}"))], &[0])).collect();
    let found = select(&source(head, &[]), vec![]);
    assert_eq!(found.len(), count);
    assert!(found.is_sorted_by(|a, b| a.labels < b.labels));
    assert_eq!(found[7].labels.get("i"), Some("00007"));
}

#[test]
fn a_read_over_its_budget_says_so() {
    let labels = ExternalLabels::new([], "tenant_id".to_owned(), vec![]);
    let source = HeadSource::new(Arc::new(FakeShards(vec![series("a", &[], &[0])])), labels, 0);
    let request = SelectRequest { matchers: vec![], min_ms: 0, max_ms: 1, skip_chunks: false, budget: None };
    let error = futures::executor::block_on(source.select(request)).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { bytes_max: 0 }));
}

#[test]
fn selects_of_one_query_share_its_budget() {
    let source = source(vec![series("a", &[("__name__", "up")], &[0])], &[]);
    let select = |budget: &ReadBudget| {
        let budget = Some(budget.clone());
        let request = SelectRequest { matchers: vec![], min_ms: 0, max_ms: 1, skip_chunks: false, budget };
        futures::executor::block_on(source.select(request))
    };
    let needed = held_bytes(&select(&ReadBudget::new(1 << 20)).unwrap());
    let budget = ReadBudget::new(2 * needed);
    assert!(select(&budget).is_ok() && select(&budget).is_ok());
    assert!(matches!(select(&budget), Err(SourceError::TooLarge { bytes_max }) if bytes_max == 2 * needed));
}
