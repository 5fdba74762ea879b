//! The protobuf message of one block: symbols, series, metadata, in either protocol.
//!
//! Series of floats come first and native histograms after them, as Prometheus sends them (its log keeps the
//! histograms of a scrape behind the floats).

use std::collections::HashMap;

use super::Protocol;
use super::catalogue::{Catalogue, Kind, Recipe, Source};
use super::exemplar::{Chosen, TRACE_ID};
use super::layout::Piece;
use super::proto::{SAMPLE_TIMESTAMP_AT, SAMPLE_VALUE_AT, put_key, put_len, put_varint, varint_len};
use super::template::Message;
use super::value::Role;

/// A part of a block that belongs to one target, with the target's label values.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) piece: Piece,
    pub(super) kind: Kind,
    pub(super) values: Vec<String>,
}

/// Writes the series of one block.
pub(super) struct Writer<'a> {
    catalogue: &'a Catalogue,
    protocol: Protocol,
    sections: &'a [Section],
    exemplars: &'a [Chosen],
    symbols: Symbols,
}

/// The symbol table of remote write 2.0; empty for 1.0.
#[derive(Default)]
struct Symbols {
    /// The table as fields of the message.
    fields: Vec<u8>,
    count: u32,
    /// The symbol of each text of the catalogue; 0 for none yet, and for the empty text.
    text_refs: Vec<u32>,
    /// The symbols of the target labels of each section.
    target_refs: Vec<Vec<u32>>,
    /// The symbol of the exemplars' label, and that of each trace id.
    trace_name_ref: u32,
    trace_refs: Vec<u32>,
}

/// The parts of a series around its samples.
#[derive(Debug, Default, Clone)]
pub(super) struct Frame {
    pub(super) labels: Vec<u8>,
    pub(super) metadata: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        catalogue: &'a Catalogue,
        protocol: Protocol,
        sections: &'a [Section],
        exemplars: &'a [Chosen],
    ) -> Writer<'a> {
        let symbols = match protocol {
            Protocol::RemoteWrite1 => Symbols::default(),
            Protocol::RemoteWrite2 => Symbols::new(catalogue, sections, exemplars),
        };
        Writer { catalogue, protocol, sections, exemplars, symbols }
    }

    /// The message with its series of floats. `put_samples` writes the sample fields of a series; a series without
    /// any is left out. The timestamps of first samples are blanks, and so are those values of first samples for
    /// which `put_samples` says so.
    pub(super) fn floats(
        &self,
        mut put_samples: impl FnMut(&Section, usize, &mut Vec<u8>) -> bool,
    ) -> Message {
        let mut message = Message { bytes: self.symbols.fields.clone(), ..Message::default() };
        let (mut frame, mut samples) = (Frame::default(), Vec::new());
        self.each(false, |index, section, at| {
            samples.clear();
            let is_blank = put_samples(section, at, &mut samples);
            if !samples.is_empty() {
                self.frame(index, at, &mut frame);
                let begin = put_series(self.protocol, &frame, &samples, &mut message.bytes);
                if is_blank {
                    message.values.push(begin + SAMPLE_VALUE_AT);
                }
                message.timestamps.push(begin + SAMPLE_TIMESTAMP_AT);
            }
        });
        message
    }

    /// Calls `each` with every native histogram's section and position in its recipes.
    pub(super) fn each_native(&self, mut each: impl FnMut(usize, &Section, usize)) {
        self.each(true, &mut each);
    }

    fn each(&self, is_native: bool, mut each: impl FnMut(usize, &Section, usize)) {
        for (index, section) in self.sections.iter().enumerate() {
            let recipes = self.catalogue.recipes(section.kind);
            for at in section.piece.recipes.clone() {
                if (recipes[at].role == Role::Native) == is_native {
                    each(index, section, at);
                }
            }
        }
    }

    /// Writes the labels and metadata of a series.
    pub(super) fn frame(&self, section_index: usize, at: usize, frame: &mut Frame) {
        let section = &self.sections[section_index];
        let recipe = &self.catalogue.recipes(section.kind)[at];
        frame.labels.clear();
        frame.metadata.clear();
        match self.protocol {
            Protocol::RemoteWrite1 => self.put_labels(section, recipe, &mut frame.labels),
            Protocol::RemoteWrite2 => {
                let refs = &self.symbols.target_refs[section_index];
                let label_refs = recipe.labels.iter().flat_map(|&(name, source)| {
                    let value = match source {
                        Source::Text(text) => self.symbols.text_refs[text],
                        Source::Target(label) => refs[label],
                    };
                    [self.symbols.text_refs[name], value]
                });
                let length: usize = label_refs.clone().map(|label_ref| varint_len(label_ref.into())).sum();
                put_key(1, 2, &mut frame.labels);
                put_varint(length as u64, &mut frame.labels);
                for label_ref in label_refs {
                    put_varint(label_ref.into(), &mut frame.labels);
                }
                self.put_metadata(recipe, &mut frame.metadata);
            }
        }
    }

    /// The label field of an exemplar: its trace.
    pub(super) fn exemplar_labels(&self, index: usize) -> Vec<u8> {
        let (mut content, mut field) = (Vec::new(), Vec::new());
        match self.protocol {
            Protocol::RemoteWrite1 => {
                put_len(1, TRACE_ID.as_bytes(), &mut content);
                put_len(2, self.exemplars[index].trace_id.as_bytes(), &mut content);
            }
            Protocol::RemoteWrite2 => {
                put_varint(self.symbols.trace_name_ref.into(), &mut content);
                put_varint(self.symbols.trace_refs[index].into(), &mut content);
            }
        }
        put_len(1, &content, &mut field);
        field
    }

    fn put_labels(&self, section: &Section, recipe: &Recipe, out: &mut Vec<u8>) {
        for (name, value) in labels(self.catalogue, recipe, &section.values) {
            let content_bytes = text_field_bytes(name) + text_field_bytes(value);
            put_key(1, 2, out);
            put_varint(content_bytes as u64, out);
            put_len(1, name.as_bytes(), out);
            put_len(2, value.as_bytes(), out);
        }
    }

    fn put_metadata(&self, recipe: &Recipe, out: &mut Vec<u8>) {
        let mut content = Vec::with_capacity(12);
        put_key(1, 0, &mut content);
        put_varint(recipe.metric_type as u64, &mut content);
        for (field, text) in [(3, recipe.help), (4, recipe.unit)] {
            let symbol = self.symbols.text_refs[text];
            if symbol > 0 {
                put_key(field, 0, &mut content);
                put_varint(symbol.into(), &mut content);
            }
        }
        put_len(5, &content, out);
    }
}

