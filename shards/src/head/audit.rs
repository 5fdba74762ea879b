//! Whether the parts of a head agree with each other, for the simulation. Slow: it looks at everything.

use std::collections::{BTreeMap, BTreeSet};

use super::series::{ClosedChunk, Series};
use super::store::Head;

impl Head {
    /// What is wrong with the head, while no sweep is under way.
    pub fn audit(&self) -> Result<(), String> {
        self.audit_numbers()?;
        self.audit_index()?;
        self.audit_symbols()?;
        let mut referenced = 0;
        let mut sample_bytes = 0;
        for number in 0..self.series_count() {
            let series = &self.series[number];
            audit_chunks(series).map_err(|fault| format!("series {number}: {fault}"))?;
            referenced += series.closed().len() + series.late().map_or(0, |late| late.closed().len());
            sample_bytes += series.memory_bytes();
        }
        let (live, pending) = (self.log().borrow().live_count(), self.log().borrow().pending_bytes());
        expect(live, referenced as u64, "chunks that series refer to, by the log and by the series")?;
        let expected = sample_bytes as u64 + pending;
        expect(self.sample_bytes(), expected, "bytes of samples, as counted and as they are")
    }

    /// How many series have no sample: only where chunks were lost, until the next sweep.
    pub fn empty_count(&self) -> usize {
        let series = (0..self.series_count()).map(|number| &self.series[number]);
        series.filter(|series| !series.is_vacant() && series.is_empty()).count()
    }

    fn audit_numbers(&self) -> Result<(), String> {
        let vacant: BTreeSet<u32> = self.vacant.iter().chain(&self.resting).copied().collect();
        expect(vacant.len(), self.vacant.len() + self.resting.len(), "vacant numbers, each once and all")?;
        for number in 0..self.series_count() {
            let series = &self.series[number];
            if series.is_vacant() != vacant.contains(&number) {
                return Err(format!("number {number} is vacant, or is said to be, and not both"));
            }
            if !series.is_vacant() && self.find(series.key).map(|found| found.0) != Some(number) {
                return Err(format!("series {number} is not found by its key"));
            }
        }
        let occupied = self.series_count() as usize - vacant.len();
        expect(self.live_series_count() as usize, occupied, "keys and series")
    }

    fn audit_index(&self) -> Result<(), String> {
        let mut of_pair: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let mut of_tenant: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for number in (0..self.series_count()).filter(|number| !self.series[*number].is_vacant()) {
            for pair in self.pairs_of(number) {
                of_pair.entry(pair).or_default().insert(number);
                of_tenant.entry(self.index.pair(pair).tenant).or_default().insert(number);
            }
        }
        let series: usize = of_tenant.values().map(BTreeSet::len).sum();
        expect(series, self.live_series_count() as usize, "series, each of one tenant")?;
        for (symbol, tenant) in &self.index.tenants {
            let listed: BTreeSet<u32> = tenant.series.iter().copied().collect();
            expect(listed.len(), tenant.series.len(), "series of a tenant, each once")?;
            expect(listed, of_tenant.remove(symbol).unwrap_or_default(), "series of a tenant")?;
            for (name, pairs) in &tenant.names {
                for pair in pairs {
                    let found = self.index.pair(*pair);
                    if found.tenant != *symbol || found.name != *name {
                        return Err(format!("pair {pair} is in the list of another name"));
                    }
                }
            }
        }
        for id in 0..self.index.pair_count() as u32 {
            let listed: BTreeSet<u32> = self.index.postings(id).iter().copied().collect();
            expect(listed.len(), self.index.postings_len(id), "postings, each once")?;
            expect(listed, of_pair.remove(&id).unwrap_or_default(), "postings of a pair")?;
            if !self.index.is_vacant(id) && self.index.find(self.index.pair(id)) != Some(id) {
                return Err(format!("pair {id} is not found"));
            }
        }
        Ok(())
    }

    fn audit_symbols(&self) -> Result<(), String> {
        let mut uses: BTreeMap<u32, u32> = self.index.tenants.keys().map(|symbol| (*symbol, 1)).collect();
        for id in (0..self.index.pair_count() as u32).filter(|id| !self.index.is_vacant(*id)) {
            let pair = self.index.pair(id);
            for symbol in [pair.tenant, pair.name, pair.value] {
                *uses.entry(symbol).or_default() += 1;
            }
        }
        for symbol in 0..self.symbols.len() as u32 {
            let expected = uses.get(&symbol).copied().unwrap_or(0);
            expect(self.symbols.uses(symbol), expected, "uses of a symbol, as counted and as they are")?;
            if expected > 0 && self.symbols.find(self.symbols.text(symbol)) != Some(symbol) {
                return Err(format!("symbol {symbol} is not found by its text"));
            }
        }
        Ok(())
    }
}

/// Chunks of samples that came in order follow each other, and the open one comes last.
fn audit_chunks(series: &Series) -> Result<(), String> {
    let follow = |pair: &[ClosedChunk]| pair[0].max_ms() < pair[1].min_ms;
    if !series.closed().windows(2).all(follow) {
        return Err(format!("closed chunks overlap: {:?}", series.closed()));
    }
    let last_closed_ms = series.closed().last().map(ClosedChunk::max_ms);
    if let Some(open) = series.open()
        && (last_closed_ms.is_some_and(|closed_ms| closed_ms >= open.min_ms)
            || open.max_ms >= series.open_end_ms())
    {
        return Err(format!("the open chunk is {open:?}, after {last_closed_ms:?}"));
    }
    let late = series.late().map_or(&[][..], |late| late.samples());
    let histograms = series.late().map_or(&[][..], |late| late.histograms());
    if !late.windows(2).all(|pair| pair[0].0 < pair[1].0)
        || !histograms.windows(2).all(|pair| pair[0].timestamp_ms < pair[1].timestamp_ms)
    {
        return Err("late samples are not in order".to_owned());
    }
    Ok(())
}

fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T, what: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and {expected:?}")) }
}
