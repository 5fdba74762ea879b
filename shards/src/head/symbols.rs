//! Texts of labels, each kept once and numbered, for as long as a label pair uses it.

use ahash::RandomState;
use hashbrown::HashTable;

use super::error::HeadFull;
use super::pages::Pages;

/// Texts are packed into pages of this size; no text is longer (`wire` bounds names and values).
const TEXT_PAGE_BYTES: usize = 1 << 20;

/// A page whose texts in use take less than this is emptied.
const SPARSE_BYTES: usize = TEXT_PAGE_BYTES / 2;

/// Where a text is, and how often it is used; a vacant number has no uses and no text.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    page: u16,
    start: u32,
    len: u32,
    uses: u32,
}

#[derive(Debug, Default)]
struct TextPage {
    text: String,
    used_bytes: usize,
}

/// The texts of one shard.
#[derive(Default)]
pub struct Symbols {
    texts: Vec<TextPage>,
    /// The page that takes new texts.
    filling: usize,
    places: Pages<Place>,
    vacant: Vec<u32>,
    /// Vacant numbers that were given out again since an image began; `None` while none is made.
    reused: Option<Vec<u32>>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Symbols {
    /// The number of a text, if it is known.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.find_hashed(self.hasher.hash_one(text), text)
    }

    fn find_hashed(&self, hash: u64, text: &str) -> Option<u32> {
        self.table.find(hash, |symbol| self.text(*symbol) == text).copied()
    }

    /// The number of a text, which is added when it is not known; without a use yet.
    ///
    /// # Errors
    /// When all numbers or pages are used up.
    pub fn intern(&mut self, text: &str, may_reuse: bool) -> Result<u32, HeadFull> {
        let hash = self.hasher.hash_one(text);
        if let Some(symbol) = self.find_hashed(hash, text) {
            return Ok(symbol);
        }
        let place = self.store(text)?;
        let symbol = match may_reuse.then(|| self.vacant.pop()).flatten() {
            Some(symbol) => {
                self.places[symbol] = place;
                self.reused.iter_mut().for_each(|reused| reused.push(symbol));
                symbol
            }
            None => {
                let symbol = u32::try_from(self.places.len()).map_err(|_| HeadFull)?;
                self.places.push(place);
                symbol
            }
        };
        self.enter(hash, symbol);
        Ok(symbol)
    }

    fn enter(&mut self, hash: u64, symbol: u32) {
        let (places, texts, hasher) = (&self.places, &self.texts, &self.hasher);
        self.table.insert_unique(hash, symbol, |symbol| hasher.hash_one(text_at(texts, places[*symbol])));
    }

    /// Gives a vacant number to a text, as a checkpoint has it, unless the text has that number. Answers whether the
    /// text has it then.
    pub fn restore(&mut self, symbol: u32, text: &str) -> Result<bool, HeadFull> {
        let hash = self.hasher.hash_one(text);
        if let Some(known) = self.find_hashed(hash, text) {
            return Ok(known == symbol);
        }
        let Ok(at) = self.vacant.binary_search(&symbol) else { return Ok(false) };
        self.vacant.remove(at);
        self.places[symbol] = self.store(text)?;
        self.enter(hash, symbol);
        Ok(true)
    }

    /// Sets whether an image is being made, which has to know of numbers that are given out again.
    pub fn set_imaged(&mut self, is_imaged: bool) {
        self.reused = is_imaged.then(Vec::new);
    }

    /// Numbers that were given out again since the image began.
    pub fn reused(&self) -> &[u32] {
        self.reused.as_deref().unwrap_or_default()
    }

    /// Adds a vacant number, as a checkpoint has it.
    pub fn push_vacant(&mut self) -> Result<(), HeadFull> {
        let symbol = u32::try_from(self.places.len()).map_err(|_| HeadFull)?;
        self.places.push(Place::default());
        self.vacant.push(symbol);
        Ok(())
    }

    fn store(&mut self, text: &str) -> Result<Place, HeadFull> {
        assert!(text.len() <= TEXT_PAGE_BYTES, "a label text passed the limits of the wire");
        let has_room =
            self.texts.get(self.filling).is_some_and(|page| page.text.len() + text.len() <= TEXT_PAGE_BYTES);
        if !has_room {
            self.filling = match self.texts.iter().position(|page| page.text.capacity() == 0) {
                Some(empty) => empty,
                None => {
                    u16::try_from(self.texts.len()).map_err(|_| HeadFull)?;
                    self.texts.push(TextPage::default());
                    self.texts.len() - 1
                }
            };
            self.texts[self.filling].text.reserve_exact(TEXT_PAGE_BYTES);
        }
        let page = &mut self.texts[self.filling];
        let start = page.text.len() as u32;
        page.text.push_str(text);
        page.used_bytes += text.len();
        Ok(Place { page: self.filling as u16, start, len: text.len() as u32, uses: 0 })
    }

