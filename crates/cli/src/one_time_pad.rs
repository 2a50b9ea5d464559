//! The one-time password under which a freshly generated root token travels: base64 of the two, byte by byte, xored.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tresor_secret::SecretString;

/// As long as a service token of the root namespace.
pub(crate) const LENGTH: usize = 28;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh password of so many characters.
pub(crate) fn fresh(length: usize, entropy: &mut dyn FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<SecretString> {
    let mut password = String::with_capacity(length);
    while password.len() < length {
        let mut byte = [0];
        entropy(&mut byte)?;
        // 248 is four times 62: what lies above would favour the first letters.
        let [byte] = byte;
        if let (true, Some(&letter)) = (byte < 248, ALPHABET.get(usize::from(byte % 62))) {
            password.push(char::from(letter));
        }
    }
    Ok(SecretString::new(password))
}

/// The token behind an encoding.
pub(crate) fn decode(encoded: &str, password: &SecretString) -> Result<SecretString, String> {
    let encoded = encoded.trim();
    let bytes = STANDARD_NO_PAD
        .decode(encoded)
        .or_else(|_| STANDARD.decode(encoded))
        .map_err(|_| "the encoded token is not base64".to_owned())?;
    let password = password.expose().trim().as_bytes();
    if bytes.len() != password.len() {
        return Err(format!("the encoded token has {} bytes, the one-time password {}", bytes.len(), password.len()));
    }
    let token: Vec<u8> = bytes.iter().zip(password).map(|(byte, pad)| byte ^ pad).collect();
    String::from_utf8(token)
        .map(SecretString::new)
        .map_err(|_| "the one-time password does not belong to the encoded token".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_was_encoded_with_a_password_decodes_with_it_alone() {
        let mut counter = 0_u8;
        let mut entropy = |bytes: &mut [u8]| {
            for byte in bytes {
                *byte = counter;
                counter = counter.wrapping_add(41);
            }
            Ok(())
        };
        let password = fresh(LENGTH, &mut entropy).unwrap();
        assert_eq!(password.expose().len(), LENGTH);
        let token = "hvs.0123456789abcdefghijklmn";
        let xored: Vec<u8> = token.bytes().zip(password.expose().bytes()).map(|(a, b)| a ^ b).collect();
        for encoded in [STANDARD_NO_PAD.encode(&xored), STANDARD.encode(&xored)] {
            assert_eq!(decode(&encoded, &password).unwrap().expose(), token);
        }
        assert!(decode("!", &password).is_err());
        assert!(decode(&STANDARD.encode(b"short"), &password).is_err_and(|error| error.contains("5 bytes")));
    }
}
