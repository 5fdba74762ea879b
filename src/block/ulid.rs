//! Names of blocks: 48 bits of time and 80 random ones, written so that text and number have the same order.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Crockford's digits: no letter that looks like another digit.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const TEXT_BYTES: usize = 26;
const RANDOM_BITS: u32 = 80;
const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// A universally unique, lexicographically sortable identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

/// A text that is not one, or not as it is written: upper case, and no more than 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID of 26 digits")]
pub struct UlidError;

impl Ulid {
    /// A new one, made at a time of the wall clock.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(created_ms: i64) -> io::Result<Ulid> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Ulid::from_parts(created_ms, u128::from_ne_bytes(random)))
    }

    /// One of given parts. Times before 1970 and after 10889 are taken for the nearest that it can hold.
    pub fn from_parts(created_ms: i64, random: u128) -> Ulid {
        let time_ms = u64::try_from(created_ms).unwrap_or(0).min(TIME_MS_MAX);
        Ulid(u128::from(time_ms) << RANDOM_BITS | (random & ((1 << RANDOM_BITS) - 1)))
    }

    /// When it was made, by a wall clock.
    pub fn created_ms(self) -> i64 {
        (self.0 >> RANDOM_BITS) as i64
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |place: usize| char::from(DIGITS[(self.0 >> (5 * place)) as usize & 31]);
        let text: String = (0..TEXT_BYTES).rev().map(digit).collect();
        f.pad(&text)
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ulid {
    type Err = UlidError;

    fn from_str(text: &str) -> Result<Ulid, UlidError> {
        // Of the first digit's five bits, 128 bits have room for three.
        if text.len() != TEXT_BYTES || text.as_bytes()[0] > b'7' {
            return Err(UlidError);
        }
        text.bytes()
            .try_fold(0, |number, byte| {
                let digit = DIGITS.iter().position(|digit| *digit == byte)?;
                Some(number << 5 | digit as u128)
            })
            .map(Ulid)
            .ok_or(UlidError)
    }
}

impl Serialize for Ulid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ulid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ulid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_one_reads_and_writes() {
        let text = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let ulid: Ulid = text.parse().unwrap();
        assert_eq!(ulid.to_string(), text);
        assert_eq!(ulid.created_ms(), 1_469_922_850_259);
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "01arz3ndektsv4rrffq69g5fav",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
        ] {
            assert_eq!(text.parse::<Ulid>(), Err(UlidError), "{text}");
        }
    }

    #[test]
    fn two_of_one_time_differ() {
        let (one, other) = (Ulid::new(1_756_015_212_123).unwrap(), Ulid::new(1_756_015_212_123).unwrap());
        assert_ne!(one, other);
        assert_eq!(one.created_ms(), 1_756_015_212_123);
        assert_eq!(Ulid::new(-1).unwrap().created_ms(), 0);
    }

    proptest! {
        #[test]
        fn texts_have_the_order_of_numbers(a: u128, b: u128) {
            let (a, b) = (Ulid(a), Ulid(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
