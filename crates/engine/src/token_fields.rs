//! What roles and users of auth methods say about the tokens that they lead to: one set of fields, `token_*`, for all
//! methods, as it is sent, stored and shown.
//!
//! Deliberately absent: what the core decides (lives within the mount's, the policy `default`), and the older names that
//! single methods know for some of these fields.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use tresor_model::{Fault, TokenType};
use tresor_record::Part;
use tresor_wire::input::{Cidrs, CommaList, Input, Seconds};
use tresor_wire::output::Output;

use crate::reply::TokenTerms;

/// The fields as they are sent; what is not sent stays.
#[derive(Input, Default)]
pub struct TokenFields {
    /// Policies of the tokens.
    pub token_policies: Option<CommaList>,
    /// Life of the tokens.
    pub token_ttl: Option<Seconds>,
    /// Longest life of the tokens.
    pub token_max_ttl: Option<Seconds>,
    /// Longest life of the tokens, whatever the mount says.
    pub token_explicit_max_ttl: Option<Seconds>,
    /// Period of the tokens.
    pub token_period: Option<Seconds>,
    /// How often the tokens may be used.
    pub token_num_uses: Option<u64>,
    /// Addresses that logins and tokens may come from.
    pub token_bound_cidrs: Option<Cidrs>,
    /// Bind the tokens to the address that logs in.
    pub token_strictly_bind_ip: Option<bool>,
    /// Leave the policy `default` out.
    pub token_no_default_policy: Option<bool>,
    /// Kind of the tokens.
    pub token_type: Option<String>,
}

/// The same as it is stored; zero and empty mean unset.
#[derive(Part, Clone, Default)]
pub struct TokenSettings {
    /// Policies, sorted.
    pub policies: Vec<String>,
    /// Life at the start.
    pub ttl: Duration,
    /// Life with all renewals.
    pub max_ttl: Duration,
    /// Life with all renewals, fixed at creation.
    pub explicit_max_ttl: Duration,
    /// Renewable for ever, by so much each time.
    pub period: Duration,
    /// How often they may be used.
    pub num_uses: u64,
    /// Addresses; or [`AS_LOGGED_IN`] and nothing else.
    pub bound_cidrs: Vec<String>,
    /// Whether the policy `default` is left out.
    pub no_default_policy: bool,
    /// The kind by its word on the wire; empty takes the mount's.
    pub token_type: String,
}

/// In the place of addresses: the one that logs in. Where it is not known it is no address, and admits nobody.
const AS_LOGGED_IN: &str = "as-logged-in";

/// The same as it is shown.
#[derive(Output)]
pub struct TokenSettingsShown {
    /// Addresses that logins and tokens may come from.
    token_bound_cidrs: Vec<String>,
    /// Longest life of the tokens, whatever the mount says.
    token_explicit_max_ttl: Duration,
    /// Longest life of the tokens.
    token_max_ttl: Duration,
    /// Whether the policy `default` is left out.
    token_no_default_policy: bool,
    /// How often the tokens may be used.
    token_num_uses: u64,
    /// Period of the tokens.
    token_period: Duration,
    /// Policies of the tokens.
    token_policies: Vec<String>,
    /// Whether the tokens are bound to the address that logs in.
    token_strictly_bind_ip: bool,
    /// Life of the tokens.
    token_ttl: Duration,
    /// Kind of the tokens.
    token_type: String,
}

impl TokenSettings {
    /// Takes over what was sent.
    ///
    /// # Errors
    /// A refusal of what no token can have.
    pub fn change(&mut self, sent: TokenFields) -> Result<(), Fault> {
        if let Some(policies) = sent.token_policies {
            self.policies = checked_policies(policies)?;
        }
        for (sent, kept) in [
            (sent.token_ttl, &mut self.ttl),
            (sent.token_max_ttl, &mut self.max_ttl),
            (sent.token_explicit_max_ttl, &mut self.explicit_max_ttl),
            (sent.token_period, &mut self.period),
        ] {
            if let Some(sent) = sent {
                *kept = sent.0;
            }
        }
        if !self.max_ttl.is_zero() && self.ttl > self.max_ttl {
            return Err(Fault::invalid("'token_ttl' cannot be greater than 'token_max_ttl'"));
        }
        self.num_uses = sent.token_num_uses.unwrap_or(self.num_uses);
        self.no_default_policy = sent.token_no_default_policy.unwrap_or(self.no_default_policy);
        let binds_address = sent.token_strictly_bind_ip.unwrap_or_else(|| self.binds_address());
        if let Some(ranges) = sent.token_bound_cidrs {
            self.bound_cidrs = ranges.0.iter().map(ToString::to_string).collect();
        }
        match (binds_address, self.bound_cidrs.as_slice()) {
            (true, []) => self.bound_cidrs = vec![AS_LOGGED_IN.to_owned()],
            (true, [one]) if one == AS_LOGGED_IN => {}
            (true, _) => {
                let text = "'token_strictly_bind_ip' conflicts with 'token_bound_cidrs'; set only one";
                return Err(Fault::invalid(text));
            }
            (false, _) => self.bound_cidrs.retain(|range| range != AS_LOGGED_IN),
        }
        if let Some(kind) = sent.token_type {
            self.token_type = match kind.as_str() {
                "" | "default" | "default-service" => String::new(),
                "service" | "batch" => kind,
                "default-batch" => "batch".to_owned(),
                _ => return Err(Fault::invalid("invalid 'token_type' value")),
            };
        }
        let tokens = match self.token_type.as_str() {
            "batch" if !self.period.is_zero() => "periodic tokens",
            "batch" if self.num_uses > 0 => "tokens with limited use count",
            _ => return Ok(()),
        };
        let text = format!("'token_type' cannot be 'batch' or 'default_batch' when set to generate {tokens}");
        Err(Fault::invalid(text))
    }

