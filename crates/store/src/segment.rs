//! Segments: where entries become durable first.
//!
//! A segment is a file of zeros, made durable at its full length before it is used, so that a
//! commit changes no metadata and costs one flush. It begins with a sector that says whose it is;
//! then come frames, each starting on a sector of its own, so that no write touches a sector that
//! holds something acknowledged.
//!
//! ```text
//! segment  magic (16) ‖ id (16) ‖ log (32) ‖ number (8) ‖ first index (8) ‖ SHA-256 of these (32)
//! frame    SHA-256 of id, what follows up to the header's check, and the body (32)
//!          ‖ first index (8) ‖ body bytes (8) ‖ entries (4) ‖ version (4)
//!          ‖ check: start of SHA-256 of id and the header so far (8) ‖ magic (8)
//! body     (entry bytes (4) ‖ sealed bytes (4), ffffffff if none)* ‖ entry* ‖ sealed* ‖ ff
//! ```
//!
//! Numbers are little-endian. A frame is one group commit: all of it counts, or none.
//!
//! A commit that a crash interrupted leaves each of its sectors as it was, zeros, or as it should
//! be, and it is the last: nothing is written behind a frame that is not durable. So a bad frame
//! that ends in zeros or has a sector of zeros, with no good frame behind it, was cut short and
//! was never acknowledged. Any other bad frame is damage. That is why the header's magic and the
//! body's `ff` come last, and why digests are bound to the segment's random id: no payload can
//! imitate a frame.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vocab::digest::Digest;
use vocab::limits::{ENTRY_BYTES_MAX, SEALED_BYTES_MAX};
use vocab::rng::{self, SystemRng};

use crate::disk::{self, Disk};

/// What a device writes whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// Bytes of a segment before its first frame.
pub(crate) const PREFIX_BYTES: u64 = SECTOR as u64;

const SEGMENT_MAGIC: &[u8; 16] = b"tipstaff segment";
const SEGMENT_FIELDS: usize = 16 + 16 + 32 + 8 + 8;
const FRAME_MAGIC: &[u8; 8] = b"tipframe";
const FRAME_VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;
const TABLE_ROW_BYTES: usize = 8;
const NOT_SEALED: u32 = u32::MAX;
/// More than fit into one append.
const FRAME_ENTRIES_MAX: usize = 1 << 17;
const TRAILER: u8 = 0xff;
const ZEROS: &[u8; 1024 * 1024] = &[0; 1024 * 1024];
const SUFFIX: &str = ".seg";
/// The most that is read at once of what was sealed.
const PIECE_BYTES: usize = 1024 * 1024;

/// An entry and what was sealed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) entry: Vec<u8>,
    pub(crate) sealed: Option<Vec<u8>>,
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Its place among the segments of its log. Numbers grow; some may be missing.
    pub(crate) number: u64,
    /// The index of its first entry, if it comes to have one.
    pub(crate) first: u64,
    pub(crate) bytes: u64,
    id: [u8; 16],
    file: File,
}

