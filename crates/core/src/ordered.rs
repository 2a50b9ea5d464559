//! A list in order of a text key that is cheap to copy and to change a little: copies share what they have in common.
//!
//! A table of a hundred thousand mounts is replaced whenever one of them changes, and whoever took it before keeps what it
//! took. So the entries lie in small chunks: a change makes one chunk anew, and the list of chunks. Deliberately absent:
//! changing what others hold.

use std::sync::Arc;

/// How many entries a chunk has at most.
const CHUNK_MAX: usize = 128;

/// Entries in order of a key that each of them has.
pub(crate) struct Ordered<T> {
    /// None of them is empty.
    chunks: Vec<Arc<Vec<T>>>,
    key: fn(&T) -> &str,
}

impl<T> Clone for Ordered<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), key: self.key }
    }
}

impl<T: Clone> Ordered<T> {
    /// These entries, in order of this key; of two with the same, the later one.
    pub(crate) fn of(key: fn(&T) -> &str, mut entries: Vec<T>) -> Self {
        // From the end, so that among equals the later one comes first and stays.
        entries.reverse();
        entries.sort_by(|one, other| key(one).cmp(key(other)));
        entries.dedup_by(|one, kept| key(one) == key(kept));
        let chunks = entries.chunks(CHUNK_MAX / 2).map(|chunk| Arc::new(chunk.to_vec())).collect();
        Self { chunks, key }
    }

    /// The chunk that has or would have a key, and where in it: `Ok` when it is there.
    fn place(&self, key: &str) -> Option<(usize, Result<usize, usize>)> {
        let begins_after = |chunk: &Arc<Vec<T>>| chunk.first().is_some_and(|first| (self.key)(first) <= key);
        let at = self.chunks.partition_point(begins_after).saturating_sub(1);
        let chunk = self.chunks.get(at)?;
        Some((at, chunk.binary_search_by(|entry| (self.key)(entry).cmp(key))))
    }

    /// The entry with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        let (chunk, place) = self.place(key)?;
        self.chunks.get(chunk)?.get(place.ok()?)
    }

    /// The entries whose key is not before this one, in order.
    pub(crate) fn from(&self, key: &str) -> impl Iterator<Item = &T> + use<'_, T> {
        let (chunk, place) = self.place(key).map_or((0, 0), |(at, place)| (at, place.unwrap_or_else(|place| place)));
        let chunks = self.chunks.get(chunk..).unwrap_or_default();
        chunks.iter().flat_map(|chunk| chunk.iter()).skip(place)
    }

    /// Adds an entry, or replaces the one with its key.
    pub(crate) fn insert(&mut self, entry: T) {
        let Some((at, place)) = self.place((self.key)(&entry)) else {
            self.chunks.push(Arc::new(vec![entry]));
            return;
        };
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let chunk = Arc::make_mut(chunk);
        match place {
            Ok(found) => {
                if let Some(known) = chunk.get_mut(found) {
                    *known = entry;
                }
            }
            Err(between) => chunk.insert(between, entry),
        }
        if chunk.len() > CHUNK_MAX {
            let upper = chunk.split_off(CHUNK_MAX / 2);
            self.chunks.insert(at + 1, Arc::new(upper));
        }
    }

    /// Takes out the entry with this key.
    pub(crate) fn remove(&mut self, key: &str) {
        let Some((at, Ok(place))) = self.place(key) else { return };
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let chunk = Arc::make_mut(chunk);
        chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    type Pair = (String, u32);

    fn key(pair: &Pair) -> &str {
        &pair.0
    }

    fn check(list: &Ordered<Pair>, model: &BTreeMap<String, u32>) {
        assert!(list.iter().map(|(name, number)| (name, number)).eq(model.iter()));
        assert!(list.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
    }

    #[test]
    fn it_is_a_sorted_map_and_its_copies_stay_what_they_were() {
        let (mut list, mut model) = (Ordered::of(key, Vec::new()), BTreeMap::new());
        let mut kept = Vec::new();
        // A walk through 700 names in an order that is none, adding more than it removes.
        let mut seed = 1_u32;
        for step in 0..4000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = format!("n{}", (seed >> 8) % 700);
            if seed >> 30 == 0 {
                list.remove(&name);
                model.remove(&name);
            } else {
                list.insert((name.clone(), step));
                model.insert(name.clone(), step);
            }
            assert_eq!(list.get(&name).map(|pair| pair.1), model.get(&name).copied());
            let from = list.from(&name).take(3).map(|pair| pair.0.as_str());
            assert!(from.eq(model.range(name.clone()..).take(3).map(|(name, _)| name.as_str())));
            if step % 500 == 0 {
                check(&list, &model);
                kept.push((list.clone(), model.clone()));
            }
        }
        check(&list, &model);
        let mut pairs: Vec<Pair> = list.iter().cloned().collect();
        pairs.reverse();
        check(&Ordered::of(key, pairs), &model);
        kept.iter().for_each(|(list, model)| check(list, model));
        for name in model.keys() {
            list.remove(name);
        }
        assert!(list.iter().next().is_none() && list.get("n1").is_none() && list.from("").next().is_none());
    }

    #[test]
    fn of_two_with_one_key_the_later_stays() {
        let list = Ordered::of(key, vec![("a".to_owned(), 1), ("b".to_owned(), 2), ("a".to_owned(), 3)]);
        assert_eq!(list.iter().map(|pair| pair.1).collect::<Vec<_>>(), [3, 2]);
    }
}
