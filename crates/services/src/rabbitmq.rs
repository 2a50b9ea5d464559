//! A RabbitMQ broker with its management API, whose administrator is `guest`.
//!
//! It is started by the script in the package's own folder: the one on the search path wants to be root or the package's
//! user. Its port mapper is a process of ours, so it ends with the broker.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::process::{Home, Process, free_port};
use crate::talk;

/// A broker that runs until it is dropped.
pub struct RabbitMq {
    // Ended before the mapper, and that before their directory goes.
    _broker: Process,
    _mapper: Process,
    home: Home,
    port: u16,
}

/// The script that starts a broker.
fn script() -> Result<PathBuf, String> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let scripts = versions.map(|version| version.path().join("sbin/rabbitmq-server")).filter(|script| script.exists());
    scripts.max().ok_or_else(|| "there is no rabbitmq-server: apt-get install rabbitmq-server".to_owned())
}

impl RabbitMq {
    /// Starts one.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start() -> Result<Self, String> {
        let script = script()?;
        let home = Home::of("rabbitmq")?;
        let [amqp, port, distribution, mapping] = [free_port()?, free_port()?, free_port()?, free_port()?];
        let mut command = home.command(Path::new("epmd"));
        command.args(["-port", &mapping.to_string(), "-address", "127.0.0.1"]);
        let mapper = Process::start(&mut command, "KILL", || TcpStream::connect(("127.0.0.1", mapping)).is_ok());
        let mapper = mapper.map_err(|why| format!("epmd: {why}"))?;

        let settings = format!(
            "listeners.tcp.local = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"
        );
        home.write("rabbitmq.conf", &settings)?;
        home.write("plugins", "[rabbitmq_management].\n")?;
        let at = |name: &str| home.path().join(name);
        let mut command = home.command(&script);
        command
            .env("HOME", home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("RABBITMQ_NODENAME", format!("tresor{port}@localhost"))
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("logs"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none")
            .env("ERL_EPMD_PORT", mapping.to_string())
            .stdout(home.log()?);
        let admin = [talk::basic("guest", "guest")];
        let is_ready = || talk::ask(port, "GET", "/api/whoami", &admin, "").is_some_and(|(status, _)| status == 200);
        let broker = Process::start(&mut command, "KILL", is_ready);
        let broker = broker.map_err(|why| format!("rabbitmq-server: {why}: {}", home.said()))?;
        Ok(Self { _broker: broker, _mapper: mapper, home, port })
    }

    /// Its management API.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What its API answers to somebody: status and body.
    ///
    /// # Errors
    /// Text, when it does not answer.
    pub fn ask(&self, method: &str, path: &str, who: (&str, &str), body: &str) -> Result<(u16, String), String> {
        let headers = [talk::basic(who.0, who.1), ("content-type", "application/json".to_owned())];
        let answer = talk::ask(self.port, method, &format!("/api/{path}"), &headers, body);
        answer.ok_or_else(|| format!("the broker does not answer: {}", self.home.said()))
    }
}
