//! Decoding of compressed bodies.
//!
//! - Whatever the bytes are, nothing panics.
//! - No more is decoded than the limit allows, and no more than 200 times the coded body once that is 1 MiB.
//! - Memory is reserved before it is used, and at most twice what the limit allows and a piece; a refusal ends the decoding.
//!
//! Input: a byte that decides the coding, one for the limit in units of 4 KiB, then the body.

use sluicegate::coding::{Coding, DecodeError, Need};

/// What is decoded at once, in bytes.
const PIECE: u64 = 64 << 10;

pub fn check(data: &[u8]) {
    let Some(([coding, limit], coded)) = data.split_first_chunk::<2>() else { return };
    let coding = if coding % 2 == 0 { Coding::Gzip } else { Coding::Zstd };
    let limit = u64::from(*limit) << 12;
    let mut reserved = 0;
    let decoded = coding.decode::<()>(coded, limit, |need| {
        let Need::Body(bytes) = need else { return Ok(()) };
        assert!(bytes > reserved && bytes <= 2 * (limit + 2 * PIECE), "{bytes} for {limit}");
        reserved = bytes;
        Ok(())
    });
    if let Ok(decoded) = &decoded {
        let length = decoded.len();
        assert!(length as u64 <= limit && decoded.capacity() as u64 <= reserved);
        assert!(length <= 1 << 20 || length / 200 <= coded.len());
    }
    let bound = reserved / 2;
    let refuse = |need| match need {
        Need::Body(bytes) if bytes > bound => Err(()),
        Need::Body(_) | Need::Decoder(_) => Ok(()),
    };
    if reserved > 0 {
        assert_eq!(coding.decode(coded, limit, refuse), Err(DecodeError::NoRoom(())));
    }
}
