//! What Redis and Valkey speak (RESP, version 2): commands of counted texts, and what is answered.
//!
//! Every part of a command has its length before it, so no letter of a name means anything (DYN-03). Deliberately absent:
//! version 3 with its pushed messages, and values: what is asked for here is done, counted, there or not there.

use zeroize::Zeroizing;

/// How long a line of an answer can be.
const LINE_BYTES_MAX: usize = 4096;
/// How long an answer can be. The longest is that of a user with many rules.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is done, or here is something.
    Done,
    /// So many.
    Count(i64),
    /// There is no such thing.
    Nothing,
    /// No, in the server's words; the first one is a word for programs.
    Refused(String),
}

/// What was answered is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoReply;

/// A command as it is sent.
pub(super) fn command(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    // A buffer that grows leaves copies behind.
    let room = parts.iter().map(|part| part.len() + 32).sum::<usize>() + 32;
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The answer at the front, and how many bytes it has; `None` while more of it is to come.
pub(super) fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, NoReply> {
    let (mut at, mut left, mut first) = (0, 1_u64, None);
    while left > 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return if rest.len() > LINE_BYTES_MAX { Err(NoReply) } else { Ok(None) };
        };
        let (kind, text) = rest.get(..end).and_then(<[u8]>::split_first).ok_or(NoReply)?;
        at += end + 2;
        left -= 1;
        let said = match kind {
            b'+' => Reply::Done,
            b'-' => Reply::Refused(shown(text)),
            b':' => Reply::Count(number(text)?),
            b'$' => match counted(text)? {
                None => Reply::Nothing,
                Some(length) => {
                    let Some(after) = bytes.get(at + length..at + length + 2) else { return Ok(None) };
                    if after != b"\r\n" {
                        return Err(NoReply);
                    }
                    at += length + 2;
                    Reply::Done
                }
            },
            b'*' => match counted(text)? {
                None => Reply::Nothing,
                Some(count) => {
                    left += count as u64;
                    Reply::Done
                }
            },
            _ => return Err(NoReply),
        };
        first.get_or_insert(said);
    }
    Ok(first.map(|first| (first, at)))
}

fn number(text: &[u8]) -> Result<i64, NoReply> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NoReply)
}

/// A length, which is bounded, or -1 for nothing.
fn counted(text: &[u8]) -> Result<Option<usize>, NoReply> {
    match number(text)? {
        -1 => Ok(None),
        count => usize::try_from(count).ok().filter(|count| *count <= ANSWER_BYTES_MAX).map(Some).ok_or(NoReply),
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|letter| !letter.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dyn_03_parts_of_commands_stay_what_they_are() {
        let sent = command(&["ACL", "SETUSER", "a\r\nFLUSHALL\r\n", "ü"]);
        let expected = "*4\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$13\r\na\r\nFLUSHALL\r\n\r\n$2\r\nü\r\n";
        assert_eq!(String::from_utf8_lossy(&sent), expected);
    }

    #[test]
    fn answers_are_read_as_they_come() {
        let refused = Reply::Refused("WRONGPASS invalid".to_owned());
        for (text, expected, more) in [
            ("+OK\r\n", Reply::Done, ""),
            ("-WRONGPASS invalid\r\n", refused, ""),
            (":3\r\n+OK\r\n", Reply::Count(3), "+OK\r\n"),
            ("$-1\r\n", Reply::Nothing, ""),
            ("*-1\r\n", Reply::Nothing, ""),
            ("$4\r\n\r\n+O\r\nx", Reply::Done, "x"),
            ("*0\r\nx", Reply::Done, "x"),
            ("*3\r\n$5\r\nflags\r\n*2\r\n+on\r\n$-1\r\n:1\r\nx", Reply::Done, "x"),
        ] {
            assert_eq!(reply(text.as_bytes()), Ok(Some((expected, text.len() - more.len()))), "{text:?}");
            for cut in 0..text.len() - more.len() {
                assert_eq!(reply(text.as_bytes().get(..cut).unwrap_or_default()), Ok(None), "{text:?} to {cut}");
            }
        }
        let long = format!("+{}", "x".repeat(LINE_BYTES_MAX));
        for wrong in ["HTTP/1.1 400\r\n", "\r\n", ":x\r\n", "$-2\r\n", "$1\r\nab\r\n", "*99999999999\r\n", &long] {
            assert_eq!(reply(wrong.as_bytes()), Err(NoReply), "{wrong:.20?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_stumble(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'*'), Just(b'$'), Just(b'1')], 0..60)) {
            if let Ok(Some((_, length))) = reply(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
