//! Which policies the members of a team and single users have.

use tresor_engine::{Cx, Data, Keys, Nothing};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use crate::GitHub;

/// A map from names to policies.
pub(crate) trait Names: Send + Sync + 'static {
    /// Where it is stored.
    const DIRECTORY: &'static str;
}

/// Teams, by name or by slug.
pub(crate) struct Teams;

impl Names for Teams {
    const DIRECTORY: &'static str = "team/";
}

/// Users.
pub(crate) struct Users;

impl Names for Users {
    const DIRECTORY: &'static str = "user/";
}

/// What a name has.
#[derive(Record)]
#[record(kind = "github-policies", version = 1)]
struct Policies {
    /// As it was sent.
    value: String,
}

/// A name.
#[derive(Input)]
pub(crate) struct ByKey {
    /// The team or the user.
    #[input(path)]
    key: String,
}

/// Policies for a name.
#[derive(Input)]
pub(crate) struct Write {
    /// The team or the user.
    #[input(path)]
    key: String,
    /// Policies, separated by commas.
    value: Option<String>,
}

/// What a name has; nothing of a name that has none, which is no error to clients.
#[derive(Output)]
pub(crate) struct Shown {
    /// The team or the user.
    #[output(optional)]
    key: Option<String>,
    /// Policies, separated by commas.
    #[output(optional)]
    value: Option<String>,
}

pub(crate) async fn list<N: Names>(_method: &GitHub, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(N::DIRECTORY, None, None)?))
}

fn load<N: Names>(cx: &mut Cx<'_>, key: &str) -> Result<Option<Policies>, Fault> {
    let Some(bytes) = cx.view.read(&format!("{}{key}", N::DIRECTORY))? else { return Ok(None) };
    Policies::decode(&bytes).map(Some).map_err(Fault::internal)
}

pub(crate) async fn read<N: Names>(_method: &GitHub, mut cx: Cx<'_>, input: ByKey) -> Result<Data<Shown>, Fault> {
    let value = load::<N>(&mut cx, &input.key)?.map(|known| known.value);
    Ok(Data(Shown { key: value.is_some().then_some(input.key), value }))
}

pub(crate) async fn write<N: Names>(_method: &GitHub, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let value = input.value.ok_or_else(|| Fault::invalid("missing value"))?;
    if split(&value).any(|policy| policy.eq_ignore_ascii_case("root")) {
        return Err(Fault::invalid("auth methods cannot create root tokens: leave the root policy out"));
    }
    cx.view.write(&format!("{}{}", N::DIRECTORY, input.key), &Policies { value }.encode())?;
    Ok(Nothing)
}

pub(crate) async fn delete<N: Names>(_method: &GitHub, mut cx: Cx<'_>, input: ByKey) -> Result<Nothing, Fault> {
    cx.view.delete(&format!("{}{}", N::DIRECTORY, input.key))?;
    Ok(Nothing)
}

fn split(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|policy| !policy.is_empty())
}

/// The policies of names, whatever their case; names that nobody can have stored have none.
pub(crate) fn policies_of<N: Names>(
    cx: &mut Cx<'_>,
    names: impl IntoIterator<Item = String>,
) -> Result<Vec<String>, Fault> {
    let mut policies = Vec::new();
    for name in names {
        let name = name.trim().to_lowercase();
        if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
            continue;
        }
        if let Some(known) = load::<N>(cx, &name)? {
            policies.extend(split(&known.value).map(str::to_owned));
        }
    }
    Ok(policies)
}
