//! Which forms may stand at a place of a text, by a hash of the few bytes there.

use std::ops::Range;

use zeroize::Zeroizing;

use super::ECHO_BYTES_MIN;

/// Bytes that are hashed: no form is shorter.
pub(super) const WINDOW_BYTES: usize = ECHO_BYTES_MIN;
/// Places of one hash that are followed; a value that repeats itself has more.
const PLACES_MAX: usize = 16;
/// Bits of the filter for each window: of so many bytes of other text, one is looked up.
const BITS_EACH: usize = 64;
const BITS_MIN: usize = 4096;
/// The bits of [`WINDOW_BYTES`] bytes.
const MASK: u64 = (1 << (8 * WINDOW_BYTES)) - 1;

/// Every window of every form, by its hash.
#[derive(Default)]
pub(super) struct Windows {
    /// Hash, form, offset; in order. Of a hash a value could be guessed, so they are zeroed.
    places: Zeroizing<Vec<[u32; 3]>>,
    /// A bit for each hash that there is.
    filter: Zeroizing<Vec<u64>>,
    /// How far a hash is shifted to be the number of a bit.
    shift: u32,
}

impl Windows {
    pub(super) fn of(forms: &[Zeroizing<Vec<u8>>]) -> Self {
        let starts = |bytes: usize| {
            let last = bytes.saturating_sub(WINDOW_BYTES);
            (0..last).step_by(WINDOW_BYTES).chain([last])
        };
        let count = forms.iter().map(|it| starts(it.len()).count()).sum();
        // Room for all of them, so that none is moved and left behind.
        let mut places = Zeroizing::new(Vec::with_capacity(count));
        for (form, bytes) in (0_u32..).zip(forms) {
            for at in starts(bytes.len()) {
                let window = bytes.get(at..at + WINDOW_BYTES).unwrap_or_default();
                let window = window.iter().fold(0, |window, byte| rolled(window, *byte));
                let offset = u32::try_from(at).unwrap_or(u32::MAX);
                places.push([key(hash(window)), form, offset]);
            }
        }
        places.sort_unstable();
        let mut before: (u32, usize) = (0, 0);
        places.retain(|[key, ..]| {
            before = (*key, if before.0 == *key { before.1 + 1 } else { 1 });
            before.1 <= PLACES_MAX
        });
        let bits = (count * BITS_EACH).next_power_of_two().max(BITS_MIN);
        let mut it = Self {
            places,
            filter: Zeroizing::new(vec![0; bits / 64]),
            // No more bits than a key has, so that a key tells its bit.
            shift: 32 - bits.ilog2().min(32),
        };
        for [key, ..] in it.places.iter() {
            let bit = bit(*key, it.shift);
            if let Some(word) = it.filter.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        it
    }

    /// Calls `found` with each place in a part of a text where windows may be, and with those: form
    /// and offset.
    pub(super) fn each_in(
        &self,
        text: &[u8],
        part: Range<usize>,
        mut found: impl FnMut(usize, &mut dyn Iterator<Item = (usize, usize)>),
    ) {
        let start = part.start;
        let text = text.get(part).unwrap_or_default();
        let (first, rest) = text.split_at(text.len().min(WINDOW_BYTES - 1));
        let mut window = first.iter().fold(0, |window, byte| rolled(window, *byte));
        for (at, byte) in rest.iter().enumerate() {
            window = rolled(window, *byte);
            let key = key(hash(window));
            let bit = bit(key, self.shift);
            let word = self.filter.get(bit / 64).copied().unwrap_or_default();
            if word >> (bit % 64) & 1 == 1 {
                let first = self.places.partition_point(|it| it[0] < key);
                let places = self.places.get(first..).unwrap_or_default().iter();
                let mut places = places
                    .take_while(|it| it[0] == key)
                    .map(|[_, form, offset]| (wide(*form), wide(*offset)))
                    .peekable();
                if places.peek().is_some() {
                    found(start + at, &mut places);
                }
            }
        }
    }
}

const fn rolled(window: u64, byte: u8) -> u64 {
    (window << 8 | byte as u64) & MASK
}

const fn hash(window: u64) -> u64 {
    window.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const fn key(hash: u64) -> u32 {
    (hash >> 32) as u32
}

const fn bit(key: u32, shift: u32) -> usize {
    wide(key >> shift)
}

const fn wide(number: u32) -> usize {
    number as usize
}
