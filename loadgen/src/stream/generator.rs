//! The stream itself: numbers requests, encodes them, and says what they carried.
//!
//! Owns:     the layout of all targets, and per block and protocol the message that was compressed last.
//! Runs on:  any thread; a block's lock is held only to take or replace its template.
//! Promises: everything about a request follows from its number and the configuration.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::catalogue::{Catalogue, Recipe};
use super::delivery::{Delivery, Slot};
use super::exemplar::{Chosen, Exemplars, put_exemplar, trace_id};
use super::histogram::{self, Native};
use super::layout::{Layout, Life};
use super::message::{Frame, Section, Writer, labels, put_histogram, put_series};
use super::metadata;
use super::mix::under;
use super::names::Names;
use super::profile::Profile;
use super::proto::{TIMESTAMPS_MS, put_varint, sample, timestamp};
use super::template::Template;
use super::value::{Moment, Role, STALE_NAN_BITS, is_fixed, value};
use super::{
    Counts, Encoded, ExpectedSample, ExpectedSeries, Protocol, SampleValue, StreamConfig, StreamError,
};

/// A message of more series would be larger than receivers take.
const SAMPLES_PER_REQUEST_MAX: u64 = 100_000;

const INTERVALS_MS: std::ops::RangeInclusive<i64> = 1..=86_400_000;

/// The stream. Shared by all senders.
///
/// Memory: 16 bytes per target and, for each protocol that is used, about 50 bytes per series (a compressed message
/// of each block, and where its values are); `memory_bytes` tells the exact number.
#[derive(Debug)]
pub struct Stream {
    catalogue: Catalogue,
    layout: Layout,
    names: Names,
    delivery: Delivery,
    exemplars: Exemplars,
    begin_ms: i64,
    interval_us: u64,
    /// By block and protocol.
    blocks: Vec<[Mutex<Option<Arc<Prepared>>>; 2]>,
}

/// A block whose labels were written and compressed once.
#[derive(Debug)]
struct Prepared {
    /// Which generations the labels belong to: see `Layout::generation_sum`.
    generation_sum: u64,
    floats: Template,
    natives: Vec<PreparedNative>,
    exemplars: Vec<PreparedExemplar>,
}

/// The fixed parts of a native histogram's series. Its value changes in length from round to round, so it is
/// compressed anew, behind the floats.
#[derive(Debug)]
struct PreparedNative {
    /// Position of its target in the block, and of itself in the target's recipes.
    section: usize,
    at: usize,
    frame: Frame,
}

/// The fixed parts of the entry of an exemplar.
#[derive(Debug)]
struct PreparedExemplar {
    chosen: Chosen,
    frame: Frame,
    labels: Vec<u8>,
}

impl Stream {
    /// Lays out all targets. Nothing is encoded yet.
    pub fn new(config: &StreamConfig) -> Result<Stream, StreamError> {
        let mut profile = Profile::read_with(&config.profile, &config.profile_changes)?;
        if let Some(series) = config.series {
            let most = super::profile::SERIES_MAX;
            if !(1..=most).contains(&series) {
                return Err(StreamError(format!("{series} series are not between 1 and {most}")));
            }
            profile.series = series;
        }
        if !(1..=SAMPLES_PER_REQUEST_MAX).contains(&config.samples_per_request) {
            let (given, most) = (config.samples_per_request, SAMPLES_PER_REQUEST_MAX);
            return Err(StreamError(format!("{given} samples per request are not between 1 and {most}")));
        }
        if !INTERVALS_MS.contains(&config.interval_ms) {
            let (given, most) = (config.interval_ms, INTERVALS_MS.end());
            return Err(StreamError(format!("an interval of {given} ms is not between 1 and {most} ms")));
        }
        if !TIMESTAMPS_MS.contains(&config.begin_ms) {
            let given = config.begin_ms;
            return Err(StreamError(format!(
                "the stream's begin at {given} ms is not between 1971 and 2109"
            )));
        }
        let catalogue = Catalogue::new();
        let layout =
            Layout::new(&profile, &catalogue, config.seed, config.samples_per_request, config.interval_ms);
        let delivery = Delivery::new(&profile, config.seed);
        let exemplars = Exemplars::new(&profile, config.seed);
        let blocks = (0..layout.blocks()).map(|_| Default::default()).collect();
        let names = Names { cluster: profile.cluster, environment: profile.environment, seed: config.seed };
        let interval_us = config.interval_ms as u64 * 1000;
        let begin_ms = config.begin_ms;
        Ok(Stream { catalogue, layout, names, delivery, exemplars, begin_ms, interval_us, blocks })
    }

