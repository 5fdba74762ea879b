//! The figures from the files of a process that does not run.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use annulus_shards::core::{
    HeadStats as Counted, StatsGather, StatsScope, TenantContent, survey_chunks, survey_content, survey_shard,
};
use annulus_shards::head::{Head, TotalsWalk, ValuesWalk};

use super::stats::{Count, HeadStats, Report, Stats};
use crate::data_dir::Found;
use crate::output::{Failure, Progress};
use crate::wal::WINDOW_MS;

/// Samples of each tenant.
type Samples = HashMap<Arc<str>, u64>;

/// Reads the shards, and counts as a running process does.
pub fn report(
    directory: &Path,
    tenant: Option<&str>,
    limit: usize,
    progress: &Progress,
) -> Result<Report, Failure> {
    let found = Found::open(directory)?;
    found.refuse_in_use()?;
    let (mut heads, mut samples) = (Vec::new(), Samples::new());
    for shard in &found.shards {
        progress.step(format_args!("shard {}: reading its checkpoint and its log", shard.shard));
        let failed = |error| Failure::about(shard.path.display(), error);
        if !shard.path.join("wal").exists() {
            warn(format_args!("{}: there is no log; it counts as empty", shard.path.display()));
            continue;
        }
        let survey =
            survey_shard(&shard.path, shard.shard, &found.hasher, WINDOW_MS, false).map_err(failed)?;
        let ring_is_whole = survey.ring.as_ref().is_ok_and(|ring| ring.recovery.damage.is_empty());
        if !ring_is_whole || survey.missing_files.1 > 0 {
            warn(format_args!(
                "{}: something is damaged, see wal verify; what can be read is counted",
                shard.path.display()
            ));
        }
        progress.step(format_args!("shard {}: reading its chunks", shard.shard));
        let mut chunks = HashMap::new();
        survey_chunks(&shard.path, false, |file| chunks.extend(file.chunks)).map_err(failed)?;
        for (tenant, TenantContent { samples: count, .. }) in survey_content(&survey.head, &chunks) {
            *samples.entry(tenant).or_default() += count;
        }
        heads.push(survey.head);
    }
    progress.step("counting");
    let counted = |scope| count(&heads, &scope, limit).into_iter().map(|counted| stats(counted, &samples));
    match tenant {
        Some(tenant) => {
            Ok(Report { total: None, tenants: counted(StatsScope::Tenant(tenant.into())).collect() })
        }
        None => Ok(Report {
            total: counted(StatsScope::Together).next(),
            tenants: counted(StatsScope::Each).collect(),
        }),
    }
}

fn warn(text: std::fmt::Arguments<'_>) {
    // Nobody has to read it.
    let _ = writeln!(io::stderr(), "annulus-tools: warning: {text}");
}

fn count(heads: &[Head], scope: &StatsScope, limit: usize) -> Vec<Counted> {
    let only = match scope {
        StatsScope::Tenant(tenant) => Some(&**tenant),
        StatsScope::Together | StatsScope::Each => None,
    };
    let totals = heads.iter().map(|head| {
        let mut walk = TotalsWalk::new(head, only);
        while !walk.step(head) {}
        walk.finish()
    });
    let mut gather = StatsGather::new(scope, limit, totals.collect());
    while let Some(request) = gather.next_request() {
        let answers = heads.iter().map(|head| {
            let mut walk = ValuesWalk::new(request.clone());
            while !walk.step(head) {}
            walk.finish()
        });
        gather.add(&answers.collect::<Vec<_>>());
    }
    gather.finish()
}

fn stats(counted: Counted, samples: &Samples) -> Stats {
    let counts = |counts: Vec<annulus_shards::core::Count>| {
        counts.into_iter().map(|count| Count { name: count.name, value: count.count }).collect()
    };
    let (min_time, max_time) = counted.times_ms.unwrap_or((i64::MAX, i64::MIN));
    let num_samples = match &counted.tenant {
        Some(tenant) => samples.get(tenant).copied().unwrap_or(0),
        None => samples.values().sum(),
    };
    Stats {
        tenant: counted.tenant.map(|tenant| tenant.to_string()),
        head_stats: HeadStats {
            num_series: counted.series,
            num_label_pairs: counted.label_pairs,
            chunk_count: counted.chunks,
            min_time,
            max_time,
            num_samples: Some(num_samples),
        },
        series_count_by_metric_name: counts(counted.series_by_metric),
        label_value_count_by_label_name: counts(counted.values_by_label),
        memory_in_bytes_by_label_name: counts(counted.bytes_by_label),
        series_count_by_label_value_pair: counts(counted.series_by_pair),
    }
}
