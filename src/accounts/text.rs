//! One line of the file: an id's digest, the hour in which it was learnt, a check sum, and the name of its account.

use std::sync::Arc;

use super::{Entry, IdDigest};

/// The longest line, in bytes. A name has at most 64 characters, or is a path.
pub(super) const LONGEST: usize = 8 << 10;

/// The line of an entry, with its end. A name with a line break in it has none.
pub(super) fn write(entry: &Entry, hour: u32) -> Option<String> {
    let Entry { id, account } = entry;
    let is_one_line = !account.contains(['\n', '\r']) && account.len() < LONGEST / 2;
    let told = format!("{id} {hour:08x} {account}");
    is_one_line.then(|| format!("{:08x} {told}\n", sum(told.as_bytes())))
}

/// What a line says, without its end; `None` if it was not written like this, or only in part.
pub(super) fn read(line: &str) -> Option<(Entry, u32)> {
    let (check, told) = line.split_once(' ')?;
    if u32::from_str_radix(check, 16).ok()? != sum(told.as_bytes()) {
        return None;
    }
    let mut parts = told.splitn(3, ' ');
    let id = digest(parts.next()?)?;
    let hour = u32::from_str_radix(parts.next()?, 16).ok()?;
    let account: Arc<str> = parts.next()?.into();
    Some((Entry { id, account }, hour))
}

fn digest(text: &str) -> Option<IdDigest> {
    let mut digest = [0; 16];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(IdDigest(digest))
}

/// FNV-1a of 32 bits: it finds lines that were cut or overwritten, and protects from nobody.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::{super::ClientDigests, *};

    #[test]
    fn a_line_says_what_was_written_and_a_part_of_one_nothing() {
        let id = ClientDigests::of(None).digest(b"file-12");
        let entry = Entry { id, account: "openai/file:a key".into() };
        let line = write(&entry, 490_000).unwrap();
        assert!(!line.contains("file-12"));
        let line = line.trim_end();
        assert_eq!(read(line), Some((entry.clone(), 490_000)));
        for end in 0..line.len() {
            assert_eq!(read(&line[..end]), None, "{end}");
        }
        assert_eq!(write(&Entry { account: "a\nb".into(), ..entry }, 1), None);
    }
}
