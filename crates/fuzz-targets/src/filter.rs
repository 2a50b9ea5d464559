//! Filters of audit devices: whatever an operator hands in is understood or refused; what is understood is printed, understood
//! again, and says the same.

use tresor_audit::fuzz::{EXPRESSION_BYTES_MAX, expression};

pub(crate) use tresor_audit::fuzz::EXPRESSION_WORDS as WORDS;

/// An expression, of either kind.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for of_lines in [false, true] {
        let Some((printed, said)) = expression(text, of_lines) else { continue };
        if printed.len() > EXPRESSION_BYTES_MAX {
            // Quotes and escapes made it too long.
            continue;
        }
        let again = expression(&printed, of_lines).expect("what is printed is understood");
        assert_eq!(again, (printed.clone(), said), "printed and understood it is another one");
        let negated = expression(&format!("not ({text})"), of_lines);
        // One that is as deep or as long as can be has no contrary.
        assert!(negated.is_none_or(|(_, contrary)| contrary != said), "not does not negate {printed}");
    }
}
