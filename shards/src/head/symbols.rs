//! Texts of labels, each kept once and numbered.

use ahash::RandomState;
use hashbrown::HashTable;

use super::error::HeadFull;
use super::pages::Pages;

/// Texts are packed into pages of this size; no text is longer (`wire` bounds names and values).
const TEXT_PAGE_BYTES: usize = 1 << 20;

/// Where a text is.
#[derive(Debug, Clone, Copy)]
struct Place {
    page: u16,
    start: u32,
    len: u32,
}

/// The texts of one shard.
#[derive(Default)]
pub struct Symbols {
    texts: Vec<String>,
    places: Pages<Place>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Symbols {
    /// The number of a text, if it is known.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.table.find(self.hasher.hash_one(text), |symbol| self.text(*symbol) == text).copied()
    }

    /// The number of a text, which is added when it is not known.
    ///
    /// # Errors
    /// When all numbers or pages are used up.
    pub fn intern(&mut self, text: &str) -> Result<u32, HeadFull> {
        if let Some(symbol) = self.find(text) {
            return Ok(symbol);
        }
        assert!(text.len() <= TEXT_PAGE_BYTES, "a label text passed the limits of the wire");
        let symbol = u32::try_from(self.places.len()).map_err(|_| HeadFull)?;
        if self.texts.last().is_none_or(|page| page.len() + text.len() > TEXT_PAGE_BYTES) {
            u16::try_from(self.texts.len()).map_err(|_| HeadFull)?;
            self.texts.push(String::with_capacity(TEXT_PAGE_BYTES));
        }
        let page = self.texts.len() - 1;
        let start = self.texts[page].len();
        self.texts[page].push_str(text);
        self.places.push(Place { page: page as u16, start: start as u32, len: text.len() as u32 });
        let (places, texts, hasher) = (&self.places, &self.texts, &self.hasher);
        self.table.insert_unique(hasher.hash_one(text), symbol, |symbol| {
            hasher.hash_one(text_at(texts, places[*symbol]))
        });
        Ok(symbol)
    }

    /// The text of a number that this table gave out.
    pub fn text(&self, symbol: u32) -> &str {
        text_at(&self.texts, self.places[symbol])
    }

    /// Memory of the texts themselves.
    pub fn text_bytes(&self) -> u64 {
        (self.texts.len() * TEXT_PAGE_BYTES) as u64
    }

    /// How many texts there are; their numbers are below.
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

fn text_at(texts: &[String], place: Place) -> &str {
    &texts[place.page as usize][place.start as usize..][..place.len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_one_number() {
        let mut symbols = Symbols::default();
        let long = "é".repeat(TEXT_PAGE_BYTES / 4);
        let texts: Vec<String> =
            (0..5000).map(|n| format!("value-{n}")).chain((0..8).map(|n| format!("{n}{long}"))).collect();
        for _ in 0..2 {
            for (number, text) in texts.iter().enumerate() {
                assert_eq!(symbols.intern(text), Ok(number as u32));
                assert_eq!(symbols.text(number as u32), text);
            }
        }
        assert_eq!(symbols.find("unknown"), None);
        assert_eq!(symbols.len(), texts.len());
    }
}
