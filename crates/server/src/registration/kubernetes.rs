//! Kubernetes: the labels of the pod that this server runs in, by which its services choose whom they lead to.
//!
//! They are changed by a merge patch, so nothing else of the pod is touched, with the token of the pod's service account, which
//! is read each time because it changes. Charts of both servers that we stand in for select by their own labels, so
//! both kinds are set. Deliberately absent: everything else that Kubernetes can do.

use std::path::PathBuf;
use std::sync::Arc;

use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, OutgoingRequest};
use tresor_model::{Map, map};
use tresor_wire::json::encode_map;
use zeroize::Zeroizing;

use super::{ANSWER_BYTES_MAX, EXCHANGE_MAX, Standing, done};
use crate::config::KubernetesConfig;

/// What the labels begin with.
const PREFIXES: [&str; 2] = ["vault", "openbao"];

/// One pod, and what its labels were set to.
pub(super) struct Kubernetes {
    outgoing: Arc<dyn Outgoing>,
    pod: String,
    token_file: PathBuf,
    known: Option<Standing>,
}

impl Kubernetes {
    /// Nothing is told yet; the variables are those that every pod is started with.
    pub(super) fn new(
        config: &KubernetesConfig,
        environment: &dyn Fn(&str) -> Option<String>,
        outgoing: Arc<dyn Outgoing>,
    ) -> Result<Self, String> {
        let set = |name: &str| environment(name).filter(|text| !text.is_empty());
        let host = set("KUBERNETES_SERVICE_HOST");
        let port = set("KUBERNETES_SERVICE_PORT_HTTPS").or_else(|| set("KUBERNETES_SERVICE_PORT"));
        let (Some(host), Some(port)) = (host, port) else {
            let text = "service_registration \"kubernetes\": KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not \
                        set, so this is no pod";
            return Err(text.to_owned());
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let (namespace, pod) = (&config.namespace, &config.pod);
        Ok(Self {
            outgoing,
            pod: format!("https://{host}:{port}/api/v1/namespaces/{namespace}/pods/{pod}"),
            token_file: config.service_account.join("token"),
            known: None,
        })
    }

    pub(super) async fn tell(&mut self, standing: Standing) -> Result<(), String> {
        if self.known == Some(standing) {
            return Ok(());
        }
        self.known = None;
        self.patch(standing).await?;
        self.known = Some(standing);
        Ok(())
    }

    pub(super) async fn leave(&mut self) -> Result<(), String> {
        let initialized = self.known.is_some_and(|known| known.initialized);
        self.patch(Standing { initialized, sealed: true, active: false }).await
    }

    async fn patch(&self, standing: Standing) -> Result<(), String> {
        let token = std::fs::read_to_string(&self.token_file).map(Zeroizing::new);
        let token = token.map_err(|error| format!("`{}` cannot be read: {error}", self.token_file.display()))?;
        let mut bytes = Zeroizing::new(Vec::new());
        encode_map(&map! { "metadata" => map! { "labels" => labels(standing) } }, &mut bytes);
        let request = OutgoingRequest {
            ask: Ask::Patch(bytes),
            url: self.pod.clone(),
            headers: vec![
                ("authorization".into(), Zeroizing::new(format!("Bearer {}", token.trim()))),
                ("content-type".into(), Zeroizing::new("application/merge-patch+json".to_owned())),
            ],
            time_max: EXCHANGE_MAX,
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        done(self.outgoing.ask(request).await)
    }
}

/// What is said of a node, in the words of both kinds of charts.
fn labels(standing: Standing) -> Map {
    let word = |is: bool| if is { "true" } else { "false" };
    PREFIXES.iter().fold(Map::new(), |labels, prefix| {
        labels
            .with(format!("{prefix}-active"), word(standing.active))
            .with(format!("{prefix}-initialized"), word(standing.initialized))
            .with(format!("{prefix}-perf-standby"), "false")
            .with(format!("{prefix}-sealed"), word(standing.sealed))
            .with(format!("{prefix}-version"), env!("CARGO_PKG_VERSION"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::Mutex;

    use tresor_env::doubles::FakeServers;
    use tresor_env::outgoing::OutgoingError;

    use super::*;

    /// The address, the headers and the body of each request that the fake of Kubernetes' API got.
    type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

    /// A fake of Kubernetes' API: it takes patches of pods from whoever has the token.
    fn fake_kubernetes(servers: &FakeServers) -> Asked {
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        servers.answer(move |request| {
            let Ask::Patch(body) = &request.ask else { return Err(OutgoingError::Unsendable) };
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| *known == name);
                found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
            };
            let (token, body) = (header("authorization"), String::from_utf8(body.to_vec()).unwrap());
            assert_eq!(header("content-type"), "application/merge-patch+json");
            let status = if token == "Bearer of-today" { 200 } else { 401 };
            seen.lock().unwrap().push((request.url.clone(), token, body));
            Ok((status, b"{}".to_vec()))
        });
        asked
    }

    #[tokio::test]
    async fn a_pod_is_labelled_as_what_its_server_is_and_only_when_that_changes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "of-yesterday\n").unwrap();
        let config = KubernetesConfig {
            namespace: "safe".to_owned(),
            pod: "vault-0".to_owned(),
            service_account: folder.path().to_owned(),
        };
        let servers = Arc::new(FakeServers::default());
        let asked = fake_kubernetes(&servers);
        let variables = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let outside = Kubernetes::new(&config, &|_| None, Arc::clone(&servers) as Arc<dyn Outgoing>);
        assert!(outside.is_err_and(|error| error.contains("this is no pod")));
        let mut kubernetes = Kubernetes::new(&config, &variables, servers).unwrap();
        let active = Standing { initialized: true, sealed: false, active: true };
        // The token is read each time: one that is not taken any more is one that was.
        assert_eq!(kubernetes.tell(active).await, Err("it answered with status 401".to_owned()));
        std::fs::write(folder.path().join("token"), "of-today\n").unwrap();
        for _ in 0..2 {
            kubernetes.tell(active).await.unwrap();
        }
        kubernetes.leave().await.unwrap();
        let asked = asked.lock().unwrap().clone();
        let [_, (url, _, told), (_, _, left)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(url, "https://[fd00::1]:443/api/v1/namespaces/safe/pods/vault-0");
        for label in [r#""vault-active":"true""#, r#""openbao-sealed":"false""#, r#""vault-initialized":"true""#] {
            assert!(told.contains(label), "{told}");
        }
        assert!(told.starts_with(r#"{"metadata":{"labels":{"#), "{told}");
        for label in [r#""vault-active":"false""#, r#""openbao-active":"false""#, r#""vault-sealed":"true""#] {
            assert!(left.contains(label), "{left}");
        }
    }
}
