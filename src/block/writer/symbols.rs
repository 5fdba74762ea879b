//! The distinct texts of a block's labels: the one thing of which all must be in memory while a block is written.

use ahash::RandomState;
use hashbrown::HashTable;

/// Texts, numbered in the order in which they came, one after the other in one string.
pub struct SymbolTable {
    text: String,
    /// Where each text ends.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

/// The numbers that texts get in the file, where they are in order.
pub struct SymbolOrder {
    /// First numbers in the order of their texts.
    pub sorted: Vec<u32>,
    /// By first number, the place in that order.
    pub ranks: Vec<u32>,
}

impl SymbolTable {
    /// A table with the empty text, which the list of all series is filed under.
    pub fn new() -> SymbolTable {
        let mut table = SymbolTable {
            text: String::new(),
            ends: Vec::new(),
            numbers: HashTable::new(),
            hasher: RandomState::new(),
        };
        table.intern("").expect("an empty table has room");
        table
    }

    /// The number of a text; `None` once there are more than four bytes can number.
    pub fn intern(&mut self, symbol: &str) -> Option<u32> {
        let SymbolTable { text, ends, numbers, hasher } = self;
        let hash = hasher.hash_one(symbol);
        if let Some(number) = numbers.find(hash, |number| text_of(text, ends, *number) == symbol) {
            return Some(*number);
        }
        let number = u32::try_from(ends.len()).ok().filter(|number| *number < u32::MAX)?;
        text.push_str(symbol);
        ends.push(text.len());
        numbers.insert_unique(hash, number, |number| hasher.hash_one(text_of(text, ends, *number)));
        Some(number)
    }

    /// The text of a number.
    pub fn text(&self, number: u32) -> &str {
        text_of(&self.text, &self.ends, number)
    }

    /// How many texts there are.
    pub fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Puts the texts in order.
    pub fn order(&self) -> SymbolOrder {
        let mut sorted: Vec<u32> = (0..self.count()).collect();
        sorted.sort_unstable_by_key(|number| self.text(*number));
        let mut ranks = vec![0; sorted.len()];
        for (rank, number) in sorted.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        SymbolOrder { sorted, ranks }
    }
}

fn text_of<'a>(text: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &text[start..ends[number]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_number_and_ranks_follow_the_texts() {
        let mut table = SymbolTable::new();
        let numbers: Vec<_> = ["b", "a", "\u{e9}", "b", ""].iter().map(|text| table.intern(text)).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(1), Some(0)]);
        let order = table.order();
        assert_eq!(order.sorted, [0, 2, 1, 3]);
        assert_eq!(order.ranks, [0, 2, 1, 3]);
        assert_eq!(table.text(3), "\u{e9}");
    }
}