/// A file of zeros, durable at its length but not in its place yet.
#[derive(Debug)]
pub(crate) struct Blank {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Blank {
    /// Makes a blank at `path`. A crash at any point leaves a file that no one reads.
    pub(crate) fn make(disk: &Disk, path: PathBuf, bytes: u64) -> io::Result<Self> {
        let file = disk.create(&path)?;
        let mut at = 0;
        while at < bytes {
            let length = bytes.saturating_sub(at).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..usize::try_from(length).unwrap_or(0));
            disk.write_at(&file, zeros.unwrap_or_default(), at)?;
            at += length;
        }
        disk.sync(&file)?;
        Ok(Self { path, file, bytes })
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Segment {
    /// Turns a blank into a segment, durably; `frames` are in it from the start.
    ///
    /// Its name appears only when its contents are durable, so a segment with a bad beginning is
    /// damage and never the trace of a crash.
    pub(crate) fn begin(
        disk: &Disk,
        folder: &Path,
        blank: Blank,
        log: Digest,
        number: u64,
        first: u64,
        frames: impl IntoIterator<Item = io::Result<(u64, Vec<Item>)>>,
    ) -> io::Result<(Arc<Self>, Vec<Frame>, u64)> {
        let id: [u8; 16] = rng::bytes(&SystemRng).map_err(io::Error::other)?;
        let path = folder.join(format!("{number:020}{SUFFIX}"));
        let segment = Arc::new(Self {
            path,
            number,
            first,
            bytes: blank.bytes,
            id,
            file: blank.file,
        });
        let mut prefix = Vec::with_capacity(SECTOR);
        prefix.extend_from_slice(SEGMENT_MAGIC);
        prefix.extend_from_slice(&id);
        prefix.extend_from_slice(log.as_bytes());
        prefix.extend_from_slice(&number.to_le_bytes());
        prefix.extend_from_slice(&first.to_le_bytes());
        prefix.extend_from_slice(Digest::of(&prefix).as_bytes());
        disk.write_at(&segment.file, &prefix, 0)?;
        let (mut at, mut written) = (PREFIX_BYTES, Vec::new());
        for items in frames {
            let (first, items) = items?;
            let bytes = segment.encode(first, &items)?;
            written.push(segment.write(disk, at, first, items.len(), &bytes)?);
            at += bytes.len() as u64;
        }
        disk.sync(&segment.file)?;
        // A crash here leaves a blank that no one reads.
        disk.rename(&blank.path, &segment.path)?;
        // A crash here leaves the segment or not; nothing in it was acknowledged yet, and what
        // recovery copied into it is still in the segments before it.
        disk.sync_dir(folder)?;
        Ok((segment, written, at))
    }

    /// Opens a segment and checks its beginning, and that it is of `log` if that is known.
    pub(crate) fn open(path: &Path, log: Option<Digest>) -> Result<Self, SegmentError> {
        let file = File::open(path).map_err(SegmentError::Read)?;
        let bytes = file.metadata().map_err(SegmentError::Read)?.len();
        let mut prefix = Vec::with_capacity(SEGMENT_FIELDS + 32);
        (&file)
            .take((SEGMENT_FIELDS + 32) as u64)
            .read_to_end(&mut prefix)
            .map_err(SegmentError::Read)?;
        let damaged = |cause| SegmentError::Damaged { at: 0, cause };
        let (fields, digest) = prefix
            .split_at_checked(SEGMENT_FIELDS)
            .ok_or_else(|| damaged("the file ends in its first sector"))?;
        if Digest::of(fields).as_bytes() != digest || !fields.starts_with(SEGMENT_MAGIC) {
            return Err(damaged("the first sector is not a segment's"));
        }
        let mut fields = Fields(fields);
        let _magic: [u8; 16] = fields.take().unwrap_or_default();
        let id = fields.take().unwrap_or_default();
        let owner: [u8; 32] = fields.take().unwrap_or_default();
        let number = u64::from_le_bytes(fields.take().unwrap_or_default());
        let first = u64::from_le_bytes(fields.take().unwrap_or_default());
        if log.is_some_and(|log| owner != *log.as_bytes()) {
            return Err(damaged("the segment belongs to another log"));
        }
        if path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(number_of)
            != Some(number)
        {
            return Err(damaged("the segment was renamed"));
        }
        Ok(Self {
            path: path.to_owned(),
            number,
            first,
            bytes,
            id,
            file,
        })
    }

    /// The bytes of a frame, up to the next sector.
    pub(crate) fn encode(&self, first: u64, items: &[Item]) -> io::Result<Vec<u8>> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut bytes = Vec::with_capacity(extent(items));
        bytes.resize(HEADER_BYTES, 0);
        for item in items {
            let entry = u32::try_from(item.entry.len()).map_err(too_long)?;
            let sealed = item
                .sealed
                .as_ref()
                .map(|sealed| u32::try_from(sealed.len()));
            let sealed = sealed.transpose().map_err(too_long)?.unwrap_or(NOT_SEALED);
            bytes.extend_from_slice(&entry.to_le_bytes());
            bytes.extend_from_slice(&sealed.to_le_bytes());
        }
        for item in items {
            bytes.extend_from_slice(&item.entry);
        }
        for sealed in items.iter().filter_map(|item| item.sealed.as_ref()) {
            bytes.extend_from_slice(sealed);
        }
        bytes.push(TRAILER);
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let mut fields = [0; 24];
        let count = u32::try_from(items.len()).map_err(too_long)?;
        let parts = [
            first.to_le_bytes().as_slice(),
            &(body.len() as u64).to_le_bytes(),
            &count.to_le_bytes(),
            &FRAME_VERSION.to_le_bytes(),
        ]
        .concat();
        fields.copy_from_slice(&parts);
        let digest = Digest::of_parts(&[&self.id, &fields, body]);
        let check = self.check(digest.as_bytes(), &fields);
        let header = [digest.as_bytes().as_slice(), &fields, &check, FRAME_MAGIC].concat();
        for (byte, value) in bytes.iter_mut().zip(header) {
            *byte = value;
        }
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Ok(bytes)
    }