    /// Counts one more use.
    pub fn retain(&mut self, symbol: u32) {
        self.places[symbol].uses += 1;
    }

    /// Counts one use less; a text without any goes.
    pub fn release(&mut self, symbol: u32) {
        let place = self.places[symbol];
        assert!(place.uses > 0, "a text is released as often as it was retained");
        self.places[symbol].uses -= 1;
        if place.uses > 1 {
            return;
        }
        let hash = self.hasher.hash_one(self.text(symbol));
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == symbol) {
            entry.remove();
        }
        self.places[symbol] = Place::default();
        self.vacant.push(symbol);
        let page = &mut self.texts[place.page as usize];
        page.used_bytes -= place.len as usize;
        if page.used_bytes == 0 && place.page as usize != self.filling {
            page.text = String::new();
        }
    }

    /// Whether pages of texts are mostly unused.
    pub fn is_sparse(&self) -> bool {
        let pages = self.texts.iter().enumerate();
        pages
            .filter(|(at, page)| *at != self.filling && page.text.capacity() > 0)
            .any(|(_, page)| page.used_bytes < SPARSE_BYTES)
    }

    /// Moves the texts of `symbols` out of pages that are mostly unused, so that these can go.
    pub fn compact(&mut self, symbols: std::ops::Range<u32>) -> Result<(), HeadFull> {
        for symbol in symbols {
            let place = self.places[symbol];
            let page = place.page as usize;
            if place.uses == 0 || page == self.filling || self.texts[page].used_bytes >= SPARSE_BYTES {
                continue;
            }
            let text = text_at(&self.texts, place).to_owned();
            let moved = self.store(&text)?;
            self.places[symbol] = Place { uses: place.uses, ..moved };
            let left = &mut self.texts[page];
            left.used_bytes -= text.len();
            if left.used_bytes == 0 {
                left.text = String::new();
            }
        }
        Ok(())
    }

    /// The text of a number that this table gave out; empty for a vacant one.
    pub fn text(&self, symbol: u32) -> &str {
        text_at(&self.texts, self.places[symbol])
    }

    /// Whether a number has no text.
    pub fn is_vacant(&self, symbol: u32) -> bool {
        self.places[symbol].uses == 0
    }

    /// How often a text is used.
    #[cfg(test)]
    pub fn uses(&self, symbol: u32) -> u32 {
        self.places[symbol].uses
    }

    /// Memory of the texts themselves.
    pub fn text_bytes(&self) -> u64 {
        self.texts.iter().map(|page| page.text.capacity() as u64).sum()
    }

    /// How many numbers there are, vacant ones included.
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

fn text_at(texts: &[TextPage], place: Place) -> &str {
    texts.get(place.page as usize).map_or("", |page| &page.text[place.start as usize..][..place.len as usize])
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
                assert_eq!(symbols.intern(text, true), Ok(number as u32));
                assert_eq!(symbols.text(number as u32), text);
            }
        }
        assert_eq!(symbols.find("unknown"), None);
        assert_eq!(symbols.len(), texts.len());
    }

    #[test]
    fn texts_without_a_use_give_back_number_and_memory() {
        let mut symbols = Symbols::default();
        let text = |n: u32| format!("{n:01000}");
        for n in 0..5000 {
            let symbol = symbols.intern(&text(n), true).unwrap();
            symbols.retain(symbol);
        }
        let full_bytes = symbols.text_bytes();
        for n in (0..5000).filter(|n| n % 10 != 0) {
            symbols.release(n);
        }
        assert_eq!(symbols.text_bytes(), full_bytes, "every page still has a text in use");
        symbols.compact(0..5000).unwrap();
        assert!(symbols.text_bytes() <= 2 * TEXT_PAGE_BYTES as u64, "{}", symbols.text_bytes());
        for n in 0..5000 {
            assert_eq!(symbols.find(&text(n)), (n % 10 == 0).then_some(n));
        }
        assert!(symbols.intern("new", true).unwrap() < 5000);
        assert_eq!(symbols.intern("newer", false), Ok(5000));
    }
}