    /// Time of round 0, milliseconds since the Unix epoch.
    pub fn begin_ms(&self) -> i64 {
        self.begin_ms
    }

    /// Requests of one round (the number of blocks).
    pub fn requests_per_round(&self) -> u64 {
        self.layout.blocks()
    }

    /// Samples of one round; late ones move to another round, and repeated ones come on top.
    pub fn samples_per_round(&self) -> u64 {
        self.layout.series()
    }

    /// When a request is due, in microseconds after `begin_ms`; its samples carry this time in milliseconds.
    ///
    /// Requests are evenly spaced over the interval, and request `n + requests_per_round` is due exactly one
    /// interval after request `n`.
    pub fn due_us(&self, request: u64) -> u64 {
        let exact = u128::from(request) * u128::from(self.interval_us) / u128::from(self.layout.blocks());
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// Compresses every block for a protocol, so that no request of the first round is slower than later ones.
    pub fn prepare(&self, protocol: Protocol) {
        for block in 0..self.layout.blocks() {
            self.prepared(block, 0, protocol);
        }
    }

    /// Memory that compressed blocks take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let locked =
            self.blocks.iter().flatten().map(|block| block.lock().unwrap_or_else(PoisonError::into_inner));
        locked.filter_map(|prepared| prepared.as_ref().map(|prepared| prepared.memory_bytes())).sum()
    }

    /// Encodes a request. Cheap (a prepared body is copied and patched), from any thread.
    ///
    /// Bodies are written from scratch, at many times the cost, where the profile makes samples late or repeats
    /// them, in rounds with stale markers, and for a request older than its block's newest generation.
    pub fn encode(&self, request: u64, protocol: Protocol) -> Encoded {
        let (block, round) = self.place(request);
        if !self.delivery.is_plain() {
            return self.encode_from_scratch(block, round, protocol);
        }
        match self.prepared(block, round, protocol) {
            Some(prepared) => self.fill(&prepared, block, round, protocol),
            None => self.encode_from_scratch(block, round, protocol),
        }
    }

    /// The metadata of all metrics, as the body of a message of remote write 1.0 without series.
    pub fn metadata(&self) -> Bytes {
        metadata::encode((0..self.layout.target_count()).map(|target| self.layout.target(target).kind))
    }

    /// Number of targets.
    pub fn targets(&self) -> u64 {
        self.layout.target_count() as u64
    }

    /// The label matchers that select exactly the series of one target (all its generations), as PromQL text.
    ///
    /// # Panics
    /// When there is no such target.
    pub fn target_selector(&self, target: u64) -> String {
        let target = self.layout.target(target as usize);
        self.names.selector(target.kind, target.index)
    }

    /// All series of a target that requests `0..end` touch, with their samples: in order of time, a repeated sample
    /// once, a late sample at its own time with the request that carries it. A stale marker is a float with the
    /// bits of `STALE_NAN_BITS`, for native histograms too; the query API does not show stale markers.
    ///
    /// # Panics
    /// When there is no such target.
    pub fn expected(&self, target: u64, end: u64) -> Vec<ExpectedSeries> {
        self.expected_between(target, 0..u64::MAX, end)
    }

