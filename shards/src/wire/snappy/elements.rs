//! The elements of a snappy block that can be taken without care: nearly all of them.
//!
//! Owns:     nothing.
//! Promises: as much text as the elements say, never past the declared length, and no byte is read that was not written.
//!
//! What the unsafe blocks rely on, `at` being a place in the body and `text` the length of the text so far:
//! - `at + ELEMENT_BYTES_MAX <= body.len()` at the head of the loop, so that a tag and its offset are there.
//! - `text + length <= text_end` before an element of at most 64 bytes is written, and `text_end + SLACK_BYTES` is within
//!   the memory of `out`: 64 bytes may be written at `text`, whatever the length is.
//! - All bytes before `text` were written. A copy reads only such bytes: it takes no more at once than its offset.
#![expect(unsafe_code, reason = "wide copies of fixed sizes into memory that is not zeroed first")]

/// Memory behind the text, for copies that are wider than their element.
pub const SLACK_BYTES: usize = 64;

/// The longest element, its literal apart: a tag and four bytes of length or offset.
const ELEMENT_BYTES_MAX: usize = 5;

/// The longest literal that its tag gives the length of.
const LITERAL_BYTES_MAX: usize = 60;

/// Bytes of one load or store.
const LANE_BYTES: usize = 16;

/// Where to stop.
#[derive(Debug, Clone, Copy)]
pub struct Stops {
    /// The declared length of the text.
    pub declared_bytes: usize,
    /// Length of the text from which no further element is begun.
    pub text_bytes: usize,
    /// Place in the body from which no further element is begun.
    pub body_bytes: usize,
}

/// For each tag of a copy: its length in the low eight bits, the upper bits of its offset in the others.
const COPIES: [u16; 256] = {
    let mut copies = [0; 256];
    let mut tag = 0;
    while tag < 256 {
        let bits = tag as u16;
        copies[tag] = if bits & 3 == 1 { (bits >> 5) << 8 | ((bits >> 2 & 7) + 4) } else { (bits >> 2) + 1 };
        tag += 1;
    }
    copies
};

/// Length and offset of a copy with an offset of `kind` bytes, 1 or 2, whose tag is the lowest byte of the word.
#[inline]
fn copy(word: u32, kind: usize) -> (usize, usize) {
    let entry = usize::from(COPIES[word as usize & 0xff]);
    let low = (word >> 8) as usize & ((1 << (8 * kind)) - 1);
    (entry & 0xff, entry & 0xff00 | low)
}

/// Takes elements from `at` on, appends their text, and answers how far it came: to a stop, or to an element that wants
/// care, damaged ones among them.
pub fn run(body: &[u8], mut at: usize, out: &mut Vec<u8>, stops: Stops) -> usize {
    let body_stop = stops.body_bytes.min(body.len().saturating_sub(ELEMENT_BYTES_MAX - 1));
    let text_end = stops.declared_bytes.min(out.capacity().saturating_sub(SLACK_BYTES));
    let text_stop = stops.text_bytes.min(text_end);
    let (from, to) = (body.as_ptr(), out.as_mut_ptr());
    let mut text = out.len();
    while at < body_stop && text < text_stop {
        // SAFETY: five bytes of the body are there.
        let word = u32::from_le(unsafe { from.add(at).cast::<u32>().read_unaligned() });
        let kind = word as usize & 3;
        if kind == 0 {
            let length = (word as usize >> 2 & 0x3f) + 1;
            let left = body.len() - at - 1;
            if length > LITERAL_BYTES_MAX || length > text_end - text {
                break;
            }
            // SAFETY: so many bytes of the body are there, and the text has room for 64.
            unsafe {
                let (from, to) = (from.add(at + 1), to.add(text));
                if left >= 4 * LANE_BYTES {
                    lanes::<4>(from, to);
                } else if length <= LANE_BYTES && left >= LANE_BYTES {
                    lanes::<1>(from, to);
                } else if length <= left {
                    std::ptr::copy_nonoverlapping(from, to, length);
                } else {
                    break;
                }
            }
            at += 1 + length;
            text += length;
            continue;
        }
        let (length, offset) = copy(word, kind);
        // No encoder that is in use writes offsets of four bytes: without them the next place is a sum, with no look-up.
        if kind == 3 || offset.wrapping_sub(1) >= text || length > text_end - text {
            break;
        }
        // SAFETY: the text has `offset` bytes, at least one, and room for 64.
        unsafe {
            let to = to.add(text);
            if offset >= 4 * LANE_BYTES {
                lanes::<4>(to.sub(offset), to);
            } else if offset >= LANE_BYTES {
                for lane in 0..4 {
                    let to = to.add(lane * LANE_BYTES);
                    lanes::<1>(to.sub(offset), to);
                }
            } else if text >= LANE_BYTES {
                repeat(to, offset, length);
            } else {
                for to in (0..length).map(|index| to.add(index)) {
                    *to = *to.sub(offset);
                }
            }
        }
        at += 1 + kind;
        text += length;
    }
    // SAFETY: all bytes up to `text` were written, and it is within the memory of `out`.
    unsafe { out.set_len(text) };
    at
}

/// Copies lanes, all of which are loaded before the first is stored.
///
/// # Safety
/// The bytes at `from` can be read, those at `to` written.
#[inline(always)]
unsafe fn lanes<const COUNT: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: as above; any bytes make arrays of bytes, which need no alignment.
    unsafe {
        let loaded = from.cast::<[[u8; LANE_BYTES]; COUNT]>().read();
        to.cast::<[[u8; LANE_BYTES]; COUNT]>().write(loaded);
    }
}

/// Repeats the last `offset` bytes before `to`, fewer than a lane, over `length` bytes and less than a lane more.
///
/// # Safety
/// A lane before `to` was written, and 64 bytes can be written at it; `offset` is 1 to 15, `length` at most 64.
#[inline(never)]
unsafe fn repeat(to: *mut u8, offset: usize, length: usize) {
    // SAFETY: a lane before it was written.
    let before = u128::from_le_bytes(unsafe { to.sub(LANE_BYTES).cast::<[u8; LANE_BYTES]>().read() });
    let mut lane = before >> (8 * (LANE_BYTES - offset));
    let mut width = offset;
    while width < LANE_BYTES {
        lane |= lane << (8 * width);
        width *= 2;
    }
    let lane = lane.to_le_bytes();
    // As much of a lane as is whole repetitions.
    let step = LANE_BYTES - LANE_BYTES % offset;
    let mut done = 0;
    while done < length {
        let wide = (4 * LANE_BYTES - done).min(LANE_BYTES);
        // SAFETY: it ends at 64 bytes.
        unsafe { std::ptr::copy_nonoverlapping(lane.as_ptr(), to.add(done), wide) };
        done += step;
    }
}
