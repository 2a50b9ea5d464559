//! Answers of AWS as trees of elements: one root, bounded in depth and number, no entities but the usual five.
//!
//! Deliberately absent: attributes, namespaces, comments, declarations of entities, which no answer of these services has or
//! needs.

use quick_xml::Reader;
use quick_xml::events::Event;
use zeroize::Zeroizing;

/// How deep elements may be nested.
const DEPTH_MAX: usize = 32;
/// How many there may be.
const ELEMENTS_MAX: usize = 20_000;

/// An element: its name, its text and what is in it.
#[derive(Default)]
pub struct Element {
    name: String,
    text: Zeroizing<String>,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document; `None` when it is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_reader(bytes);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut count = 0;
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) if root.is_none() && open.len() < DEPTH_MAX => {
                    count += 1;
                    let name = std::str::from_utf8(start.local_name().into_inner()).ok()?.to_owned();
                    open.push(Self { name, ..Self::default() });
                }
                Event::Empty(start) => {
                    count += 1;
                    let name = std::str::from_utf8(start.local_name().into_inner()).ok()?.to_owned();
                    open.last_mut()?.children.push(Self { name, ..Self::default() });
                }
                Event::End(_) => {
                    let closed = open.pop()?;
                    match open.last_mut() {
                        Some(parent) => parent.children.push(closed),
                        None => root = Some(closed),
                    }
                }
                Event::Text(text) => {
                    let text = text.decode().ok()?;
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&text),
                        None if text.trim().is_empty() => {}
                        None => return None,
                    }
                }
                Event::GeneralRef(reference) => open.last_mut()?.text.push(character(&reference.decode().ok()?)?),
                Event::CData(data) => open.last_mut()?.text.push_str(&data.decode().ok()?),
                Event::Decl(_) if root.is_none() && open.is_empty() => {}
                Event::Comment(_) => {}
                Event::Eof => return root.filter(|_| open.is_empty()),
                Event::Start(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => return None,
            }
            if count > ELEMENTS_MAX {
                return None;
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first element that a way of names leads to.
    #[must_use]
    pub fn at(&self, way: &[&str]) -> Option<&Self> {
        way.iter().try_fold(self, |element, name| element.children.iter().find(|child| child.name == *name))
    }

    /// The text there, without blanks around it.
    #[must_use]
    pub fn text_at(&self, way: &[&str]) -> Option<&str> {
        self.at(way).map(|element| element.text.trim())
    }

    /// The entries of the list there.
    pub fn members(&self, way: &[&str]) -> impl Iterator<Item = &Self> {
        self.at(way).into_iter().flat_map(|list| list.children.iter().filter(|child| child.name == "member"))
    }
}

/// What a reference in a text stands for.
fn character(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_said_is_found_by_its_way() {
        let text = r#"<?xml version="1.0"?>
            <R xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><A><B> x&amp;&#x41;&#66; </B><B>y</B><C/></A>
            <L><member><N>1</N></member><member><N>2</N></member></L></R>"#;
        let root = Element::parse(text.as_bytes()).unwrap();
        assert_eq!(root.name(), "R");
        assert_eq!(root.text_at(&["A", "B"]), Some("x&AB"));
        assert_eq!(root.text_at(&["A", "C"]), Some(""));
        assert_eq!(root.text_at(&["A", "D"]), None);
        let numbers: Vec<_> = root.members(&["L"]).filter_map(|member| member.text_at(&["N"])).collect();
        assert_eq!(numbers, ["1", "2"]);
        assert_eq!(root.members(&["M"]).count(), 0);
    }

    #[test]
    fn cld_01_what_is_no_single_document_is_nothing() {
        let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
        let many = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX + 1));
        for text in [
            "",
            "x",
            "{}",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a></a><b></b>",
            "<a></a>x",
            r#"<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>"#,
            "<a>&e;</a>",
            deep.as_str(),
            many.as_str(),
        ] {
            assert!(Element::parse(text.as_bytes()).is_none(), "{}", text.get(..40).unwrap_or(text));
        }
    }
}
