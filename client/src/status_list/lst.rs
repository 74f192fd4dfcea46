//! `lst`: the array as DEFLATE in a zlib container ("Compressed Byte Array"), at the highest compression level.
//!
//! libdeflate's level 12 is 8 to 17 % smaller than zlib's 9 (docs/PERFORMANCE.md). Inflating is bounded: the specification
//! sets no limit, and a kilobyte can inflate to a megabyte.

use std::io::Read;
use std::num::NonZero;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use flate2::read::ZlibDecoder;
use libdeflater::{CompressionLvl, Compressor};
use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;

/// Why a `lst` cannot be read.
#[derive(Debug, Error)]
pub enum InvalidLst {
    /// It inflates to more than the reader allows.
    #[error("inflates to more than {max} bytes")]
    TooLarge {
        /// The most bytes allowed.
        max: u64,
    },
    /// Not one whole zlib stream: the header is wrong, it is damaged, or its checksum does not match.
    #[error("not a zlib stream: {0}")]
    Zlib(#[from] std::io::Error),
    /// Bytes follow the stream.
    #[error("{0} byte(s) follow the end of the zlib stream")]
    Trailing(usize),
}

/// The zlib stream of `array`, at libdeflate's level 12.
pub fn compress(array: &[u8]) -> Vec<u8> {
    with_compressor(|compressor| {
        let mut zlib = vec![0; compressor.zlib_compress_bound(array.len())];
        let written = compressor.zlib_compress(array, &mut zlib).expect(BOUND);
        zlib.truncate(written);
        zlib
    })
}

/// The same as gzip, which other specifications of status lists use.
pub(crate) fn gzip(array: &[u8]) -> Vec<u8> {
    with_compressor(|compressor| {
        let mut gzip = vec![0; compressor.gzip_compress_bound(array.len())];
        let written = compressor.gzip_compress(array, &mut gzip).expect(BOUND);
        gzip.truncate(written);
        gzip
    })
}

const BOUND: &str = "the buffer has the size that libdeflate gives as bound";

fn with_compressor(compress: impl FnOnce(&mut Compressor) -> Vec<u8>) -> Vec<u8> {
    let mut compressor = compressors().pop().unwrap_or_else(|| Compressor::new(CompressionLvl::best()));
    let mut compressed = compress(&mut compressor);
    compressed.shrink_to_fit();
    let mut idle = compressors();
    if idle.len() < *CORES {
        idle.push(compressor);
    }
    compressed
}

/// Asked once: on Linux each answer reads several files.
static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, NonZero::get));

/// Idle compressors. Level 12 takes nine megabytes of tables, so no more are kept than ever work at the same time.
fn compressors() -> MutexGuard<'static, Vec<Compressor>> {
    static IDLE: Mutex<Vec<Compressor>> = Mutex::new(Vec::new());
    IDLE.lock()
}

/// Inflates `zlib`, which must be one whole zlib stream of at most `bytes_max` bytes inflated.
pub fn inflate(zlib: &[u8], bytes_max: u64) -> Result<Vec<u8>, InvalidLst> {
    let mut decoder = ZlibDecoder::new(zlib).take(bytes_max.saturating_add(1));
    let mut array = Vec::new();
    decoder.read_to_end(&mut array)?;
    if array.len() as u64 > bytes_max {
        return Err(InvalidLst::TooLarge { max: bytes_max });
    }
    let read = decoder.into_inner().total_in();
    match zlib.len() - usize::try_from(read).expect("no more was read than the slice has") {
        0 => Ok(array),
        trailing => Err(InvalidLst::Trailing(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::vectors;

    #[test]
    fn ours_inflates_to_theirs_and_is_no_larger_than_zlib_9_plus_5_percent() {
        for vector in vectors::all()["encodings"].as_array().unwrap() {
            let theirs = vectors::hex(vector["lst_zlib_hex"].as_str().unwrap());
            let array = inflate(&theirs, 1 << 21).unwrap();
            let ours = compress(&array);
            assert_eq!(inflate(&ours, 1 << 21).unwrap(), array, "{}", vector["name"]);
            // The specification's arrays of a few bytes, and the 8-bit one, which holds every value once, do not compress.
            if vector["bits"] != 8 && array.len() > 100 {
                assert!(
                    ours.len() * 100 <= theirs.len() * 105,
                    "{}: {} > {}",
                    vector["name"],
                    ours.len(),
                    theirs.len()
                );
            }
        }
    }

    #[test]
    fn stream_is_zlib_at_the_highest_level() {
        for array in [vec![0; 12_500], (0..=255).collect(), vec![1, 2, 3]] {
            let zlib = compress(&array);
            assert_eq!(zlib[..2], [0x78, 0xDA], "FLEVEL 3, no preset dictionary");
            assert_eq!(u16::from_be_bytes([zlib[0], zlib[1]]) % 31, 0);
        }
    }

    #[test]
    fn every_level_of_zlib_is_read() {
        use std::io::Write;
        let array: Vec<u8> = (0..2000_u32).map(|n| (n * n % 7) as u8).collect();
        for level in 0..=9 {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(&array).unwrap();
            assert_eq!(inflate(&encoder.finish().unwrap(), 2000).unwrap(), array, "level {level}");
        }
    }

    #[test]
    fn inflating_is_bounded() {
        let zlib = compress(&vec![0; 1 << 20]);
        assert!(matches!(inflate(&zlib, (1 << 20) - 1), Err(InvalidLst::TooLarge { .. })));
        assert_eq!(inflate(&zlib, 1 << 20).unwrap().len(), 1 << 20);
    }

    #[test]
    fn damaged_streams_are_refused() {
        let zlib = compress(&[7; 500]);
        let mut checksum_off = zlib.clone();
        *checksum_off.last_mut().unwrap() ^= 1;
        let mut trailing = zlib.clone();
        trailing.push(0);
        let mut cut = zlib.clone();
        cut.truncate(zlib.len() - 1);
        assert!(matches!(inflate(&checksum_off, 500), Err(InvalidLst::Zlib(_))));
        assert!(matches!(inflate(&cut, 500), Err(InvalidLst::Zlib(_))));
        assert!(matches!(inflate(&trailing, 500), Err(InvalidLst::Trailing(1))));
        assert!(inflate(&[], 500).is_err());
        assert!(inflate(&zlib[2..], 500).is_err(), "raw DEFLATE");
    }
}
