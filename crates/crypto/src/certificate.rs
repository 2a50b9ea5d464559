//! What a certificate (X.509, RFC 5280) says about whom it is of: the texts of its subject.
//!
//! For certificates that come from where nobody else speaks. Deliberately absent: whether it is to be believed.

use crate::public_key::element;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The version, which stands first where it is not the oldest.
const VERSION: u8 = 0xa0;
/// Texts in UTF-8, or in parts of it.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The texts of the subject, in order; `None` when this is no certificate.
#[must_use]
pub fn subject_texts(der: &[u8]) -> Option<Vec<&str>> {
    let certificate = inside(SEQUENCE, der)?;
    let signed = inside(SEQUENCE, certificate)?;
    let signed = match element(signed)? {
        (VERSION, _, after) => after,
        _ => signed,
    };
    // Serial number, algorithm, issuer, validity; then the subject.
    let (_, _, rest) = element(signed)?;
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let mut names = inside(SEQUENCE, rest)?;
    let mut texts = Vec::new();
    while !names.is_empty() {
        let (tag, mut name, after) = element(names)?;
        names = after;
        while tag == SET && !name.is_empty() {
            let (_, attribute, after) = element(name)?;
            name = after;
            let (_, _, value) = element(attribute)?;
            if let (tag, text, _) = element(value)?
                && TEXTS.contains(&tag)
            {
                texts.push(std::str::from_utf8(text).ok()?);
            }
        }
    }
    Some(texts)
}

fn inside(tag: u8, der: &[u8]) -> Option<&[u8]> {
    element(der).filter(|(first, ..)| *first == tag).map(|(_, content, _)| content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use proptest::prelude::*;

    use super::*;

    /// One that OpenSSL made, of `/OU=opc-certtype:instance/CN=ocid1.instance/OU=opc-tenant:ocid1.tenancy.oc1..t`.
    const MADE: &str = "3082021b308201c1a00302010202143001629102180f1221ace87ca170f5be5332f3cb300a06082a8648ce3d040302306331\
        1e301c060355040b0c156f70632d63657274747970653a696e7374616e63653117301506035504030c0e6f636964312e696e\
        7374616e636531283026060355040b0c1f6f70632d74656e616e743a6f636964312e74656e616e63792e6f63312e2e74301e\
        170d3236313230313033333734395a170d3336313132383033333734395a3063311e301c060355040b0c156f70632d636572\
        74747970653a696e7374616e63653117301506035504030c0e6f636964312e696e7374616e636531283026060355040b0c1f\
        6f70632d74656e616e743a6f636964312e74656e616e63792e6f63312e2e743059301306072a8648ce3d020106082a8648ce\
        3d030107034200044ca1e49ff0ab8e57edc62708e6ca6182c8ad4c1435241d597fcc10d9a3d3e7754d47589909bae45fe5b7\
        5bbe6e07eaa378bb4fb6857ee88a1fc16b0e215dae8ea3533051301d0603551d0e04160414a346b5ad3c2281e1834ab9baea\
        7f665e72315975301f0603551d23041830168014a346b5ad3c2281e1834ab9baea7f665e72315975300f0603551d130101ff\
        040530030101ff300a06082a8648ce3d040302034800304502205534a592e45d6f89ead919e9e93bf0311ba9068089c51ce3\
        339f42ef563712e7022100ad70c41dbc1ce3a0b908a18401da3152edf21046dc2030cb32d11f35d5e499ee";

    #[test]
    fn the_subject_of_a_certificate_is_read() {
        let der = hex::decode(MADE).unwrap();
        let expected = ["opc-certtype:instance", "ocid1.instance", "opc-tenant:ocid1.tenancy.oc1..t"];
        assert_eq!(subject_texts(&der).unwrap(), expected);
        for length in 0..der.len() {
            assert_eq!(subject_texts(der.get(..length).unwrap()), None, "what is cut off is none");
        }
        assert_eq!(subject_texts(b"-----BEGIN CERTIFICATE-----"), None);
    }

    proptest! {
        #[test]
        fn dos_02_whatever_it_is_it_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(subject_texts(&bytes));
            drop(subject_texts(&[&[0x30, 0x82, 0x01, 0x00, 0x30, 0x81, 0xf0][..], &bytes].concat()));
        }
    }
}
