//! FZ-12: snapshot files, and the states in them. Total; the verdict does not depend on the pieces that the bytes come in,
//! and what is taken for whole was spelled by nobody but us.

use tresor_env::Timestamp;
use tresor_snapshot::{Header, Verified, Verifier, Writer, Wrong};

pub(crate) const WORDS: &[&str] =
    &["TRSNAP\0\u{1}", "\u{1}\0\0\0", "\0\0\0\0", "\u{1}\u{1}", "\u{2}", "\u{3}", "\u{4}"];

fn verdict(pieces: &[&[u8]]) -> Result<Verified, Wrong> {
    let mut verifier = Verifier::new();
    pieces.iter().try_for_each(|piece| verifier.take(piece))?;
    verifier.finish()
}

/// A snapshot, and one whose only chunk the input is.
pub fn snapshot(bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(verdict(&[first, second]), verdict(&[bytes]), "the pieces decide");
    let header = Header { cluster_id: "id".to_owned(), cluster_name: "name".to_owned(), taken: Timestamp::EPOCH };
    let (mut writer, mut whole) = Writer::begin(&header);
    whole.extend(writer.chunk(bytes));
    whole.extend(writer.end(|digest| *digest));
    assert!(verdict(&[&whole]).is_err(), "a state has two chunks at least");
}