    /// The same for samples of some rounds only: a stream of any length can be checked in bounded memory.
    ///
    /// # Panics
    /// When there is no such target.
    pub fn expected_between(&self, target: u64, between: Range<u64>, end: u64) -> Vec<ExpectedSeries> {
        let target = target as usize;
        let kind = self.layout.target(target).kind;
        let slots = self.layout.slots(target);
        let mut all = Vec::new();
        for (recipe, slot) in self.catalogue.recipes(kind).iter().zip(slots) {
            let block = self.layout.block_of(slot);
            let rounds = end.saturating_sub(block).div_ceil(self.layout.blocks());
            let slot = Slot { target, slot };
            let mut generation = None;
            for round in between.start..between.end.min(rounds) {
                let life = self.layout.life(target, round);
                let sent_in = self.delivery.sent_in(&self.layout, slot, round);
                if sent_in >= rounds {
                    continue;
                }
                if generation != Some(life.generation) {
                    generation = Some(life.generation);
                    let values = self.names.values(kind, self.layout.target(target).index, life);
                    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                    let labels = labels(&self.catalogue, recipe, &values).map(owned).collect();
                    all.push(ExpectedSeries { labels, samples: Vec::new() });
                }
                let sample = ExpectedSample {
                    timestamp_ms: self.timestamp_ms(block, round),
                    value: sample_value(recipe, life, round),
                    request: sent_in * self.layout.blocks() + block,
                };
                all.last_mut().expect("the series was begun above").samples.push(sample);
            }
        }
        all
    }

    fn place(&self, request: u64) -> (u64, u64) {
        (request % self.layout.blocks(), request / self.layout.blocks())
    }

    fn timestamp_ms(&self, block: u64, round: u64) -> i64 {
        let request = round.saturating_mul(self.layout.blocks()).saturating_add(block);
        self.begin_ms.saturating_add_unsigned(self.due_us(request) / 1000)
    }

    fn sections(&self, block: u64, round: u64) -> Vec<Section> {
        let pieces = self.layout.pieces(block);
        pieces
            .map(|piece| {
                let target = self.layout.target(piece.target);
                let life = self.layout.life(piece.target, round);
                let values = self.names.values(target.kind, target.index, life);
                Section { piece, kind: target.kind, values }
            })
            .collect()
    }

    /// The series of a block that carry an exemplar.
    fn chosen(&self, sections: &[Section], round: u64) -> Vec<Chosen> {
        if self.exemplars.is_never() {
            return Vec::new();
        }
        let of_section = |(index, section): (usize, &Section)| {
            let (first, slots) = (section.piece.recipes.start, section.piece.first_slot..);
            let life = self.layout.life(section.piece.target, round);
            let recipes = self.catalogue.recipes(section.kind)[section.piece.recipes.clone()].iter();
            let having = recipes
                .zip(slots)
                .enumerate()
                .filter(|(_, (recipe, slot))| self.exemplars.has(recipe, *slot));
            let chosen = having.map(|(place, (_, slot))| Chosen {
                section: index,
                at: first + place,
                slot,
                trace_id: trace_id(under(life.hash, slot)),
            });
            chosen.collect::<Vec<_>>()
        };
        sections.iter().enumerate().flat_map(of_section).collect()
    }

