//! The files of Swagger UI, out of the ZIP archive that `utoipa-swagger-ui-vendored` has.
//!
//! The archive is a constant, so a fault in it is one of the build, which tests find. The files stay compressed: a member of such an
//! archive is a gzip file with other ends. `utoipa-swagger-ui`, which unpacks it when it is built, needs eight more crates for that.

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

const END: &[u8] = b"PK\x05\x06";
const MEMBER: &[u8] = b"PK\x01\x02";
/// The only method that browsers can undo.
const DEFLATE: usize = 8;
/// "Member header and trailer" (RFC 1952): the method, no flags, no time, no system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Returns a file of the folder `dist`, compressed with gzip.
pub(super) fn gzip_of(name: &str) -> Option<Vec<u8>> {
    gzip_in(SWAGGER_UI_VENDORED, &format!("/dist/{name}"))
}

/// Returns the first member of an archive whose path ends so. The layout is that of PKWARE's APPNOTE, 4.3.
fn gzip_in(archive: &[u8], path: &str) -> Option<Vec<u8>> {
    let end = archive.windows(END.len()).rposition(|bytes| bytes == END)?;
    let mut at = number(archive, end + 16, 4)?;
    while archive.get(at..)?.starts_with(MEMBER) {
        let name = archive.get(at + 46..)?.get(..number(archive, at + 28, 2)?)?;
        if name.ends_with(path.as_bytes()) && number(archive, at + 10, 2)? == DEFLATE {
            let local = number(archive, at + 42, 4)?;
            let start = local + 30 + number(archive, local + 26, 2)? + number(archive, local + 28, 2)?;
            let content = archive.get(start..)?.get(..number(archive, at + 20, 4)?)?;
            // The checksum and the size of the uncompressed file end a gzip file too, in the same order.
            let (checksum, size) = (archive.get(at + 16..at + 20)?, archive.get(at + 24..at + 28)?);
            return Some([&GZIP_HEADER, content, checksum, size].concat());
        }
        at += 46 + name.len() + number(archive, at + 30, 2)? + number(archive, at + 32, 2)?;
    }
    None
}

/// The number of `length` bytes at this place, the least significant first.
fn number(archive: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = archive.get(at..)?.get(..length)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn files_are_found_and_whole() {
        for (name, begin, length_min) in
            [("swagger-ui.css", ".swagger-ui", 100_000), ("swagger-ui-bundle.js", "/*!", 1_000_000)]
        {
            let mut plain = String::new();
            // It compares the checksum.
            GzDecoder::new(gzip_of(name).unwrap().as_slice()).read_to_string(&mut plain).unwrap();
            assert!(plain.starts_with(begin) && plain.len() > length_min, "{name}");
        }
        assert!(gzip_of("swagger-ui.txt").is_none());
    }

    #[test]
    fn a_cut_archive_has_no_files() {
        for length in [0, 3, 4, 22, SWAGGER_UI_VENDORED.len() - 62] {
            assert!(gzip_in(&SWAGGER_UI_VENDORED[..length], "/dist/swagger-ui.css").is_none(), "{length}");
        }
        let end = &SWAGGER_UI_VENDORED[SWAGGER_UI_VENDORED.len() - 70..];
        assert!(gzip_in(end, "/dist/swagger-ui.css").is_none(), "a directory that is not there");
    }
}
