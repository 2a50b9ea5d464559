//! Borrowing an account of the library, and bringing it back.
//!
//! A loan has a number, so the end of one never takes an account from whoever borrowed it next. Lending touches nothing but
//! what is stored; bringing back is a rotation, by the configuration that counted when the account was lent, whatever became
//! of that. Deliberately absent: lending one account twice, which the transaction refuses.

use tresor_engine::answer::Secret;
use tresor_engine::outside::Outside;
use tresor_engine::{Cx, Data, Happened, LeaseClaim, Leased};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_secret::SecretBytes;
use tresor_wire::input::{CommaList, Input, Seconds};
use tresor_wire::output::Output;

use crate::account::{Account, Borrower, key};
use crate::config::Config;
use crate::directory::{not_taken_back, unreached};
use crate::library::{LibrarySet, has, once_each};
use crate::secrets::{copy, shown};
use crate::{Ldap, rotating};

/// What is handed out, in the words of a lease.
pub(crate) const KIND: &str = "check-out";

/// A loan, as its lease keeps it.
#[derive(Record)]
#[record(kind = "ldap-loan", version = 1)]
struct Loan {
    set: String,
    user: String,
    number: u64,
}

/// What to borrow.
#[derive(Input)]
pub(crate) struct CheckOut {
    /// The set.
    #[input(path)]
    name: String,
    /// For how long; at most as long as the set says.
    ttl: Option<Seconds>,
}

/// What to bring back.
#[derive(Input)]
pub(crate) struct CheckIn {
    /// The set.
    #[input(path)]
    name: String,
    /// The accounts; may be left out when it is one.
    service_account_names: Option<CommaList>,
}

/// What a manager brings back.
#[derive(Input)]
pub(crate) struct ManagedCheckIn {
    /// The set.
    #[input(path)]
    name: String,
    /// The accounts; may be left out when it is one.
    service_account_names: Option<CommaList>,
    /// By the configuration of now instead of the one by which it was lent: for a directory that has moved.
    #[input(default = "false")]
    current_config: bool,
}

/// Who brings back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Whoever borrowed.
    Borrower,
    /// A manager, whoever borrowed.
    Manager,
    /// The same by the configuration of now.
    ManagerNow,
}

/// A borrowed account.
#[derive(Output)]
pub(crate) struct Borrowed {
    /// Its name.
    service_account_name: String,
    /// Its password.
    #[output(secret)]
    password: String,
}

/// What was brought back.
#[derive(Output)]
pub(crate) struct CheckedIn {
    /// The accounts that were brought back by this.
    check_ins: Vec<String>,
}

pub(crate) async fn check_out(_engine: &Ldap, mut cx: Cx<'_>, input: CheckOut) -> Result<Secret<Borrowed>, Fault> {
    let config = Config::managing(&mut cx.view, "a library")?;
    let set = LibrarySet::known(&mut cx.view, &input.name)?;
    let ttl = match input.ttl.map(|sent| sent.0) {
        Some(wished) if set.ttl.is_zero() || wished < set.ttl => wished,
        _ => set.ttl,
    };
    for user in set.users {
        let Some(mut account) = Account::load(&mut cx.view, &key(&user))? else { continue };
        // What is on its way back, or may have another password, is not lent.
        let is_there = account.borrower.is_none() && account.candidate.is_none();
        let Some(password) = account.password.as_ref().filter(|_| is_there) else { continue };
        let password = shown(password);
        account.next = Some(config.new_password(&mut cx, "")?);
        account.loans += 1;
        account.lent_with = config.number;
        account.borrower = Some(Borrower::of(&cx));
        account.store(&mut cx.view)?;
        cx.view.tell(|| lent_or_back("check-out", &input.name, &user));
        let loan = Loan { set: input.name, user: user.clone(), number: account.loans };
        let claim = LeaseClaim {
            kind: KIND,
            recipe: SecretBytes::new(loan.encode().to_vec()),
            ttl,
            max_ttl: set.max_ttl,
            renewable: true,
        };
        return Ok(Secret(Borrowed { service_account_name: user, password }, claim));
    }
    Err(Fault::invalid("No service accounts available for check-out."))
}

pub(crate) async fn check_in(_engine: &Ldap, cx: Cx<'_>, input: CheckIn) -> Result<Outside<Data<CheckedIn>>, Fault> {
    bring_back(cx, input, By::Borrower)
}

/// The same for whoever manages the library, whoever borrowed.
pub(crate) async fn manage_check_in(
    _engine: &Ldap,
    cx: Cx<'_>,
    input: ManagedCheckIn,
) -> Result<Outside<Data<CheckedIn>>, Fault> {
    let ManagedCheckIn { name, service_account_names, current_config } = input;
    bring_back(cx, CheckIn { name, service_account_names }, if current_config { By::ManagerNow } else { By::Manager })
}

