//! Hosts in this one: network namespaces that a bridge connects, between which packets are lost.
//!
//! The bridge is in a namespace of its own, where the test's clients are, so nothing of the real network changes. All of it
//! ends with the test, also when that is killed. Deliberately absent: delays, which this kernel may have nothing for; a packet
//! that was lost comes late, and after others.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cluster::{KEY, Places};
use super::{Production, Server, try_run, until};

/// Where every node listens.
const PORT: u16 = 8200;
/// Which of the namespaces is the clients'.
const CLIENTS: usize = 3;

/// Three hosts of nodes, and one of their clients.
pub(crate) struct Hosts(Vec<Child>);

impl Hosts {
    /// Makes them, and moves this thread to the clients'. Nothing where that is forbidden, or a tool is missing: why.
    pub(crate) fn make() -> Result<Self, String> {
        for probe in [&["unshare", "--net", "true"][..], &["ip", "-V"], &["nft", "--version"]] {
            try_run(probe)?;
        }
        let mut hosts = Self(Vec::new());
        for _ in 0..=CLIENTS {
            // It ends with its input.
            let mut space = Command::new("unshare");
            space.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
            let space = space.spawn().unwrap();
            let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            until("the namespace", || {
                std::fs::read_link(format!("/proc/{}/ns/net", space.id())).ok().filter(|it| *it != own)
            });
            hosts.0.push(space);
        }
        hosts.enter(CLIENTS);
        run("ip link add bridge type bridge");
        run("ip address add 198.18.0.100/24 dev bridge");
        run("ip link set bridge up");
        for at in 0..CLIENTS {
            run(&format!("ip link add to-{at} type veth peer name out netns {}", hosts.0[at].id()));
            run(&format!("ip link set to-{at} master bridge up"));
            hosts.on(at, || {
                run(&format!("ip address add {}/24 dev out", address(at).ip()));
                run("ip link set out up");
                run("ip link set lo up");
            });
        }
        Ok(hosts)
    }

    /// Does something on one of the hosts; processes that it starts stay there.
    pub(crate) fn on<T>(&self, at: usize, what: impl FnOnce() -> T) -> T {
        self.enter(at);
        let done = what();
        self.enter(CLIENTS);
        done
    }

    /// From now on this part of a thousand of the packets between nodes is lost.
    pub(crate) fn lose(&self, of_thousand: usize) {
        for at in 0..CLIENTS {
            self.lose_at(at, &format!("numgen random mod 1000 < {of_thousand}"));
        }
    }

    /// From now on one host is sent nothing by the others that needs a large packet, and all that is small.
    pub(crate) fn lose_large_at(&self, at: usize) {
        self.lose_at(at, "ip length > 1000");
    }

    /// From now on one host hears nothing of the others, which hear it.
    pub(crate) fn lose_all_at(&self, at: usize) {
        self.lose_at(at, "");
    }

    /// From now on one host is sent everything again.
    pub(crate) fn lose_nothing_at(&self, at: usize) {
        self.on(at, || run("nft flush ruleset"));
    }

    /// Of what other nodes send one host this is lost, and nothing else.
    fn lose_at(&self, at: usize, what: &str) {
        self.on(at, || {
            run("nft flush ruleset");
            run("nft add table ip losses");
            run("nft add chain ip losses received { type filter hook input priority 0 ; }");
            let from = "ip saddr 198.18.0.1-198.18.0.3";
            run(&format!("nft add rule ip losses received {from} {what} counter drop").replace("  ", " "));
        });
    }

    /// How many were lost since that was said.
    pub(crate) fn lost(&self) -> usize {
        let counted = |at| {
            let rules = self.on(at, || run("nft list ruleset"));
            let (_, counter) = rules.split_once("counter packets ").unwrap();
            counter.split(' ').next().unwrap().parse::<usize>().unwrap()
        };
        (0..CLIENTS).map(counted).sum()
    }

    fn enter(&self, at: usize) {
        let space = File::open(format!("/proc/{}/ns/net", self.0[at].id())).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for space in &mut self.0 {
            drop(space.kill());
            drop(space.wait());
        }
    }
}

impl Places for Hosts {
    fn address(&self, at: usize) -> SocketAddr {
        address(at)
    }

    fn start(&self, at: usize, home: &Production) -> Server {
        self.on(at, || home.start_with(&KEY))
    }
}

fn address(at: usize) -> SocketAddr {
    (Ipv4Addr::new(198, 18, 0, u8::try_from(at + 1).unwrap()), PORT).into()
}

fn run(command: &str) -> String {
    try_run(&command.split(' ').collect::<Vec<_>>()).unwrap()
}