    /// The block as it is compressed for a round; `None` in a round with stale markers, and where compressing it
    /// is not worth it: for a round older than the one kept, and where the next round needs other labels already.
    fn prepared(&self, block: u64, round: u64, protocol: Protocol) -> Option<Arc<Prepared>> {
        if self.layout.pieces(block).any(|piece| self.layout.life(piece.target, round).is_last) {
            return None;
        }
        let generation_sum = self.layout.generation_sum(block, round);
        let kept = &self.blocks[block as usize][protocol as usize];
        if let Some(kept) = &*kept.lock().unwrap_or_else(PoisonError::into_inner) {
            if kept.generation_sum == generation_sum {
                return Some(Arc::clone(kept));
            }
            if kept.generation_sum > generation_sum {
                return None;
            }
        }
        if self.layout.generation_sum(block, round.saturating_add(1)) != generation_sum {
            return None;
        }
        let prepared = Arc::new(self.compress(block, round, generation_sum, protocol));
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kept| kept.generation_sum < generation_sum) {
            *kept = Some(Arc::clone(&prepared));
        }
        Some(prepared)
    }

    fn compress(&self, block: u64, round: u64, generation_sum: u64, protocol: Protocol) -> Prepared {
        let sections = self.sections(block, round);
        let chosen = self.chosen(&sections, round);
        let writer = Writer::new(&self.catalogue, protocol, &sections, &chosen);
        // What never changes is compressed with the labels, as a sender would.
        let message = writer.floats(|section, at, out| {
            let recipe = &self.catalogue.recipes(section.kind)[at];
            let moment = moment(recipe, self.layout.life(section.piece.target, round), round);
            out.extend(sample(value(recipe.role, moment), TIMESTAMPS_MS.start));
            !is_fixed(recipe.role, moment.hash)
        });
        let mut natives = Vec::new();
        writer.each_native(|section, _, at| {
            let mut frame = Frame::default();
            writer.frame(section, at, &mut frame);
            natives.push(PreparedNative { section, at, frame });
        });
        let exemplar = |(index, chosen): (usize, &Chosen)| {
            let mut frame = Frame::default();
            writer.frame(chosen.section, chosen.at, &mut frame);
            PreparedExemplar { chosen: chosen.clone(), frame, labels: writer.exemplar_labels(index) }
        };
        let exemplars = chosen.iter().enumerate().map(exemplar).collect();
        Prepared { generation_sum, floats: Template::new(&message), natives, exemplars }
    }

    /// Copies a prepared block and fills in the values of a round.
    fn fill(&self, prepared: &Prepared, block: u64, round: u64, protocol: Protocol) -> Encoded {
        let timestamp_ms = self.timestamp_ms(block, round);
        let pieces: Vec<_> = self
            .layout
            .pieces(block)
            .map(|piece| {
                let recipes = self.catalogue.recipes(self.layout.target(piece.target).kind);
                (recipes, self.layout.life(piece.target, round), piece)
            })
            .collect();
        let mut tail = Vec::new();
        let mut samples = Vec::new();
        for native in &prepared.natives {
            let (recipes, life, _) = &pieces[native.section];
            samples.clear();
            put_native(&recipes[native.at], *life, round, timestamp_ms, protocol, &mut samples);
            put_series(protocol, &native.frame, &samples, &mut tail);
        }
        for PreparedExemplar { chosen, frame, labels } in &prepared.exemplars {
            let hash = exemplar_hash(pieces[chosen.section].1, chosen.slot, round);
            samples.clear();
            put_exemplar(protocol, labels, hash, timestamp_ms, &mut samples);
            put_series(protocol, frame, &samples, &mut tail);
        }
        let mut body = Vec::with_capacity(10 + prepared.floats.elements_bytes() + tail.len());
        put_varint((prepared.floats.message_bytes() + tail.len()) as u64, &mut body);
        let values = pieces.iter().flat_map(|(recipes, life, piece)| {
            let moments = recipes[piece.recipes.clone()]
                .iter()
                .map(|recipe| (recipe.role, moment(recipe, *life, round)));
            let changing =
                moments.filter(|&(role, moment)| role != Role::Native && !is_fixed(role, moment.hash));
            changing.map(|(role, moment)| value(role, moment))
        });
        prepared.floats.put(timestamp(timestamp_ms), values, &mut body);
        put_elements(&tail, &mut body);
        let slots = self.layout.block_slots(block);
        let (series, histograms) = (slots.end - slots.start, prepared.natives.len() as u64);
        let exemplars = prepared.exemplars.len() as u64;
        let counts =
            Counts { series: series + exemplars, samples: series - histograms, histograms, exemplars };
        Encoded { body: Bytes::from(body), counts }
    }

    /// Writes and compresses the whole message.
    pub(super) fn encode_from_scratch(&self, block: u64, round: u64, protocol: Protocol) -> Encoded {
        let sections = self.sections(block, round);
        let chosen = self.chosen(&sections, round);
        let writer = Writer::new(&self.catalogue, protocol, &sections, &chosen);
        let mut counts = Counts::default();
        let carried = |section: &Section, at: usize| {
            let slot = section.piece.first_slot + (at - section.piece.recipes.start) as u64;
            self.delivery.carried(&self.layout, Slot { target: section.piece.target, slot }, round)
        };
        let mut message = writer.floats(|section, at, out| {
            let recipe = &self.catalogue.recipes(section.kind)[at];
            let carried = carried(section, at);
            for &past in carried.rounds() {
                let life = self.layout.life(section.piece.target, past);
                out.extend(sample(float(recipe, life, past), self.timestamp_ms(block, past)));
            }
            counts.samples += carried.rounds().len() as u64;
            counts.series += u64::from(!carried.rounds().is_empty());
            false
        });
        let (mut frame, mut samples) = (Frame::default(), Vec::new());
        writer.each_native(|index, section, at| {
            let recipe = &self.catalogue.recipes(section.kind)[at];
            samples.clear();
            let carried = carried(section, at);
            for &past in carried.rounds() {
                let life = self.layout.life(section.piece.target, past);
                put_native(recipe, life, past, self.timestamp_ms(block, past), protocol, &mut samples);
            }
            if !samples.is_empty() {
                writer.frame(index, at, &mut frame);
                put_series(protocol, &frame, &samples, &mut message.bytes);
                counts.series += 1;
            }
            counts.histograms += carried.rounds().len() as u64;
        });
        for (index, exemplar) in chosen.iter().enumerate() {
            let section = &sections[exemplar.section];
            let life = self.layout.life(section.piece.target, round);
            // An exemplar comes with the sample of its round, and a stale marker has none.
            if life.is_last || !carried(section, exemplar.at).rounds().contains(&round) {
                continue;
            }
            let hash = exemplar_hash(life, exemplar.slot, round);
            samples.clear();
            let labels = writer.exemplar_labels(index);
            put_exemplar(protocol, &labels, hash, self.timestamp_ms(block, round), &mut samples);
            writer.frame(exemplar.section, exemplar.at, &mut frame);
            put_series(protocol, &frame, &samples, &mut message.bytes);
            counts.exemplars += 1;
            counts.series += 1;
        }
        let body = snap::raw::Encoder::new().compress_vec(&message.bytes);
        Encoded { body: body.expect("a request stays far below 4 GiB").into(), counts }
    }
}

