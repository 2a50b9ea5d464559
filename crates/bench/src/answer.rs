//! Where an HTTP/1.1 answer ends: no more of the protocol than a load needs, so that the load costs less than what it
//! measures. Deliberately absent: trailers, answers that end with the connection.

use std::ops::Range;

/// The longest head that is looked through.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An answer that is there wholly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// How many bytes it takes of what was received.
    pub(crate) length: usize,
    body: Body,
}

#[derive(Debug, PartialEq, Eq)]
enum Body {
    Whole(Range<usize>),
    Chunks(Vec<Range<usize>>),
}

impl Answer {
    /// Looks for an answer at the start of what was received; `None` when more has to come.
    pub(crate) fn parse(received: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = find(received, b"\r\n\r\n") else {
            return if received.len() > HEAD_BYTES_MAX {
                Err("an answer's head has no end".to_owned())
            } else {
                Ok(None)
            };
        };
        let head = received.get(..end).unwrap_or_default();
        let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status: u16 = status.ok_or("an answer has no status")?;
        let start = end + 4;
        let (mut length, mut is_chunked) = (0, false);
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                length =
                    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or("a strange length")?;
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
        }
        if is_chunked {
            return Ok(chunks(received, start)?.map(|(chunks, length)| Self {
                status,
                length,
                body: Body::Chunks(chunks),
            }));
        }
        let length = start + length;
        Ok((received.len() >= length).then_some(Self { status, length, body: Body::Whole(start..length) }))
    }

    /// Its body.
    pub(crate) fn body(&self, received: &[u8]) -> Vec<u8> {
        let ranges = match &self.body {
            Body::Whole(range) => std::slice::from_ref(range),
            Body::Chunks(ranges) => ranges,
        };
        ranges.iter().flat_map(|range| received.get(range.clone()).unwrap_or_default()).copied().collect()
    }
}

/// The chunks from `at` on and where they end; `None` when more has to come.
#[expect(clippy::type_complexity, reason = "used once, just above")]
fn chunks(received: &[u8], mut at: usize) -> Result<Option<(Vec<Range<usize>>, usize)>, String> {
    let mut chunks = Vec::new();
    loop {
        let rest = received.get(at..).unwrap_or_default();
        let Some(line) = find(rest, b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(rest.get(..line).unwrap_or_default()).unwrap_or_default();
        let length = usize::from_str_radix(digits.trim(), 16).map_err(|_| "a chunk has no length".to_owned())?;
        let start = at + line + 2;
        let end = start.saturating_add(length);
        if received.len() < end.saturating_add(2) {
            return Ok(None);
        }
        if length == 0 {
            return Ok(Some((chunks, end + 2)));
        }
        chunks.push(start..end);
        at = end + 2;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(received: &[u8], status: u16, body: &[u8]) {
        for cut in 0..received.len() {
            assert_eq!(Answer::parse(&received[..cut]).unwrap(), None, "cut at {cut}");
        }
        let more = [received, b"HTTP/1.1"].concat();
        let answer = Answer::parse(&more).unwrap().unwrap();
        assert_eq!((answer.status, answer.length), (status, received.len()));
        assert_eq!(answer.body(&more), body);
    }

    #[test]
    fn an_answer_ends_where_its_length_says() {
        check(b"HTTP/1.1 200 OK\r\ncontent-Length: 4\r\n\r\nbody", 200, b"body");
        check(b"HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n", 204, b"");
    }

    #[test]
    fn an_answer_in_chunks_ends_with_the_empty_one() {
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            200,
            b"abc0123456789",
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Answer::parse(b"nonsense\r\n\r\n").is_err());
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n").is_err());
    }
}
