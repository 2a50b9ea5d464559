//! The sorted names of one block: one text and where each name ends in it, so that a block is taken apart, copied and
//! given back with two allocations, however many names it has.
//!
//! Deliberately absent: order; who inserts knows the place.

use tresor_record::{Part, Reader, RecordError, Writer};

/// Names one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    text: String,
    /// Where each name ends.
    ends: Vec<usize>,
}

impl Names {
    /// One name.
    pub(crate) fn one(name: &str) -> Self {
        Self { text: name.to_owned(), ends: vec![name.len()] }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where a name begins; the end of the text for the place behind the last.
    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(self.text.len()))
    }

    pub(crate) fn get(&self, at: usize) -> Option<&str> {
        self.ends.get(at).and_then(|end| self.text.get(self.start(at)..*end))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// How many names from the first on fulfil this, when those that do come first.
    pub(crate) fn partition_point(&self, fulfils: impl Fn(&str) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(&fulfils) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Where a name is, or where it belongs.
    pub(crate) fn search(&self, name: &str) -> Result<usize, usize> {
        let at = self.partition_point(|known| known < name);
        if self.get(at) == Some(name) { Ok(at) } else { Err(at) }
    }

    pub(crate) fn insert(&mut self, at: usize, name: &str) {
        let at = at.min(self.len());
        let start = self.start(at);
        self.text.insert_str(start, name);
        self.ends.iter_mut().skip(at).for_each(|end| *end += name.len());
        self.ends.insert(at, start + name.len());
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let Some(end) = self.ends.get(at).copied() else { return };
        let start = self.start(at);
        self.text.replace_range(start..end, "");
        self.ends.remove(at);
        self.ends.iter_mut().skip(at).for_each(|later| *later -= end - start);
    }

    /// Takes off the names from a place on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let at = at.min(self.len());
        let start = self.start(at);
        let text = self.text.split_off(start);
        let mut ends = self.ends.split_off(at);
        ends.iter_mut().for_each(|end| *end -= start);
        Self { text, ends }
    }
}

/// As a list of texts is spelled.
impl Part for Names {
    fn write(&self, writer: &mut Writer) {
        u64::try_from(self.len()).unwrap_or(u64::MAX).write(writer);
        for name in self.iter() {
            u64::try_from(name.len()).unwrap_or(u64::MAX).write(writer);
            writer.append(name.as_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let count = length(reader)?;
        let mut names = Self { text: String::with_capacity(reader.remaining()), ends: Vec::with_capacity(count) };
        for _ in 0..count {
            let length = length(reader)?;
            let name = std::str::from_utf8(reader.take(length)?).map_err(|_| reader.impossible())?;
            names.text.push_str(name);
            names.ends.push(names.text.len());
        }
        Ok(names)
    }
}

fn length(reader: &mut Reader<'_>) -> Result<usize, RecordError> {
    let length = u64::read(reader)?;
    usize::try_from(length).ok().filter(|length| *length <= reader.remaining()).ok_or_else(|| reader.impossible())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use tresor_record::Record;

    use super::*;

    #[derive(Record)]
    #[record(kind = "names-in-a-test", version = 1)]
    struct Kept {
        names: Names,
    }

    #[derive(Record)]
    #[record(kind = "names-in-a-test", version = 1)]
    struct Listed {
        names: Vec<String>,
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn names_equal_a_sorted_list_of_texts(steps in prop::collection::vec(("[a-cü]{0,3}", 0_u8..10), 0..80)) {
            let (mut names, mut model) = (Names::default(), Vec::<String>::new());
            for (name, step) in steps {
                let found = names.search(&name);
                prop_assert_eq!(found, model.binary_search(&name));
                match (found, step) {
                    (Err(at), _) => {
                        names.insert(at, &name);
                        model.insert(at, name);
                    }
                    (Ok(at), 0..6) => {
                        names.remove(at);
                        model.remove(at);
                    }
                    (Ok(at), _) => {
                        let (right, of_model) = (names.split_off(at), model.split_off(at));
                        prop_assert_eq!(right.iter().collect::<Vec<_>>(), of_model);
                    }
                }
                prop_assert_eq!(names.iter().collect::<Vec<_>>(), model.clone());
            }
            let listed = Listed { names: model }.encode();
            let kept = Kept { names: names.clone() }.encode();
            prop_assert_eq!(&listed[..], &kept[..], "the same bytes");
            prop_assert_eq!(Kept::decode(&listed).unwrap().names, names);
            for cut in 0..listed.len() {
                prop_assert!(Kept::decode(&listed[..cut]).is_err());
            }
        }
    }
}
