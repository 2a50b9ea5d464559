//! Keys that others keep, for tests: somebody who keeps them, and an engine that uses what its mount was granted.
//!
//! What the keeper signs and encrypts says by which key, so a test sees which one was used. In no release binary.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tresor_engine::{Class, Cx, Data, Descriptor, Engine, EngineFactory, Instance, MountFacts, Mounted, Routes};
use tresor_env::BoxFuture;
use tresor_env::custody::{Custody, CustodyError, KeeperFacts, KeptKey, OptionFacts, Place, SignedHash, Signing};
use tresor_model::{Fault, Map, map};
use tresor_wire::input::Input;
use zeroize::Zeroizing;

/// How the engine is made.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "kept", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

const HOW: Signing = Signing { hash: SignedHash::Sha256, pss: false };

/// The engine.
pub struct Kept;

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(Instance::mount(Kept))
}

/// What to do with which key.
#[derive(Input)]
struct Use {
    /// `sign`, `verify`, `encrypt`, `decrypt` or `public`.
    #[input(path)]
    doing: String,
    /// The key, as the engine is told it.
    key: String,
    /// What to do it to.
    #[input(default = "")]
    text: String,
    /// A signature to verify.
    #[input(default = "")]
    signature: String,
}

impl Engine for Kept {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "kept", class: Class::Secret, summary: "Uses keys that others keep." }
    }

    fn routes() -> Routes<Self> {
        Routes::new().at("use/{doing}", "Uses a key.").ask(use_key).done()
    }
}

async fn use_key(_kept: &Kept, mut cx: Cx<'_>, input: Use) -> Result<Data<Map>, Fault> {
    let key = cx.kept_key(&input.key)?;
    let text = input.text.as_bytes();
    let done = match input.doing.as_str() {
        "sign" => key.sign(HOW, text).await?,
        "verify" => key.verify(HOW, text, input.signature.as_bytes()).await?.to_string().into_bytes(),
        "encrypt" => key.encrypt(text).await?,
        "decrypt" => key.decrypt(text).await?.to_vec(),
        _ => key.public().await?,
    };
    Ok(Data(map! { "done" => String::from_utf8_lossy(&done).into_owned() }))
}

/// Somebody who keeps keys.
#[derive(Default)]
pub struct FakeKeepers {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    is_away: bool,
    keys: BTreeSet<String>,
    /// The PINs that it was shown.
    shown: BTreeSet<String>,
}

static FACTS: [KeeperFacts; 1] = [KeeperFacts {
    kind: "fake",
    of_keeper: &[OptionFacts::shown("address"), OptionFacts::secret("pin")],
    of_key: &[OptionFacts::shown("label")],
}];

impl FakeKeepers {
    /// One that keeps these keys.
    #[must_use]
    pub fn with(keys: &[&str]) -> Arc<Self> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Arc::new(Self { inside: Mutex::new(Inside { keys, ..Inside::default() }) })
    }

    /// It does not answer, or does again.
    pub fn is_away(&self, is_away: bool) {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).is_away = is_away;
    }

    /// The PINs that it was shown so far.
    pub fn shown(&self) -> Vec<String> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).shown.iter().cloned().collect()
    }
}

/// The way to the one there is.
pub struct Way(pub Arc<FakeKeepers>);

struct FakeKey {
    keepers: Arc<FakeKeepers>,
    label: String,
    pin: Zeroizing<String>,
}

impl Custody for Way {
    fn keepers(&self) -> &'static [KeeperFacts] {
        &FACTS
    }

    fn check(&self, place: &Place) -> Result<(), CustodyError> {
        let missing = |name: &str| CustodyError::Misplaced(format!("`{name}` is required"));
        place.option("address").ok_or_else(|| missing("address"))?;
        place.option("pin").map(drop).ok_or_else(|| missing("pin"))
    }

    fn key(&self, place: &Place) -> Result<Arc<dyn KeptKey>, CustodyError> {
        self.check(place)?;
        let label = place.option("label").ok_or_else(|| CustodyError::Misplaced("`label` is required".to_owned()))?;
        let pin = Zeroizing::new(place.option("pin").unwrap_or_default().to_owned());
        Ok(Arc::new(FakeKey { keepers: Arc::clone(&self.0), label: label.to_owned(), pin }))
    }
}

impl FakeKey {
    fn done(&self, what: String) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        let mut inside = self.keepers.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.shown.insert(self.pin.to_string());
        let done = if inside.is_away {
            Err(CustodyError::Away("nobody is there".to_owned()))
        } else if inside.keys.contains(&self.label) {
            Ok(what.into_bytes())
        } else {
            Err(CustodyError::Refused(format!("there is no key {:?}", self.label)))
        };
        Box::pin(async move { done })
    }

    fn signature(&self, message: &[u8]) -> String {
        format!("{} signed {}", self.label, String::from_utf8_lossy(message))
    }
}

impl KeptKey for FakeKey {
    fn public(&self) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        self.done(format!("public half of {}", self.label))
    }

    fn sign<'k>(&'k self, _how: Signing, message: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        self.done(self.signature(message))
    }

    fn verify<'k>(
        &'k self,
        _how: Signing,
        message: &'k [u8],
        signature: &'k [u8],
    ) -> BoxFuture<'k, Result<bool, CustodyError>> {
        Box::pin(async move { Ok(self.done(self.signature(message)).await? == signature) })
    }

    fn look(&self) -> BoxFuture<'_, Result<(), CustodyError>> {
        Box::pin(async { self.done(String::new()).await.map(drop) })
    }

    fn encrypt<'k>(&'k self, plaintext: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        self.done(format!("{}:{}", self.label, String::from_utf8_lossy(plaintext)))
    }

    fn decrypt<'k>(&'k self, ciphertext: &'k [u8]) -> BoxFuture<'k, Result<Zeroizing<Vec<u8>>, CustodyError>> {
        let text = String::from_utf8_lossy(ciphertext).into_owned();
        let inner = text.strip_prefix(&format!("{}:", self.label)).map(str::to_owned);
        Box::pin(async move {
            let inner = inner.ok_or_else(|| CustodyError::Refused("that was encrypted by another key".to_owned()))?;
            self.done(inner).await.map(Zeroizing::new)
        })
    }
}