/// Bytes of a text as a field with a key of one byte.
fn text_field_bytes(text: &str) -> usize {
    1 + varint_len(text.len() as u64) + text.len()
}

/// The labels of a series of a target, sorted by name.
pub(super) fn labels<'a>(
    catalogue: &'a Catalogue,
    recipe: &'a Recipe,
    values: &'a [String],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    recipe.labels.iter().map(move |&(name, source)| {
        let value = match source {
            Source::Text(text) => catalogue.text(text),
            Source::Target(label) => &values[label],
        };
        (catalogue.text(name), value)
    })
}

/// Writes a series; returns where its samples begin.
pub(super) fn put_series(protocol: Protocol, frame: &Frame, samples: &[u8], out: &mut Vec<u8>) -> usize {
    let field = match protocol {
        Protocol::RemoteWrite1 => 1,
        Protocol::RemoteWrite2 => 5,
    };
    put_key(field, 2, out);
    put_varint((frame.labels.len() + samples.len() + frame.metadata.len()) as u64, out);
    out.extend_from_slice(&frame.labels);
    let begin = out.len();
    out.extend_from_slice(samples);
    out.extend_from_slice(&frame.metadata);
    begin
}

/// Writes a native histogram as a field of a series.
pub(super) fn put_histogram(protocol: Protocol, histogram: &[u8], out: &mut Vec<u8>) {
    let field = match protocol {
        Protocol::RemoteWrite1 => 4,
        Protocol::RemoteWrite2 => 3,
    };
    put_len(field, histogram, out);
}

impl Symbols {
    /// Numbers every text that the sections use, in the order in which they use them.
    fn new(catalogue: &Catalogue, sections: &[Section], exemplars: &[Chosen]) -> Symbols {
        let mut symbols = Symbols { text_refs: vec![0; catalogue.text_count()], ..Symbols::default() };
        symbols.push("");
        // Targets share some values (their cluster, their node), so those are looked up by text.
        let mut known: HashMap<&str, u32> = HashMap::new();
        for section in sections {
            let mut target_refs = vec![0; section.values.len()];
            for recipe in &catalogue.recipes(section.kind)[section.piece.recipes.clone()] {
                for &(name, source) in &recipe.labels {
                    symbols.text_ref(catalogue, name);
                    match source {
                        Source::Text(text) => symbols.text_ref(catalogue, text),
                        Source::Target(label) if target_refs[label] == 0 => {
                            let value = section.values[label].as_str();
                            target_refs[label] = *known.entry(value).or_insert_with(|| symbols.push(value));
                        }
                        Source::Target(_) => {}
                    }
                }
                symbols.text_ref(catalogue, recipe.help);
                symbols.text_ref(catalogue, recipe.unit);
            }
            symbols.target_refs.push(target_refs);
        }
        if !exemplars.is_empty() {
            symbols.trace_name_ref = symbols.push(TRACE_ID);
            symbols.trace_refs = exemplars.iter().map(|chosen| symbols.push(&chosen.trace_id)).collect();
        }
        symbols
    }

    fn text_ref(&mut self, catalogue: &Catalogue, text: usize) {
        if self.text_refs[text] == 0 && !catalogue.text(text).is_empty() {
            self.text_refs[text] = self.push(catalogue.text(text));
        }
    }

    fn push(&mut self, text: &str) -> u32 {
        put_len(4, text.as_bytes(), &mut self.fields);
        self.count += 1;
        self.count - 1
    }
}