    fn check(&self, digest: &[u8; 32], fields: &[u8; 24]) -> [u8; 8] {
        let full = Digest::of_parts(&[&self.id, digest, fields]);
        full.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// Writes an encoded frame. It counts once [`Segment::sync`] has returned.
    pub(crate) fn write(
        self: &Arc<Self>,
        disk: &Disk,
        at: u64,
        first: u64,
        count: usize,
        bytes: &[u8],
    ) -> io::Result<Frame> {
        disk.write_at(&self.file, bytes, at)?;
        Ok(Frame {
            segment: Arc::clone(self),
            at,
            first,
            count: count as u64,
        })
    }

    pub(crate) fn sync(&self, disk: &Disk) -> io::Result<()> {
        disk.sync(&self.file)
    }

    /// Reads the frames of a segment up to index `limit`, where a later segment takes over, and
    /// shows each entry.
    pub(crate) fn scan(
        self: &Arc<Self>,
        limit: u64,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<Scan, SegmentError> {
        let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut bytes, 0)
            .map_err(SegmentError::Read)?;
        let (mut at, mut next, mut frames) = (SECTOR, self.first, Vec::new());
        let mut cut = None;
        while next < limit {
            let rest = bytes.get(at..).unwrap_or_default();
            let damaged = |cause| SegmentError::Damaged {
                at: at as u64,
                cause,
            };
            let frame = match self.parse(rest) {
                Parsed::Frame(frame) => frame,
                Parsed::Nothing => break,
                Parsed::Cut => {
                    cut = Some(at as u64);
                    break;
                }
                Parsed::Damaged(cause) => return Err(damaged(cause)),
            };
            if frame.first != next {
                return Err(damaged("the frame's index does not follow"));
            }
            let count = frame.entries.len() as u64;
            // The digests are nobody's signature: a forger may have begun at the last index there is.
            next = next
                .checked_add(count)
                .filter(|next| *next <= limit)
                .ok_or_else(|| damaged("the frame reaches into the next segment"))?;
            frames.push(Frame {
                segment: Arc::clone(self),
                at: at as u64,
                first: frame.first,
                count,
            });
            frame.entries.into_iter().for_each(&mut visit);
            at += frame.bytes;
        }
        // Behind the last frame that counts, a later segment's frames replace whatever is here.
        // Where there is none, nothing may stand that is whole.
        if next < limit {
            let behind = bytes.get(at..).unwrap_or_default().chunks(SECTOR).skip(1);
            if behind.clone().any(|sector| self.header(sector).is_ok()) {
                return Err(SegmentError::Damaged {
                    at: at as u64,
                    cause: "a frame is gone that stood before a whole one",
                });
            }
        }
        Ok(Scan { frames, next, cut })
    }

    /// A frame's digest, index, body length and entry count.
    fn header(&self, bytes: &[u8]) -> Result<([u8; 32], [u8; 24]), HeaderError> {
        let mut fields = Fields(bytes);
        let header = (fields.take(), fields.take(), fields.take(), fields.take());
        let (Some(digest), Some(parts), Some(check), Some(magic)) = header else {
            return Err(HeaderError::Cut);
        };
        let magic: [u8; 8] = magic;
        if magic != *FRAME_MAGIC {
            return Err(match magic {
                [.., 0] => HeaderError::Cut,
                _ => HeaderError::Damaged,
            });
        }
        if check != self.check(&digest, &parts) {
            return Err(HeaderError::Damaged);
        }
        Ok((digest, parts))
    }

    fn parse<'a>(&self, rest: &'a [u8]) -> Parsed<'a> {
        let (digest, fields) = match self.header(rest) {
            Ok(header) => header,
            Err(HeaderError::Cut) if rest.iter().all(|byte| *byte == 0) => return Parsed::Nothing,
            Err(HeaderError::Cut) => return Parsed::Cut,
            Err(HeaderError::Damaged) => return Parsed::Damaged("the frame's header is damaged"),
        };
        let mut parts = Fields(&fields);
        let first = u64::from_le_bytes(parts.take().unwrap_or_default());
        let length = u64::from_le_bytes(parts.take().unwrap_or_default());
        let count = u32::from_le_bytes(parts.take().unwrap_or_default());
        let version = u32::from_le_bytes(parts.take().unwrap_or_default());
        if version != FRAME_VERSION {
            return Parsed::Damaged("the frame's version is not known");
        }
        let bytes = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .saturating_add(HEADER_BYTES);
        let Some(frame) = rest.get(..bytes) else {
            return Parsed::Cut;
        };
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        if *Digest::of_parts(&[&self.id, &fields, body]).as_bytes() != digest {
            let hole = frame
                .chunks(SECTOR)
                .any(|sector| sector.iter().all(|byte| *byte == 0));
            return if hole || frame.last() == Some(&0) {
                Parsed::Cut
            } else {
                Parsed::Damaged("the frame's digest is not that of its bytes")
            };
        }
        let entries = (|| {
            let table = usize::try_from(count).ok()?.checked_mul(TABLE_ROW_BYTES)?;
            let (table, mut rest) = body.split_at_checked(table)?;
            let mut entries = Vec::new();
            let mut sealed_bytes = 0_usize;
            for (entry, sealed) in rows(table) {
                let (bytes, behind) = rest.split_at_checked(entry)?;
                entries.push(bytes);
                sealed_bytes = sealed_bytes.checked_add(sealed.unwrap_or(0))?;
                rest = behind;
            }
            (rest.len() == sealed_bytes.checked_add(1)?).then_some(entries)
        })();
        let Some(entries) = entries else {
            return Parsed::Damaged("the frame's table does not fit its body");
        };
        Parsed::Frame(ParsedFrame {
            first,
            entries,
            bytes: bytes.next_multiple_of(SECTOR),
        })
    }
}

