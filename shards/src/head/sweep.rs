//! Drops what is in a block: the samples, then the series without any left, then labels that nothing uses. In steps of
//! bounded work between which the head takes writes.
//!
//! Numbers of series rest after they were vacated, until no read goes on that may mean the series that had them.

use super::bitset::BitSet;
use super::error::HeadFull;
use super::series::Series;
use super::store::Head;

/// Series looked at in one step: some 100 µs of work. In tests a sweep of few series takes many steps.
const STEP_SERIES: usize = if cfg!(test) { 16 } else { 512 };

/// Postings looked at in one step.
const STEP_POSTINGS: usize = if cfg!(test) { 256 } else { 16 << 10 };

/// Pairs or symbols looked at in one step.
const STEP_PAIRS: usize = if cfg!(test) { 32 } else { 1024 };

/// A sweep of one tenant.
pub struct Sweep {
    tenant: u32,
    below_ms: i64,
    phase: Phase,
    /// Series that were vacated.
    vacated: Vec<u32>,
    vacated_set: BitSet,
    /// Pairs of vacated series.
    pairs: Vec<u32>,
    pairs_set: BitSet,
    /// Those of them that no series has.
    dead: Vec<u32>,
    dead_set: BitSet,
    /// Names of dead pairs.
    names: Vec<u32>,
    names_set: BitSet,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Series of the tenant from here down.
    Series {
        from: usize,
    },
    /// This pair of `pairs`, postings from here down.
    Postings {
        pair: usize,
        from: usize,
    },
    /// This name of `names`.
    Names {
        name: usize,
    },
    /// Dead pairs from here on.
    Pairs {
        at: usize,
    },
    /// Symbols from here on.
    Texts {
        at: u32,
    },
    Done,
}

impl Sweep {
    /// Begins to drop a tenant's samples before `below_ms`; `None` when the tenant is unknown.
    pub fn new(head: &Head, tenant: &str, below_ms: i64) -> Option<Sweep> {
        let tenant = head.symbols.find(tenant)?;
        let from = head.index.tenants.get(&tenant)?.series.len();
        let pair_count = head.index.pair_count() as u32;
        Some(Sweep {
            tenant,
            below_ms,
            phase: Phase::Series { from },
            vacated: Vec::new(),
            vacated_set: BitSet::empty(head.series_count()),
            pairs: Vec::new(),
            pairs_set: BitSet::empty(pair_count),
            dead: Vec::new(),
            dead_set: BitSet::empty(pair_count),
            names: Vec::new(),
            names_set: BitSet::empty(0),
        })
    }

    /// How many series were dropped.
    pub fn vacated_count(&self) -> usize {
        self.vacated.len()
    }

    /// Does a bounded amount of work; answers whether the sweep is done.
    ///
    /// # Errors
    /// When texts cannot be moved because all numbers of text pages are used; the sweep is done but for that.
    pub fn step(&mut self, head: &mut Head) -> Result<bool, HeadFull> {
        self.phase = match self.phase {
            Phase::Series { from } => self.series(head, from),
            Phase::Postings { pair, from } => self.postings(head, pair, from),
            Phase::Names { name } => self.names(head, name),
            Phase::Pairs { at } => self.pairs(head, at),
            Phase::Texts { at } => {
                let end = (head.symbols.len() as u32).min(at + STEP_PAIRS as u32);
                head.symbols.compact(at..end)?;
                if end == head.symbols.len() as u32 { self.finish(head) } else { Phase::Texts { at: end } }
            }
            Phase::Done => Phase::Done,
        };
        Ok(matches!(self.phase, Phase::Done))
    }

    fn series(&mut self, head: &mut Head, from: usize) -> Phase {
        let end = from.saturating_sub(STEP_SERIES);
        for at in (end..from).rev() {
            let Some(number) = head.index.tenants.get(&self.tenant).and_then(|tenant| tenant.series.get(at))
            else {
                continue;
            };
            let number = *number;
            head.change(number, |series, log| series.truncate(self.below_ms, log));
            if !head.series[number].is_empty() {
                continue;
            }
            for pair in head.pairs_of(number) {
                if self.pairs_set.insert(pair) {
                    self.pairs.push(pair);
                }
            }
            head.vacate(number);
            self.vacated.push(number);
            self.vacated_set.insert(number);
            // What comes in its place was looked at, or is new.
            head.index.remove_series(self.tenant, at);
        }
        if end == 0
            && let Some(tenant) = head.index.tenants.get_mut(&self.tenant)
        {
            tenant.oldest_ms = tenant.oldest_ms.map(|oldest_ms| oldest_ms.max(self.below_ms));
            if tenant.series.is_empty() {
                tenant.oldest_ms = None;
            }
        }
        match (end, self.vacated.is_empty()) {
            (0, true) => Phase::Done,
            (0, false) => Phase::Postings { pair: 0, from: usize::MAX },
            _ => Phase::Series { from: end },
        }
    }

