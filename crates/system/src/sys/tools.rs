//! `sys/tools`: random bytes and hashes.
//!
//! Randomness is the server's own, or its seal's where the configuration says that the seal gives some: `all` is both, combined
//! so that one good source is enough. Where the seal gives none, `seal` and `all` are the server's own, and the answer warns of that.
//! Deliberately absent: keyed hashes, which are an engine's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_crypto::hash::{named, to_hex};
use tresor_engine::{Cx, Data, Warned};
use tresor_model::Fault;
use tresor_wire::input::Input;
use tresor_wire::output::Output;
use zeroize::Zeroizing;

use super::Sys;

/// How many bytes there may be at once.
const BYTES_MAX: i64 = 128 * 1024;
/// How many of these the seal is asked for at once: a module gives them slowly, and a service wants to be paid for each KiB.
const SEAL_BYTES_MAX: i64 = 4 * 1024;
const SOURCES: [&str; 3] = ["platform", "seal", "all"];
/// What is said where the seal gives no bytes; the words of the reference.
const NO_SEAL_ENTROPY: &str = "no seal/entropy augmentation available, using platform entropy source";

/// How many bytes, and how they are spelled.
#[derive(Input)]
pub(super) struct Random {
    /// How many bytes, or where they are to come from.
    #[input(path, default = "")]
    source_or_bytes: String,
    /// How many bytes.
    #[input(path, default = "")]
    urlbytes: String,
    /// How many bytes.
    #[input(default = "32")]
    bytes: i64,
    /// `base64` or `hex`.
    #[input(default = "base64")]
    format: String,
    /// Where they are to come from: `platform`, `seal`, or `all`, which is both.
    #[input(default = "platform")]
    source: String,
}

/// Random bytes.
#[derive(Output)]
pub(super) struct Bytes {
    /// The bytes.
    #[output(secret)]
    random_bytes: String,
}

/// What is to be hashed, and how.
#[derive(Input)]
pub(super) struct Hash {
    /// The algorithm.
    #[input(path, default = "")]
    urlalgorithm: String,
    /// The algorithm, when the path names none.
    #[input(default = "sha2-256")]
    algorithm: String,
    /// What is to be hashed, in base64.
    #[input(default = "", secret)]
    input: tresor_secret::SecretString,
    /// `hex` or `base64`.
    #[input(default = "hex")]
    format: String,
}

/// A hash.
#[derive(Output)]
pub(super) struct Sum {
    /// The hash.
    sum: String,
}

pub(super) async fn random(sys: &Sys, cx: Cx<'_>, input: Random) -> Result<Warned<Data<Bytes>>, Fault> {
    let (source, count) = match (input.source_or_bytes.as_str(), input.urlbytes.as_str()) {
        ("", _) => (input.source.as_str(), None),
        // One word is a number when it is one.
        (word, "") if word.parse::<i64>().is_ok() => (input.source.as_str(), Some(word)),
        (word, "") => (word, None),
        (word, count) => (word, Some(count)),
    };
    if !SOURCES.contains(&source) {
        return Err(Fault::invalid("unsupported entropy source; must be \"platform\" or \"seal\", or \"all\""));
    }
    let count = match count {
        None => input.bytes,
        Some(count) => count.parse().map_err(|_| Fault::invalid("error parsing url-set byte count: no number"))?,
    };
    if count < 1 {
        return Err(Fault::invalid("'bytes' cannot be less than 1"));
    }
    if count > BYTES_MAX {
        return Err(Fault::invalid(format!("'bytes' should be less than {BYTES_MAX}")));
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(count).unwrap_or(0)]);
    let format = Format::of(&input.format)?;
    let mut warnings = Vec::new();
    match (source, sys.handles.settings.augmentation()) {
        ("platform", _) => cx.entropy.fill(&mut bytes),
        (_, None) => {
            cx.entropy.fill(&mut bytes);
            warnings.push(NO_SEAL_ENTROPY.to_owned());
        }
        (_, Some(_)) if count > SEAL_BYTES_MAX => {
            return Err(Fault::invalid(format!("'bytes' of the seal should be at most {SEAL_BYTES_MAX}")));
        }
        (source, Some(augmentation)) => {
            let given = augmentation.bytes(bytes.len()).await.map_err(|error| augmentation.fault(&error))?;
            if source == "all" {
                augmentation.fill_by_system(&mut bytes);
            }
            bytes.iter_mut().zip(given.iter()).for_each(|(byte, given)| *byte ^= given);
        }
    }
    Ok(Warned(Data(Bytes { random_bytes: format.spell(&bytes) }), warnings))
}

pub(super) async fn hash(_sys: &Sys, _cx: Cx<'_>, input: Hash) -> Result<Data<Sum>, Fault> {
    let bytes = STANDARD.decode(input.input.expose());
    let bytes = Zeroizing::new(bytes.map_err(|_| Fault::invalid("unable to decode input as base64"))?);
    let algorithm = if input.urlalgorithm.is_empty() { &input.algorithm } else { &input.urlalgorithm };
    let sum = named(algorithm, &bytes).ok_or_else(|| Fault::invalid("unsupported algorithm"))?;
    Ok(Data(Sum { sum: Format::of(&input.format)?.spell(&sum) }))
}

/// How bytes are spelled.
enum Format {
    Hex,
    Base64,
}

impl Format {
    fn of(name: &str) -> Result<Self, Fault> {
        match name {
            "hex" => Ok(Self::Hex),
            "base64" => Ok(Self::Base64),
            _ => Err(Fault::invalid("unsupported encoding format; must be \"hex\" or \"base64\"")),
        }
    }

    fn spell(&self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => to_hex(bytes),
            Self::Base64 => STANDARD.encode(bytes),
        }
    }
}