fn bring_back(mut cx: Cx<'_>, input: CheckIn, by: By) -> Result<Outside<Data<CheckedIn>>, Fault> {
    let set = LibrarySet::known(&mut cx.view, &input.name)?;
    let named = input.service_account_names.map(|names| once_each(names.0)).unwrap_or_default();
    let is_anybodys = by != By::Borrower || set.anybody_checks_in;
    let candidates = if named.is_empty() { set.users.clone() } else { named.clone() };
    let mut accounts: Vec<Account> = Vec::new();
    for user in candidates {
        let account = if has(&set.users, &user) { Account::load(&mut cx.view, &key(&user))? } else { None };
        let account = account.ok_or_else(|| Fault::invalid(format!("{user:?} is not in {:?}", input.name)))?;
        let Some(borrower) = &account.borrower else { continue };
        if is_anybodys || borrower.is(&cx.caller) {
            accounts.push(account);
        } else if !named.is_empty() {
            let text = format!("{user:?} can't be checked in because it wasn't checked out by the caller");
            return Err(Fault::invalid(text));
        }
    }
    if named.is_empty() && accounts.len() > 1 {
        let text =
            "when multiple service accounts are checked out, the 'service_account_names' to check in must be provided";
        return Err(Fault::invalid(text));
    }
    let check_ins: Vec<String> = accounts.iter().map(|account| account.user.clone()).collect();
    let answer = move || Data(CheckedIn { check_ins: check_ins.clone() });
    if by == By::ManagerNow {
        // Whatever is not known the end of goes on by it, too.
        let now = Config::known(&mut cx.view)?.number;
        accounts.iter_mut().for_each(|account| account.lent_with = now);
    }
    let Some(first) = accounts.first() else { return Ok(Outside::done(answer())) };
    let config = first.config(&mut cx.view)?;
    config.manages("a library")?;
    for account in &accounts {
        if account.config(&mut cx.view)?.number != config.number {
            let text = "these accounts were lent by different configurations: bring them back one at a time";
            return Err(Fault::invalid(text));
        }
    }
    let (set, back) = (input.name, accounts.iter().map(|account| account.user.clone()).collect::<Vec<_>>());
    rotating::plan(&mut cx, &config, accounts, move |view, _| {
        for user in &back {
            view.tell(|| lent_or_back("check-in", &set, user));
        }
        Ok(answer())
    })
}

/// An account was lent, or is back, however that came.
fn lent_or_back(operation: &'static str, set: &str, user: &str) -> Happened {
    let kind = if operation == "check-out" { "ldap/library-check-out" } else { "ldap/library-check-in" };
    Happened::new(kind, format!("library/{set}/{operation}")).with("name", set).with("service_account_name", user)
}

/// The account of a loan, while it is lent.
fn lent(cx: &mut Cx<'_>, loan: &Loan) -> Result<Option<Account>, Fault> {
    let account = Account::load(&mut cx.view, &key(&loan.user))?;
    Ok(account.filter(|account| account.loans == loan.number && account.borrower.is_some()))
}

/// Agrees to a longer loan, as long as it is one.
pub(crate) fn renew(mut cx: Cx<'_>, lease: &Leased<'_>) -> Result<(), Fault> {
    let loan = Loan::decode(lease.recipe.expose()).map_err(Fault::internal)?;
    LibrarySet::known(&mut cx.view, &loan.set)?;
    let text = || format!("{} is already checked in, please call check-out to regain it", loan.user);
    lent(&mut cx, &loan)?.map(drop).ok_or_else(|| Fault::invalid(text()))
}

/// Takes the account back. If the server ends in between, this is done again.
pub(crate) async fn revoke(mut cx: Cx<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let loan = Loan::decode(lease.recipe.expose()).map_err(Fault::internal)?;
    let Some(mut account) = lent(&mut cx, &loan)? else { return Ok(()) };
    let config = account.config(&mut cx.view)?;
    config.manages("a library")?;
    let directory = config.directory(cx.net, cx.clock, cx.now)?;
    // What it gets was decided when it was lent: so whoever else brings it back at once, or this again, does the same.
    let candidate = match account.candidate.take().or_else(|| account.next.take()) {
        Some(decided) => decided,
        None => config.new_password(&mut cx, "")?,
    };
    let mut connection = directory.open().await.map_err(|error| unreached(&error))?;
    let entry = directory.find(&mut connection, &account.name, &account.user).await;
    let entry = entry.map_err(|error| not_taken_back(&error))?;
    let password = copy(&candidate);
    let rotated = directory.rotate(&mut connection, &entry, &password, None, true).await;
    rotated.map_err(|error| not_taken_back(&error))?;
    account.candidate = Some(candidate);
    account.promote(cx.now);
    account.store(&mut cx.view)?;
    cx.view.tell(|| lent_or_back("check-in", &loan.set, &account.user));
    cx.view.no_wake(&key(&account.user))
}
