//! What two patterns have to do with each other: whether one matches everything that the other does, and a path that both
//! match.
//!
//! For people who write policies only; enforcement compares a pattern with a path.

/// A pattern, by segment.
struct Segments<'p> {
    segments: Vec<&'p str>,
    /// Whether the last one is only the beginning of what matches.
    is_open: bool,
}

impl<'p> Segments<'p> {
    fn of(pattern: &'p str) -> Self {
        let is_open = pattern.ends_with('*');
        let body = pattern.strip_suffix('*').unwrap_or(pattern);
        Self { segments: body.split('/').collect(), is_open }
    }

    /// The segment at a place, and whether anything may follow it.
    fn at(&self, place: usize) -> Option<(&'p str, bool)> {
        let segment = self.segments.get(place)?;
        Some((segment, self.is_open && place + 1 == self.segments.len()))
    }
}

/// Whether `wide` matches everything that `narrow` does.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (Segments::of(wide), Segments::of(narrow));
    let mut place = 0;
    loop {
        match (wide.at(place), narrow.at(place)) {
            (None, None) => return true,
            (Some((prefix, true)), Some((segment, is_open))) => {
                let is_enough = match (prefix, segment) {
                    ("", _) => true,
                    // `+*`: a segment that is not empty, then anything.
                    ("+", segment) => segment == "+" || !segment.is_empty(),
                    (_, "+") => false,
                    (prefix, segment) => segment.starts_with(prefix),
                };
                return is_enough || (is_open && segment.starts_with(prefix) && segment != "+");
            }
            (Some((own, false)), Some((segment, false))) => {
                let is_enough = if own == "+" { !segment.is_empty() } else { own == segment && segment != "+" };
                if !is_enough {
                    return false;
                }
            }
            _ => return false,
        }
        place += 1;
    }
}

/// A path that both match.
pub(crate) fn common(a: &str, b: &str) -> Option<String> {
    let (a, b) = (Segments::of(a), Segments::of(b));
    let mut path: Vec<String> = Vec::new();
    let mut place = 0;
    loop {
        match (a.at(place), b.at(place)) {
            (None, None) => return Some(path.join("/")),
            (Some((prefix, true)), Some(_)) => return ends(&path, prefix, &b, place),
            (Some(_), Some((prefix, true))) => return ends(&path, prefix, &a, place),
            (Some((own, false)), Some((other, false))) => {
                path.push(both(own, other)?.to_owned());
            }
            _ => return None,
        }
        place += 1;
    }
}

/// A segment that two of them match.
fn both<'s>(a: &'s str, b: &'s str) -> Option<&'s str> {
    match (a, b) {
        ("+", "+") => Some("x"),
        ("+", other) | (other, "+") => (!other.is_empty()).then_some(other),
        (a, b) => (a == b).then_some(a),
    }
}

/// A path with this beginning that the rest of a pattern matches.
fn ends(before: &[String], prefix: &str, rest: &Segments<'_>, mut place: usize) -> Option<String> {
    let mut path = before.to_vec();
    let (segment, is_open) = rest.at(place)?;
    path.push(match (prefix, segment) {
        ("", "+") | ("+", "+") => "x".to_owned(),
        ("+", segment) if !segment.is_empty() => segment.to_owned(),
        ("+", _) => return if is_open { Some([before, &["x".to_owned()]].concat().join("/")) } else { None },
        (prefix, "+") => prefix.to_owned(),
        (prefix, segment) if segment.starts_with(prefix) => segment.to_owned(),
        (prefix, segment) if is_open && prefix.starts_with(segment) => prefix.to_owned(),
        _ => return None,
    });
    place += 1;
    while let Some((segment, _)) = rest.at(place) {
        path.push(if segment == "+" { "x".to_owned() } else { segment.to_owned() });
        place += 1;
    }
    Some(path.join("/"))
}