    /// Whether tokens are bound to the address that logs in.
    #[must_use]
    pub fn binds_address(&self) -> bool {
        self.bound_cidrs == [AS_LOGGED_IN]
    }

    /// The addresses that logins and tokens may come from, where some are named.
    #[must_use]
    pub fn named_ranges(&self) -> &[String] {
        if self.binds_address() { &[] } else { &self.bound_cidrs }
    }

    /// The wishes for a token; a range that cannot be read admits nobody.
    ///
    /// # Errors
    /// A failure for such a range.
    pub fn terms(&self) -> Result<TokenTerms, Fault> {
        Ok(TokenTerms {
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            explicit_max_ttl: self.explicit_max_ttl,
            period: self.period,
            num_uses: self.num_uses,
            bound_cidrs: ranges(self.named_ranges())?,
            binds_address: self.binds_address(),
            no_default_policy: self.no_default_policy,
            token_type: match self.token_type.as_str() {
                "" => None,
                "batch" => Some(TokenType::Batch),
                _ => Some(TokenType::Service),
            },
        })
    }

    /// As it is shown.
    #[must_use]
    pub fn show(self) -> TokenSettingsShown {
        TokenSettingsShown {
            token_strictly_bind_ip: self.binds_address(),
            token_bound_cidrs: shown_ranges(self.named_ranges()),
            token_explicit_max_ttl: self.explicit_max_ttl,
            token_max_ttl: self.max_ttl,
            token_no_default_policy: self.no_default_policy,
            token_num_uses: self.num_uses,
            token_period: self.period,
            token_policies: self.policies,
            token_ttl: self.ttl,
            token_type: if self.token_type.is_empty() { "default".to_owned() } else { self.token_type },
        }
    }
}

/// Address ranges as clients are shown them: a single address without a length, however it was sent.
#[must_use]
pub fn shown_ranges(ranges: &[String]) -> Vec<String> {
    let shown = |range: &String| {
        let of_one = if range.contains(':') { "/128" } else { "/32" };
        range.strip_suffix(of_one).unwrap_or(range).to_owned()
    };
    ranges.iter().map(shown).collect()
}

/// Stored address ranges; one that cannot be read admits nobody.
///
/// # Errors
/// A failure for such a range.
pub fn ranges(stored: &[String]) -> Result<Vec<IpNet>, Fault> {
    stored.iter().map(|range| range.parse()).collect::<Result<_, _>>().map_err(Fault::internal)
}

/// The names of policies that a role or user may have: never `root`.
///
/// # Errors
/// A refusal of `root`.
pub fn checked_policies(sent: CommaList) -> Result<Vec<String>, Fault> {
    let mut policies: Vec<String> = sent.0.iter().map(|policy| policy.to_lowercase()).collect();
    policies.sort_unstable();
    policies.dedup();
    if policies.iter().any(|policy| policy == "root") {
        return Err(Fault::invalid("auth methods cannot create root tokens: leave the root policy out"));
    }
    Ok(policies)
}

/// What was sent of a setting that has an older name too: the newer one wins, and the one that was used is the one that
/// is shown, so it is noted.
pub fn newest<T>(
    older_names: &mut BTreeSet<String>,
    older_name: &str,
    sent: Option<T>,
    sent_by_older_name: Option<T>,
) -> Option<T> {
    if sent.is_some() {
        older_names.remove(older_name);
    } else if sent_by_older_name.is_some() {
        older_names.insert(older_name.to_owned());
    }
    sent.or(sent_by_older_name)
}
