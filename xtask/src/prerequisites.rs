//! What the test command needs beside the Rust toolchain: Python with `venv`, OpenSSL's command, curl, bash, zsh, fish, valgrind,
//! HAProxy, GnuPG, strace, rsyslogd, promtool, slapd, PostgreSQL, MariaDB, Redis, InfluxDB, RabbitMQ, SoftHSM, Pebble, ip, nft, make, node, npm and a C compiler.
//! What is missing is installed when we are root on a Debian-like system, and otherwise named with the command to
//! type.

use std::process::{Command, Stdio};

use crate::steps::succeed;

/// A program: how to see that it works, and the Debian package that brings it.
struct Prerequisite {
    program: &'static str,
    probe: &'static [&'static str],
    package: &'static str,
}

const PREREQUISITES: &[Prerequisite] = &[
    Prerequisite { program: "cc", probe: &["--version"], package: "gcc" },
    // The allocator is built by it.
    Prerequisite { program: "make", probe: &["--version"], package: "make" },
    Prerequisite { program: "bash", probe: &["--version"], package: "bash" },
    // Shells whose completion is tried.
    Prerequisite { program: "zsh", probe: &["--version"], package: "zsh" },
    Prerequisite { program: "fish", probe: &["--version"], package: "fish" },
    // The documents' commands are run as they stand.
    Prerequisite { program: "curl", probe: &["--version"], package: "curl" },
    Prerequisite { program: "openssl", probe: &["version"], package: "openssl" },
    // Counts the instructions of the hot path.
    Prerequisite { program: "valgrind", probe: &["--version"], package: "valgrind" },
    // Stands in front of a cluster.
    Prerequisite { program: "haproxy", probe: &["-v"], package: "haproxy" },
    // Decrypts what is encrypted to the keys of operators.
    Prerequisite { program: "gpg", probe: &["--version"], package: "gnupg" },
    // Makes system calls of the store fail, one after another.
    Prerequisite { program: "strace", probe: &["--version"], package: "strace" },
    // Takes audit records as the daemon of a machine does.
    Prerequisite { program: "rsyslogd", probe: &["-v"], package: "rsyslog" },
    // Reads the numbers of a server as its collector does.
    Prerequisite { program: "promtool", probe: &["--version"], package: "prometheus" },
    // An LDAP directory, whose accounts are made and rotated.
    Prerequisite { program: "/usr/sbin/slapd", probe: &["-VV"], package: "slapd" },
    // Database servers that accounts are made at.
    // The server, which Debian puts off the path; its client alone will not do.
    Prerequisite {
        program: "sh",
        probe: &["-c", "command -v initdb || ls /usr/lib/postgresql/*/bin/initdb"],
        package: "postgresql",
    },
    Prerequisite { program: "/usr/sbin/mariadbd", probe: &["--version"], package: "mariadb-server" },
    Prerequisite { program: "redis-server", probe: &["--version"], package: "redis-server" },
    Prerequisite { program: "influxd", probe: &["version"], package: "influxdb" },
    // A message broker, whose users are made; its command wants to be the package's user.
    Prerequisite {
        program: "sh",
        probe: &["-c", "test -x /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server"],
        package: "rabbitmq-server",
    },
    // A hardware security module in software, and a tool of others that makes keys in one.
    Prerequisite { program: "softhsm2-util", probe: &["--version"], package: "softhsm2" },
    Prerequisite { program: "sh", probe: &["-c", "command -v pkcs11-tool"], package: "opensc" },
    // An authority of certificates that speaks ACME, and a DNS for it.
    Prerequisite {
        program: "sh",
        probe: &["-c", "command -v pebble && command -v pebble-challtestsrv"],
        package: "pebble",
    },
    // Connect namespaces of the network, and lose packets between them.
    Prerequisite { program: "ip", probe: &["-V"], package: "iproute2" },
    Prerequisite { program: "nft", probe: &["--version"], package: "nftables" },
    // Run the tests that a client of theirs carries in its package.
    Prerequisite { program: "node", probe: &["--import", "node:test", "--eval", "0"], package: "nodejs" },
    Prerequisite { program: "npm", probe: &["--version"], package: "npm" },
    Prerequisite {
        program: "python3",
        probe: &["-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"],
        package: "python3-venv",
    },
];

/// Makes sure that everything is there.
///
/// # Errors
/// Text with the command that installs what is missing.
pub fn ensure() -> Result<(), String> {
    let missing = missing_packages();
    if missing.is_empty() {
        println!(
            "python3, openssl, curl, bash, zsh, fish, valgrind, haproxy, gpg, strace, rsyslogd, promtool, slapd, psql, mariadbd, redis-server, influxd, rabbitmq-server, softhsm2-util, pkcs11-tool, pebble, ip, nft, node, npm and cc are there"
        );
        return Ok(());
    }
    let wanted = format!("apt-get install --yes {}", missing.join(" "));
    if !is_root() || !works("apt-get", &["--version"]) {
        return Err(format!("missing on this machine; install it by: {wanted}"));
    }
    println!("installing: {wanted}");
    succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
    succeed(
        Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    let still = missing_packages();
    if still.is_empty() { Ok(()) } else { Err(format!("still missing after the installation: {}", still.join(" "))) }
}

fn missing_packages() -> Vec<&'static str> {
    PREREQUISITES
        .iter()
        .filter(|prerequisite| !works(prerequisite.program, prerequisite.probe))
        .map(|prerequisite| prerequisite.package)
        .collect()
}

fn works(program: &str, probe: &[&str]) -> bool {
    let quiet = Command::new(program).args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