    fn postings(&mut self, head: &mut Head, mut pair: usize, mut from: usize) -> Phase {
        let mut work = 0;
        while work < STEP_POSTINGS {
            let Some(id) = self.pairs.get(pair).copied() else {
                return Phase::Names { name: 0 };
            };
            let len = head.index.postings_len(id).min(from);
            let max = STEP_POSTINGS - work;
            from = head.index.sweep(id, from, max, |series| !self.vacated_set.contains(series));
            work += len.min(max) + 16;
            if from == 0 {
                if head.index.unlink_pair(id) {
                    self.dead.push(id);
                    self.dead_set.insert(id);
                    let name = head.index.pair(id).name;
                    if self.names_set.insert(name) {
                        self.names.push(name);
                    }
                }
                pair += 1;
                from = usize::MAX;
            }
        }
        Phase::Postings { pair, from }
    }

    fn names(&mut self, head: &mut Head, name: usize) -> Phase {
        let Some(symbol) = self.names.get(name) else { return Phase::Pairs { at: 0 } };
        head.index.sweep_names(self.tenant, *symbol, |pair| self.dead_set.contains(pair));
        Phase::Names { name: name + 1 }
    }

    fn pairs(&mut self, head: &mut Head, at: usize) -> Phase {
        let end = self.dead.len().min(at + STEP_PAIRS);
        for id in &self.dead[at..end] {
            let pair = head.index.pair(*id);
            for symbol in [pair.tenant, pair.name, pair.value] {
                head.symbols.release(symbol);
            }
        }
        head.index.vacate_pairs(&self.dead[at..end]);
        match end == self.dead.len() {
            true if head.symbols.is_sparse() => Phase::Texts { at: 0 },
            true => self.finish(head),
            false => Phase::Pairs { at: end },
        }
    }

    fn finish(&mut self, head: &mut Head) -> Phase {
        head.resting.extend_from_slice(&self.vacated);
        Phase::Done
    }
}

impl Head {
    /// Puts in order what replay left: numbers that series of the WAL took over from others, the newest sample of each
    /// tenant, samples that are in a block. Not in steps: nothing else runs on the shard yet.
    pub fn finish_replay(&mut self) -> Result<(), HeadFull> {
        self.forget_replaced();
        let series = &self.series;
        self.vacant.retain(|number| series[*number].is_vacant());
        // A number that was vacant, taken and vacant again is there twice.
        self.vacant.sort_unstable();
        self.vacant.dedup();
        let mut stale = Vec::new();
        for (symbol, tenant) in &mut self.index.tenants {
            let extents = tenant.series.iter().filter_map(|number| self.series[*number].extent());
            if let Some((oldest_ms, newest_ms)) = extents.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
                tenant.extend(oldest_ms, newest_ms);
            }
            if tenant.oldest_ms.is_some_and(|oldest_ms| oldest_ms < tenant.truncated_ms) {
                stale.push((self.symbols.text(*symbol).to_owned(), tenant.truncated_ms));
            }
        }
        // The same order in every run: numbers are given out again in the order in which they became vacant.
        stale.sort_unstable();
        for (tenant, below_ms) in stale {
            let Some(mut sweep) = Sweep::new(self, &tenant, below_ms) else { continue };
            while !sweep.step(self)? {}
        }
        self.end_rest();
        Ok(())
    }

    /// Takes series whose numbers others got during replay out of the lists that name them.
    fn forget_replaced(&mut self) {
        let replaced = std::mem::take(&mut self.replaced);
        if replaced.is_empty() {
            return;
        }
        let owners: Vec<u32> = (0..self.series_count())
            .map(|number| self.pairs_of(number).next().map_or(u32::MAX, |pair| self.index.pair(pair).tenant))
            .collect();
        for (symbol, tenant) in &mut self.index.tenants {
            let mut seen = BitSet::empty(self.series.len() as u32);
            tenant.series.retain(|number| owners[*number as usize] == *symbol && seen.insert(*number));
        }
        let mut done = BitSet::empty(0);
        for pair in replaced {
            if !done.insert(pair) {
                continue;
            }
            let mut seen = BitSet::empty(self.series.len() as u32);
            let (series, series_pairs) = (&self.series, &self.series_pairs);
            self.index.sweep(pair, usize::MAX, usize::MAX, |number| {
                let Series { pairs_start, pairs_count, .. } = series[number];
                let mut pairs = pairs_start..pairs_start + u32::from(pairs_count);
                pairs.any(|at| series_pairs[at] == pair) && seen.insert(number)
            });
            if self.index.unlink_pair(pair) {
                let dead = self.index.pair(pair);
                self.index.sweep_names(dead.tenant, dead.name, |other| other == pair);
                for symbol in [dead.tenant, dead.name, dead.value] {
                    self.symbols.release(symbol);
                }
                self.index.vacate_pairs(&[pair]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
