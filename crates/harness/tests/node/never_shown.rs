//! What carries secrets through the server is never printed, copied by accident, or serialized: keys, key material to
//! be, credentials on their way, and the values of requests.

use std::fmt::{Debug, Display};

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

macro_rules! abilities {
    ($($type:ty),+ $(,)?) => {
        [$((stringify!($type), [
            ("Debug", implements!($type: Debug)),
            ("Display", implements!($type: Display)),
            ("Clone", implements!($type: Clone)),
            ("Serialize", implements!($type: serde::Serialize)),
        ])),+]
    };
}

#[test]
fn keys_and_credentials_are_never_shown_copied_or_serialized() {
    let all = abilities!(
        tresor_crypto::aead::AeadKey,
        tresor_crypto::hash::HmacKey,
        tresor_crypto::keyring::KeyRing,
        tresor_barrier::UnsealKey,
        tresor_barrier::ShareCollector,
        tresor_barrier::Txn,
        tresor_audit::DeviceSalt,
        tresor_audit::DeviceConfig,
        tresor_core::pipeline::Principal,
        tresor_model::Text,
    );
    for (name, abilities) in all {
        for (ability, has_it) in abilities {
            assert!(!has_it, "{name} has learnt {ability}");
        }
    }
}

#[test]
fn values_of_requests_are_never_copied_by_accident_or_serialized() {
    // Their `Debug` shows kinds; see the tests of `tresor-model`.
    let all = abilities!(tresor_model::Body, tresor_model::Map, tresor_model::Request, tresor_model::Response);
    for (name, abilities) in all {
        for (ability, has_it) in abilities {
            assert!(!has_it || ability == "Debug", "{name} has learnt {ability}");
        }
    }
}

#[test]
fn what_a_device_hashes_is_never_shown_or_compared() {
    assert!(!implements!(tresor_audit::Sensitive<'static>: Debug));
    assert!(!implements!(tresor_audit::Sensitive<'static>: Display));
    assert!(!implements!(tresor_audit::Sensitive<'static>: PartialEq));
    assert!(!implements!(tresor_audit::Handle<'static>: Debug));
}

#[test]
fn the_probe_sees_what_is_there() {
    assert!(implements!(tresor_model::Path: Debug) && implements!(tresor_model::Path: Clone));
    assert!(implements!(serde_json::Value: serde::Serialize));
}