impl Prepared {
    fn memory_bytes(&self) -> usize {
        let native = |native: &PreparedNative| {
            size_of_val(native) + native.frame.labels.capacity() + native.frame.metadata.capacity()
        };
        let exemplar = |exemplar: &PreparedExemplar| {
            let frame = exemplar.frame.labels.capacity() + exemplar.frame.metadata.capacity();
            size_of_val(exemplar) + frame + exemplar.labels.capacity() + exemplar.chosen.trace_id.capacity()
        };
        let natives: usize = self.natives.iter().map(native).sum();
        self.floats.memory_bytes() + natives + self.exemplars.iter().map(exemplar).sum::<usize>()
    }
}

/// What an exemplar's value follows.
fn exemplar_hash(life: Life, slot: u64, round: u64) -> u64 {
    under(under(life.hash, slot), round)
}

fn moment(recipe: &Recipe, life: Life, round: u64) -> Moment {
    Moment { hash: under(life.hash, recipe.salt), age: life.age, round }
}

fn float(recipe: &Recipe, life: Life, round: u64) -> f64 {
    if life.is_last {
        f64::from_bits(STALE_NAN_BITS)
    } else {
        value(recipe.role, moment(recipe, life, round))
    }
}

fn sample_value(recipe: &Recipe, life: Life, round: u64) -> SampleValue {
    if recipe.role == Role::Native && !life.is_last {
        SampleValue::Histogram(Native::at(moment(recipe, life, round)).text().into())
    } else {
        SampleValue::Float(float(recipe, life, round))
    }
}

fn put_native(
    recipe: &Recipe,
    life: Life,
    round: u64,
    timestamp_ms: i64,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let mut content = Vec::with_capacity(128);
    if life.is_last {
        histogram::put_stale(timestamp_ms, &mut content);
    } else {
        Native::at(moment(recipe, life, round)).put(timestamp_ms, &mut content);
    }
    put_histogram(protocol, &content, out);
}

/// Appends the elements of the snappy block of some bytes. Offsets in a block reach back from where they stand, so
/// the elements of two blocks, one behind the other, are the block of both.
fn put_elements(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let block = snap::raw::Encoder::new().compress_vec(bytes).expect("a request stays far below 4 GiB");
    out.extend_from_slice(&block[super::proto::varint_len(bytes.len() as u64)..]);
}