/// How many bytes of a segment a frame of these items takes.
pub(crate) fn extent(items: &[Item]) -> usize {
    items
        .iter()
        .map(|item| TABLE_ROW_BYTES + item.entry.len() + item.sealed.as_ref().map_or(0, Vec::len))
        .sum::<usize>()
        .saturating_add(HEADER_BYTES + 1)
        .next_multiple_of(SECTOR)
}

/// The segments in a folder and their numbers, in order.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<_> = disk::names(folder)?
        .into_iter()
        .filter_map(|name| Some((number_of(&name)?, folder.join(name))))
        .collect();
    found.sort_unstable();
    Ok(found)
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// What a scan of a segment found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) frames: Vec<Frame>,
    /// The index after the last entry.
    pub(crate) next: u64,
    /// Where a commit was cut short, if one was.
    pub(crate) cut: Option<u64>,
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error("the storage failed")]
    Read(#[source] io::Error),
    #[error("byte {at}: {cause}")]
    Damaged { at: u64, cause: &'static str },
}

enum HeaderError {
    Cut,
    Damaged,
}

enum Parsed<'a> {
    /// Zeros to the end of the segment.
    Nothing,
    Frame(ParsedFrame<'a>),
    Cut,
    Damaged(&'static str),
}

struct ParsedFrame<'a> {
    first: u64,
    entries: Vec<&'a [u8]>,
    bytes: usize,
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

/// The rows of a frame's table.
fn rows(table: &[u8]) -> impl Iterator<Item = (usize, Option<usize>)> {
    let (numbers, _) = table.as_chunks::<4>();
    let (rows, _) = numbers.as_chunks::<2>();
    rows.iter().map(|[entry, sealed]| {
        let sealed = u32::from_le_bytes(*sealed);
        (
            u32::from_le_bytes(*entry) as usize,
            (sealed != NOT_SEALED).then_some(sealed as usize),
        )
    })
}

/// Where a durable commit stands.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) segment: Arc<Segment>,
    at: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Where one item of a frame stands in its segment.
#[derive(Clone, Copy, Debug)]
struct Place {
    entry: (u64, usize),
    sealed: Option<(u64, usize)>,
}

impl Frame {
    /// The index after its last entry.
    pub(crate) const fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Reads the frame's table. The frame was checked when it was written or scanned; the limits
    /// only keep a file that was changed since from asking for too much memory.
    fn places(&self) -> io::Result<Vec<Place>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the frame's table is damaged");
        let count = usize::try_from(self.count)
            .ok()
            .filter(|count| *count <= FRAME_ENTRIES_MAX)
            .ok_or_else(damaged)?;
        let mut table = vec![0; count * TABLE_ROW_BYTES];
        let at = self.at + HEADER_BYTES as u64;
        self.segment.file.read_exact_at(&mut table, at)?;
        let mut entry_at = at + table.len() as u64;
        let mut sealed_at = entry_at + rows(&table).map(|(entry, _)| entry as u64).sum::<u64>();
        rows(&table)
            .map(|(entry, sealed)| {
                let fits = entry <= ENTRY_BYTES_MAX && sealed.unwrap_or(0) <= SEALED_BYTES_MAX;
                let place = Place {
                    entry: (entry_at, entry),
                    sealed: sealed.map(|sealed| (sealed_at, sealed)),
                };
                entry_at += entry as u64;
                sealed_at += sealed.unwrap_or(0) as u64;
                fits.then_some(place).ok_or_else(damaged)
            })
            .collect()
    }

    fn bytes(&self, (at, length): (u64, usize)) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.segment.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// What was sealed with the entry at `index`, which must be in this frame.
    pub(crate) fn sealed(&self, index: u64) -> io::Result<Option<Vec<u8>>> {
        let nth = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let sealed = self.places()?.get(nth).and_then(|place| place.sealed);
        sealed.map(|sealed| self.bytes(sealed)).transpose()
    }

    /// Gives what was sealed with the entries of `indices`, one behind the other, in pieces of
    /// bounded size.
    pub(crate) fn sealed_pieces(
        &self,
        indices: &Range<u64>,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let places = (self.first..).zip(self.places()?);
        let mut sealed = places
            .filter(|(index, _)| indices.contains(index))
            .filter_map(|(_, place)| place.sealed);
        // They lie side by side.
        let Some((mut at, first)) = sealed.next() else {
            return Ok(());
        };
        let mut left = first + sealed.map(|(_, length)| length).sum::<usize>();
        while left > 0 {
            let piece = self.bytes((at, left.min(PIECE_BYTES)))?;
            each(&piece)?;
            at += piece.len() as u64;
            left -= piece.len();
        }
        Ok(())
    }

    /// The frame's entries, with one read.
    pub(crate) fn entries(&self) -> io::Result<Vec<Vec<u8>>> {
        let places = self.places()?;
        let start = places.first().map_or(0, |place| place.entry.0);
        let length = places.iter().map(|place| place.entry.1).sum();
        let bytes = self.bytes((start, length))?;
        let mut rest = bytes.as_slice();
        Ok(places
            .iter()
            .map(|place| {
                let (entry, behind) = rest.split_at_checked(place.entry.1).unwrap_or_default();
                rest = behind;
                entry.to_vec()
            })
            .collect())
    }

    /// Length of what was sealed with each entry.
    pub(crate) fn sealed_lengths(&self) -> io::Result<Vec<Option<usize>>> {
        let places = self.places()?;
        Ok(places
            .iter()
            .map(|place| place.sealed.map(|(_, length)| length))
            .collect())
    }

    /// The frame's items.
    pub(crate) fn items(&self) -> io::Result<Vec<Item>> {
        let item = |place: &Place| {
            Ok(Item {
                entry: self.bytes(place.entry)?,
                sealed: place.sealed.map(|sealed| self.bytes(sealed)).transpose()?,
            })
        };
        self.places()?.iter().map(item).collect()
    }

    /// How many bytes of a segment the frame takes.
    pub(crate) fn extent(&self) -> io::Result<u64> {
        let places = self.places()?;
        let bytes: u64 = places
            .iter()
            .map(|place| {
                let sealed = place.sealed.map_or(0, |(_, length)| length);
                (TABLE_ROW_BYTES + place.entry.1 + sealed) as u64
            })
            .sum();
        Ok((bytes + (HEADER_BYTES + 1) as u64).next_multiple_of(SECTOR as u64))
    }
}

#[cfg(test)]
mod tests;
