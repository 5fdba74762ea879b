//! A float as its difference to the one before: the XOR of their bits, of which only a window is stored.

use std::num::NonZeroU8;

use super::bits::{BitReader, PutBits};
use super::fault::Fault;

/// Says that no window of significant bits was written yet.
const NO_WINDOW: NonZeroU8 = NonZeroU8::MAX;

/// The window that was written last: it is used again for a difference that fits into it.
///
/// A difference is `0` if there is none; `10` + the bits inside the last window; or `11` + 5 bits of leading zeros +
/// 6 bits of window length (0 is 64) + the bits.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// One more than the leading zeros: what is never 0 leaves an enum around it a mark for its other variants.
    leading_plus: NonZeroU8,
    trailing: u8,
}

impl Default for Window {
    fn default() -> Window {
        Window { leading_plus: NO_WINDOW, trailing: 0 }
    }
}

impl Window {
    /// The window between so many leading and trailing zeros.
    pub fn of(leading: u32, trailing: u32) -> Window {
        let mut window = Window::default();
        window.set(leading, trailing);
        window
    }

    /// The leading and trailing zeros; none, while no window was written: see [`Window::take_inside`].
    pub fn zeros(self) -> (u32, u32) {
        (self.leading().unwrap_or(0), u32::from(self.trailing))
    }

    /// The leading zeros, unless no window was written.
    #[inline]
    fn leading(self) -> Option<u32> {
        (self.leading_plus != NO_WINDOW).then(|| u32::from(self.leading_plus.get()) - 1)
    }

    #[inline]
    fn set(&mut self, leading: u32, trailing: u32) {
        self.leading_plus = NonZeroU8::MIN.saturating_add(leading as u8);
        self.trailing = trailing as u8;
    }

    /// Appends the XOR of two floats.
    #[inline]
    pub fn put(&mut self, writer: &mut impl PutBits, xor: u64) {
        if xor == 0 {
            writer.put(0, 1);
            return;
        }
        // Five bits hold at most 31.
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if let Some(window_leading) = self.leading()
            && leading >= window_leading
            && trailing >= u32::from(self.trailing)
        {
            let significant = 64 - window_leading - u32::from(self.trailing);
            writer.put(0b10, 2);
            writer.put(xor >> self.trailing, significant);
        } else {
            self.set(leading, trailing);
            let significant = 64 - leading - trailing;
            writer.put(0b11 << 11 | u64::from(leading) << 6 | u64::from(significant & 0x3f), 13);
            writer.put(xor >> trailing, significant);
        }
    }

    /// Reads what [`Window::put`] wrote.
    #[inline]
    pub fn take(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Fault> {
        match reader.take_ones(2).ok_or(Fault::Truncated)? {
            0 => Ok(0),
            1 => self.take_inside(reader),
            _ => self.take_new(reader),
        }
    }

    /// Reads a difference inside the last window.
    ///
    /// Prometheus, when it goes on with a chunk that it did not write itself since its start, takes a window that was
    /// never written for one of all 64 bits, so this has to be read, although [`Window::put`] does not write it.
    #[inline]
    pub fn take_inside(&self, reader: &mut BitReader<'_>) -> Result<u64, Fault> {
        let significant = 64 - self.leading().unwrap_or(0) - u32::from(self.trailing);
        Ok(reader.take(significant).ok_or(Fault::Truncated)? << self.trailing)
    }

    /// Reads a window and the difference inside it.
    #[inline]
    pub fn take_new(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Fault> {
        let window = reader.take(11).ok_or(Fault::Truncated)?;
        let leading = (window >> 6) as u32;
        let significant = match (window & 0x3f) as u32 {
            0 => 64,
            significant => significant,
        };
        if leading + significant > 64 {
            return Err(Fault::Malformed);
        }
        self.set(leading, 64 - leading - significant);
        self.take_inside(reader)
    }
}
