//! Addresses of this machine in a configuration: templates such as `{{ GetPrivateIP }}`, expanded when it is read.
//!
//! The language is that of the reference, a source and filters behind it: what is commonly written with it is here, and
//! what is not is refused by name, because an address that is not meant is worse than none. Deliberately absent: sorting,
//! arithmetic on addresses, and addresses that only others know (of a NAT, of a cloud).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use if_addrs::IfAddr;
use ipnet::IpNet;
use regex::Regex;

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// What the interface that has it is called.
    name: String,
    address: IpAddr,
    /// Whether what has no other way goes through that interface.
    is_default: bool,
}

/// Writes what templates stand for; a text without any stays as it is.
pub(super) fn expanded(text: &str) -> Result<String, String> {
    if text.contains("{{") { expand(text, &of_this_machine) } else { Ok(text.to_owned()) }
}

fn of_this_machine() -> Result<Vec<Interface>, String> {
    let found = if_addrs::get_if_addrs().map_err(|error| format!("the machine's addresses cannot be read: {error}"))?;
    // Nothing is sent: connecting chooses the way, and with it the address.
    let way = |own: IpAddr, there: IpAddr| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect(SocketAddr::new(there, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let ways = [
        way(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(203, 0, 113, 1).into()),
        way(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let address = |address: &IfAddr| match address {
        IfAddr::V4(found) => IpAddr::V4(found.ip),
        IfAddr::V6(found) => IpAddr::V6(found.ip),
    };
    let is_way = |found: &IfAddr| ways.contains(&Some(address(found)));
    let defaults: Vec<&str> = found.iter().filter(|one| is_way(&one.addr)).map(|one| one.name.as_str()).collect();
    let interface = |one: &if_addrs::Interface| Interface {
        name: one.name.clone(),
        address: address(&one.addr),
        is_default: defaults.contains(&one.name.as_str()),
    };
    let mut all: Vec<Interface> = found.iter().map(interface).collect();
    // As the reference: the ways out first, and of each the shorter addresses first.
    all.sort_by_key(|one| (!one.is_default, one.address.is_ipv6()));
    Ok(all)
}

/// The addresses that a machine has, or why they cannot be read.
type Machine<'m> = &'m dyn Fn() -> Result<Vec<Interface>, String>;

fn expand(text: &str, machine: Machine<'_>) -> Result<String, String> {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (template, after) = behind.split_once("}}").ok_or("a template has no end: `}}` is missing")?;
        let template = template.trim().trim_matches('-').trim();
        let found = evaluated(template, machine)?;
        // What is left around it would mean something else: `:8200` is every address.
        if found.is_empty() {
            return Err(format!("the template `{template}` finds no address of this machine"));
        }
        expanded.push_str(before);
        expanded.push_str(&found);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded.trim().to_owned())
}

/// What stands between two filters.
enum Found {
    Interfaces(Vec<Interface>),
    Text(String),
}

fn evaluated(template: &str, machine: Machine<'_>) -> Result<String, String> {
    let mut steps = steps(template)?.into_iter();
    let source = steps.next().ok_or("an empty template")?;
    let mut found = begun(&source, machine)?;
    for step in steps {
        let words: Vec<&str> = step.iter().map(String::as_str).collect();
        found = match (found, words.as_slice()) {
            (Found::Interfaces(all), ["include", kind, value]) => Found::Interfaces(kept(all, kind, value, true)?),
            (Found::Interfaces(all), ["exclude", kind, value]) => Found::Interfaces(kept(all, kind, value, false)?),
            (Found::Interfaces(mut all), ["limit", number]) => {
                all.truncate(number.parse().map_err(|_| format!("`limit` wants a number, not `{number}`"))?);
                Found::Interfaces(all)
            }
            (Found::Interfaces(all), ["attr", of]) => {
                Found::Text(all.first().map(|one| attribute(one, of)).transpose()?.unwrap_or_default())
            }
            (Found::Interfaces(all), ["join", of, between]) => {
                let all: Result<Vec<String>, String> = all.iter().map(|one| attribute(one, of)).collect();
                Found::Text(all?.join(between))
            }
            (_, other) => return Err(unknown(&other.join(" "))),
        };
    }
    match found {
        Found::Text(text) => Ok(text),
        Found::Interfaces(_) => {
            Err(format!("the template `{template}` ends in interfaces: `attr \"address\"` is missing"))
        }
    }
}

/// What the first word of a template finds.
fn begun(source: &[String], machine: Machine<'_>) -> Result<Found, String> {
    let words: Vec<&str> = source.iter().map(String::as_str).collect();
    let select = |is_wanted: &dyn Fn(&Interface) -> bool| -> Result<Vec<Interface>, String> {
        Ok(machine()?.into_iter().filter(|one| is_wanted(one)).collect())
    };
    let first = |found: Vec<Interface>| found.first().map(|one| one.address.to_string()).unwrap_or_default();
    let every = |found: Vec<Interface>| found.iter().map(|one| one.address.to_string()).collect::<Vec<_>>().join(" ");
    let private = |one: &Interface| one.is_default && is_private(one.address);
    let public = |one: &Interface| one.is_default && is_public(one.address);
    Ok(match words.as_slice() {
        ["GetPrivateIP"] => Found::Text(first(select(&private)?)),
        ["GetPublicIP"] => Found::Text(first(select(&public)?)),
        ["GetPrivateIPs"] => Found::Text(every(select(&|one| is_private(one.address))?)),
        ["GetPublicIPs"] => Found::Text(every(select(&|one| is_public(one.address))?)),
        ["GetInterfaceIP", name] => Found::Text(first(select(&|one| one.name == *name)?)),
        ["GetInterfaceIPs", name] => Found::Text(every(select(&|one| one.name == *name)?)),
        ["GetAllInterfaces"] => Found::Interfaces(select(&|_| true)?),
        ["GetDefaultInterfaces"] => Found::Interfaces(select(&|one| one.is_default)?),
        ["GetPrivateInterfaces"] => Found::Interfaces(select(&private)?),
        ["GetPublicInterfaces"] => Found::Interfaces(select(&public)?),
        other => return Err(unknown(&other.join(" "))),
    })
}

fn unknown(what: &str) -> String {
    format!(
        "`{what}` is not available in templates of addresses: GetPrivateIP, GetPublicIP, GetInterfaceIP \"NAME\", and \
         GetAllInterfaces, GetDefaultInterfaces, GetPrivateInterfaces, GetPublicInterfaces with include, exclude, limit, \
         attr and join are"
    )
}

fn kept(all: Vec<Interface>, kind: &str, value: &str, is_included: bool) -> Result<Vec<Interface>, String> {
    let expression = || Regex::new(value).map_err(|_| format!("`{value}` is no regular expression"));
    let is_wanted: Box<dyn Fn(&Interface) -> bool> = match kind {
        "name" => {
            let expression = expression()?;
            Box::new(move |one| expression.is_match(&one.name))
        }
        "address" => {
            let expression = expression()?;
            Box::new(move |one| expression.is_match(&one.address.to_string()))
        }
        "network" => {
            let network: IpNet = value.parse().map_err(|_| format!("`{value}` is no network such as 10.0.0.0/8"))?;
            Box::new(move |one| network.contains(&one.address))
        }
        "type" => match value.to_ascii_lowercase().as_str() {
            "ip" => Box::new(|_| true),
            "ipv4" => Box::new(|one| one.address.is_ipv4()),
            "ipv6" => Box::new(|one| one.address.is_ipv6()),
            _ => return Err(format!("`{value}` is no type of addresses: ip, ipv4 and ipv6 are")),
        },
        "rfc" => match value {
            "1918" | "4193" | "6890" => Box::new(|one| is_private(one.address)),
            _ => return Err(format!("`rfc` {value} is not available: 6890 is")),
        },
        "flags" => {
            // What the system tells is up; the others follow from the address.
            let flags: Vec<String> = value.split('|').map(|flag| flag.trim().to_ascii_lowercase()).collect();
            if let Some(other) = flags.iter().find(|flag| !["up", "forwardable", "loopback"].contains(&flag.as_str())) {
                return Err(format!("the flag `{other}` is not available: up, forwardable and loopback are"));
            }
            Box::new(move |one| {
                flags.iter().all(|flag| match flag.as_str() {
                    "forwardable" => is_forwardable(one.address),
                    "loopback" => one.address.is_loopback(),
                    _ => true,
                })
            })
        }
        other => return Err(unknown(&format!("include \"{other}\""))),
    };
    Ok(all.into_iter().filter(|one| is_wanted(one) == is_included).collect())
}

fn attribute(one: &Interface, of: &str) -> Result<String, String> {
    match of {
        "address" => Ok(one.address.to_string()),
        "name" => Ok(one.name.clone()),
        _ => Err(format!("`attr \"{of}\"` is not available: \"address\" and \"name\" are")),
    }
}

/// Whether other machines can reach it at all.
fn is_forwardable(address: IpAddr) -> bool {
    let is_of_link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_of_link || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Whether it is one that many networks have (RFC 6890).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

fn is_public(address: IpAddr) -> bool {
    is_forwardable(address) && !is_private(address)
}

/// The steps of a template with their words; quotes hold a word together.
fn steps(template: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut steps, mut word, mut quoted) = (vec![Vec::new()], None::<String>, false);
    let mut characters = template.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                word.get_or_insert_default();
                quoted = !quoted;
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            '|' if !quoted => {
                steps.last_mut().into_iter().for_each(|step| step.extend(word.take()));
                steps.push(Vec::new());
            }
            space if space.is_whitespace() && !quoted => {
                steps.last_mut().into_iter().for_each(|step| step.extend(word.take()));
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    steps.last_mut().into_iter().for_each(|step| step.extend(word.take()));
    match () {
        () if quoted => Err(format!("a quote in the template `{template}` has no end")),
        () if steps.iter().any(Vec::is_empty) => Err(format!("a part of the template `{template}` is empty")),
        () => Ok(steps),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn machine() -> Result<Vec<Interface>, String> {
        let one = |name: &str, address: &str, is_default| Interface {
            name: name.to_owned(),
            address: address.parse().map_err(|_| String::new()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            is_default,
        };
        Ok(vec![
            one("eth0", "10.1.2.3", true),
            one("eth0", "fd00::7", true),
            one("eth0", "fe80::1", true),
            one("eth1", "192.168.9.9", false),
            one("wan", "198.51.100.7", false),
            one("lo", "127.0.0.1", false),
        ])
    }

    #[test]
    fn a_template_finds_the_address_that_is_meant() {
        for (template, expected) in [
            ("plain", "plain"),
            ("http://{{ GetPrivateIP }}:8200", "http://10.1.2.3:8200"),
            ("{{GetInterfaceIP \"eth1\"}}", "192.168.9.9"),
            ("{{ GetPrivateIPs }}", "10.1.2.3 fd00::7 192.168.9.9"),
            ("{{ GetAllInterfaces | include \"network\" \"192.168.0.0/16\" | attr \"address\" }}:1", "192.168.9.9:1"),
            (
                "{{ GetAllInterfaces | include \"name\" \"^(wan|eth1)$\" | exclude \"rfc\" \"6890\" | attr \"address\" }}",
                "198.51.100.7",
            ),
            ("{{ GetPrivateInterfaces | include \"type\" \"ipv6\" | attr \"address\" }}", "fd00::7"),
            (
                "{{ GetAllInterfaces | include \"flags\" \"forwardable|up\" | limit 2 | join \"address\" \",\" }}",
                "10.1.2.3,fd00::7",
            ),
            ("{{ GetAllInterfaces | include \"flags\" \"loopback\" | attr \"name\" }}", "lo"),
        ] {
            assert_eq!(expand(template, &machine).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_a_template_cannot_say_is_refused_by_name() {
        for (template, text) in [
            ("{{ GetPublicIP }}", "finds no address"),
            ("{{ GetInterfaceIP \"eth9\" }}:8200", "finds no address"),
            ("{{ GetInterfaceIP \"eth9\" }}", "finds no address"),
            ("{{ GetPrivateIP", "has no end"),
            ("{{ }}", "is empty"),
            ("{{ GetAllInterfaces | sort \"size\" | attr \"address\" }}", "`sort size` is not available"),
            ("{{ GetAllInterfaces }}", "`attr \"address\"` is missing"),
            ("{{ GetAllInterfaces | include \"flags\" \"broadcast\" | attr \"address\" }}", "`broadcast`"),
            ("{{ GetAllInterfaces | include \"network\" \"x\" | attr \"address\" }}", "no network"),
            ("{{ GetInterfaceIP \"eth0 }}", "a quote"),
            ("{{ env \"HOME\" }}", "`env HOME` is not available"),
        ] {
            let refused = expand(template, &machine);
            assert!(refused.as_ref().is_err_and(|error| error.contains(text)), "{template}: {refused:?}");
        }
    }

    #[test]
    fn this_machine_has_itself() {
        assert_eq!(expanded("{{ GetInterfaceIP \"lo\" }}").as_deref(), Ok("127.0.0.1"));
    }

    proptest! {
        #[test]
        fn no_template_does_any_harm(text in "(\\{\\{|\\}\\}|\\||\"|\\\\|attr|include|GetAllInterfaces| |[a-z]){0,12}") {
            drop(expand(&text, &machine));
        }
    }
}
