//! A cluster between whose nodes packets are lost: it may choose another leader, and loses nothing else.

use std::time::Instant;

use super::support::cluster::Three;
use super::support::hosts::Hosts;
use super::support::{not_run, under_load};

#[test]
fn a_cluster_that_loses_packets_loses_nothing_else() {
    // A thread of its own: it moves to other namespaces, where no other test is to be.
    std::thread::spawn(|| match Hosts::make() {
        Ok(hosts) => lose_nothing_else(&hosts),
        Err(why) => not_run("a cluster that loses packets", &why),
    })
    .join()
    .unwrap();
}

fn lose_nothing_else(hosts: &Hosts) {
    let mut three = Three::start(hosts);
    let nodes = [0, 1, 2].map(|at| three.http(at));
    for of_thousand in [10, 50] {
        let seen = under_load(&nodes, |load| {
            hosts.lose(of_thousand);
            load.more(200);
            assert!(hosts.lost() > 0);
        });
        for at in 0..3 {
            seen.is_kept_by(&three.http(at));
        }
    }
    // The leader goes, too.
    let leader = three.leader();
    let others = [1, 2].map(|step| three.http((leader + step) % 3));
    hosts.lose(30);
    let mut whole = None;
    let seen = under_load(&others, |load| {
        load.more(50);
        three.servers[leader].take().unwrap().kill();
        load.more(100);
        hosts.lose(0);
        load.more(50);
        three.start_again(leader);
        three.serves(leader);
        whole = Some(Instant::now());
        load.more(100);
    });
    seen.has_refused_nothing_since(whole.unwrap());
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
}
