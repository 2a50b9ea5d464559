//! What secrets never learn: to be shown, copied, compared in variable time, hashed into a table, or serialized.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::ops::Deref;

use tresor_secret::{DataKey, Secret, SecretBytes, SecretString, TokenSecret, UnsealShare};

/// Whether a type has a trait: an associated constant of the type itself, where its bound holds, comes before the
/// trait's.
macro_rules! implements {
    ($type:ty: $trait:path) => {{
        #[allow(dead_code)]
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise {
            const FOUND: bool = false;
        }
        impl<T: ?Sized> Otherwise for Probe<T> {}
        #[allow(dead_code)]
        impl<T: ?Sized + $trait> Probe<T> {
            const FOUND: bool = true;
        }
        <Probe<$type>>::FOUND
    }};
}

macro_rules! never {
    ($($type:ty),+) => {
        [$(
            (stringify!($type), [
                ("Debug", implements!($type: Debug)),
                ("Display", implements!($type: Display)),
                ("Clone", implements!($type: Clone)),
                ("PartialEq", implements!($type: PartialEq)),
                ("PartialOrd", implements!($type: PartialOrd)),
                ("Hash", implements!($type: Hash)),
                ("Default", implements!($type: Default)),
                ("Deref", implements!($type: Deref)),
                ("AsRef<str>", implements!($type: AsRef<str>)),
                ("AsRef<[u8]>", implements!($type: AsRef<[u8]>)),
                ("Into<String>", implements!($type: Into<String>)),
                ("Into<Vec<u8>>", implements!($type: Into<Vec<u8>>)),
                ("Serialize", implements!($type: serde::Serialize)),
            ])
        ),+]
    };
}

#[test]
fn the_probe_sees_what_is_there() {
    assert!(implements!(String: Debug) && implements!(String: Clone) && implements!(String: serde::Serialize));
    assert!(implements!(String: Into<Vec<u8>>) && !implements!(Vec<u8>: Display));
}

#[test]
fn secrets_are_never_shown_copied_compared_or_serialized() {
    let all = never!(SecretString, SecretBytes, Secret<[u8; 32]>, TokenSecret, UnsealShare, DataKey);
    for (name, traits) in all {
        for (ability, has_it) in traits {
            assert!(!has_it, "{name} has learnt {ability}");
        }
    }
}
